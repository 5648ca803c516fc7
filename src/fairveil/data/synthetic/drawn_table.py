"""Generated photos as a table of labeled photos, of which nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from fairveil.data.table import FaceTable


class Drawn(Protocol):
    """What a table needs to know of generated faces: `SyntheticFaces`."""

    @property
    def per_identity(self) -> int:
        """Photos of each person."""

    def render(self, indices: Sequence[int]) -> Tensor:
        """Some photos by their numbers: RGB, uint8, (N, 3, size, size)."""


@dataclass(frozen=True)
class DrawnTable(FaceTable):
    """A table of photos that are drawn when asked for.

    Attributes:
        faces: who is on the photos.
    """

    faces: Drawn = field(kw_only=True)

    def photo(self, row: int) -> Tensor:
        """The photo of a row: RGB, uint8, (3, size, size)."""
        identity, photo = self.frame["image"][row].split("/")
        position = int(identity.split("-")[1]) * self.faces.per_identity + int(photo.split(".")[0])
        return self.faces.render([position])[0]
