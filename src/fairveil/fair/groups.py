"""Which group each sample is of, as numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairveil.errors import FairveilError, did_you_mean


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
        raise FairveilError(f"The group {error.args[0]!r} of {column!r} is not among {', '.join(known)}.") from None
    return Groups(column, known, torch.tensor(numbers, dtype=torch.int64))
