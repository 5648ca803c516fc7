"""The one exception a user of fairveil needs to know, and what its sentences share."""

import difflib
from collections.abc import Iterable
from pathlib import Path

_MOST_NAMES = 30
_LONGEST_NAME = 80
_LONGEST_PATH = 4096  # characters, more than a file system takes


class FairveilError(Exception):
    """Something the person who called us can put right.

    The message is one sentence or two: what was wrong, where, and what to do about it. Commands print it without a
    traceback.
    """


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
