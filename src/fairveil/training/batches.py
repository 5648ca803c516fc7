"""From one tensor of pictures to the batches of an epoch, in this process's share of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError

_CPU = torch.device("cpu")


class Examples(Protocol):
    """What can be trained on: `LabeledImages`, or anything else with these four."""

    @property
    def images(self) -> Tensor:
        """uint8 (N, C, H, W)."""

    @property
    def labels(self) -> Tensor:
        """int64 (N,), the class of each; or float (N, K), soft or multi-label targets."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What the K classes, labels or identities are called."""

    def fingerprint(self) -> str:
        """Equal if and only if the data are: a checkpoint belongs to the data it was trained on."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step is taken on.

    Attributes:
        images: float32 in [0, 1], (B, C, H, W), on the device that trains.
        targets: int64 (B,), or float (B, K), as the data's labels are.
        rows: int64 (B,), on the same device: which rows of the data these are, by which a loss looks up groups,
            identities or perturbations.
        classes: K; None where targets are float, whose width says it.
        epoch: how many epochs were done before this batch's; None outside of a run.
    """

    images: Tensor
    targets: Tensor
    rows: Tensor
    classes: int | None = None
    epoch: int | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.images)

    def soft_targets(self) -> Tensor:
        """The targets as float (B, K): one-hot where they are classes, else as they are."""
        if self.targets.is_floating_point():
            return self.targets
        # one_hot asks for the largest label, for which a graphics card would have to wait, unless told
        return F.one_hot(self.targets, -1 if self.classes is None else self.classes).to(self.images.dtype)


Order = Callable[[int, int, torch.Generator], Sequence[Tensor]]
"""How many rows the data have and how large a batch is, to the rows of each batch of an epoch, int64 (B,) each."""


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> Sequence[Tensor]:
    """Every row once, in random order, in whole batches: an `Order`.

    The remainder that fills no batch is left out, other rows in every epoch. Data smaller than a batch are one.

    >>> [rows.shape for rows in shuffled(7, 3, torch.Generator())]
    [torch.Size([3]), torch.Size([3])]
    """
    size = min(batch_size, count)
    return torch.split(torch.randperm(count, generator=generator)[: count // size * size], size)


def in_sequence(count: int, batch_size: int, generator: torch.Generator) -> Sequence[Tensor]:
    """Every row once, as they come, and the remainder as a smaller batch: an `Order`, for evaluation."""
    return torch.split(torch.arange(count), batch_size)


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of an epoch, put together in the memory of the device, without worker processes.

    Flips and crops are not here but in an objective, which makes them for a whole batch at once.

    Attributes:
        data: what from.
        batch_size: how many pictures a step is taken on, over all processes together.
        order: which rows come together, and when.
        device: where batches go.
        process: which of the processes this is, from 0.
        processes: how many share the batches. All must draw the same order; each then takes its own part of every
            batch, of one size with the others': rows that cannot be shared out evenly are left out.
        channels_last: whether the images lie in memory pixel by pixel, which convolutions on processors like.

    >>> from fairveil.data.images import synthetic_images
    >>> batches = Batches(synthetic_images(10, size=8), batch_size=4)
    >>> [batch.images.shape for batch in batches.epoch(torch.Generator())]
    [torch.Size([4, 3, 8, 8]), torch.Size([4, 3, 8, 8])]
    """

    data: Examples
    batch_size: int
    order: Order = shuffled
    device: torch.device = _CPU
    process: int = 0
    processes: int = 1
    channels_last: bool = False

    def __post_init__(self) -> None:
        """Refuse what gives no batches.

        Raises:
            FairveilError: the data are empty, or a batch gives nothing to some process.
        """
        if not len(self.data.images):
            raise FairveilError("There are no images to train on.")
        if min(self.batch_size, len(self.data.images)) < self.processes:
            raise FairveilError(
                f"A batch of {min(self.batch_size, len(self.data.images))} cannot be shared by {self.processes} "
                "processes: use larger batches or fewer processes."
            )

    def plan(self, generator: torch.Generator) -> list[Tensor]:
        """Draw which rows this process sees in each batch of an epoch."""
        plan = self.order(len(self.data.images), self.batch_size, generator)
        if self.processes == 1:
            return list(plan)
        even = [rows[: len(rows) // self.processes * self.processes] for rows in plan]
        return [rows[self.process :: self.processes] for rows in even if len(rows)]

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of an epoch, by an order drawn from the generator."""
        return map(self.batch, self.plan(generator))

    def batch(self, rows: Tensor) -> Batch:
        """The pictures of some rows, as one batch."""
        device, labels = self.device, self.data.labels
        # bytes travel to the device, not floats
        images = self.data.images[rows.to(self.data.images.device)].to(device, non_blocking=True)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return Batch(
            images=images.float().div_(255),
            targets=labels[rows.to(labels.device)].to(device, non_blocking=True),
            rows=rows.to(device, non_blocking=True),
            classes=None if labels.is_floating_point() else len(self.data.classes),
        )
