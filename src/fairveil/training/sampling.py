"""Orders in which some rows come more often than others, or some come together."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError


@dataclass(frozen=True, eq=False, repr=False)
class ClassBalanced:
    """Class-balanced sampling (section 5.3): every class comes equally often, however many rows it has. An `Order`.

    Rows are drawn with replacement, each with a probability of 1 over the rows of its class, as many in an epoch as the
    data have, in whole batches.

    Attributes:
        labels: the class of each row of the data, int64 (N,). Classes without rows do not count.

    >>> order = ClassBalanced(torch.tensor([0, 0, 0, 0, 0, 1]))
    >>> [rows.shape for rows in order(6, 4, torch.Generator())]
    [torch.Size([4])]
    """

    labels: Tensor

    def __call__(self, count: int, batch_size: int, generator: torch.Generator) -> Sequence[Tensor]:
        """The rows of each batch of an epoch, int64 (B,) each.

        Raises:
            FairveilError: the data have another number of rows than there are labels.
        """
        _check_count(count, self.labels)
        size = min(batch_size, count)
        by_class = self.labels.argsort(stable=True)
        rows_of = torch.bincount(self.labels)
        rows_of = rows_of[rows_of > 0]
        first = rows_of.cumsum(0) - rows_of
        drawn = torch.randint(len(rows_of), (count // size * size,), generator=generator)
        # a class, and then one of its rows: in float64, since float32 could not point at each of many rows
        place = (torch.rand(len(drawn), generator=generator, dtype=torch.float64) * rows_of[drawn]).long()
        return torch.split(by_class[first[drawn] + place], size)

    def __repr__(self) -> str:
        """The same in every process: checkpoints tell orders apart by it."""
        return f"ClassBalanced({_digest(self.labels)})"


@dataclass(frozen=True, eq=False, repr=False)
class GroupStratified:
    """Every row once, in whole batches that hold each group in proportion to its share of the data. An `Order`.

    A loss that compares groups within a batch then finds all of them there, but for groups of fewer rows than batches.

    Attributes:
        groups: the group of each row of the data, int64 (N,); those of no known group are one more.

    >>> groups = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> [groups[rows].sum().item() for rows in GroupStratified(groups)(6, 3, torch.Generator())]
    [1, 1]
    """

    groups: Tensor

    def __call__(self, count: int, batch_size: int, generator: torch.Generator) -> Sequence[Tensor]:
        """The rows of each batch of an epoch, int64 (B,) each; the remainder that fills no batch is left out.

        Raises:
            FairveilError: the data have another number of rows than there are groups.
        """
        _check_count(count, self.groups)
        size = min(batch_size, count)
        mixed = torch.randperm(count, generator=generator)
        group = self.groups[mixed]
        place = torch.empty(count, dtype=torch.float64)
        for one in torch.unique(group):
            rows = (group == one).nonzero().flatten()
            # spread evenly over the epoch, from where the group's first row happens to lie
            start = torch.rand((), generator=generator, dtype=torch.float64)
            place[rows] = (torch.arange(len(rows)) + start) / len(rows)
        batches = torch.split(mixed[place.argsort(stable=True)][: count // size * size], size)
        return [batches[number] for number in torch.randperm(len(batches), generator=generator)]

    def __repr__(self) -> str:
        """The same in every process: checkpoints tell orders apart by it."""
        return f"GroupStratified({_digest(self.groups)})"


def _check_count(count: int, rows: Tensor) -> None:
    if count != len(rows):
        raise FairveilError(
            f"The order of training was made for {len(rows)} rows, but the data have {count}: make it from their own."
        )


def _digest(rows: Tensor) -> str:
    return f"{len(rows)} rows, {hashlib.sha256(rows.cpu().contiguous().numpy().data).hexdigest()}"
