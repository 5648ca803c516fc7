"""Who paid: what an intervention for some groups did to others, which nobody asked about (section 6.7).

Fairness is gerrymandered where groups come closer along the column that was looked at and drift apart along another
(Kearns et al., 2018).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import polars as pl
from fairlearn.metrics import MetricFrame

from fairveil.base.comparisons import family_confidence
from fairveil.base.estimate import Estimate
from fairveil.fair.comparing import Comparison
from fairveil.fair.scores import BOTH

Effect = Literal["gained", "paid", ""]


@dataclass(frozen=True)
class Bystander:
    """A group that an intervention was not about, or an intersection with one that it was.

    Attributes:
        intervention: which.
        column: of the group.
        group: which.
        before: how well it fared at the baseline.
        change: what the intervention did to it, run by run.
    """

    intervention: str
    column: str
    group: str
    before: Estimate
    change: Estimate

    @property
    def effect(self) -> Effect:
        """Whether it gained or paid, as far as runs tell it from chance."""
        if not self.change.excludes(0):
            return ""
        return "gained" if self.change.value > 0 else "paid"


@dataclass(frozen=True)
class Drift:
    """What an intervention did to the spread within a column: the best-off group less the worst-off one.

    Attributes:
        intervention: which.
        column: of groups.
        change: run by run; above zero, groups drifted apart.
        gerrymandered: whether groups came closer along the column that was asked for, and drifted apart along this.
    """

    intervention: str
    column: str
    change: Estimate
    gerrymandered: bool


def bystanders(comparison: Comparison, *, split: str = "test") -> Iterator[Bystander]:
    """The matrix of who gained and who paid: every intervention, and every group of the untargeted columns.

    Nobody asked about these groups, and there are many of them: the intervals hold for the whole matrix at once.
    """
    confidence = family_confidence(len(comparison.interventions) * len(_untargeted(comparison, split)))
    for intervention in comparison.interventions:
        baseline = comparison.baselines[intervention]
        for column, group in _untargeted(comparison, split):
            before = comparison.value(baseline, split, group, column=column)
            change = comparison.change(intervention, split, group, column=column, confidence=confidence)
            if change.n:
                yield Bystander(intervention, column, group, before, change)


def drifts(comparison: Comparison, *, split: str = "test") -> Iterator[Drift]:
    """What became of the spread within every untargeted column; the intervals hold for all of them at once."""
    columns = list(dict.fromkeys(column for column, _ in _untargeted(comparison, split)))
    columns = [column for column in columns if comparison.column not in column.split(BOTH)]
    confidence = family_confidence(len(comparison.interventions) * len(columns))
    for intervention in comparison.interventions:
        closer = comparison.movement(intervention, split) == "closer"
        for column in columns:
            groups = comparison.groups_of(column, split)
            change = comparison.widening(intervention, split, column, groups, confidence=confidence)
            if change.n:
                moved = comparison.movement(intervention, split, column=column, groups=groups, confidence=confidence)
                yield Drift(intervention, column, change, closer and moved == "apart")


def frame_of(comparison: Comparison, intervention: str, column: str, *, split: str = "test") -> MetricFrame:
    """The same figures as fairlearn's `MetricFrame`, to go on with in one's own notebook.

    Its "samples" are the runs' figures of each group, so that `by_group`, `difference` and the like are of their means.
    """
    found = {
        group: comparison.by_seed(intervention, split, group, column=column)
        for group in comparison.groups_of(column, split)
    }
    values = [(value, group) for group, figures in found.items() for value in figures.values()]
    measure = comparison.measures[split]
    return MetricFrame(
        metrics={measure: lambda y_true, y_pred: float(y_pred.mean())},
        y_true=[0.0] * len(values),
        y_pred=[value for value, _ in values],
        sensitive_features={column: [group for _, group in values]},
    )


def _untargeted(comparison: Comparison, split: str) -> list[tuple[str, str]]:
    """Columns and groups that were scored, but for everybody and the targeted column's own."""
    found = comparison.scores.filter(
        (pl.col("split") == split)
        & (pl.col("measure") == comparison.measures[split])
        & ~pl.col("column").is_in(["", comparison.column])
    )
    return found.select("column", "group").unique(maintain_order=True).rows()
