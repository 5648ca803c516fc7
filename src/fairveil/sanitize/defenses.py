"""The defenses of chapter 4 by the names of its tables: what is done at a training step under each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.sanitize.augmentations import Compose, CutMix, Cutout, FlipAndCrop, Mixup
from fairveil.sanitize.maxup import MaxUp, in_place_maxup
from fairveil.sanitize.noised_gradients import ClipAndNoise
from fairveil.sanitize.published import BatchCutMix, BatchCutout, BatchMixup, SubPixelCrop
from fairveil.training import GradientRule
from fairveil.training.objectives import Augmentation, Classification, FromEpoch, Objective

_HOLE = 0.5  # side of a cutout as a share of the picture's: 16 pixels of CIFAR's 32 (DeVries and Taylor 2017)


@dataclass(frozen=True)
class Defense:
    """A way to train, to be given to `fairveil.training.train`.

    Attributes:
        name: in tables.
        objective: what a step lowers.
        gradients: what is done to each step's gradient.
    """

    name: str
    objective: Objective
    gradients: GradientRule | None = None

    @property
    def augmentation(self) -> Augmentation | None:
        """What is done to pictures and labels before the loss, or None: what an attacker can do to his poisons too."""
        match self.objective:
            case Classification(augment=augment):
                return augment
            case MaxUp(base=base, first=first):
                return base if first is None else Compose((first, base))
            case FromEpoch(after=after):
                return Defense(self.name, after).augmentation
            case _:
                return None


_MAKERS: Mapping[str, Callable[[Augmentation, int], tuple[Objective, GradientRule | None]]] = {
    "Baseline": lambda usual, size: (Classification(usual), None),
    "mixup": lambda usual, size: (Classification(Compose((usual, Mixup()))), None),
    "mixup (4-way)": lambda usual, size: (Classification(Compose((usual, Mixup(width=4)))), None),
    "CutMix": lambda usual, size: (Classification(Compose((usual, CutMix()))), None),
    "cutout": lambda usual, size: (Classification(Compose((usual, _cutout(size)))), None),
    "MaxUp-cutout": lambda usual, size: (MaxUp(_cutout(size), m=4, first=usual), None),
    "DP-SGD (0.01)": lambda usual, size: (Classification(usual), ClipAndNoise(noise=0.01)),
    "DP-SGD (0.05)": lambda usual, size: (Classification(usual), ClipAndNoise(noise=0.05)),
}

_MAXUP_FROM = 6  # epochs that are trained without, in the published code: it is on where their number is above 5

_PUBLISHED: Mapping[str, Callable[[Augmentation], tuple[Objective, GradientRule | None]]] = {
    "published-Baseline": lambda usual: (Classification(usual), None),
    "published-mixup": lambda usual: (Classification(Compose((usual, BatchMixup()))), None),
    "published-mixup (4-way)": lambda usual: (Classification(Compose((usual, BatchMixup(width=4)))), None),
    "published-CutMix": lambda usual: (Classification(Compose((usual, BatchCutMix()))), None),
    "published-cutout": lambda usual: (Classification(Compose((usual, BatchCutout()))), None),
    "published-MaxUp-cutout": lambda usual: (
        FromEpoch(
            _MAXUP_FROM,
            Classification(usual),
            Classification(Compose((usual, *in_place_maxup(BatchCutout(), m=4).parts))),
        ),
        None,
    ),
    "published-DP-SGD (0.01)": lambda usual: (Classification(usual), ClipAndNoise(noise=0.01)),
    "published-DP-SGD (0.05)": lambda usual: (Classification(usual), ClipAndNoise(noise=0.05)),
}

DEFENSES = tuple(_MAKERS)
"""Their names; "Baseline" is flips and crops alone, which all the others have too."""

PUBLISHED_DEFENSES = tuple(_PUBLISHED)
"""The same as the chapter's code has them, crops included (`fairveil.sanitize.published`); only tried by name."""


def defense(name: str, *, size: int, padding: int = 4) -> Defense:
    """A defense by its name.

    Args:
        name: one of `DEFENSES` or `PUBLISHED_DEFENSES`, in any case of letters.
        size: shorter side of the pictures, in pixels.
        padding: by how many pixels the usual crops shift them at the most.

    Raises:
        FairveilError: there is no such defense.

    >>> defense("CutMix", size=32).objective.augment.parts[1]
    CutMix(share=1.0, draws='image')
    """
    names = (*DEFENSES, *PUBLISHED_DEFENSES)
    known = next((one for one in names if one.lower() == name.lower()), None)
    if known is None:
        raise FairveilError(
            f"There is no defense {name!r}.{did_you_mean(name, names)} There are {', '.join(DEFENSES)}; and with "
            "published- in front the same as the dissertation's code has them."
        )
    if known in _PUBLISHED:
        return Defense(known, *_PUBLISHED[known](SubPixelCrop(padding)))
    return Defense(known, *_MAKERS[known](FlipAndCrop(padding), size))


def _cutout(size: int) -> Cutout:
    return Cutout(max(1, round(_HOLE * size)))
