"""Means over groups: what every penalty is made of, right where a group is absent and over several processes."""

import warnings
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from fairveil.base.errors import FairveilError

Absent = Literal["warn", "skip", "refuse"]
"""What to do with a batch in which fewer than two groups are: count its gap as none, with a warning or without one, or
refuse it. The last batch of an epoch may well be such a one; where all batches are, the penalty does nothing at all,
which the warning is for: Python shows it once."""


class Grouping(TypedDict, total=False):
    """Options that every penalty takes by keyword.

    Attributes:
        known: bool, (B,) or (B, K): which samples, or which of their labels, count; all by default.
        absent: what to do where fewer than two groups are in the batch, see `Absent`; "warn" by default.
        across_processes: where processes train together, whether groups are compared over the batches of all of them.
            Every process then has to call the penalty at the same step, or the others wait for ever. False by default.
    """

    known: Tensor | None
    absent: Absent
    across_processes: bool


@dataclass(frozen=True)
class GroupMeans:
    """The mean of something within each of G groups.

    Attributes:
        means: (G,), or (G, K) for K labels each, float32 at least; zero where nobody is counted.
        counts: how many each mean is over, of the same shape.
        absent: what to do where fewer than two groups are there.
    """

    means: Tensor
    counts: Tensor
    absent: Absent = "warn"

    @property
    def present(self) -> Tensor:
        """Which means there are, bool, of the same shape."""
        return self.counts > 0

    @property
    def compared(self) -> Tensor:
        """Whether two groups at least are there to be compared: bool, scalar or (K,)."""
        return self.present.sum(0) > 1

    def highest(self) -> Tensor:
        """The highest mean of the groups that are there, scalar or (K,); minus infinity where nobody is."""
        return self.means.masked_fill(~self.present, -torch.inf).amax(0)

    def lowest(self) -> Tensor:
        """The lowest one; infinity where nobody is."""
        return self.means.masked_fill(~self.present, torch.inf).amin(0)

    def spread(self) -> Tensor:
        """The highest mean less the lowest, scalar or (K,): for two groups |m₀ − m₁|."""
        return self.highest() - self.lowest()

    def averaged(self, figures: Tensor) -> Tensor:
        """The mean of figures over the labels that can be compared; zero with fewer than two groups for all labels.

        Args:
            figures: one for all, scalar, or one for each label, (K,); where nothing can be compared they do not matter.

        Raises:
            FairveilError: fewer than two groups are there, and that is refused.
        """
        compared = self._checked()
        return torch.where(compared, figures, 0.0).sum() / compared.sum().clamp_min(1)

    def _checked(self) -> Tensor:
        """`compared`, once it is settled that something can be, or that nothing need be."""
        compared = self.compared
        if self.absent != "skip" and not bool(compared.any()):
            there = self.present.flatten(1).any(1) if self.present.ndim > 1 else self.present
            numbers = there.nonzero().flatten().tolist()
            held = f"group {numbers[0]} alone" if numbers else "no known group"
            held = "no label that is known in two groups" if len(numbers) > 1 else held
            why = f"The batch holds {held}, so that no groups can be compared"
            mend = "take larger batches or such as hold all groups (`GroupStratified`), or skip such batches"
            if self.absent == "refuse":
                raise FairveilError(f"{why}: {mend} (absent='skip').")
            warnings.warn(
                f"{why}, and the gap of the batch counts as none. If this is not the last batch of an epoch, {mend} "
                "without this warning (absent='skip').",
                stacklevel=4,  # of who asks for a penalty
            )
        return compared


def group_means(
    values: Tensor,
    groups: Tensor,
    group_count: int | None = None,
    *,
    known: Tensor | None = None,
    absent: Absent = "warn",
    across_processes: bool = False,
) -> GroupMeans:
    """Means of values within groups.

    They are taken in float32 at least, whatever the values are and whatever autocast says: half precision would lose
    counts above 256 and with them the gap.

    Args:
        values: of each sample, float (B,), or of each of its labels, (B, K).
        groups: whole numbers (B,), from 0 to G − 1; -1 for samples whose group is unknown, which do not count.
        group_count: G; by default one more than the highest number, of all processes where they compare together.
        known: bool, of the shape of the values: which of them count; all by default.
        absent: what `GroupMeans.averaged` is to do with fewer than two groups.
        across_processes: where processes train together, take the means over the batches of all of them. Every one of
            them then has to call this at the same step, or the others wait for ever. Gradients reach each process's own
            values as if it held the others' as well, so that averaging gradients over processes, as data-parallel
            training does, gives the gradient of one process with the whole batch.

    Raises:
        FairveilError: shapes do not fit, groups are no numbers from -1 to G − 1, or `absent` is no choice.

    >>> group_means(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2])).means
    tensor([1.5000, 0.0000, 4.0000])
    """
    if absent not in get_args(Absent):
        raise FairveilError(f"absent is {absent!r}: choose from {', '.join(get_args(Absent))}.")
    if (
        values.ndim not in (1, 2)
        or groups.shape != values.shape[:1]
        or (known is not None and known.shape != values.shape)
    ):
        raise FairveilError(
            f"Values of shape {tuple(values.shape)} and groups of shape {tuple(groups.shape)} do not fit"
            f"{'' if known is None else f' with known {tuple(known.shape)}'}: give (B,) or (B, K) and (B,)."
        )
    if groups.is_floating_point() or groups.is_complex():
        raise FairveilError(f"Groups are {groups.dtype}: give the number of each sample's group, as whole numbers.")
    groups = groups.long()  # also of bool, and of bytes, which know no -1
    together = across_processes and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if group_count is None:
        group_count = _highest(groups, together) + 1
    if len(groups) and not -1 <= int(groups.min()) <= int(groups.max()) < group_count:
        raise FairveilError(
            f"Groups from {int(groups.min())} to {int(groups.max())} are not {group_count} groups: number them from 0, "
            "and give -1 to samples of no known group."
        )
    values = widened(values)
    with torch.autocast(values.device.type, enabled=False):
        member = (groups[:, None] == torch.arange(group_count, device=groups.device)).to(values.dtype)  # (B, G)
        counted = torch.ones_like(values) if known is None else known.to(values.dtype)
        # A value that does not count may be NaN, which zero times it still would be.
        sums = member.T @ (values if known is None else torch.where(known, values, 0.0))
        counts = member.T @ counted
    if together:
        sums = _SumOverProcesses.apply(sums)  # type: ignore[no-untyped-call]
        dist.all_reduce(counts)
    return GroupMeans(sums / counts.clamp_min(1), counts, absent)


def _highest(groups: Tensor, together: bool) -> int:
    """The highest number of a group in a batch, or in those of all processes; 0 where no group is known."""
    highest = torch.cat([groups, groups.new_tensor([0])]).amax()
    if together:
        dist.all_reduce(highest, dist.ReduceOp.MAX)
    return int(highest)


def widened(values: Tensor) -> Tensor:
    """The same numbers in float32, or in what they are in if that is more."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def narrowed(result: Tensor, like: Tensor) -> Tensor:
    """A result in the type of what it was computed of; under autocast in full, as losses of torch's own are."""
    kept = torch.is_autocast_enabled(like.device.type) or not like.is_floating_point()
    return result if kept else result.to(like.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """Sum over processes, differentiable: each process's loss depends on the values of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total
