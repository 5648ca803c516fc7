"""Generated photos as a table of labeled photos, of which nothing is written."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from fairveil.data.table import FaceTable

if TYPE_CHECKING:
    from fairveil.data.synthetic.people import SyntheticFaces


@dataclass(frozen=True)
class DrawnTable(FaceTable):
    """A table of photos that are drawn when asked for.

    Attributes:
        faces: who is on the photos.
    """

    faces: "SyntheticFaces" = field(kw_only=True)

    def photo(self, row: int) -> Tensor:
        """The photo of a row: RGB, uint8, (3, size, size)."""
        identity, photo = self.frame["image"][row].split("/")
        position = int(identity.split("-")[1]) * self.faces.per_identity + int(photo.split(".")[0])
        return self.faces.render([position])[0]
