"""Whose images a set holds: the identity and the group of each."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.data.labels import tidy_columns


def is_groups(frame: pl.DataFrame, column: str) -> bool:
    """Whether a column may hold groups: it is neither the people nor the photos, and no vector or box."""
    return column in frame.columns and column not in ("image", "identity") and not frame.schema[column].is_nested()


@dataclass(frozen=True, eq=False)
class Population:
    """Which identity and which group the images of a set are of.

    Attributes:
        column: what the groups are of, such as "gender".
        groups: their names, in order.
        identity: the number of each image's identity, (N,), int64; -1 where it is not known.
        group: the position of its group in `groups`, (N,), int64; -1 where it is not known.
    """

    column: str
    groups: tuple[str, ...]
    identity: Tensor
    group: Tensor

    @classmethod
    def of(cls, frame: pl.DataFrame, column: str) -> "Population":
        """Read identities and groups off a table of faces, such as `FaceTable.frame` or `Embeddings.frame`.

        Spaces around labels are dropped; what is empty is not known.

        Raises:
            FairveilError: there are no identities or no such column, a person is in several groups, or there are not
                two groups.
        """
        if "identity" not in frame.columns or frame["identity"].null_count() == len(frame):
            raise FairveilError("No identities are known, so nobody could tell right from wrong: label the images.")
        others = [name for name in frame.columns if is_groups(frame, name)]
        if column not in others:
            hint = did_you_mean(column, others)
            raise FairveilError(
                f"There is no column {column!r} of groups.{hint} There are {', '.join(others) or 'none'}."
            )
        labels = tidy_columns(frame.select(identity=pl.col("identity"), group=pl.col(column)), ("identity", "group"))
        known = labels.drop_nulls()
        one_group_each(known, "group", column)
        groups = tuple(known["group"].unique().sort())
        if len(groups) < 2:
            there = f"only {groups[0]!r}" if groups else "none"
            raise FairveilError(f"Groups are compared with each other, and {column} has {there}: label two at least.")
        numbers = {name: number for number, name in enumerate(groups)}
        identity = labels["identity"].rank("dense").cast(pl.Int64).fill_null(0).to_numpy(writable=True) - 1
        group = labels["group"].replace_strict(numbers, default=-1, return_dtype=pl.Int64).to_numpy(writable=True)
        return cls(column, groups, torch.from_numpy(identity), torch.from_numpy(group))

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.identity)

    def take(self, rows: Tensor) -> "Population":
        """Some images by their numbers, in the order given; groups and numbers of identities stay as they are."""
        return replace(self, identity=self.identity[rows], group=self.group[rows])

    @property
    def known(self) -> Tensor:
        """The images of which both are known, (N,), bool."""
        return (self.identity >= 0) & (self.group >= 0)

    def images_of(self, group: str) -> NDArray[np.int64]:
        """How many images each identity of a group has, in the order of their numbers."""
        rows = self.known & (self.group == self.groups.index(group))
        return np.asarray(torch.unique(self.identity[rows], return_counts=True)[1].numpy())


def one_group_each(labels: pl.DataFrame, column: str, name: str | None = None) -> None:
    """Refuse people who are in several groups.

    Args:
        labels: with the columns `identity` and `column`; rows that lack one of them say nothing.
        column: of groups.
        name: what complaints call it.

    Raises:
        FairveilError: a person is in several groups.
    """
    known = labels.drop_nulls(["identity", column])
    several = known.group_by("identity").agg(pl.col(column).unique()).filter(pl.col(column).list.len() > 1)
    if len(several):
        who, values = several.select("identity", column).sort("identity").row(0)
        more = f", and so are {len(several) - 1} others" if len(several) > 1 else ""
        raise FairveilError(
            f"{who} is in several groups of {name or column} ({', '.join(sorted(values))}){more}: give each person one."
        )
