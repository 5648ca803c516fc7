"""What can be trained under interventions and compared: faces, X-rays, or anything else with these few."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from fairveil.fair.interventions import AnyIntervention, Task
from fairveil.training import Epoch


@dataclass(frozen=True)
class Told:
    """Where training keeps its state and whom it tells of its progress.

    Attributes:
        checkpoint: a file written after each epoch, from which a stopped run goes on.
        on_epoch: told of each epoch.
        on_step: told of each step how many epochs are done, in fractions, and the loss.
    """

    checkpoint: Path | None = None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    on_step: Callable[[float, float], None] = lambda done, loss: None


SILENT = Told()
"""Nothing kept, nobody told."""


@dataclass(frozen=True)
class Measured:
    """What training under an intervention came to.

    Attributes:
        scores: rows of `fairveil.fair.scores.SCORES`.
        lacking: share of the batches in which nothing could be compared, since a group was not there.
    """

    scores: pl.DataFrame
    lacking: float


class Experiment(Protocol):
    """Data, split, and how a model is trained on them."""

    @property
    def task(self) -> Task:
        """What is learned."""

    @property
    def column(self) -> str:
        """Of the groups that are to be treated alike."""

    @property
    def measures(self) -> dict[str, str]:
        """Which measure tells how well a model does, by split: train, validation, test."""

    def fingerprint(self) -> str:
        """Equal if and only if data and settings are."""

    def baseline_of(self, intervention: AnyIntervention) -> AnyIntervention:
        """What an intervention is to be compared with."""

    def measure(self, intervention: AnyIntervention, *, seed: int, told: Told = SILENT) -> Measured:
        """Train a model under an intervention and see how well it does for whom.

        Raises:
            FairveilError: the intervention is not for this task, or training fails.
        """
