"""Training schemes as the tables of chapter 6 call them, and what several runs under each came to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from fairveil.experiment.study import Measurement, Results, Trial
from fairveil.fair.comparing import Comparison, fitted_to
from fairveil.fair.experiments import RunScores
from fairveil.fair.interventions import AnyIntervention, FairFeatures, Task
from fairveil.fair.scores import SCORES
from fairveil.report.tables import Table

Schemes = dict[str, AnyIntervention]
"""Interventions by what the published tables call them."""

BASELINE = "Baseline"


def baseline_among(schemes: Mapping[str, AnyIntervention], name: str) -> str:
    """The scheme that another is compared with: itself, where no other is there."""
    wanted = schemes[name].baseline()
    for other, one in schemes.items():
        # without a weight nobody is made to look like anyone
        same = isinstance(wanted, FairFeatures) and isinstance(one, FairFeatures) and one.weight == 0
        if one == wanted or same:
            return other
    return name


def measurements_of(measured: RunScores) -> list[Measurement]:
    """What a run came to, to be kept: a measurement a score, and how often nothing could be compared."""
    kept = [
        Measurement(
            labels={key: row[key] for key in _LABELS}, value=row["value"], low=row["low"], high=row["high"],
            count=row["count"],
        )
        for row in measured.scores.to_dicts()
    ]  # fmt: skip
    return [*kept, Measurement(labels={"measure": _SKIPPED}, value=measured.skipped_fraction)]


class SchemeSettings(BaseModel):
    """Settings of a study of training schemes.

    Attributes:
        schemes: by the names of the published tables.
        runs: how often, each with initial weights and an order of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schemes: Schemes
    runs: int = Field(3, ge=1)


class SchemeTrial(Trial):
    """One model under one scheme.

    Attributes:
        name: of the model.
        scheme: its name.
        intervention: what the scheme is.
        run: from 0; the seed.
    """

    name: str
    scheme: str
    intervention: AnyIntervention
    run: int

    @property
    def label(self) -> str:
        """The model, the scheme and the run."""
        return f"{self.name}, {self.scheme}, run {self.run + 1}"


SchemeTrialType = TypeVar("SchemeTrialType", bound=SchemeTrial)


def trials_of(
    kind: Callable[..., SchemeTrialType], settings: SchemeSettings, models: Mapping[str, BaseModel], **common: Any
) -> list[SchemeTrialType]:
    """Every model under every scheme, as often as there are runs.

    Args:
        kind: of trial.
        settings: with schemes and runs.
        models: by name.
        common: what all trials have.
    """
    return [
        kind(name=name, model=model, scheme=scheme, intervention=one, run=number, **common)
        for number in range(settings.runs)
        for name, model in models.items()
        for scheme, one in settings.schemes.items()
    ]


def comparisons_of(
    results: Results[SchemeTrialType],
    schemes: Mapping[str, AnyIntervention],
    *,
    task: Task,
    column: str,
    measures: Mapping[str, str],
) -> dict[str, Comparison]:
    """What each model came to, as a `Comparison` whose interventions are called like the schemes.

    Args:
        results: what was measured.
        schemes: all there are; those without a run are left out.
        task: what was learned.
        column: of the groups.
        measures: what tells how well a model does, by split.
    """
    models: dict[str, list[SchemeTrialType]] = {}
    for trial in results:
        models.setdefault(trial.name, []).append(trial)
    found = {}
    for name, trials in models.items():
        rows, skipped = [], dict[str, float]()
        for trial in trials:
            for one in results[trial]:
                if one.labels["measure"] == _SKIPPED:
                    skipped[trial.scheme] = max(skipped.get(trial.scheme, 0.0), one.value)
                    continue
                labels = (one.labels[key] for key in _LABELS)
                rows.append((trial.scheme, trial.run, *labels, one.value, one.low, one.high, one.count, None))
        schema = pl.Schema([("intervention", pl.String), ("seed", pl.Int64), *SCORES.items()])
        there = {scheme: schemes[scheme] for scheme in schemes if scheme in skipped}
        baselines = {scheme: baseline_among(there, scheme) for scheme in there}
        fitted = {scheme: fitted_to(task, one) for scheme, one in there.items()}
        scores = pl.DataFrame(rows, schema=schema, orient="row")
        found[name] = Comparison(task, column, dict(measures), baselines, scores, skipped, fitted)
    return found


def named(tables: Sequence[Table], model: str) -> list[Table]:
    """Tables of ours of one model, with its name in their titles."""
    return [replace(table, title=f"{table.title}, {model}, ours") for table in tables]


_LABELS = ("split", "measure", "label", "column", "group")
_SKIPPED = "batches without a comparison"
