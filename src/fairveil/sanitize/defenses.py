"""The defences of chapter 4 by the names of its tables: what a training step lowers under each."""

from collections.abc import Callable, Mapping

from fairveil.errors import FairveilError, did_you_mean
from fairveil.sanitize.augmentations import Compose, CutMix, Cutout, FlipAndCrop, Mixup
from fairveil.sanitize.maxup import MaxUp
from fairveil.training.objectives import Augmentation, Classification, Objective

_HOLE = 0.5  # side of a cutout as a share of the picture's: 16 pixels of CIFAR's 32 (DeVries and Taylor 2017)

_OBJECTIVES: Mapping[str, Callable[[Augmentation, int], Objective]] = {
    "Baseline": lambda usual, size: Classification(usual),
    "mixup": lambda usual, size: Classification(Compose((usual, Mixup()))),
    "mixup (4-way)": lambda usual, size: Classification(Compose((usual, Mixup(width=4)))),
    "CutMix": lambda usual, size: Classification(Compose((usual, CutMix()))),
    "cutout": lambda usual, size: Classification(Compose((usual, _cutout(size)))),
    "MaxUp-cutout": lambda usual, size: MaxUp(_cutout(size), m=4, first=usual),
}

DEFENSES = tuple(_OBJECTIVES)
"""Their names; "Baseline" is flips and crops alone, which all the others have too."""


def defense(name: str, *, size: int, padding: int = 4) -> Objective:
    """What to train with under a defence, an `Objective` for `fairveil.training.train`.

    Args:
        name: one of `DEFENSES`.
        size: shorter side of the pictures, in pixels.
        padding: by how many pixels the usual crops shift them at the most.

    Raises:
        FairveilError: there is no such defence.

    >>> defense("CutMix", size=32).augment.parts[1]
    CutMix(share=1.0, draws='image')
    """
    if name not in _OBJECTIVES:
        raise FairveilError(
            f"There is no defence {name!r}.{did_you_mean(name, DEFENSES)} There are {', '.join(DEFENSES)}."
        )
    return _OBJECTIVES[name](FlipAndCrop(padding), size)


def _cutout(size: int) -> Cutout:
    return Cutout(max(1, round(_HOLE * size)))
