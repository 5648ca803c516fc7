"""The one exception a user of fairveil needs to know."""


class FairveilError(Exception):
    """Something the person who called us can put right.

    The message is one sentence or two: what was wrong, where, and what to do about it. Commands print it without a
    traceback.
    """
