"""The files that commands write: what is checked before the work, and reports with JSON beside them."""

import json
from pathlib import Path

import typer

from fairveil.base.errors import FairveilError


def check_target(out: Path, *, overwrite: bool) -> None:
    """Find out before the work rather than after it that a file could not be written.

    Raises:
        FairveilError: it already exists and is not to be replaced, is no ordinary file, or its folder does not exist.
    """
    from fairveil.base.errors import shown
    from fairveil.base.files import replaceable

    if not replaceable(out):
        raise FairveilError(f"{shown(out)} is not an ordinary file and is never replaced: choose another name.")
    if out.exists() and not overwrite:
        raise FairveilError(f"{shown(out)} already exists: allow --overwrite, or choose another name.")
    _check_folder(out)


def check_new_file(out: Path) -> None:
    """Find out before the work that a file, which must not exist, could not be written.

    Raises:
        FairveilError: it already exists, or its folder does not.
    """
    from fairveil.base.errors import shown

    if out.exists():
        raise FairveilError(f"{shown(out)} already exists: choose another name.")
    _check_folder(out)


def check_new_recognizer(out: Path) -> None:
    """Refuse a file that weights cannot be written to, or that commands would not know for weights.

    Raises:
        FairveilError: it already exists, or its folder does not.
    """
    from fairveil.base.errors import shown

    if out.suffix != ".safetensors":  # by which --recognizer tells it from names
        raise typer.BadParameter(
            f"{shown(out)} does not end in .safetensors: name a file that does.", param_hint="--out"
        )
    check_new_file(out)


def _check_folder(out: Path) -> None:
    from fairveil.base.errors import shown

    if not out.parent.is_dir():
        raise FairveilError(f"{shown(out)} cannot be written: there is no folder {shown(out.parent)}.")


def json_beside(report: Path, *, overwrite: bool) -> Path:
    """Where the JSON of a report goes; that either file cannot be written is found out before the work.

    Raises:
        FairveilError: see `check_target`.
    """
    machines = report.with_suffix(".json")
    if report == machines:
        raise typer.BadParameter("The JSON goes beside the report: end its name with .html.", param_hint="--report")
    for target in (report, machines):
        check_target(target, overwrite=overwrite)
    return machines


def write_json(path: Path, records: object, *, overwrite: bool) -> None:
    """Write it, whole or not at all.

    Raises:
        FairveilError: it cannot be written.
    """
    from fairveil.base.errors import shown
    from fairveil.base.files import atomic_path

    try:
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(records, indent=1), encoding="utf-8")
    except OSError as error:
        raise FairveilError(f"{shown(path)} cannot be written: {error.strerror or error}.") from error
