"""Training schemes as the tables of chapter 6 call them, and what several runs under each came to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from fairveil.fair.comparing import Comparison, Estimate, fitted_to
from fairveil.fair.experiments import Measured
from fairveil.fair.interventions import AnyIntervention, FairFeatures, Task, baseline_of
from fairveil.fair.scores import SCORES
from fairveil.report.tables import Cell, Table
from fairveil.studies.study import Measurement

Schemes = dict[str, AnyIntervention]
"""Interventions by what the published tables call them."""

BASELINE = "Baseline"


def baseline_among(schemes: Mapping[str, AnyIntervention], name: str) -> str:
    """The scheme that another is compared with: itself, where no other is there."""
    wanted = baseline_of(schemes[name])
    for other, one in schemes.items():
        # without a weight nobody is made to look like anyone
        same = isinstance(wanted, FairFeatures) and isinstance(one, FairFeatures) and one.weight == 0
        if one == wanted or same:
            return other
    return name


def measurements_of(measured: Measured) -> list[Measurement]:
    """What a run came to, to be kept: a measurement a score, and how often nothing could be compared."""
    kept = [
        Measurement(
            labels={key: row[key] for key in _LABELS}, value=row["value"], low=row["low"], high=row["high"],
            count=row["count"],
        )
        for row in measured.scores.to_dicts()
    ]  # fmt: skip
    return [*kept, Measurement(labels={"measure": _LACKING}, value=measured.lacking)]


def comparison_of(
    runs: Iterable[tuple[str, int, Sequence[Measurement]]],
    schemes: Mapping[str, AnyIntervention],
    *,
    task: Task,
    column: str,
    measures: Mapping[str, str],
) -> Comparison:
    """The runs of one model as a `Comparison`, whose interventions are called like the schemes.

    Args:
        runs: a scheme, a seed, and what was measured.
        schemes: all there are; those without a run are left out.
        task: what was learned.
        column: of the groups.
        measures: what tells how well a model does, by split.
    """
    rows, lacking = [], dict[str, float]()
    for scheme, seed, measurements in runs:
        for one in measurements:
            if one.labels["measure"] == _LACKING:
                lacking[scheme] = max(lacking.get(scheme, 0.0), one.value)
                continue
            labels = (one.labels[key] for key in _LABELS)
            rows.append((scheme, seed, *labels, one.value, one.low, one.high, one.count, None))
    schema = pl.Schema([("intervention", pl.String), ("seed", pl.Int64), *SCORES.items()])
    there = [name for name in schemes if name in lacking]
    baselines = {name: baseline_among({other: schemes[other] for other in there}, name) for name in there}
    scores = pl.DataFrame(rows, schema=schema, orient="row")
    fitted = {name: fitted_to(task, schemes[name]) for name in there}
    return Comparison(task, column, dict(measures), baselines, scores, lacking, fitted)


def cell(one: Estimate) -> Cell:
    """A mean over runs with its interval."""
    return Cell(one.value, one.low, one.high)


def named(tables: Sequence[Table], model: str) -> list[Table]:
    """Tables of ours of one model, with its name in their titles."""
    return [replace(table, title=f"{table.title}, {model}, ours") for table in tables]


_LABELS = ("split", "measure", "label", "column", "group")
_LACKING = "batches without a comparison"
