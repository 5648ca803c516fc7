"""Rates with intervals that take identities, not photos, for what was sampled: photos of one person fare alike."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from fairveil.errors import FairveilError

RESAMPLES = 2000
"""How often identities are drawn anew where an interval has no formula."""

_CHUNK = 1 << 24  # numbers held at a time while resampling
_Z = 1.959964  # two-sided 95 %


@dataclass(frozen=True)
class Rate:
    """A share of probes and its 95 % interval.

    Attributes:
        value: the share.
        low: lower end.
        high: upper end.
        probes: how many it was measured on.
        identities: how many people these are of.
    """

    value: float
    low: float
    high: float
    probes: int
    identities: int


@dataclass(frozen=True)
class MissRate:
    """The false negative identification rate (FNIR) where the false positive one (FPIR) is as high as was asked.

    Attributes:
        rate: the share of enrolled probes whose own photos all stay below the threshold.
        threshold: the lowest similarity above which no more than the asked share of searches find somebody wrong.
        searches: how many searches for someone who is not there the threshold was found on.
    """

    rate: Rate
    threshold: float
    searches: int


@dataclass(frozen=True)
class Ratio:
    """How many times one rate is another, and its 95 % interval.

    Attributes:
        value: the ratio; None where both rates are zero or the second one is.
        low: lower end.
        high: upper end; None where there is none, since the second rate may be zero.
    """

    value: float | None
    low: float
    high: float | None


def rate(successes: Tensor, identities: Tensor, *, confidence: float = 0.95) -> Rate:
    """The share of successes, with an interval for samples of identities with several probes each.

    The interval is Wilson's with Student's quantile, for as many independent trials as the probes are worth: their
    number by the design effect, the variance between identities over the one if probes were independent (Korn and
    Graubard 1998). One identity of average size, found half of the time, is added to estimate it: nobody found of few
    people is then no certainty. Against truths of a beta-binomial model it covers 95 to 99 % with 6 to 40 identities,
    where a percentile bootstrap over identities covers 81 to 95 %.

    Args:
        successes: of each probe, (P,), bool.
        identities: numbers, (P,), int64.
        confidence: of the interval.

    Raises:
        FairveilError: there are no probes.

    >>> none_found = rate(torch.zeros(80, dtype=torch.bool), torch.arange(80) // 8)
    >>> none_found.value, round(none_found.high, 2)
    (0.0, 0.21)
    """
    people, person = torch.unique(identities, return_inverse=True)
    probes = torch.bincount(person, minlength=len(people)).double()
    hits = torch.bincount(person, successes.double(), minlength=len(people))
    return rate_of_people(hits, probes, confidence=confidence)


def rate_of_people(hits: Tensor, probes: Tensor, *, confidence: float = 0.95) -> Rate:
    """As `rate`, from the counts of each identity; hits may be fractions, where equals share one.

    Args:
        hits: successes of each identity, (I,).
        probes: how often each was looked for, (I,); those that never were do not count as people.
        confidence: of the interval.

    Raises:
        FairveilError: there are no probes.

    >>> rate_of_people(torch.tensor([1.5, 0.0]), torch.tensor([2, 4])).value
    0.25
    """
    asked = probes > 0
    hits, probes = hits[asked].double(), probes[asked].double()
    people = len(probes)
    if not people:
        raise FairveilError("There are no probes to take a rate of.")
    value = float(hits.sum() / probes.sum())
    quantile = float(stats.t.ppf((1 + confidence) / 2, max(1, people - 1)))
    low, high = wilson(value, _worth(hits, probes), z=quantile)
    return Rate(value, low, high, int(probes.sum()), people)


def complement(one: Rate) -> Rate:
    """The rate of what did not succeed: of an accuracy the error, and the other way round.

    >>> complement(Rate(0.75, 0.5, 1.0, 8, 4))
    Rate(value=0.25, low=0.0, high=0.5, probes=8, identities=4)
    """
    return Rate(1 - one.value, 1 - one.high, 1 - one.low, one.probes, one.identities)


def wilson(share: float, trials: float, *, z: float = _Z) -> tuple[float, float]:
    """Wilson's interval of a share of independent trials, by default of 95 %.

    >>> [round(end, 2) for end in wilson(0.75, 20)]
    [0.53, 0.89]
    """
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    reach = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return min(share, max(0.0, centre - reach)), max(share, min(1.0, centre + reach))


def rank_accuracy(rank: Tensor, k: int, identities: Tensor) -> Rate:
    """Rank-k accuracy: the share of probes whose identity is among the k nearest photos.

    For many k these are the cumulative match curve.

    Args:
        rank: of `Outcome`, (P,); probes whose identity is not in the gallery, rank 0, are left out.
        k: how many of the nearest count.
        identities: of the probes, (P,), int64.

    Raises:
        FairveilError: no probe's identity is in the gallery.
    """
    enrolled = rank > 0
    return rate(rank[enrolled] <= k, identities[enrolled])


def match_curve(rank: Tensor, ks: Sequence[int], identities: Tensor) -> dict[int, Rate]:
    """The cumulative match curve: rank-k accuracy by k; see `rank_accuracy`."""
    return {k: rank_accuracy(rank, k, identities) for k in ks}


def miss_rate(mate: Tensor, other: Tensor, identities: Tensor, fpir: float) -> MissRate:
    """Open-set identification: how many are missed where so few others are found wrongly (ISO/IEC 19795-1, NIST FRVT).

    Every probe is taken as one search for somebody who is not there, by leaving its own identity out of the gallery:
    `other` is the nearest that it would find. A probe counts as missed if its nearest own photo does not reach the
    threshold, at whatever rank. The interval redraws identities and with them the threshold; it is never narrower than
    the one of `rate` at the threshold as it is.

    Args:
        mate: similarity of each probe's nearest own photo, -inf where it is not enrolled, (P,).
        other: similarity of the nearest photo of anybody else, (P,).
        identities: of the probes, (P,), int64.
        fpir: the share of searches that may find somebody wrong, in (0, 1).

    Raises:
        FairveilError: nobody is enrolled, or the share asked for is less than one search or all of them.

    >>> found = miss_rate(torch.tensor([0.9, 0.5]), torch.tensor([0.6, 0.1]), torch.tensor([0, 1]), 0.5)
    >>> found.rate.value, round(found.threshold, 1)
    (0.0, 0.1)
    """
    enrolled = mate > -torch.inf
    if not bool(enrolled.any()):
        raise FairveilError("No probe's identity is in the gallery, so none can be missed.")
    if not 1 <= fpir * len(other) < len(other):
        raise FairveilError(
            f"Of {len(other)} searches a share of {fpir:g} cannot be let through: ask for one between "
            f"{1 / len(other):.2g} and 1."
        )
    people, person = torch.unique(identities, return_inverse=True)
    falling, order = other.double().sort(descending=True)
    once = torch.ones(1, len(people), dtype=torch.float64)
    threshold = _thresholds(once[:, person[order]], falling, fpir)[0]
    at_threshold = rate(mate[enrolled] <= threshold, identities[enrolled])
    generator = torch.Generator().manual_seed(0)
    redrawn = []
    for count in _chunks(RESAMPLES, max(1, _CHUNK // len(person))):
        drawn = torch.randint(len(people), (count, len(people)), generator=generator)
        weights = torch.zeros(count, len(people), dtype=torch.float64).scatter_add_(1, drawn, once.expand(count, -1))
        thresholds = _thresholds(weights[:, person[order]], falling, fpir)
        of_probes = weights[:, person[enrolled]]
        missed = mate[enrolled] <= thresholds[:, None]
        redrawn.append((of_probes * missed).sum(1) / of_probes.sum(1))
    ends = torch.cat(redrawn).nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    low, high = min(at_threshold.low, float(ends[0])), max(at_threshold.high, float(ends[1]))
    measured = Rate(at_threshold.value, low, high, at_threshold.probes, at_threshold.identities)
    return MissRate(measured, float(threshold), len(other))


def ratio(first: Rate, second: Rate) -> Ratio:
    """How many times the first rate is the second, of different people: such as the error rates of two groups.

    The interval is put together from those of the rates (MOVER-R: Donner and Zou 2012), so that rates of zero and
    groups of few people need no special care.

    >>> some, none = Rate(0.2, 0.1, 0.3, 100, 20), Rate(0.0, 0.0, 0.1, 100, 20)
    >>> ratio(some, some).value, ratio(some, none).value, ratio(some, none).high
    (1.0, None, None)
    """
    product = first.value * second.value
    low = high = None
    if (below := second.high * (2 * second.value - second.high)) != 0:
        reach = product**2 - first.low * below * (2 * first.value - first.low)
        low = (product - math.sqrt(max(0.0, reach))) / below
    if (below := second.low * (2 * second.value - second.low)) > 0:
        reach = product**2 - first.high * below * (2 * first.value - first.high)
        high = (product + math.sqrt(max(0.0, reach))) / below
    value = first.value / second.value if second.value else None
    return Ratio(value, max(0.0, low or 0.0), high)


def _worth(hits: Tensor, probes: Tensor) -> float:
    """How many independent trials the probes are worth, from hits and probes of each identity, (I,)."""
    size = probes.mean(0, keepdim=True)
    hits, padded = torch.cat([hits, size / 2]), torch.cat([probes, size])
    share = hits.sum() / padded.sum()
    between = ((hits - share * padded) ** 2).sum() * len(hits) / (len(hits) - 1) / padded.sum() ** 2
    independent = share * (1 - share) / padded.sum()
    total = float(probes.sum())
    return min(total, max(1.0, total * float(independent / between)))


def _thresholds(weights: Tensor, falling: Tensor, fpir: float) -> Tensor:
    """For each resample the similarity that must be surpassed: weights and similarities of probes, best first."""
    passed = (weights.cumsum(1) <= fpir * weights.sum(1, keepdim=True) + 1e-9).sum(1)
    return falling[passed.clamp_max(len(falling) - 1)]


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)
