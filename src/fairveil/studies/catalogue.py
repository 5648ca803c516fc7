"""Every study by its name, and studies of one's own by where they can be imported from."""

import difflib
from importlib import import_module
from typing import Any

from fairveil.errors import FairveilError
from fairveil.studies.lowkey.chapter import CHAPTER_3
from fairveil.studies.lowkey.runtime import RUNTIME
from fairveil.studies.study import Study

STUDIES: dict[str, Study[Any, Any]] = {study.name: study for study in (*CHAPTER_3, RUNTIME)}
"""The studies of the dissertation and beyond."""


def find_study(name: str) -> Study[Any, Any]:
    """A study by its name, or one of your own as `package.module:NAME`.

    Raises:
        FairveilError: there is no such study.
    """
    if name in STUDIES:
        return STUDIES[name]
    if ":" in name:
        return _imported(name)
    near = difflib.get_close_matches(name, STUDIES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise FairveilError(f"There is no study {name!r}.{hint} There are {', '.join(STUDIES)}.")


def _imported(name: str) -> Study[Any, Any]:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise FairveilError(f"The study {name!r} cannot be imported: {error}.") from error
    if not isinstance(found, Study):
        raise FairveilError(f"{name} is a {type(found).__name__}, not a Study.")
    return found
