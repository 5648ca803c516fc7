"""What can be trained under interventions and compared: faces, X-rays, or anything else with these few."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import polars as pl

from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.fair.interventions import AnyIntervention, Task
from fairveil.training import Epoch
from fairveil.version import __version__

_FORMAT = 3  # raised when the same run would come to other scores


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

    @property
    def fingerprint(self) -> str:
        """Equal if and only if data and settings are; told once, since it takes all of the data."""

    def measure(self, intervention: AnyIntervention, *, seed: int, told: Told = SILENT) -> Measured:
        """Train a model under an intervention and see how well it does for whom.

        Raises:
            FairveilError: the intervention is not for this task, or training fails.
        """


def measure_once(
    experiment: Experiment,
    intervention: AnyIntervention,
    *,
    seed: int,
    folder: Path,
    told: Told = SILENT,
) -> Measured:
    """What a run came to, from a folder if it is there; a run that was stopped goes on from its last epoch.

    Args:
        experiment: what is trained.
        intervention: under which.
        seed: of the run.
        folder: keeps what runs came to, for all processes.
        told: whom training tells of its progress; the checkpoint is put in the folder.

    Raises:
        FairveilError: as `Experiment.measure`.
    """
    name = run_name(experiment.fingerprint, intervention, seed)
    checkpoint = folder / f"{name}.checkpoint"

    def write(target: Path) -> None:
        measured = experiment.measure(intervention, seed=seed, told=replace(told, checkpoint=checkpoint))
        measured.scores.with_columns(pl.lit(measured.lacking).alias(_LACKING)).write_parquet(target)
        checkpoint.unlink(missing_ok=True)

    found = pl.read_parquet(make_files(folder, {f"{name}.parquet": write})[0])
    return Measured(found.drop(_LACKING), float(found[_LACKING][0]))


def run_name(fingerprint: str, intervention: AnyIntervention, seed: int) -> str:
    """What files of a run are called: another name where it would come to something else."""
    about = f"{__version__} {_FORMAT} {fingerprint} {intervention.model_dump_json()} {seed}"
    return content_key(about, digits=24)


_LACKING = "lacking"
