"""How sure each of many statements has to be, so that all of them together are rarely wrong.

A 95 % interval leaves out the truth once in twenty times. Of eight equal groups the best and the worst are further
apart than that in half of all audits. Where the groups to compare are picked by looking at their figures, or many
statements are made at once, each interval is made wider, so that with a probability of 95 % not one is wrong.
"""

from functools import cache

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
"""Of all the intervals of a family together."""


@cache
def pairs_confidence(groups: int, *, confidence: float = CONFIDENCE) -> float:
    """Of each interval, so that all differences between groups are covered at once, and with them the largest.

    By Tukey's studentized range: the difference of the largest and the smallest of G independent normal means exceeds
    q standard errors of one mean with the probability 1 - confidence, so intervals of single differences reach q / √2
    (Tukey 1953; Kramer 1956 for unequal groups).

    Args:
        groups: how many are compared with each other, G; of two nothing is corrected.
        confidence: of all intervals together.

    >>> round(pairs_confidence(2), 4), round(pairs_confidence(8), 4)
    (0.95, 0.9976)
    """
    if groups <= 2:
        return confidence
    reach = stats.studentized_range.ppf(confidence, groups, np.inf) / np.sqrt(2)
    return float(1 - 2 * stats.norm.sf(reach))


def groups_confidence(groups: int, *, confidence: float = CONFIDENCE) -> float:
    """Of each interval, so that those of all groups and those of all differences between two of them hold at once each.

    Of three groups there are three pairs that hang together and three groups that need not, so the latter decide.

    Args:
        groups: how many are compared with each other; of two nothing is corrected.
        confidence: of all intervals together.

    >>> round(groups_confidence(3), 4), groups_confidence(8) == pairs_confidence(8)
    (0.9833, True)
    """
    pairs = pairs_confidence(groups, confidence=confidence)
    return pairs if groups <= 2 else max(pairs, family_confidence(groups, confidence=confidence))


def family_confidence(statements: int, *, confidence: float = CONFIDENCE) -> float:
    """Of each interval, so that as many statements, however they hang together, all hold at once (Bonferroni).

    >>> round(family_confidence(10), 3)
    0.995
    """
    return 1 - (1 - confidence) / max(1, statements)
