"""How far a share changes between two ways to train, where both were tried on the same pictures or the same trials."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from fairveil.base.rates import Rate
from fairveil.sanitize.poisoning import Hits

_ADDED = 2  # pairs that Bonett and Price add: one that rose and one that fell


def paired_fall(before: Sequence[Hits], after: Sequence[Hits], *, confidence: float = 0.95) -> Rate:
    """By how much the share of hits fell, in [-1, 1], with an interval that takes trials for the sample.

    Where every trial is about one picture it is the interval of `discordance`. Otherwise it is Student's of the
    differences between trials, with one trial added that did not change at all: a few trials that agree are then no
    certainty.

    Args:
        before: of each trial.
        after: of the same trials.
        confidence: of the interval.

    >>> fall = paired_fall([Hits(1, 1)] * 8, [Hits(0, 1)] * 8)
    >>> fall.value, round(fall.low, 2), fall.high
    (1.0, 0.43, 1.0)
    """
    if all(one.trials == 1 for one in [*before, *after]):
        pairs = [(first.hits, second.hits) for first, second in zip(before, after, strict=True)]
        return discordance(pairs.count((1, 0)), pairs.count((0, 1)), len(pairs), confidence=confidence)
    falls = np.array([first.rate - second.rate for first, second in zip(before, after, strict=True)])
    padded = np.append(falls, 0.0)
    quantile = float(stats.t.ppf((1 + confidence) / 2, len(falls)))
    reach = quantile * float(padded.std(ddof=1)) / np.sqrt(len(padded))
    value, middle = float(falls.mean()), float(padded.mean())
    return _around(value, middle - reach, middle + reach, sum(one.trials for one in after), len(falls))


def discordance(fell: int, rose: int, pairs: int, *, confidence: float = 0.95) -> Rate:
    """By how much a share fell, where each of some pairs is a yes or no before and after.

    The interval is Bonett and Price's adjusted Wald interval (Journal of Educational and Behavioral Statistics 37,
    2012): one pair that fell and one that rose are added.

    Args:
        fell: how many pairs were a yes before and a no after.
        rose: how many were a no before and a yes after.
        pairs: how many there are, one or more.
        confidence: of the interval.

    >>> lost = discordance(60, 20, 1000)
    >>> round(lost.value, 3), round(lost.low, 3), round(lost.high, 3)
    (0.04, 0.022, 0.057)
    """
    down, up = (fell + 1) / (pairs + _ADDED), (rose + 1) / (pairs + _ADDED)
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * np.sqrt((down + up - (down - up) ** 2) / (pairs + _ADDED))
    return _around((fell - rose) / pairs, down - up - reach, down - up + reach, pairs, pairs)


def _around(value: float, low: float, high: float, probes: int, trials: int) -> Rate:
    return Rate(value, max(-1.0, min(value, float(low))), min(1.0, max(value, float(high))), probes, trials)
