"""The exceptions a user of fairveil needs to know, and what their sentences share."""

import difflib
from collections.abc import Iterable
from pathlib import Path

_MOST_NAMES = 30
_LONGEST_NAME = 80
_LONGEST_PATH = 4096  # characters, more than a file system takes


class FairveilError(ValueError):
    """Something the person who called us can put right.

    The message is one sentence or two: what was wrong, where, and what to do about it. Commands print it without a
    traceback.
    """


class UnreadableFileError(FairveilError):
    """A file is missing, is damaged, or is of a kind that cannot be read."""


class AlreadyExistsError(FairveilError):
    """A file would be replaced, and nobody allowed that."""


class NoFaceError(FairveilError):
    """A photo shows no face where one is needed."""


class MissingExtraError(FairveilError, ImportError):
    """A package is not installed that only a part of fairveil needs."""


_EXTRA_OF = {
    "polars": "audit",
    "scipy": "audit",
    "fairlearn": "audit",
    "matplotlib": "audit",
    "imagehash": "audit",
    "accelerate": "train",
    "opacus": "private",
    "starlette": "web",
    "uvicorn": "web",
    "ray": "cluster",
    "frbench": "zoo",
}
"""By the name of a module, the extra of fairveil that installs it."""


def missing_extra(error: ImportError) -> ImportError:
    """The sentence for a module that could not be imported, if one of our extras has it; else the error as it is.

    >>> raise missing_extra(ModuleNotFoundError("No module named 'opacus'", name="opacus"))
    Traceback (most recent call last):
    fairveil.base.errors.MissingExtraError: opacus is not installed, ... pip install "fairveil[private]" ...
    """
    module = (error.name or "").split(".", maxsplit=1)[0]
    if module not in _EXTRA_OF:
        return error
    return MissingExtraError(
        f"{module} is not installed, and this part of fairveil needs it: run "
        f'pip install "fairveil[{_EXTRA_OF[module]}]" (or "fairveil[all]" for every part).'
    )


def clipped(text: str, longest: int = _LONGEST_NAME) -> str:
    """As much of what a stranger wrote as a sentence can hold.

    >>> clipped("x" * 1000, 5)
    'xxxxx…'
    """
    return text if len(text) <= longest else f"{text[:longest]}…"


def listed(names: Iterable[str]) -> str:
    """Names with commas between them, as many as a sentence can hold.

    >>> listed(["image", "identity"])
    'image, identity'
    >>> listed(map(str, range(1000)))[-27:]
    '26, 27, 28, 29 and 970 more'
    """
    known = list(names)
    more = f" and {len(known) - _MOST_NAMES:,} more" if len(known) > _MOST_NAMES else ""
    return ", ".join(map(clipped, known[:_MOST_NAMES])) + more


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The sentence that names the nearest of the known names, with a space in front; nothing if none is near.

    >>> did_you_mean("gendre", ["gender", "age"])
    ' Did you mean gender?'
    """
    near = difflib.get_close_matches(name, list(known), n=1) if len(name) <= _LONGEST_NAME else []
    return f" Did you mean {near[0]}?" if near else ""


def shown(path: Path | str) -> str:
    """A path as a sentence can hold it: unprintable characters are written as escapes, endless names cut."""
    text = clipped(str(path), _LONGEST_PATH)
    return text if text.isprintable() else repr(text)
