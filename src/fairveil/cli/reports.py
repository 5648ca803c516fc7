"""Reports that come in two files: a page for people, and JSON beside it for other programs."""

import json
from pathlib import Path

import typer

from fairveil.base.errors import FairveilError
from fairveil.cli.faces import check_target


def json_beside(report: Path, *, overwrite: bool) -> Path:
    """Where the JSON goes; found out before the work that neither file can be written."""
    machines = report.with_suffix(".json")
    if report == machines:
        raise typer.BadParameter("The JSON goes beside the report: end its name with .html.", param_hint="--report")
    for target in (report, machines):
        check_target(target, overwrite=overwrite)
    return machines


def write_json(path: Path, records: object, *, overwrite: bool) -> None:
    """Write it, whole or not at all."""
    from fairveil.base.errors import shown
    from fairveil.base.files import atomic_path

    try:
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(records, indent=1), encoding="utf-8")
    except OSError as error:
        raise FairveilError(f"{shown(path)} cannot be written: {error.strerror or error}.") from error
