"""Interventions side by side: what each did to the gap, on the data it was trained on and off them (chapter 6)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import polars as pl

from fairveil.base.comparisons import CONFIDENCE, family_confidence, groups_confidence
from fairveil.base.differences import LEAST_RUNS, difference, mean_of_runs
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import RESOLUTION, Estimate
from fairveil.fair.experiments import NO_CALLBACKS, Callbacks, Experiment, measure_once
from fairveil.fair.interventions import Intervention, Task
from fairveil.fair.scores import MEAN, figure_of
from fairveil.report.display import DisplayMixin

SPLITS = ("train", "validation", "test")
"""On which a model is judged: what it was trained on, what was held out of that, and people it knows nothing of."""

_DIGITS = 9  # to which means of groups are compared

Generalization = Literal[
    "carried over",
    "only on the test",
    "not seen on the test",
    "worse on the test",
    "no narrowing",
    "moved apart where fitted",
    "too few",
]
"""What became, on the test, of the fairness that an intervention bought on what it was fitted to."""

LeveledDown = Literal["yes", "perhaps", "no", "too few"]

Movement = Literal["closer", "apart", ""]
"""What became of a spread of groups, as far as it can be told."""


class Which(TypedDict, total=False):
    """Which figures of a group are meant; the usual ones by default.

    Attributes:
        column: of the group; by default the one that was to be treated alike.
        label: of findings: the one; by default all of them.
        measure: by default that of the split.
    """

    column: str | None
    label: str | None
    measure: str | None


@dataclass(frozen=True, eq=False)
class Comparison(DisplayMixin):
    """What several runs under several interventions came to.

    Attributes:
        task: what was learned.
        column: of the groups that were to be treated alike.
        measures: what tells how well a model does, by split.
        baselines: by the name of each intervention, that of what it is compared with.
        scores: rows of `fairveil.fair.scores.SCORES`, with the columns intervention and seed before them.
        skipped_fraction: by intervention, the highest share of batches in which nothing could be compared.
        fitted: by intervention, the split that it was fitted to, see `fitted_to`.
        trained_on: all groups that there were, with those of too few people to have scores; () where it is not known.
    """

    task: Task
    column: str
    measures: dict[str, str]
    baselines: dict[str, str]
    scores: pl.DataFrame
    skipped_fraction: dict[str, float]
    fitted: dict[str, str]
    trained_on: tuple[str, ...] = ()

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

    @property
    def left_out_groups(self) -> dict[str, tuple[str, ...]]:
        """Groups of the column that are not compared, each with the splits on which there are no scores of it."""
        on = {split: self.groups_of(self.column, split) for split in SPLITS}
        every = sorted({*self.trained_on, *(group for found in on.values() for group in found)} - set(self.groups))
        return {group: tuple(split for split, found in on.items() if group not in found) for group in every}

    @property
    def confidence(self) -> float:
        """Of each interval of a group or of a difference of two, see `fairveil.base.comparisons.groups_confidence`.

        Groups to set in relation are picked by their figures, and losses are looked for among all groups. With this
        confidence the intervals of all pairs of groups hold at once, and so do those of all groups, for one
        intervention on one split. Of two groups nothing is picked, and it is 95 %.
        """
        return groups_confidence(len(self.groups))

    @property
    def change_confidence(self) -> float:
        """Of each interval of a group's change, so that those of all groups hold at once, of two groups too."""
        return max(self.confidence, family_confidence(len(self.groups)))

    @property
    def best_group(self) -> str:
        """The group that is best off at the baselines on validation; of equals the one whose name comes first."""
        return self._named_pair[0]

    @property
    def worst_group(self) -> str:
        """The group that is worst off there, another one than `best_group`: between the two is the gap."""
        return self._named_pair[1]

    @cached_property
    def _named_pair(self) -> tuple[str, str]:
        return self.best_and_worst(self.first_baseline, "validation")

    @property
    def first_baseline(self) -> str:
        """The one on the whole train set, where it is there."""
        return "baseline" if "baseline" in self.baselines else next(iter(self.baselines.values()))

    def best_and_worst(self, intervention: str, split: str) -> tuple[str, str]:
        """The groups that are best and worst off on a split by their means; of equals as for `best_group`."""
        return self._best_and_worst_of(intervention, split, self.column, self.groups)

    def _best_and_worst_of(self, intervention: str, split: str, column: str, groups: Sequence[str]) -> tuple[str, str]:
        means = {group: self.value(intervention, split, group, column=column).value for group in groups}
        best, *_, worst = sorted(sorted(means), key=lambda group: -round(means[group], _DIGITS))
        return best, worst

    @property
    def tied(self) -> bool:
        """Whether all groups fare alike at the baselines on validation, so that none is better off."""
        best, worst = (self.value(self.first_baseline, "validation", group).value for group in self._named_pair)
        return best - worst < RESOLUTION

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """What means are of: the findings that everybody and every group have on every split; none of recognizers."""
        if self.task != "findings":
            return ()
        areas = self.scores.filter(
            pl.col("column").is_in(["", self.column]), ~pl.col("label").is_in(["", MEAN]),
        )  # fmt: skip
        by_group: dict[tuple[str, str], set[str]] = {}
        for split, measure, label, group in areas.select("split", "measure", "label", "group").unique().rows():
            if split in SPLITS and measure == self.measures[split]:
                by_group.setdefault((split, group), set()).add(label)
        shared = set.intersection(*by_group.values()) if by_group else set()
        return tuple(label for label in areas["label"].unique(maintain_order=True) if label in shared)

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """Findings that were learned, and that means are not of."""
        labels = self.scores["label"].unique(maintain_order=True).to_list()
        return tuple(label for label in labels if label not in ("", MEAN, *self.findings) and self.findings)

    def value(self, intervention: str, split: str, group: str = "", **which: Unpack[Which]) -> Estimate:
        """How well models do for a group, or for everybody; see `by_seed`."""
        return mean_of_runs([*self.by_seed(intervention, split, group, **which).values()])

    def difference(
        self,
        intervention: str,
        split: str,
        group: str,
        other: str,
        *,
        label: str | None = None,
        confidence: float = CONFIDENCE,
    ) -> Estimate:
        """By how much a group does better than another; the interval holds for all pairs of groups at once.

        Args:
            intervention: its name.
            split: on which.
            group: the one.
            other: the other.
            label: of which; by default all of them.
            confidence: of all pairs together.
        """
        mine, theirs = (self.by_seed(intervention, split, one, label=label) for one in (group, other))
        return _differences(mine, theirs, groups_confidence(len(self.groups), confidence=confidence))

    def gap(self, intervention: str, split: str, *, label: str | None = None) -> Estimate:
        """By how much the group best off at the baseline does better than the one worst off there, or less than 0.

        The interval holds for all pairs of groups at once, since these two are picked.
        """
        return self.difference(intervention, split, *self._named_pair, label=label)

    def over_people(self, intervention: str, split: str, group: str = "") -> Estimate | None:
        """The mean over runs, with an interval that takes people for the sample; None where there is none.

        Its ends are the means of those of the runs. They are right where runs err alike, and wide where they do not.
        """
        key = (intervention, split, self.measures[split], self._overall, self.column if group else "", group)
        found = [(one.value, one.low, one.high) for one in self._figures.get(key, {}).values() if one.bounded]
        if not found:
            return None
        value, low, high = np.mean(np.array(found), axis=0).tolist()
        return Estimate(value, low, high, len(found), "runs", "mean of ends")

    def gap_over_people(self, intervention: str, split: str) -> Estimate | None:
        """The gap, with an interval that takes people for the sample.

        The two groups are of different people, see `differences.difference`. It holds for all pairs of groups at once.
        """
        best, worst = (self.over_people(intervention, split, group) for group in self._named_pair)
        if best is None or worst is None:
            return None
        return difference(best, worst, groups=len(self.groups))

    def change(
        self, intervention: str, split: str, group: str = "", *, confidence: float = 0.95, **which: Unpack[Which]
    ) -> Estimate:
        """What an intervention did to a group, run by run against the baseline of the same seed; see `by_seed`."""
        both = (intervention, self.baselines[intervention])
        mine, theirs = (self.by_seed(name, split, group, **which) for name in both)
        return _differences(mine, theirs, confidence)

    def gap_change(self, intervention: str, split: str, *, label: str | None = None) -> Estimate:
        """What an intervention did to the gap, run by run against the baseline of the same seed.

        The interval holds for all pairs of groups at once.
        """
        return self._parting(intervention, split, self.column, self._named_pair, self.confidence, label=label)

    def narrowing(self, intervention: str, split: str) -> Estimate:
        """By how much groups came closer: the best-off less the worst-off one before, less that after, run by run.

        Its interval is as sure as that of the gap, see `confidence`. Which groups are first and last may change from
        run to run, so it tells of groups only together with `movement`.
        """
        return -self.widening(intervention, split, self.column, self.groups, confidence=self.confidence)

    def widening(
        self, intervention: str, split: str, column: str, groups: Sequence[str], *, confidence: float = 0.95
    ) -> Estimate:
        """By how much groups of any column moved apart, run by run."""
        mine, theirs = (
            self._spreads(name, split, column, groups) for name in (intervention, self.baselines[intervention])
        )
        return _differences(mine, theirs, confidence)

    def movement(
        self,
        intervention: str,
        split: str,
        *,
        column: str | None = None,
        groups: Sequence[str] = (),
        confidence: float = CONFIDENCE,
    ) -> Movement:
        """Whether groups came closer or moved apart, as far as it can be told.

        The spread has to have changed, and with it the difference of the two groups that make it: those ahead and
        behind at the baseline where it shrank, those ahead and behind now where it grew. Where runs merely scatter
        more, spreads grow in each of them, and no two groups move apart. Intervals hold for all pairs at once.

        Args:
            intervention: its name.
            split: on which.
            column: of groups; by default the one that was to be treated alike.
            groups: of the column; by default those that are compared.
            confidence: of all pairs together.
        """
        column, groups = column or self.column, groups or self.groups
        each = groups_confidence(len(groups), confidence=confidence)
        spread = self.widening(intervention, split, column, groups, confidence=each)
        if not spread.excludes(0):
            return ""
        baseline = self.baselines[intervention]
        pair = self._best_and_worst_of(intervention if spread.value > 0 else baseline, split, column, groups)
        parting = self._parting(intervention, split, column, pair, each)
        if not parting.excludes(0) or (parting.value > 0) != (spread.value > 0):
            return ""
        return "apart" if spread.value > 0 else "closer"

    def least_told(self, intervention: str, split: str) -> float | None:
        """How large a change of the spread of groups had to be for these runs to tell it; None of too few runs."""
        pair = self.best_and_worst(self.baselines[intervention], split)
        both = (
            self.narrowing(intervention, split),
            self._parting(intervention, split, self.column, pair, self.confidence),
        )
        halves = [(one.high - one.low) / 2 for one in both if one.bounded]
        return max(halves, default=None)

    def outcome(self, intervention: str) -> Generalization:
        """Whether the fairness that an intervention bought on what it was fitted to is there on the test too."""
        if not self.narrowing(intervention, self.fitted[intervention]).bounded:
            return "too few"
        first, test = (self.movement(intervention, split) for split in (self.fitted[intervention], "test"))
        if test == "apart":
            return "worse on the test"
        if test == "closer":
            return "carried over" if first == "closer" else "only on the test"
        if first == "apart":
            return "moved apart where fitted"
        return "not seen on the test" if first == "closer" else "no narrowing"

    def leveled_down(self, intervention: str) -> LeveledDown:
        """Whether groups came closer on the test while some lost and none is seen to have gained.

        "yes" where the narrowing and a group's loss are told from chance, "perhaps" where the narrowing is, and no
        change of a group or of everybody. Losses are looked for in all groups, so their intervals hold for all at once;
        a gain need only show by itself to speak against leveling down.
        """
        if not self.narrowing(intervention, "test").bounded:
            return "too few"
        alone = [self.change(intervention, "test", group) for group in self.groups]
        gained = any(change.excludes(0) and change.value > 0 for change in alone)
        if self.movement(intervention, "test") != "closer" or gained:
            return "no"
        if any(change.excludes(0) for change in self.group_changes(intervention, "test").values()):
            return "yes"
        everybody = self.change(intervention, "test")
        return "no" if everybody.excludes(0) and everybody.value > 0 else "perhaps"

    def group_changes(self, intervention: str, split: str) -> dict[str, Estimate]:
        """What an intervention did to each group; the intervals hold for all groups at once, for two of them too."""
        each = self.change_confidence
        return {group: self.change(intervention, split, group, confidence=each) for group in self.groups}

    def _parting(
        self,
        intervention: str,
        split: str,
        column: str,
        pair: tuple[str, str],
        confidence: float,
        *,
        label: str | None = None,
    ) -> Estimate:
        """By how much the lead of a group over another grew, run by run against the baseline of the same seed."""
        mine, theirs = (
            {seed: value - behind[seed] for seed, value in ahead.items() if seed in behind}
            for name in (intervention, self.baselines[intervention])
            for ahead, behind in [[self.by_seed(name, split, group, column=column, label=label) for group in pair]]
        )
        return _differences(mine, theirs, confidence)

    def _spreads(self, intervention: str, split: str, column: str, groups: Sequence[str]) -> dict[int, float]:
        """By how much the best-off of some groups is ahead of the worst-off one, in each run."""
        figures = [self.by_seed(intervention, split, group, column=column) for group in groups]
        seeds = set.intersection(*(set(one) for one in figures)) if figures else set()
        return {seed: max(one[seed] for one in figures) - min(one[seed] for one in figures) for seed in sorted(seeds)}

    def groups_of(self, column: str, split: str) -> list[str]:
        """The groups of a column that were scored on a split."""
        found = self.scores.filter(
            (pl.col("column") == column)
            & (pl.col("split") == split)
            & (pl.col("measure") == self.measures.get(split, ""))
        )
        return found["group"].unique(maintain_order=True).to_list()

    def by_seed(self, intervention: str, split: str, group: str = "", **which: Unpack[Which]) -> dict[int, float]:
        """The figures of each run; none where it was not scored.

        Args:
            intervention: its name.
            split: on which.
            group: "" for everybody.
            which: see `Which`.
        """
        label, column = which.get("label"), which.get("column") or self.column
        measure = which.get("measure") or self.measures[split]
        key = (intervention, split, measure, self._overall if label is None else label, column if group else "", group)
        return {seed: one.value for seed, one in self._figures.get(key, {}).items()}

    @cached_property
    def _figures(self) -> dict[tuple[str, ...], dict[int, Estimate]]:
        """The figure of each run with its interval, by intervention, split, measure, label, column and group."""
        found: dict[tuple[str, ...], dict[int, Estimate]] = {}
        keys = ("intervention", "split", "measure", "label", "column", "group")
        for row in self.scores.iter_rows(named=True):
            found.setdefault(tuple(row[key] for key in keys), {})[row["seed"]] = figure_of(row)
        return found

    def _rows(self) -> Iterator[dict[str, Any]]:
        return self.scores.iter_rows(named=True)

    @property
    def _overall(self) -> str:
        return MEAN if self.task == "findings" else ""


def _differences(mine: dict[int, float], theirs: dict[int, float], confidence: float = 0.95) -> Estimate:
    """Run by run."""
    values = [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]
    return mean_of_runs(values, confidence=confidence)


def fitted_to(task: Task, intervention: Intervention) -> str:
    """The split whose groups an intervention compares while it trains.

    A holdout of X-rays is the validation set (table 6.8); one of faces has images of the people trained on (section
    6.9.2), with whose other images it is scored.
    """
    return "validation" if task == "findings" and intervention.on_holdout else "train"


def compare(
    experiment: Experiment,
    interventions: Sequence[Intervention],
    *,
    seeds: int = LEAST_RUNS,
    folder: Path | None = None,
    on_run: Callable[[str, int], None] = lambda name, seed: None,
    callbacks: Callable[[str, int], Callbacks] = lambda name, seed: NO_CALLBACKS,
) -> Comparison:
    """Train under every intervention and what it is compared with, once a seed.

    Args:
        experiment: what is trained.
        interventions: which, beside their baselines.
        seeds: how many runs of each.
        folder: keeps what each run came to; one that is there is not run again.
        on_run: called when a run is done.
        callbacks: those of a run, by an intervention's name and a seed.

    Raises:
        FairveilError: an intervention is not for this task, or training fails.
    """
    every = planned(experiment, interventions)
    frames, skipped = [], dict.fromkeys(every, 0.0)
    for seed in range(seeds):
        for name, one in every.items():
            try:
                measure = experiment.measure if folder is None else partial(measure_once, experiment, folder=folder)
                found = measure(one, seed=seed, callbacks=callbacks(name, seed))
            except FairveilError as error:
                raise FairveilError(f"{name}, run {seed + 1}: {error}") from error
            skipped[name] = max(skipped[name], found.skipped_fraction)
            frames.append(found.scores.select(pl.lit(name).alias("intervention"), pl.lit(seed).alias("seed"), pl.all()))
            on_run(name, seed)
    baselines = {name: one.baseline().name for name, one in every.items()}
    fitted = {name: fitted_to(experiment.task, one) for name, one in every.items()}
    groups = getattr(experiment, "groups", None)  # experiments of other people's need not have them
    return Comparison(
        experiment.task, experiment.column, dict(experiment.measures), baselines, pl.concat(frames), skipped, fitted,
        () if groups is None else groups.names,
    )  # fmt: skip


def planned(experiment: Experiment, interventions: Sequence[Intervention]) -> dict[str, Intervention]:
    """What is to be run, by name: baselines first, each once.

    Raises:
        FairveilError: an intervention is not for the experiment's task.
    """
    for one in interventions:
        one.check(experiment.task)
    every = {one.baseline().name: one.baseline() for one in interventions}
    for one in interventions:
        if every.setdefault(one.name, one) != one:
            raise FairveilError(f"Two interventions are called {one.name}: let their settings differ by more.")
    return every
