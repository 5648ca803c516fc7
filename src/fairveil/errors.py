"""The one exception a user of fairveil needs to know, and what its sentences share."""

import difflib
from collections.abc import Iterable


class FairveilError(Exception):
    """Something the person who called us can put right.

    The message is one sentence or two: what was wrong, where, and what to do about it. Commands print it without a
    traceback.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The sentence that names the nearest of the known names, with a space in front; nothing if none is near.

    >>> did_you_mean("gendre", ["gender", "age"])
    ' Did you mean gender?'
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""
