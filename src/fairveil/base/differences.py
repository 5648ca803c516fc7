"""How far figures are apart: on average over runs, of the same trials, and of different people.

Each function states one way to make an interval, and its source.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from fairveil.base.comparisons import CONFIDENCE, pairs_confidence
from fairveil.base.estimate import BinomialCount, Estimate

LEAST_RUNS = 3
"""Of fewer runs no interval is given, where nothing else is asked for."""

_ADDED = 2  # pairs that Bonett and Price add: one that rose and one that fell


def mean_of_runs(values: Sequence[float], *, confidence: float = CONFIDENCE, least: int = LEAST_RUNS) -> Estimate:
    """The mean of one figure a run, with Student's interval.

    Args:
        values: of each run; NaN is the mean of none.
        confidence: of the interval; where many are looked at, that of `comparisons.family_confidence`.
        least: of fewer runs no interval is given, two at the least.

    >>> three = mean_of_runs([1.0, 2.0, 3.0])
    >>> three.value, round(three.low, 2), round(three.high, 2)
    (2.0, -0.48, 4.48)
    """
    runs, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if runs < least:
        return Estimate(mean, n=runs, unit="runs")
    half = float(stats.t.ppf((1 + confidence) / 2, runs - 1) * np.std(values, ddof=1) / np.sqrt(runs))
    return Estimate(mean, mean - half, mean + half, runs, "runs", "Student")


def difference(one: Estimate, other: Estimate, *, groups: int) -> Estimate:
    """By how much one of several groups is ahead of another, of intervals that take people for the sample.

    The groups are of different people, so the distances of their intervals' ends add up in squares (MOVER; Zou and
    Donner 2008). The intervals are of 95 %; where more than two groups are compared, distances are made longer, as a
    normal distribution has it, so that the differences of all pairs hold at once.

    Args:
        one: with an interval of 95 %; without one the difference has none.
        other: likewise.
        groups: among how many the two were picked.

    >>> ahead = difference(Estimate(0.7, 0.4, 1.0), Estimate(0.4, 0.0, 0.8), groups=2)
    >>> round(ahead.value, 2), round(ahead.low, 2), round(ahead.high, 2)
    (0.3, -0.2, 0.8)
    """
    reach, usual = (stats.norm.ppf((1 + sure) / 2) for sure in (pairs_confidence(groups), CONFIDENCE))
    gap, longer = one.value - other.value, reach / usual
    if not (one.bounded and other.bounded):
        return Estimate(gap)
    low, high = (
        gap - longer * float(np.hypot(one.value - one.low, other.high - other.value)),
        gap + longer * float(np.hypot(one.high - one.value, other.value - other.low)),
    )
    runs = None if one.n is None or other.n is None else min(one.n, other.n)
    return Estimate(gap, float(low), float(high), runs, one.unit, "MOVER")


def ratio(first: Estimate, second: Estimate) -> Estimate:
    """How many times the first rate is the second, of different people: such as the error rates of two groups.

    The interval is put together from those of the rates (MOVER-R: Donner and Zou 2012), so that rates of zero and
    groups of few people need no special care. The ratio is NaN where both rates are zero or the second one is; its
    interval is not bounded above where the second rate may be zero.

    >>> some, none = Estimate(0.2, 0.1, 0.3), Estimate(0.0, 0.0, 0.1)
    >>> ratio(some, some).value, ratio(some, none).value, ratio(some, none).high
    (1.0, nan, inf)
    """
    product = first.value * second.value
    low, high = 0.0, math.inf
    if (below := second.high * (2 * second.value - second.high)) != 0:
        reach = product**2 - first.low * below * (2 * first.value - first.low)
        low = (product - math.sqrt(max(0.0, reach))) / below
    if (below := second.low * (2 * second.value - second.low)) > 0:
        reach = product**2 - first.high * below * (2 * first.value - first.high)
        high = (product + math.sqrt(max(0.0, reach))) / below
    value = first.value / second.value if second.value else math.nan
    return Estimate(value, max(0.0, low), high, method="MOVER-R")


def paired_fall(
    before: Sequence[BinomialCount], after: Sequence[BinomialCount], *, confidence: float = CONFIDENCE
) -> Estimate:
    """By how much the share of successes fell, in [-1, 1], with an interval that takes trials for the sample.

    Where every trial is about one picture it is the interval of `discordance`. Otherwise it is Student's of the
    differences between trials, with one trial added that did not change at all: a few trials that agree are then no
    certainty.

    Args:
        before: of each trial.
        after: of the same trials.
        confidence: of the interval.

    >>> fall = paired_fall([BinomialCount(1, 1)] * 8, [BinomialCount(0, 1)] * 8)
    >>> fall.value, round(fall.low, 2), fall.high
    (1.0, 0.43, 1.0)
    """
    if all(one.trials == 1 for one in [*before, *after]):
        pairs = [(first.successes, second.successes) for first, second in zip(before, after, strict=True)]
        return discordance(pairs.count((1, 0)), pairs.count((0, 1)), len(pairs), confidence=confidence)
    falls = np.array([first.share - second.share for first, second in zip(before, after, strict=True)])
    padded = np.append(falls, 0.0)
    quantile = float(stats.t.ppf((1 + confidence) / 2, len(falls)))
    reach, middle = quantile * float(padded.std(ddof=1)) / np.sqrt(len(padded)), float(padded.mean())
    low, high = _around(float(falls.mean()), middle, reach)
    return Estimate(float(falls.mean()), low, high, len(falls), "trials", "Student", sum(one.trials for one in after))


def discordance(fell: int, rose: int, pairs: int, *, confidence: float = CONFIDENCE, unit: str = "trials") -> Estimate:
    """By how much a share fell, where each of some pairs is a yes or no before and after.

    The interval is Bonett and Price's adjusted Wald interval (Journal of Educational and Behavioral Statistics 37,
    2012): one pair that fell and one that rose are added.

    Args:
        fell: how many pairs were a yes before and a no after.
        rose: how many were a no before and a yes after.
        pairs: how many there are, one or more.
        confidence: of the interval.
        unit: what a pair is of.

    >>> lost = discordance(60, 20, 1000)
    >>> round(lost.value, 3), round(lost.low, 3), round(lost.high, 3)
    (0.04, 0.022, 0.057)
    """
    down, up = (fell + 1) / (pairs + _ADDED), (rose + 1) / (pairs + _ADDED)
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * np.sqrt((down + up - (down - up) ** 2) / (pairs + _ADDED))
    low, high = _around((fell - rose) / pairs, down - up, reach)
    return Estimate((fell - rose) / pairs, low, high, pairs, unit, "Bonett-Price", pairs)


def _around(value: float, middle: float, reach: float) -> tuple[float, float]:
    """The ends of an interval of a difference of shares, which holds the figure itself."""
    low, high = float(middle - reach), float(middle + reach)
    return max(-1.0, min(value, low)), min(1.0, max(value, high))
