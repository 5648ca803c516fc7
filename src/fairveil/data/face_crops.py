"""Aligned crops of labeled faces as one tensor: what recognizers are trained on and tested with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.data.image_set import NamedImages
from fairveil.data.table import FaceTable


@dataclass(frozen=True, eq=False)
class FaceCrops(NamedImages):
    """Aligned square crops of faces, each of one identity: `training.Examples` whose classes are people.

    Attributes:
        images: uint8 (N, 3, size, size), with faces where `Framing(size=size)` has them.
        labels: the number of each crop's identity, int64 (N,).
        classes: what the identities are called.

    >>> black = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    >>> crops = FaceCrops(black, torch.tensor([0, 1, 1]), ("Ann", "Bob"), "two", ("1.png", "2.png", "3.png"))
    >>> crops.take([2, 1]).classes
    ('Bob',)
    """

    what = "crops"
    channels = 3
    format = "fairveil crops 1"
    reserved = ("image", "identity")

    def fingerprint(self) -> str:
        """A SHA-256 of crops, identities, and groups: equal if and only if these are."""
        digest = hashlib.sha256(super().fingerprint().encode())
        digest.update(json.dumps([self.image_names, dict(self.groups)]).encode())
        return digest.hexdigest()

    def take(self, rows: Tensor | Sequence[int]) -> "FaceCrops":
        """Those of some rows, in that order; identities of which none is left are no classes any more."""
        taken = super().take(rows)
        kept, labels = torch.unique(taken.labels, return_inverse=True)
        return replace(taken, labels=labels, classes=tuple(self.classes[label] for label in kept.tolist()))

    def hold_out(self, share: float, *, seed: int) -> tuple["FaceCrops", "FaceCrops"]:
        """Put a share of the identities aside at random, with all their crops: the rest, and those put aside.

        At least two are put aside, and only such as have two crops, so that one can be looked for among others.

        Raises:
            FairveilError: there are too few identities.
        """
        several = (torch.bincount(self.labels, minlength=len(self.classes)) >= 2).nonzero().flatten()
        count = max(2, round(share * len(self.classes)))
        if count > min(len(several), len(self.classes) - 2):
            raise FairveilError(
                f"{self.name} has {len(self.classes)} identities, {len(several)} of them with two images or more: too "
                f"few to hold out {count} with two images each for validation and to train on 2 others. Add people, or "
                "do without validation (a share of 0)."
            )
        drawn = several[torch.randperm(len(several), generator=torch.Generator().manual_seed(seed))[:count]]
        return self.parted(torch.isin(self.labels, drawn))

    @classmethod
    def of_rows(
        cls, table: FaceTable, rows: Sequence[int], pixels: Tensor, size: int, left_out: Mapping[str, int]
    ) -> "FaceCrops":
        """Crops with the labels of a table.

        Args:
            table: of photos.
            rows: which of its M photos the crops are of.
            pixels: of the crops, uint8 (M · 3 · size · size,).
            size: side of the crops.
            left_out: why photos gave no crop, and how many each.
        """
        kept = table.frame[list(rows)]
        people = kept["identity"].unique().sort()
        labels = kept["identity"].replace_strict(people, range(len(people)), return_dtype=pl.Int64)
        return cls(
            pixels.view(-1, 3, size, size),
            torch.from_numpy(labels.to_numpy(writable=True)),
            tuple(people),
            table.name,
            tuple(kept["image"]),
            {column: tuple(kept[column]) for column in table.groups},
            left_out,
        )

    @classmethod
    def without_pictures(cls, table: FaceTable) -> "FaceCrops":
        """The labels of a table's photos with a black pixel in the place of each crop, to try labels before any is cut.

        Photos without an identity are left out; of the others every one is taken to give a crop.

        Raises:
            FairveilError: nobody's identity is known.
        """
        check_identities(table)
        rows = [row for row, identity in enumerate(table.identities) if identity is not None]
        left_out = {"no identity": len(table) - len(rows)} if len(rows) < len(table) else {}
        return cls.of_rows(table, rows, torch.zeros(len(rows) * 3, dtype=torch.uint8), 1, left_out)

    def make_up(self) -> dict[str, dict[str, dict[str, int]]]:
        """By group column and value, how many identities and images there are."""
        counts: dict[str, dict[str, dict[str, int]]] = {}
        for column in self.groups:
            known = self.frame.drop_nulls(column).group_by(column).agg(pl.col("identity").n_unique(), pl.len())
            counts[column] = {
                value: {"identities": people, "images": images} for value, people, images in known.sort(column).rows()
            }
        return counts

    def _by_column(self) -> dict[str, tuple[str | None, ...]]:
        identities = tuple(self.classes[label] for label in self.labels.tolist())
        return {"image": self.image_names, "identity": identities, **self.groups}


def check_identities(table: FaceTable) -> None:
    """Refuse a table of nobody.

    Raises:
        FairveilError: nobody's identity is known.
    """
    if table.identities.count(None) == len(table):
        raise FairveilError(
            f"{table.name} has no identities, which recognizers are trained to tell apart: put each person's photos in "
            "a folder of their own, or name them in a column identity."
        )
