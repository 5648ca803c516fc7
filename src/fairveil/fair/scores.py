"""How well a model does for each group and each intersection of groups, with intervals over people."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairveil.base.estimate import Estimate
from fairveil.base.rates import rate

LEAST_PEOPLE = 5
"""Of groups and intersections of fewer people nothing is told."""

RESAMPLES = 400
"""How often patients are drawn anew for the interval of an area under the curve."""

BOTH = " × "
"""Between the columns of an intersection, and between its groups."""

SCORES = pl.Schema(
    {
        "split": pl.String,
        "measure": pl.String,
        "label": pl.String,
        "column": pl.String,
        "group": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "count": pl.Int64,
        "people": pl.Int64,
    }
)
"""A row a figure: on which split, what it is, of which label ("" for all), of which group ("" for everybody), the
figure with its 95 % interval, and how many samples and people it is of."""

MEAN = "mean"
"""The label of an average over labels."""

POSITIVES = "positives"
"""The measure of how many samples have a label, of as many as its row counts: where few have, an area says little."""


@dataclass(frozen=True)
class Subset:
    """The samples of a group, or of an intersection of two.

    Attributes:
        column: of groups; "" for everybody.
        group: which.
        rows: bool (N,).
    """

    column: str
    group: str
    rows: Tensor


def subsets(
    columns: Mapping[str, Sequence[str | None]], people: Tensor, *, least: int = LEAST_PEOPLE
) -> Iterator[Subset]:
    """Everybody, the groups of every column, and the intersections of every two columns.

    Args:
        columns: of groups, a value a sample each.
        people: whose each sample is, int64 (N,).
        least: how many people a group must have.

    >>> groups = {"sex": ["F", "M"], "age": ["old", "old"]}
    >>> [(one.group, int(one.rows.sum())) for one in subsets(groups, torch.tensor([0, 1]), least=1)]
    [('', 2), ('F', 1), ('M', 1), ('old', 2), ('F × old', 1), ('M × old', 1)]
    """
    for one in _all_subsets(columns, len(people)):
        if not one.column or len(torch.unique(people[one.rows])) >= least:
            yield one


def _all_subsets(columns: Mapping[str, Sequence[str | None]], count: int) -> Iterator[Subset]:
    yield Subset("", "", torch.ones(count, dtype=torch.bool))
    single = {
        column: {
            value: torch.tensor([one == value for one in values], dtype=torch.bool)
            for value in sorted({value for value in values if value is not None})
        }
        for column, values in columns.items()
    }
    for column, groups in single.items():
        for value, rows in groups.items():
            yield Subset(column, value, rows)
    for first, second in combinations(single, 2):
        for one, rows in single[first].items():
            for other, more in single[second].items():
                yield Subset(first + BOTH + second, one + BOTH + other, rows & more)


def share_scores(
    right: Tensor, people: Tensor, columns: Mapping[str, Sequence[str | None]], *, split: str, measure: str
) -> pl.DataFrame:
    """Shares of right answers, such as rank-1 accuracy, with intervals that take people for the sample.

    Args:
        right: bool (N,).
        people: whose each sample is, int64 (N,).
        columns: of groups.
        split: on which the answers were given.
        measure: what right means.

    Returns:
        Rows of `SCORES`.
    """
    rows = []
    for one in subsets(columns, people):
        rows.append(_row(split, measure, "", one.column, one.group, rate(right[one.rows], people[one.rows])))
    return pl.DataFrame(rows, schema=SCORES, orient="row")


def single_score(
    split: str, measure: str, value: float, count: int, *, label: str = "", column: str = "", group: str = ""
) -> pl.DataFrame:
    """A figure without an interval as a row of `SCORES`; it is of as many people as of samples."""
    row = _row(split, measure, label, column, group, Estimate(value, n=count, count=count))
    return pl.DataFrame([row], schema=SCORES, orient="row")


def figure_of(row: Mapping[str, Any]) -> Estimate:
    """The figure of a row of `SCORES`, with its interval."""
    return Estimate.from_ends(row["value"], row["low"], row["high"], n=row["people"], unit="people", count=row["count"])


def _row(split: str, measure: str, label: str, column: str, group: str, figure: Estimate) -> tuple[object, ...]:
    """A row of `SCORES`."""
    return split, measure, label, column, group, figure.value, *figure.ends, figure.count, figure.n


def auc_scores(
    logits: Tensor,
    targets: Tensor,
    labels: Sequence[str],
    patients: Tensor,
    columns: Mapping[str, Sequence[str | None]],
    *,
    split: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
    mean_over: Tensor | None = None,
) -> pl.DataFrame:
    """Areas under the ROC curve of every label and their mean, with bootstrap intervals over patients.

    A label without both presence and absence in a group has no area there and no row. Means are compared with each
    other, so all of them are over the same labels: those of `mean_over`. A column of which a group lacks one of these
    has means over the rest.

    Args:
        logits: (N, K).
        targets: 0, 1, or NaN where unknown, (N, K).
        labels: what the K labels are called.
        patients: whose each sample is, int64 (N,).
        columns: of groups.
        split: which samples these are.
        resamples: how often patients are drawn anew for the intervals; 0 for no intervals.
        seed: of the resampling.
        mean_over: which labels means are of, bool (K,); by default those that everybody and all groups of all columns
            have, see `shared_labels`.

    Returns:
        Rows of `SCORES`.
    """
    rows: list[tuple[object, ...]] = []
    everyone = list(subsets(columns, patients))
    can = {(one.column, one.group): _can_be_ranked(targets[one.rows]) for one in everyone}
    if mean_over is None:
        mean_over = _all_have(can, {"", *columns})
    for one in everyone:
        within = mean_over & _all_have(can, {one.column})
        mine, whose = targets[one.rows], patients[one.rows]
        weights = _drawn_weights(whose, resamples, seed)
        areas: dict[str, NDArray[np.float64]] = {}
        for number, label in enumerate(labels):
            known = ~mine[:, number].isnan()
            if not bool(can[one.column, one.group][number]):
                continue
            drawn = areas_under_curve(
                logits[one.rows][known, number].double().numpy(),
                mine[known, number].numpy() > 0,
                weights[:, known.numpy()],
            )
            if bool(within[number]):
                areas[label] = drawn
            rows.append(_auc_row(split, label, one, drawn, whose[known]))
        if areas:
            mean = np.mean(np.stack(list(areas.values())), axis=0)
            rows.append(_auc_row(split, MEAN, one, mean, whose))
    return pl.DataFrame(rows, schema=SCORES, orient="row")


def shared_labels(parts: Iterable[tuple[Tensor, Tensor, Mapping[str, Sequence[str | None]]]], column: str) -> Tensor:
    """The labels that everybody and all groups of a column have in all parts, both present and absent: bool (K,).

    Groups of too few people, or without any such label in a part, are not told of there and do not count.

    Args:
        parts: targets (N, K), patients (N,), and columns of groups; of train, validation and test.
        column: whose groups are compared.
    """
    found = []
    for targets, patients, columns in parts:
        can = {
            (one.column, one.group): _can_be_ranked(targets[one.rows])
            for one in subsets({column: columns[column]}, patients)
        }
        found.append(_all_have(can, {"", column}))
    return torch.stack(found).all(0)


def _all_have(can: Mapping[tuple[str, str], Tensor], columns: Collection[str]) -> Tensor:
    """The labels that all groups of some columns have, but for groups that have none at all: bool (K,)."""
    there = [usable for (column, _), usable in can.items() if column in columns and bool(usable.any())]
    return torch.stack(there).all(0) if there else torch.zeros_like(next(iter(can.values())))


def positive_scores(
    targets: Tensor,
    labels: Sequence[str],
    patients: Tensor,
    columns: Mapping[str, Sequence[str | None]],
    *,
    split: str,
) -> pl.DataFrame:
    """How many samples of everybody and of each group have each label, of how many of which it is known.

    Args:
        targets: 0, 1, or NaN where unknown, (N, K).
        labels: what the K labels are called.
        patients: whose each sample is, int64 (N,).
        columns: of groups; of their intersections nothing is told.
        split: which samples these are.

    Returns:
        Rows of `SCORES`, of the measure `POSITIVES`.
    """
    rows = []
    for one in subsets(columns, patients):
        if BOTH in one.column:
            continue
        for label, mine in zip(labels, targets[one.rows].T, strict=True):
            known = ~mine.isnan()
            people = len(torch.unique(patients[one.rows][known]))
            present = Estimate(float((mine == 1).sum()), n=people, count=int(known.sum()))
            rows.append(_row(split, POSITIVES, label, one.column, one.group, present))
    return pl.DataFrame(rows, schema=SCORES, orient="row")


def areas_under_curve(
    scores: NDArray[np.float64], present: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weighted area under the ROC curve: how often a present one scores above an absent one, ties counting half.

    Args:
        scores: (N,).
        present: (N,).
        weights: of the samples, in each of R resamples, (R, N).

    Returns:
        (R,); NaN where a resample has no present or no absent one.

    >>> areas_under_curve(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]), np.ones((1, 3)))
    array([0.75])
    """
    order = np.argsort(scores, kind="stable")
    _, first = np.unique(scores[order], return_index=True)
    absent = weights[:, order] * ~present[order]
    there = weights[:, order] * present[order]
    absent_at = np.add.reduceat(absent, first, axis=1)  # (R, values)
    there_at = np.add.reduceat(there, first, axis=1)
    below = np.cumsum(absent_at, axis=1) - absent_at
    pairs = absent_at.sum(1) * there_at.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((there_at * (below + absent_at / 2)).sum(1) / pairs)


def _can_be_ranked(targets: Tensor) -> Tensor:
    """Labels that are present in some samples and absent in others, bool (K,)."""
    return (targets == 1).any(0) & (targets == 0).any(0)


def _drawn_weights(patients: Tensor, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each sample counts in each resample of patients, (1 + R, N); the first is the sample itself."""
    if not resamples:
        return np.ones((1, len(patients)))
    _, number = np.unique(patients.numpy(), return_inverse=True)
    people = int(number.max()) + 1
    generator = np.random.default_rng(seed)
    times = generator.multinomial(people, np.full(people, 1 / people), size=resamples)
    return np.concatenate([np.ones((1, len(number))), times[:, number].astype(np.float64)])


def _auc_row(
    split: str, label: str, subset: Subset, drawn: NDArray[np.float64], patients: Tensor
) -> tuple[object, ...]:
    area = Estimate(float(drawn[0]), n=len(torch.unique(patients)), unit="people", count=len(patients))
    if len(drawn) > 1:
        low, high = np.nanquantile(drawn[1:], [0.025, 0.975]).tolist()
        area = replace(area, low=low, high=high, method="bootstrap")
    return _row(split, "AUC", label, subset.column, subset.group, area)
