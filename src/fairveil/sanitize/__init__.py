"""Training on data one did not collect: augmentations that defuse poison, attacks to rehearse with (chapter 4).

In any training loop:

    from fairveil.sanitize import CutMix
    mixed, soft = CutMix()(images, labels, num_classes=10)
    loss = torch.nn.functional.cross_entropy(network(mixed), soft)
"""

from typing import TYPE_CHECKING

from fairveil.base.lazy import lazy_exports

if TYPE_CHECKING:
    from fairveil.data.images import read_image_folder as read_image_folder
    from fairveil.sanitize.attacks import BackdoorAttack as BackdoorAttack
    from fairveil.sanitize.attacks import GradientMatching as GradientMatching
    from fairveil.sanitize.augmentations import Compose as Compose
    from fairveil.sanitize.augmentations import CutMix as CutMix
    from fairveil.sanitize.augmentations import Cutout as Cutout
    from fairveil.sanitize.augmentations import FlipAndCrop as FlipAndCrop
    from fairveil.sanitize.augmentations import Mixup as Mixup
    from fairveil.sanitize.collating import as_collate as as_collate
    from fairveil.sanitize.defenses import DEFENSES as DEFENSES
    from fairveil.sanitize.defenses import Defense as Defense
    from fairveil.sanitize.defenses import defense as defense
    from fairveil.sanitize.maxup import MaxUp as MaxUp
    from fairveil.sanitize.maxup import in_place_maxup as in_place_maxup
    from fairveil.sanitize.private_sgd import PrivateSGD as PrivateSGD
    from fairveil.sanitize.private_sgd import noise_multiplier_for as noise_multiplier_for
    from fairveil.sanitize.rehearsal import Rehearsal as Rehearsal
    from fairveil.sanitize.rehearsal import Rehearsed as Rehearsed
    from fairveil.sanitize.verdict import Verdict as Verdict
    from fairveil.training.networks import build_network as build_network
    from fairveil.training.saved_networks import load_network as load_network

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "fairveil.data.images": "read_image_folder",
        "attacks": "BackdoorAttack GradientMatching",
        "augmentations": "Compose CutMix Cutout FlipAndCrop Mixup",
        "collating": "as_collate",
        "defenses": "DEFENSES Defense defense",
        "maxup": "MaxUp in_place_maxup",
        "private_sgd": "PrivateSGD noise_multiplier_for",
        "rehearsal": "Rehearsal Rehearsed",
        "verdict": "Verdict",
        "fairveil.training.networks": "build_network",
        "fairveil.training.saved_networks": "load_network",
    },
)
