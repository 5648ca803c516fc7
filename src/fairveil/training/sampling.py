"""Orders in which some rows come more often than others."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairveil.errors import FairveilError


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
        if count != len(self.labels):
            raise FairveilError(
                f"The order of training was made for {len(self.labels)} rows, but the data have {count}: make it from "
                "their own labels."
            )
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
        digest = hashlib.sha256(self.labels.cpu().contiguous().numpy().data).hexdigest()
        return f"ClassBalanced({len(self.labels)} labels, {digest})"
