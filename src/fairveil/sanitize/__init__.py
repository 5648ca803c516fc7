"""Training on data one did not collect: augmentations that defuse poison, attacks to rehearse with (chapter 4)."""

from fairveil.sanitize.augmentations import Compose, CutMix, Cutout, FlipAndCrop, Mixup
from fairveil.sanitize.collating import as_collate
from fairveil.sanitize.maxup import MaxUp, in_place_maxup

__all__ = ["Compose", "CutMix", "Cutout", "FlipAndCrop", "MaxUp", "Mixup", "as_collate", "in_place_maxup"]
