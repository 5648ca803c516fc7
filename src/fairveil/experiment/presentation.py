"""What readers are shown of a run: its tables, and its section of the report."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fairveil.base.errors import FairveilError
from fairveil.experiment.records import RecordStore, Run
from fairveil.experiment.running import results_of
from fairveil.experiment.study import Study
from fairveil.report.study import StudySection, TrialRow
from fairveil.report.tables import Table


def tables_of(study: Study[Any, Any], run: Run, store: RecordStore) -> Sequence[Table]:
    """The tables of a run, from the trials that are finished.

    Raises:
        FairveilError: none is.
    """
    settings, found = _finished(study, run, store)
    return [_named(table, study, settings, run) for table in study.tables(settings, found)]


def section_of(study: Study[Any, Any], run: Run, store: RecordStore) -> StudySection:
    """The section of a report on a run: tables, plots, what ran where, and what differs from the published.

    Raises:
        FairveilError: no trial is finished.
    """
    settings, found = _finished(study, run, store)
    records = store.records(study.name, run.keys)
    machines = [record.machine.model_dump() | {"fairveil": record.code} for record in records]
    distinct = [machine for place, machine in enumerate(machines) if machine not in machines[:place]]
    return StudySection(
        name=study.name,
        title=study.title,
        question=study.question,
        source=study.source,
        preset=run.preset,
        settings=run.settings,
        tables=tuple(_named(table, study, settings, run) for table in study.tables(settings, found)),
        plots=tuple(study.figures(settings, found)),
        differences=tuple(study.differences(settings)),
        trials=tuple(
            TrialRow(
                label=record.label,
                seconds=record.seconds,
                status="failed" if record.failure else "finished",
                error=record.failure.message if record.failure else "",
                machine=distinct.index(machine) + 1 if len(distinct) > 1 else None,
            )
            for record, machine in zip(records, machines, strict=True)
        ),
        machines=tuple(distinct),
    )


def settings_of(study: Study[Any, Any], run: Run) -> Any:
    """The settings that a run was made with.

    Raises:
        FairveilError: an older version of the study made it, whose settings or trials were others.
    """
    try:
        settings = type(next(iter(study.presets.values()))).model_validate(run.settings)
    except ValidationError:
        settings = None
    if settings is None or [study.key(trial) for trial in study.trials(settings)] != list(run.keys):
        raise FairveilError(
            f"The run of {study.name} of {run.started} was made by another version of the study: run it again with the "
            f"preset {run.preset}."
        )
    return settings


def _named(table: Table, study: Study[Any, Any], settings: Any, run: Run) -> Table:
    """The table with the preset and the data named wherever its title or headings say "ours"."""
    ours = ", ".join(part for part in (run.preset, Path(study.data(settings)).name) if part)

    def named(text: str) -> str:
        return re.sub(r"\bours\b", lambda word: f"{word[0]} ({ours})", text)

    return replace(
        table,
        title=named(table.title),
        columns=tuple(map(named, table.columns)),
        groups=tuple((named(group), span) for group, span in table.groups),
    )


def _finished(study: Study[Any, Any], run: Run, store: RecordStore) -> tuple[Any, dict[Any, Any]]:
    """The settings of a run and its results by trial."""
    settings = settings_of(study, run)
    found = results_of(study, settings, store)
    if not found:
        raise FairveilError(f"No trial of {study.name} is finished yet: run it again, and look at what failed.")
    return settings, found
