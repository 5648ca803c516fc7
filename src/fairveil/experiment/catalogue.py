"""Every study by its name, and studies of one's own by where they can be imported from."""

from functools import cache
from importlib import import_module
from typing import Any

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.experiment.plugins import imported
from fairveil.experiment.study import Study

CHAPTERS = ("protection", "sanitize", "audit", "fair")
"""The packages that have studies, in the order of the dissertation: each lists its own in `paper.STUDIES`."""


@cache
def studies() -> dict[str, Study[Any, Any]]:
    """The studies of the dissertation and beyond, by name.

    The chapters are imported here by name: they are built on studies, so that studies cannot be built on them.
    """
    packages = [import_module(f"fairveil.{chapter}.paper") for chapter in CHAPTERS]
    return {study.name: study for package in packages for study in package.STUDIES}


def find_study(name: str) -> Study[Any, Any]:
    """A study by its name, or one of your own as `package.module:NAME`.

    Raises:
        FairveilError: there is no such study.
    """
    known = studies()
    if name in known:
        return known[name]
    if ":" in name:
        return _imported(name)
    raise FairveilError(f"There is no study {name!r}.{did_you_mean(name, known)} There are {', '.join(known)}.")


def _imported(name: str) -> Study[Any, Any]:
    found = imported(name, "study")
    if not isinstance(found, Study):
        raise FairveilError(f"{name} is a {type(found).__name__}, not a Study.")
    return found
