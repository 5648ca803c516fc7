"""How many people it takes to see that one group is missed more often than another."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate

CORRELATION = 0.5
"""How alike one person's images fare, where nothing better is known. On Labeled Faces in the Wild, where most people
have few images, the six recognizers of the zoo came to 0.50 to 0.60."""


def identities_needed(
    ratio: float,
    error: float,
    *,
    images: float = 10,
    correlation: float = CORRELATION,
    power: float = 0.8,
    confidence: float = 0.95,
) -> int:
    """How many identities of each of two groups show that one is missed `ratio` times as often as the other.

    The logarithm of the ratio of two error rates e₁ and e₂ has the variance [(1 − e₁)/e₁ + (1 − e₂)/e₂] · D / (n·m)
    for n identities with m images each (Katz et al. 1978), where D = 1 + (m − 1)ρ is the design effect of images of one
    person that fare alike (Kish 1965). It is seen where it is further from zero than chance would let it be.

    Args:
        ratio: of the error rates, above 1.
        error: of the group that is missed less often, in (0, 1).
        images: of each identity.
        correlation: ρ, within identities, in [0, 1].
        power: how probable it shall be that the ratio is seen.
        confidence: of the interval that shall not hold 1.

    Raises:
        FairveilError: a number is out of range, or the other group would be missed always or more.

    >>> identities_needed(1.5, 0.04), identities_needed(3.0, 0.04)
    (1042, 113)
    """
    _check(images, correlation, power, confidence)
    if not ratio > 1:
        raise FairveilError(
            f"A ratio of {ratio:g} is none of a group missed more often: give one above 1, such as 1.5."
        )
    if not 0 < error < 1 or ratio * error >= 1:
        raise FairveilError(
            f"With an error of {error:g} in one group and {ratio:g} times as many in the other there is nothing to "
            "see: give an error between 0 and 1 whose multiple is below 1."
        )
    reach = _reach(power, confidence)
    spread = _odds_against(error) + _odds_against(ratio * error)
    return math.ceil((reach / math.log(ratio)) ** 2 * spread * _design_effect(images, correlation) / images)


def ratio_visible(measured: Estimate, *, power: float = 0.8, confidence: float = 0.95) -> float | None:
    """The smallest ratio that an audit would tell from 1 with some probability, going by the interval it arrived at.

    The width of an interval on the logarithm's scale says how much chance moves the ratio.

    Args:
        measured: the ratio with its interval.
        power: how probable it shall be that the ratio is seen.
        confidence: of the interval, see `pairs_confidence`.

    Returns:
        A number above 1; None if the interval has no ends.

    >>> round(ratio_visible(Estimate(2.0, 1.0, 4.0)), 2)
    2.69
    """
    if measured.low <= 0 or not measured.bounded:
        return None
    error = math.log(measured.high / measured.low) / _reach(0.5, confidence) / 2
    return math.exp(_reach(power, confidence) * error)


def correlation_within(errors: NDArray[np.int64], probes: NDArray[np.int64]) -> float | None:
    """How alike the probes of one identity fare: the intraclass correlation of analysis of variance (Fleiss 1981).

    Args:
        errors: of each identity, (I,).
        probes: of each identity, (I,).

    Returns:
        A number in [0, 1]; None where nobody has two probes, or all probes fare the same.

    >>> correlation_within(np.array([0, 0, 4]), np.array([4, 4, 4]))
    1.0
    """
    errors, probes = errors[probes > 0], probes[probes > 0]
    people, total = len(probes), int(probes.sum())
    share = errors.sum() / max(1, total)
    if total <= people or people < 2 or share in (0.0, 1.0):
        return None
    own = errors / probes
    between = (probes * (own - share) ** 2).sum() / (people - 1)
    within = (probes * own * (1 - own)).sum() / (total - people)
    typical = (total - (probes**2).sum() / total) / (people - 1)
    return float(np.clip((between - within) / (between + (typical - 1) * within), 0, 1))


def _design_effect(images: float, correlation: float) -> float:
    return 1 + (images - 1) * correlation


def _odds_against(error: float) -> float:
    return (1 - error) / error


def _reach(power: float, confidence: float) -> float:
    """How many standard deviations from zero the logarithm of the ratio has to be."""
    return float(stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power))


def _check(images: float, correlation: float, power: float, confidence: float) -> None:
    if not 1 <= images < math.inf:
        raise FairveilError(f"An identity has one image or more, not {images:g}.")
    for what, number in (("correlation", correlation), ("power", power), ("confidence", confidence)):
        if not (0 <= number <= 1 if what == "correlation" else 0 < number < 1):
            raise FairveilError(f"The {what} is a number between 0 and 1, not {number:g}.")
    if _reach(power, confidence) <= 0:
        raise FairveilError(
            f"With a power of {power:g} chance alone would do: give more than {(1 - confidence) / 2:g}."
        )
