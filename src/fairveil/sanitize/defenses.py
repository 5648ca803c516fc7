"""The defenses of chapter 4 by the names of its tables: what is done at a training step under each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
        """What is done to pictures and labels before the loss, or None: what an attacker can do to the poisons too."""
        match self.objective:
            case Classification(augment=augment):
                return augment
            case MaxUp(base=base, first=first):
                return base if first is None else Compose((first, base))
            case FromEpoch(after=after):
                return Defense(self.name, after).augmentation
            case _:
                return None


Parts = tuple[Objective, GradientRule | None]
"""What a step lowers, and what is done to its gradient."""


@dataclass(frozen=True)
class DefenseEntry:
    """A defense that can be tried by name. To add one, add an entry to `DEFENSES`; nothing else has to know it.

    Attributes:
        name: in tables.
        what: it does, in a few words.
        source: where it comes from.
        make: builds it, from the usual augmentation and the shorter side of pictures in pixels.
        published: builds it as the chapter's code has it (`fairveil.sanitize.published`); None if it has it not.
        options: of both, such as {"width": 4}.
    """

    name: str
    what: str
    source: str
    make: Callable[..., Parts]
    published: Callable[..., Parts] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def _plain(usual: Augmentation, size: int) -> Parts:
    return Classification(usual), None


def _then(part: Callable[..., Augmentation]) -> Callable[..., Parts]:
    """The usual augmentation, and then another with the entry's options."""
    return lambda usual, size, **options: (Classification(Compose((usual, part(**options)))), None)


def _noised(usual: Augmentation, size: int, noise: float) -> Parts:
    return Classification(usual), ClipAndNoise(noise=noise)


def _cutout(size: int) -> Cutout:
    return Cutout(max(1, round(_HOLE * size)))


def _cut_out(usual: Augmentation, size: int) -> Parts:
    return _then(lambda: _cutout(size))(usual, size)


def _maxup(usual: Augmentation, size: int, m: int) -> Parts:
    return MaxUp(_cutout(size), m=m, first=usual), None


def _maxup_as_published(usual: Augmentation, size: int, m: int) -> Parts:
    after = Classification(Compose((usual, *in_place_maxup(BatchCutout(), m=m).parts)))
    return FromEpoch(_MAXUP_FROM, Classification(usual), after), None


_MAXUP_FROM = 6  # epochs that are trained without, in the published code: it is on where their number is above 5
_MIXUP = "section 4.3; Zhang et al. 2017"
_NOISE = "table 4.2; Geiping et al. 2021"

DEFENSES: Mapping[str, DefenseEntry] = {
    entry.name: entry
    for entry in (
        DefenseEntry("Baseline", "flips and crops, which all others have too", "section 4.4", _plain, _plain),
        DefenseEntry(
            "mixup", "mixes each picture with another", _MIXUP, _then(Mixup), _then(BatchMixup), {"width": 2}
        ),
        DefenseEntry(
            "mixup (4-way)", "mixes each picture with three others", _MIXUP, _then(Mixup), _then(BatchMixup),
            {"width": 4},
        ),
        DefenseEntry(
            "CutMix", "puts a box of another picture into each", "section 4.3; Yun et al. 2019", _then(CutMix),
            _then(BatchCutMix),
        ),
        DefenseEntry(
            "cutout", "covers a box of each picture", "section 4.3; DeVries and Taylor 2017", _cut_out,
            _then(BatchCutout),
        ),
        DefenseEntry(
            "MaxUp-cutout", "trains on the worst of several cutouts of each picture", "section 4.3; Gong et al. 2020",
            _maxup, _maxup_as_published, {"m": 4},
        ),
        DefenseEntry("DP-SGD (0.01)", "clips and noises gradients", _NOISE, _noised, _noised, {"noise": 0.01}),
        DefenseEntry("DP-SGD (0.05)", "the same with more noise", _NOISE, _noised, _noised, {"noise": 0.05}),
    )
}  # fmt: skip
"""Every defense by its name."""

PUBLISHED = "published-"
"""In front of a name: the defense as the chapter's code has it, crops included; only tried by name."""

PUBLISHED_DEFENSES = tuple(f"{PUBLISHED}{name}" for name, entry in DEFENSES.items() if entry.published is not None)
"""The names of all defenses in that form."""


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
            f"{PUBLISHED} in front the same as the dissertation's code has them."
        )
    entry = DEFENSES[known.removeprefix(PUBLISHED)]
    if known in PUBLISHED_DEFENSES and entry.published is not None:
        return Defense(known, *entry.published(SubPixelCrop(padding), size, **entry.options))
    return Defense(known, *entry.make(FlipAndCrop(padding), size, **entry.options))
