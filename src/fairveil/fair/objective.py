"""An intervention as the objective of the training loop."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fairveil.fair.groups import Groups
from fairveil.fair.interventions import Intervention, Outputs
from fairveil.training import Batch
from fairveil.training.batches import Batches, Examples

Forward = Callable[[nn.Module, Batch, Tensor, torch.Generator], Outputs]
"""A network, a batch, the groups of its samples, int64 (B,), and a generator, to what the network makes of it."""


@dataclass(frozen=True, eq=False)
class HoldoutSet:
    """Data put aside, of which a penalty is taken.

    Attributes:
        data: the samples.
        groups: of each.
    """

    data: Examples
    groups: Groups


class FairObjective(nn.Module):
    """The loss of a task under an intervention: an `Objective`.

    Args:
        task: what the network makes of a batch; trained along with the network where it is a module.
        intervention: what is done for fairness.
        groups: of each row of the data trained on.
        holdout: for a penalty that is taken on a holdout set; of this a random batch is drawn in each step.

    Attributes:
        counts: how many batches there were so far, and in how many of them one group or none was there, so that nothing
            could be compared; int64 (2,), kept in checkpoints.
    """

    def __init__(
        self, task: Forward, intervention: Intervention, groups: Groups, *, holdout: HoldoutSet | None = None
    ) -> None:
        super().__init__()
        self.task, self.intervention, self.groups, self.holdout = task, intervention, groups, holdout
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))

    counts: Tensor

    def forward(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """The loss of a batch."""
        outputs = self._outputs(network, batch, self.groups, generator)
        held = None
        if self.holdout is not None:
            rows = torch.randint(
                len(self.holdout.data.images), (len(batch),), generator=generator, device=generator.device
            )
            batches = Batches(self.holdout.data, len(batch), device=batch.images.device)
            held = self._outputs(network, batches.batch(rows), self.holdout.groups, generator)
        compared = (outputs if held is None else held).groups
        skipped = self.intervention.compares and len(torch.unique(compared[compared >= 0])) < 2
        self.counts += torch.tensor([1, int(skipped)], device=self.counts.device)
        return self.intervention.loss(outputs, held)

    @property
    def skipped_fraction(self) -> float:
        """Of the batches, in how many nothing could be compared."""
        steps, skipped = self.counts.tolist()
        return float(skipped / max(steps, 1))

    def _outputs(self, network: nn.Module, batch: Batch, groups: Groups, generator: torch.Generator) -> Outputs:
        found = self.task(network, batch, groups.numbers.to(batch.rows.device)[batch.rows], generator)
        return replace(found, across_processes=True)  # all processes take each step together

    def extra_repr(self) -> str:
        """What checkpoints tell objectives apart by, beside the task."""
        held = "" if self.holdout is None else f", holdout={self.holdout.data.fingerprint()}"
        return f"{self.intervention!r}, {self.groups.column}, {self.groups.names}{held}"
