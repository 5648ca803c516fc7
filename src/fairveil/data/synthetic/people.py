"""A population of generated people with photos of each: for tests, studies and training without anyone's photos.

Every number of a person comes from the seed and the person's number, and every number of a photo from these and the
photo's number, so that a photo stays the same whatever else is generated. (To within rounding: in a batch of another
size, one value in a million may be brighter or darker by one.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.keyed_random import deviates_of, evenly, mixed
from fairveil.data.synthetic.heads import Conditions, Head, Traits, from_deviates, numbers
from fairveil.data.synthetic.pictures import Placement, draw, landmarks_of

if TYPE_CHECKING:  # `--apart` draws people and needs no tables
    import polars as pl

    from fairveil.data.table import FaceTable

Group = Literal["warm", "cool", "long", "round"]

GROUPS: dict[str, tuple[Group, Group]] = {"tone": ("warm", "cool"), "shape": ("long", "round")}
"""The group columns and their values: the hue of the skin, and the outline of the head."""

# Standard deviations by which people and photos differ at difficulty 1, over those of `synthetic_head`: measured so
# that pretrained recognizers err now and then. None is farther out than the extreme.
_PEOPLE_APART, _PHOTOS_APART, _EXTREME = 0.8, 1.1, 2.2
_HUE_OF_TONE, _LENGTH_OF_SHAPE, _JAW_OF_SHAPE = 1.2, 0.05, -0.04  # by how much groups are off the middle
_BATCH_PIXELS = 1 << 18  # pixels drawn at a time: more would leave the processor's cache


class Difficulty(BaseModel):
    """How hard the people of a group are to recognize.

    Attributes:
        likeness: people of the group differ by one over this much from its average.
        disturbance: photos of one person differ by this much in pose, light, expression, blur and noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    likeness: float = Field(default=1, ge=0.25, le=10)
    disturbance: float = Field(default=1, ge=0, le=3)


class SyntheticFaces(BaseModel):
    """Generated people and their photos. Photo k of person j has the index j · per_identity + k.

    Attributes:
        identities: how many people.
        per_identity: photos of each.
        size: side of the square photos in pixels.
        framing: "photo" for a portrait with surroundings, in which the face has to be found; "crop" for faces cut out
            and upright as after alignment.
        warm_share: share of people whose tone is warm, kept as well as can be in any number of first people; the
            others' is cool.
        long_share: share of people whose shape is long, likewise and within each tone; the others' is round.
        difficulty: of groups, by their values; factors of a person's two groups multiply.
        format: of the files written.
        seed: of everything random.

    >>> faces = SyntheticFaces(identities=4, per_identity=2, size=64)
    >>> faces.render([0, 7]).shape, faces.landmarks([0, 7]).shape
    (torch.Size([2, 3, 64, 64]), torch.Size([2, 5, 2]))
    >>> faces.labels.row(7)
    ('synthetic-00003/001.png', 'synthetic-00003', 'warm', 'long')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identities: int = Field(default=100, ge=1, le=100_000)
    per_identity: int = Field(default=10, ge=1, le=1_000)
    size: int = Field(default=250, ge=64, le=512)
    framing: Literal["photo", "crop"] = "photo"
    warm_share: float = Field(default=0.5, ge=0, le=1)
    long_share: float = Field(default=0.5, ge=0, le=1)
    difficulty: Mapping[Group, Difficulty] = Field(default_factory=dict)
    format: Literal["png", "jpg"] = "png"
    seed: int = Field(default=0, ge=0, lt=2**63)

    def __len__(self) -> int:
        """How many photos there are."""
        return self.identities * self.per_identity

    @property
    def labels(self) -> "pl.DataFrame":
        """One row a photo: image, identity, tone, shape."""
        import polars as pl

        tone, shape = (groups.repeat_interleave(self.per_identity) for groups in self._groups())
        numbered = pl.DataFrame(
            {"index": torch.arange(len(self)).numpy(), "tone": tone.numpy(), "shape": shape.numpy()}
        )
        identity = "synthetic-" + (pl.col("index") // self.per_identity).cast(pl.String).str.zfill(5)
        photo = (pl.col("index") % self.per_identity).cast(pl.String).str.zfill(3)
        return numbered.select(
            image=identity + "/" + photo + f".{self.format}",
            identity=identity,
            **{
                column: pl.col(column).replace_strict(dict(enumerate(values)), return_dtype=pl.String)
                for column, values in GROUPS.items()
            },
        )

    @torch.no_grad()
    def render(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Draw photos.

        Args:
            indices: which, B of them.

        Returns:
            RGB bytes, (B, 3, size, size).

        Raises:
            FairveilError: there is no photo of such an index.
        """
        drawn = [torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)]
        for some in self._batches(indices, max(1, _BATCH_PIXELS // self.size**2)):
            head, placement, noise = self._scenes(some)
            picture = draw(head, placement, self.size)
            drawn.append(((picture + noise * _grain(self._keys(some)[1], self.size)).clamp(0, 1) * 255).round().byte())
        return torch.cat(drawn)

    @torch.no_grad()
    def landmarks(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Where eyes, nose and corners of the mouth are in photos.

        Args:
            indices: which, B of them.

        Returns:
            (x, y) of left eye, right eye, nose, left and right corner of the mouth, left and right as seen in the
            picture, (B, 5, 2), in pixels with pixel centers at integers.

        Raises:
            FairveilError: there is no photo of such an index.
        """
        found = [torch.empty(0, 5, 2)]
        for some in self._batches(indices, 256):
            head, placement, _ = self._scenes(some)
            found.append(placement.to_picture(landmarks_of(head)))
        return torch.cat(found)

    def table(self) -> "FaceTable":
        """The photos as a table that draws each when it is asked for: nothing is written."""
        from fairveil.data.synthetic.drawn_table import DrawnTable

        return DrawnTable(self.labels, Path(), "synthetic faces", tuple(GROUPS), faces=self)

    def _batches(self, indices: Sequence[int] | Tensor, size: int) -> list[Tensor]:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(self):
            wrong = int(chosen[(chosen < 0) | (chosen >= len(self))][0])
            raise FairveilError(f"There is no synthetic photo {wrong}: their indices are 0 to {len(self) - 1}.")
        return [chosen[start : start + size] for start in range(0, len(chosen), size)]

    def _groups(self) -> tuple[Tensor, Tensor]:
        """Positions in `GROUPS` of everyone's tone and shape, (identities,) each."""
        people = torch.arange(self.identities)
        warm, warm_before = evenly(people, self.warm_share)
        long, _ = evenly(torch.where(warm, warm_before, people - warm_before), self.long_share)
        return 1 - warm.long(), 1 - long.long()

    def _keys(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """What all numbers of the people and the photos come from, (B,) each."""
        person = mixed(mixed(torch.tensor(self.seed)) + indices // self.per_identity)
        return person, mixed(mixed(person) + indices % self.per_identity)

    def _scenes(self, indices: Tensor) -> tuple[Head, Placement, Tensor]:
        """Heads, where they are, and the standard deviation of noise, (B, 1, 1, 1)."""
        people, photos = self._keys(indices)
        tone, shape = (groups[indices // self.per_identity] for groups in self._groups())
        likeness, disturbance = (self._factor(name, tone, shape) for name in ("likeness", "disturbance"))
        apart = _PEOPLE_APART / likeness[:, None]
        traits = from_deviates(Traits, apart * deviates_of(people, numbers(Traits)).clamp(-_EXTREME, _EXTREME))
        traits = replace(
            traits,
            skin_hue=traits.skin_hue + _HUE_OF_TONE * (1 - 2 * tone),
            length=traits.length + _LENGTH_OF_SHAPE * (1 - 2 * shape),
            jaw=traits.jaw + _JAW_OF_SHAPE * (1 - 2 * shape),
        )
        apart = _PHOTOS_APART * disturbance[:, None]
        conditions = from_deviates(
            Conditions, apart * deviates_of(photos, numbers(Conditions)).clamp(-_EXTREME, _EXTREME)
        )
        head = Head(traits, conditions)
        if self.framing == "photo":
            placement = Placement.in_photo(conditions, self.size)
        else:
            placement = Placement.in_crop(landmarks_of(head), conditions, self.size)
        return head, placement, conditions.noise.abs()[:, None, None, None]

    def _factor(self, name: str, tone: Tensor, shape: Tensor) -> Tensor:
        """The product of one kind of difficulty over the two groups of each, (B,)."""
        by_tone, by_shape = (
            torch.tensor([getattr(self.difficulty.get(value, Difficulty()), name) for value in values])
            for values in GROUPS.values()
        )
        return by_tone[tone] * by_shape[shape]


def _grain(keys: Tensor, size: int) -> Tensor:
    """Noise of mean 0 and standard deviation 1 in every value of pictures, (B, 3, size, size).

    Near enough to normal, and much faster: the sum of the four quarters of a random word.
    """
    words = mixed(mixed(keys + 1)[:, None] + torch.arange(3 * size * size))
    zero = torch.zeros((), dtype=torch.int64)
    quarters = sum(((words >> bits & 0xFFFF) for bits in (0, 16, 32, 48)), start=zero)
    return ((quarters / 0xFFFF - 2) * math.sqrt(3)).view(-1, 3, size, size)
