"""What can be trained under interventions and compared: faces, X-rays, or anything else with these few."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from torch import nn

from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.fair.groups import Groups, check_people, groups_of
from fairveil.fair.interventions import Intervention, Task
from fairveil.fair.objective import FairObjective, Forward, HoldoutSet
from fairveil.fair.scores import LEAST_PEOPLE
from fairveil.training import Epoch, shuffled, train
from fairveil.training.sampling import GroupStratified
from fairveil.version import __version__

_FORMAT = 3  # raised when the same run would come to other scores
_SKIPPED = "lacking"  # of the column in files of runs that are kept


@dataclass(frozen=True)
class Callbacks:
    """Where training keeps its state and what it calls on its way.

    Attributes:
        checkpoint: a file written after each epoch, from which a stopped run goes on.
        on_epoch: called with each epoch.
        on_step: called at each step with how many epochs are done, in fractions, and the loss.
    """

    checkpoint: Path | None = None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    on_step: Callable[[float, float], None] = lambda done, loss: None


NO_CALLBACKS = Callbacks()
"""Nothing is kept or called."""


@dataclass(frozen=True)
class RunScores:
    """What training under an intervention came to.

    Attributes:
        scores: rows of `fairveil.fair.scores.SCORES`.
        skipped_fraction: of the batches, in which nothing could be compared, since a group was not there.
    """

    scores: pl.DataFrame
    skipped_fraction: float


class Experiment(ABC):
    """Data, split, and how a model is trained on them.

    Attributes:
        column: of the groups that are to be treated alike.
    """

    column: str

    @property
    @abstractmethod
    def task(self) -> Task:
        """What is learned."""

    @property
    @abstractmethod
    def measures(self) -> dict[str, str]:
        """Which measure tells how well a model does, by split: train, validation, test."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Equal if and only if data and settings are."""

    @abstractmethod
    def measure(self, intervention: Intervention, *, seed: int, callbacks: Callbacks = NO_CALLBACKS) -> RunScores:
        """Train a model under an intervention and see how well it does for whom.

        Raises:
            FairveilError: the intervention is not for this task, or training fails.
        """


@dataclass(frozen=True, eq=False)
class TrainingExperiment(Experiment):
    """Networks that are trained by `fairveil.training.train` under interventions.

    A kind of data has a subclass of its own, which says what its splits, settings and trained models are.

    Attributes:
        splits: what is trained on and judged by: `parts` by split, each with `groups`, and their `fingerprints`.
        column: of the groups that are to be treated alike.
        settings: how networks are trained, of them `training` and `stratified`: whether every batch holds each group in
            proportion to its share, rather than by chance.
        device: where to train.
    """

    splits: Any
    column: str
    settings: Any
    device: str | None = None

    def __post_init__(self) -> None:
        """Refuse what nothing could be told of, before anything is trained.

        Raises:
            FairveilError: a part has too few people of two groups.
        """
        for split, part in self.splits.parts.items():
            use = "validate" if split == "validation" else split
            check_people(self.groups_in(part), self._people(part), use, least=LEAST_PEOPLE)

    @cached_property
    def groups(self) -> Groups:
        """Of the data trained on."""
        return groups_of(self.splits.parts["train"].groups, self.column)

    def groups_in(self, part: Any) -> Groups:
        """The group of each sample of a part, among those trained on."""
        return groups_of(part.groups, self.column, self.groups.names)

    @cached_property
    def fingerprint(self) -> str:
        """Equal if and only if data and settings are."""
        about = [*self.splits.fingerprints, self.column, self.settings.model_dump_json(), *self._more()]
        return content_key("\n".join(about), digits=64)

    def fit(self, intervention: Intervention, *, seed: int, callbacks: Callbacks = NO_CALLBACKS) -> Any:
        """Train a network under an intervention: gives it, and with it a `skipped_fraction` as in `RunScores`.

        Raises:
            FairveilError: it is not for this task, a group is unknown, or training fails.
        """
        intervention.check(self.task, self.groups)
        return self._fit(intervention, seed, callbacks)

    def measure(self, intervention: Intervention, *, seed: int, callbacks: Callbacks = NO_CALLBACKS) -> RunScores:
        """Train and score."""
        fitted = self.fit(intervention, seed=seed, callbacks=callbacks)
        return RunScores(self.score(fitted), fitted.skipped_fraction)

    @abstractmethod
    def score(self, fitted: Any) -> pl.DataFrame:
        """How well a model does, on every split and of every group: rows of `fairveil.fair.scores.SCORES`."""

    @abstractmethod
    def save(self, path: Path, fitted: Any, intervention: Intervention, scores: pl.DataFrame, *, seed: int) -> None:
        """Write a model as one portable file, with how it was trained and how good it is.

        Raises:
            FairveilError: the file already exists or cannot be written.
        """

    @abstractmethod
    def _people(self, part: Any) -> Sequence[str]:
        """Whose each sample is."""

    @abstractmethod
    def _fit(self, intervention: Intervention, seed: int, callbacks: Callbacks) -> Any:
        """`fit`, of what can be trained."""

    def _more(self) -> Sequence[str]:
        """What else runs depend on, beside data and settings."""
        return ()

    def _train(
        self,
        network: nn.Module,
        data: Any,
        task: Forward,
        intervention: Intervention,
        held: Any,
        seed: int,
        callbacks: Callbacks,
    ) -> float:
        """Train a network in place; gives the share of batches in which nothing could be compared.

        A penalty on a holdout set is taken of the data that are `held`.
        """
        groups = self.groups_in(data)
        holdout = HoldoutSet(held, self.groups_in(held)) if intervention.on_holdout else None
        objective = FairObjective(task, intervention, groups, holdout=holdout)
        train(
            network,
            data,
            self.settings.training.model_copy(update={"seed": seed}),
            objective=objective,
            order=GroupStratified(groups.numbers) if self.settings.stratified else shuffled,
            checkpoint=callbacks.checkpoint,
            on_epoch=callbacks.on_epoch,
            on_step=callbacks.on_step,
            device=self.device,
        )
        return objective.skipped_fraction


def measure_once(
    experiment: Experiment,
    intervention: Intervention,
    *,
    seed: int,
    folder: Path,
    callbacks: Callbacks = NO_CALLBACKS,
) -> RunScores:
    """What a run came to, from a folder if it is there; a run that was stopped goes on from its last epoch.

    Args:
        experiment: what is trained.
        intervention: under which.
        seed: of the run.
        folder: keeps what runs came to, for all processes.
        callbacks: of training; the checkpoint is put in the folder.

    Raises:
        FairveilError: as `Experiment.measure`.
    """
    name = run_name(experiment.fingerprint, intervention, seed)
    checkpoint = folder / f"{name}.checkpoint"

    def write(target: Path) -> None:
        measured = experiment.measure(intervention, seed=seed, callbacks=replace(callbacks, checkpoint=checkpoint))
        measured.scores.with_columns(pl.lit(measured.skipped_fraction).alias(_SKIPPED)).write_parquet(target)
        checkpoint.unlink(missing_ok=True)

    found = pl.read_parquet(make_files(folder, {f"{name}.parquet": write})[0])
    return RunScores(found.drop(_SKIPPED), float(found[_SKIPPED][0]))


def run_name(fingerprint: str, intervention: Intervention, seed: int) -> str:
    """What files of a run are called: another name where it would come to something else."""
    about = f"{__version__} {_FORMAT} {fingerprint} {intervention.model_dump_json()} {seed}"
    return content_key(about, digits=24)
