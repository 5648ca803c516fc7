"""Whether a recognizer tells people apart at all: four generated faces, before anything is said of real ones."""

from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.faces.framing import Framing

ALIKE = 0.95
"""The cosine above which faces of people who look nothing alike are as good as one.

The networks of the zoo give 0.9 and less to the pair that each finds least alike."""


class Embeds(Protocol):
    """What is looked at of a `Recognizer`."""

    name: str
    framing: Framing

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    def embed_crops(self, crops: Tensor, /) -> Tensor:
        """Crops, RGB in [0, 1], (B, 3, size, size), to unit vectors (B, D)."""


_LIKENESS = 0.8
_PEOPLE = 4


@lru_cache(maxsize=4)
def _faces(size: int) -> Tensor:
    """Crops of four people, RGB in [0, 1], (4, 3, size, size)."""
    from fairveil.data.synthetic import GROUPS, Difficulty, SyntheticFaces

    apart = {value: Difficulty(likeness=_LIKENESS**0.5) for values in GROUPS.values() for value in values}
    drawn = min(max(size, 64), 512)
    people = SyntheticFaces(identities=_PEOPLE, per_identity=1, size=drawn, framing="crop", difficulty=apart)
    faces = people.render(range(_PEOPLE)).float() / 255
    return faces if drawn == size else F.interpolate(faces, (size, size), mode="bilinear", antialias=True)


@torch.no_grad()
def least_likeness(recognizer: Embeds) -> float:
    """The least cosine between any two of four generated faces of people who look nothing alike.

    Raises:
        FairveilError: the recognizer gives no usable vectors.
    """
    vectors = recognizer.embed_crops(_faces(recognizer.framing.size).to(recognizer.device))
    return float((vectors @ vectors.T).min())


def check_tells_apart(recognizer: Embeds) -> None:
    """Refuse a recognizer to which people who look nothing alike are as good as one person.

    Raises:
        FairveilError: the cosine of every two of four generated faces is above `ALIKE`; or it gives no usable vectors.
    """
    if (least := least_likeness(recognizer)) > ALIKE:
        low, high = recognizer.framing.span
        raise FairveilError(
            f"The recognizer {recognizer.name} gives faces of four people who look nothing alike vectors that are as "
            f"good as the same (cosine {least:.3f} and more), so nothing it says would mean anything. It is fed "
            f"crops of {recognizer.framing.size} pixels, {recognizer.framing.channels}, {low:.3g} to {high:.3g}. "
            "If it was trained on others, say so with size, channels, mean and scale; if its vectors are "
            "another output, with `output=NAME`."
        )
