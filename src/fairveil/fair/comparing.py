"""Interventions side by side: what each did to the gap, on the data it was trained on and off them (chapter 6)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from scipy import stats

from fairveil.errors import FairveilError
from fairveil.fair.experiments import SILENT, Experiment, Told
from fairveil.fair.interventions import AnyIntervention, Task
from fairveil.fair.scores import MEAN
from fairveil.sharing import make_files
from fairveil.version import __version__

SPLITS = ("train", "validation", "test")
"""On which a model is judged: what it was trained on, what was held out of that, and people it knows nothing of."""

LEAST_SEEDS = 3
"""Of fewer runs no interval is given."""

_RESOLUTION = 1e-9  # what figures differ by through rounding alone
_FORMAT = 1  # raised when the same run would come to other scores

Outcome = Literal[
    "carried over",
    "only off the train set",
    "not seen off the train set",
    "worse off the train set",
    "no narrowing",
    "too few",
]


@dataclass(frozen=True)
class Estimate:
    """The mean over runs that differ in their seed, and its 95 % interval.

    Attributes:
        value: the mean.
        low: lower end, by Student's t over the runs; None with fewer than `LEAST_SEEDS`.
        high: upper end.
        runs: how many.
    """

    value: float
    low: float | None
    high: float | None
    runs: int

    @property
    def told(self) -> bool:
        """Whether the interval is on one side of zero. Runs that all gave the same have none to speak of."""
        if self.low is None or self.high is None or self.high - self.low < _RESOLUTION:
            return False
        return self.low > 0 or self.high < 0


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one figure a run, with Student's interval.

    >>> estimate([1.0, 2.0, 3.0])
    Estimate(value=2.0, low=-0.48..., high=4.48..., runs=3)
    """
    runs, mean = len(values), float(np.mean(values))
    if runs < LEAST_SEEDS:
        return Estimate(mean, None, None, runs)
    half = float(stats.t.ppf(0.975, runs - 1) * np.std(values, ddof=1) / np.sqrt(runs))
    return Estimate(mean, mean - half, mean + half, runs)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What several runs under several interventions came to.

    Attributes:
        task: what was learned.
        column: of the groups that were to be treated alike.
        measures: what tells how well a model does, by split.
        baselines: by the name of each intervention, that of what it is compared with.
        scores: rows of `fairveil.fair.scores.SCORES`, with the columns intervention and seed before them.
        lacking: by intervention, the highest share of batches in which nothing could be compared.
    """

    task: Task
    column: str
    measures: dict[str, str]
    baselines: dict[str, str]
    scores: pl.DataFrame
    lacking: dict[str, float]

    @property
    def interventions(self) -> list[str]:
        """Those that do something, in the order they were asked for."""
        return [name for name, baseline in self.baselines.items() if name != baseline]

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Of the column, as far as there are scores of them on every split.

        Raises:
            FairveilError: of fewer than two there are.
        """
        found = self.scores.filter(pl.col("column") == self.column, pl.col("label") == self._overall)
        on_all = [
            set(found.filter(pl.col("split") == split, pl.col("measure") == self.measures[split])["group"].to_list())
            for split in SPLITS
        ]
        names = tuple(sorted(set.intersection(*on_all)))
        if len(names) < 2:
            raise FairveilError(
                f"Of the groups of {self.column!r} fewer than two have enough people on train, validation and test "
                "alike: add people, or put more aside."
            )
        return names

    @cached_property
    def ends(self) -> tuple[str, str]:
        """The groups that are best and worst off at the baselines on validation: between them is the gap."""
        first = "baseline" if "baseline" in self.baselines else next(iter(self.baselines.values()))
        means = {group: self.value(first, "validation", group).value for group in self.groups}
        return max(means, key=lambda group: means[group]), min(means, key=lambda group: means[group])

    def value(self, intervention: str, split: str, group: str = "", *, label: str | None = None) -> Estimate:
        """How well models do for a group, or for everybody."""
        return estimate([*self._by_seed(intervention, split, group, label=label).values()])

    def gap(self, intervention: str, split: str, *, label: str | None = None) -> Estimate:
        """By how much the group best off at the baseline does better than the one worst off there, or less than 0."""
        return estimate([*self._gaps(intervention, split, label).values()])

    def change(self, intervention: str, split: str, group: str = "", *, label: str | None = None) -> Estimate:
        """What an intervention did to a group, run by run against the baseline of the same seed."""
        mine = self._by_seed(intervention, split, group, label=label)
        theirs = self._by_seed(self.baselines[intervention], split, group, label=label)
        return estimate([mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()])

    def gap_change(self, intervention: str, split: str, *, label: str | None = None) -> Estimate:
        """What an intervention did to the gap, run by run against the baseline of the same seed."""
        mine, theirs = (self._gaps(name, split, label) for name in (intervention, self.baselines[intervention]))
        return estimate([mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()])

    def narrowing(self, intervention: str, split: str) -> Estimate:
        """By how much groups came closer: the best-off less the worst-off one before, less that after, run by run."""
        mine, theirs = (self._spreads(name, split) for name in (intervention, self.baselines[intervention]))
        return estimate([theirs[seed] - mine[seed] for seed in mine.keys() & theirs.keys()])

    def outcome(self, intervention: str) -> Outcome:
        """Whether the fairness that an intervention bought on the train set is there on the test too."""
        train, test = self.narrowing(intervention, "train"), self.narrowing(intervention, "test")
        if train.low is None:
            return "too few"
        bought = train.told and train.value > 0
        if test.told and test.value < 0:
            return "worse off the train set"
        if test.told:
            return "carried over" if bought else "only off the train set"
        return "not seen off the train set" if bought else "no narrowing"

    def levelled_down(self, intervention: str) -> Literal["yes", "perhaps", "no"]:
        """Whether groups came closer on the test while some lost and none is seen to have gained.

        "yes" where the narrowing and a group's loss are told from chance, "perhaps" where groups came closer by their
        means and everybody together did no better.
        """
        narrowing = self.narrowing(intervention, "test")
        changes = [self.change(intervention, "test", group) for group in self.groups]
        if narrowing.value <= 0 or any(change.told and change.value > 0 for change in changes):
            return "no"
        if narrowing.told and any(change.told for change in changes):
            return "yes"
        return "perhaps" if self.change(intervention, "test").value <= 0 else "no"

    def _spreads(self, intervention: str, split: str) -> dict[int, float]:
        figures = [self._by_seed(intervention, split, group) for group in self.groups]
        return {seed: max(one[seed] for one in figures) - min(one[seed] for one in figures) for seed in figures[0]}

    @property
    def _overall(self) -> str:
        return MEAN if self.task == "findings" else ""

    def _gaps(self, intervention: str, split: str, label: str | None) -> dict[int, float]:
        best, worst = (self._by_seed(intervention, split, group, label=label) for group in self.ends)
        return {seed: best[seed] - worst[seed] for seed in best}

    def _by_seed(self, intervention: str, split: str, group: str, *, label: str | None = None) -> dict[int, float]:
        column = self.column if group else ""
        return self.by_seed(intervention, split, column, group, label=label)

    def by_seed(
        self, intervention: str, split: str, column: str, group: str, *, label: str | None = None
    ) -> dict[int, float]:
        """The figures of each run, of a group of any column; none where it was not scored."""
        wanted = self._overall if label is None else label
        found = self.scores.filter(
            (pl.col("intervention") == intervention)
            & (pl.col("split") == split)
            & (pl.col("measure") == self.measures[split])
            & (pl.col("label") == wanted)
            & (pl.col("column") == column)
            & (pl.col("group") == group)
        )
        return dict(zip(found["seed"], found["value"], strict=True))


def compare(
    experiment: Experiment,
    interventions: Sequence[AnyIntervention],
    *,
    seeds: int = LEAST_SEEDS,
    folder: Path | None = None,
    on_run: Callable[[str, int], None] = lambda name, seed: None,
    told: Callable[[str, int], Told] = lambda name, seed: SILENT,
) -> Comparison:
    """Train under every intervention and what it is compared with, once a seed.

    Args:
        experiment: what is trained.
        interventions: which, beside their baselines.
        seeds: how many runs of each.
        folder: keeps what each run came to; one that is there is not run again.
        on_run: told when a run is done.
        told: where a run, of an intervention's name and a seed, keeps its state and tells of its progress.

    Raises:
        FairveilError: an intervention is not for this task, or training fails.
    """
    every = planned(experiment, interventions)
    about = "" if folder is None else experiment.fingerprint()  # of all the data, so once and not for every run
    frames, lacking = [], dict.fromkeys(every, 0.0)
    for seed in range(seeds):
        for name, one in every.items():

            def run(one: AnyIntervention = one, name: str = name, seed: int = seed) -> pl.DataFrame:
                measured = experiment.measure(one, seed=seed, told=told(name, seed))
                return measured.scores.with_columns(pl.lit(measured.lacking).alias("lacking"))

            scores = run() if folder is None else _kept(folder, about, one, seed, run)
            lacking[name] = max(lacking[name], float(scores["lacking"][0]))
            frames.append(
                scores.select(pl.lit(name).alias("intervention"), pl.lit(seed).alias("seed"), pl.exclude("lacking"))
            )
            on_run(name, seed)
    baselines = {name: experiment.baseline_of(one).name for name, one in every.items()}
    return Comparison(
        experiment.task, experiment.column, dict(experiment.measures), baselines, pl.concat(frames), lacking
    )


def planned(experiment: Experiment, interventions: Sequence[AnyIntervention]) -> dict[str, AnyIntervention]:
    """What is to be run, by name: baselines first, each once.

    Raises:
        FairveilError: an intervention is not for the experiment's task.
    """
    for one in interventions:
        if experiment.task not in one.tasks:
            raise FairveilError(
                f"{one.name} is for {' and '.join(sorted(one.tasks))}, not for {experiment.task}: leave it out."
            )
    first = {experiment.baseline_of(one).name: experiment.baseline_of(one) for one in interventions}
    every = dict(first)
    for one in interventions:
        if every.setdefault(one.name, one) != one:
            raise FairveilError(f"Two interventions are called {one.name}: let their settings differ by more.")
    return every


def _kept(
    folder: Path, experiment: str, intervention: AnyIntervention, seed: int, run: Callable[[], pl.DataFrame]
) -> pl.DataFrame:
    """The scores of a run of the experiment with this fingerprint, from the folder if they are there."""
    about = f"{__version__} {_FORMAT} {experiment} {intervention.model_dump_json()} {seed}"

    def write(target: Path) -> None:
        scores = run()
        scores.write_parquet(target)

    name = f"{sha256(about.encode()).hexdigest()[:24]}.parquet"
    return pl.read_parquet(make_files(folder, {name: write})[0])
