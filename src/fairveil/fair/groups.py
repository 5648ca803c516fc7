"""Which group each sample is of, as numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError, did_you_mean


@dataclass(frozen=True, eq=False)
class Groups:
    """A column of groups.

    Attributes:
        column: what it is called.
        names: of the groups, sorted.
        numbers: the group of each sample, int64 (N,); -1 where it is unknown.
    """

    column: str
    names: tuple[str, ...]
    numbers: Tensor

    def number(self, name: str) -> int:
        """The number of a group.

        Raises:
            FairveilError: there is no such group.
        """
        if name not in self.names:
            hint = did_you_mean(name, self.names)
            raise FairveilError(f"{self.column} has no group {name!r}, but {', '.join(self.names)}.{hint}")
        return self.names.index(name)


def check_people(groups: "Groups", people: Sequence[str], use: str, *, least: int) -> None:
    """Refuse data of which nothing could be told, before anything is trained on them.

    Args:
        groups: of each sample.
        people: whose each sample is.
        use: what the data are for, for complaints: "train".
        least: how many people two groups must have.

    Raises:
        FairveilError: fewer than two groups have as many.
    """
    of = {name: {person for person, number in zip(people, groups.numbers.tolist(), strict=True) if number == place}
          for place, name in enumerate(groups.names)}  # fmt: skip
    if sum(len(some) >= least for some in of.values()) < 2:
        told = ", ".join(f"{len(some)} of {name}" for name, some in of.items())
        raise FairveilError(
            f"To {use} with there are so few people by {groups.column} ({told}) that nothing could be told: two groups "
            f"need {least} each."
        )


def groups_of(columns: Mapping[str, Sequence[str | None]], column: str, names: Sequence[str] = ()) -> Groups:
    """The groups of one of some columns.

    Args:
        columns: by name, with a value for each sample.
        column: which.
        names: all groups there are, where the samples are part of more; by default those that occur.

    Raises:
        FairveilError: there is no such column, fewer than two groups are in it, or one that is not among the names.

    >>> groups_of({"sex": ["M", "F", None]}, "sex").numbers
    tensor([ 1,  0, -1])
    """
    if column not in columns:
        there = ", ".join(columns) or "none"
        raise FairveilError(f"There is no column of groups {column!r}, but {there}.{did_you_mean(column, columns)}")
    known = tuple(names) or tuple(sorted({value for value in columns[column] if value is not None}))
    if len(known) < 2:
        raise FairveilError(
            f"The column {column!r} has {f'the one value {known[0]!r}' if known else 'no values'}: fairness is between "
            "groups, of which there must be two."
        )
    places = {name: number for number, name in enumerate(known)}
    try:
        numbers = [-1 if value is None else places[value] for value in columns[column]]
    except KeyError as error:
        raise FairveilError(
            f"The group {error.args[0]!r} of {column!r} is not among those trained on, {', '.join(known)}: leave its "
            "cells empty, which stands for an unknown group."
        ) from None
    return Groups(column, known, torch.tensor(numbers, dtype=torch.int64))
