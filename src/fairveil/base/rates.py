"""Rates with intervals that take identities, not photos, for what was sampled: photos of one person fare alike."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from scipy import stats
from torch import Tensor

from fairveil.base.comparisons import pairs_confidence
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import BinomialCount, Estimate

Part = TypeVar("Part")

RESAMPLES = 2000
"""How often identities are drawn anew where an interval has no formula."""

_CHUNK = 1 << 24  # numbers held at a time while resampling
_Z = 1.959964  # two-sided 95 %


@dataclass(frozen=True)
class MissRate:
    """Both errors of open-set identification at one threshold.

    Attributes:
        rate: the false negative identification rate (FNIR): the share of enrolled probes whose own photos all stay
            below the threshold.
        threshold: the lowest similarity above which no more than the asked share of all searches find somebody wrong.
        searches: how many searches for someone who is not there were made, of these probes.
        false_positives: the false positive identification rate (FPIR): the share of these that find somebody wrong. Of
            all probes about what was asked, of a part of them more or less.
    """

    rate: Estimate
    threshold: float
    searches: int
    false_positives: Estimate


def rate(successes: Tensor, identities: Tensor, *, confidence: float = 0.95) -> Estimate:
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


def rate_of_people(
    hits: Tensor, probes: Tensor, *, confidence: float = 0.95, design: float = 0.0, unit: str = "people"
) -> Estimate:
    """As `rate`, from the counts of each identity; hits may be fractions, where equals share one.

    Args:
        hits: successes of each identity, (I,).
        probes: how often each was looked for, (I,); those that never were do not count as people.
        confidence: of the interval.
        design: a design effect that is known from elsewhere; the larger one counts.
        unit: what was sampled, where it is not people.

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
    total = float(probes.sum())
    worth = max(1.0, total / max(1.0, design, _design_effect(hits, probes)))
    low, high = wilson(value, worth, z=quantile)
    return Estimate(value, low, high, people, unit, "Wilson", int(total))


def pooled(found: Sequence[BinomialCount], *, confidence: float = 0.95, unit: str = "trials") -> Estimate:
    """All of some counts together, with an interval that takes them, not what was counted, for the sample.

    Where every count is of a single trial this is Wilson's interval; otherwise see `rate`.

    Args:
        found: one or more.
        confidence: of the interval.
        unit: what each count is of.

    >>> low_to_high = pooled([BinomialCount(1, 1)] * 15 + [BinomialCount(0, 1)] * 5)
    >>> round(low_to_high.low, 2), round(low_to_high.high, 2)
    (0.53, 0.89)
    """
    hits = torch.tensor([one.successes for one in found])
    trials = torch.tensor([one.trials for one in found])
    if not bool((trials == 1).all()):
        return rate_of_people(hits, trials, confidence=confidence, unit=unit)
    value = float(hits.double().mean())
    low, high = wilson(value, len(found), z=float(stats.norm.ppf((1 + confidence) / 2)))
    return Estimate(value, low, high, len(found), unit, "Wilson", len(found))


def comparable_rates(counts: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Estimate]:
    """Rates of groups with intervals wide enough for any two of the groups to be compared, the furthest apart as well.

    Put together by `differences.ratio`, they state a difference between any of 2 to 16 equal groups in 5 % of audits at
    the most (`bench/false_statements.py`). Each interval has the confidence of `pairs_confidence`. The design effect of
    each group is its own or the mean one of all groups, whichever is larger: a group that happens to have few errors
    has a small one of its own by the same accident.

    Args:
        counts: of each group, hits and probes of its identities, (I,) each; see `rate_of_people`.

    Returns:
        By group; without those that have no probes.

    >>> rates = comparable_rates({name: (torch.tensor([1, 0]), torch.tensor([4, 4])) for name in "ab"})
    >>> rates["a"] == rates["b"]
    True
    """
    asked = {group: (hits, probes) for group, (hits, probes) in counts.items() if bool((probes > 0).any())}
    parts = [(float(hits.sum() / probes.sum()), _design_effect(hits[probes > 0].double(), probes[probes > 0].double()))
             for hits, probes in asked.values()]  # fmt: skip
    spread = sum(share * (1 - share) for share, _ in parts)
    design = sum(effect * share * (1 - share) for share, effect in parts) / spread if spread else 0.0
    confidence = pairs_confidence(len(asked))
    return {group: rate_of_people(*both, confidence=confidence, design=design) for group, both in asked.items()}


def wilson(share: float, trials: float, *, z: float = _Z) -> tuple[float, float]:
    """Wilson's interval of a share of independent trials, by default of 95 %.

    >>> [round(end, 2) for end in wilson(0.75, 20)]
    [0.53, 0.89]
    """
    center = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    reach = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return min(share, max(0.0, center - reach)), max(share, min(1.0, center + reach))


def rank_accuracy(rank: Tensor, k: int, identities: Tensor) -> Estimate:
    """Rank-k accuracy: the share of probes whose identity is among the k nearest photos.

    For many k these are the cumulative match curve.

    Args:
        rank: of `SearchOutcome`, (P,); probes whose identity is not in the gallery, rank 0, are left out.
        k: how many of the nearest count.
        identities: of the probes, (P,), int64.

    Raises:
        FairveilError: no probe's identity is in the gallery.
    """
    enrolled = rank > 0
    return rate(rank[enrolled] <= k, identities[enrolled])


def match_curve(rank: Tensor, ks: Sequence[int], identities: Tensor) -> dict[int, Estimate]:
    """The cumulative match curve: rank-k accuracy by k; see `rank_accuracy`."""
    return {k: rank_accuracy(rank, k, identities) for k in ks}


def miss_rate(mate: Tensor, other: Tensor, identities: Tensor, fpir: float) -> MissRate:
    """Open-set identification: how many are missed where so few others are found wrongly (ISO/IEC 19795-1, NIST FRVT).

    As `miss_rates` of all probes together.

    Raises:
        FairveilError: nobody is enrolled, or the share asked for is less than one search or all of them.

    >>> found = miss_rate(torch.tensor([0.9, 0.5]), torch.tensor([0.6, 0.1]), torch.tensor([0, 1]), 0.5)
    >>> found.rate.value, round(found.threshold, 1)
    (0.0, 0.1)
    """
    if not bool((mate > -torch.inf).any()):
        raise FairveilError("No probe's identity is in the gallery, so none can be missed.")
    return miss_rates(mate, other, identities, fpir, {"": torch.ones(len(mate), dtype=torch.bool)})[""]


def miss_rates(
    mate: Tensor, other: Tensor, identities: Tensor, fpir: float, parts: Mapping[Part, Tensor]
) -> dict[Part, MissRate]:
    """Both errors of parts of the probes at the one threshold at which so few of all searches find somebody wrong.

    Every probe is taken as one search for somebody who is not there, by leaving its own identity out of the gallery:
    `other` is the nearest that it would find. A probe counts as missed if its nearest own photo does not surpass the
    threshold, at whatever rank. A system has one threshold for everybody, so groups are compared at the same one
    (NISTIR 8280; ISO/IEC 19795-10). Intervals redraw identities and with them the threshold; they are never narrower
    than those of `rate` at the threshold as it is.

    Args:
        mate: similarity of each probe's nearest own photo, -inf where it is not enrolled, (P,).
        other: similarity of the nearest photo of anybody else, (P,).
        identities: of the probes, (P,), int64.
        fpir: the share of all searches that may find somebody wrong, in (0, 1).
        parts: which probes are of each part, (P,), bool.

    Returns:
        By part; without those of whom nobody is enrolled.

    Raises:
        FairveilError: the share asked for is less than one search or all of them.
    """
    if not 1 <= fpir * len(other) < len(other):
        raise FairveilError(
            f"Of {len(other)} searches a share of {fpir:g} cannot be let through: ask for one between "
            f"{1 / len(other):.2g} and 1."
        )
    people, person = torch.unique(identities, return_inverse=True)
    falling, order = other.double().sort(descending=True)
    once = torch.ones(1, len(people), dtype=torch.float64)
    threshold = _thresholds(once[:, person[order]], falling, fpir)[0]
    errors = {}  # rows of probes, and the similarity that has to surpass the threshold, or must not
    for part, members in parts.items():
        enrolled = (members & (mate > -torch.inf)).nonzero().flatten()
        if len(enrolled):
            errors[part] = (enrolled, mate[enrolled].double()), (members.nonzero().flatten(), other[members].double())
    redrawn: dict[tuple[Part, bool], list[Tensor]] = {}
    generator = torch.Generator().manual_seed(0)
    for count in _chunks(RESAMPLES, max(1, _CHUNK // len(person))):
        drawn = torch.randint(len(people), (count, len(people)), generator=generator)
        weights = torch.zeros(count, len(people), dtype=torch.float64).scatter_add_(1, drawn, once.expand(count, -1))
        thresholds = _thresholds(weights[:, person[order]], falling, fpir)[:, None]
        for part, both in errors.items():
            for wrong, (rows, similarity) in enumerate(both):
                of_probes, above = weights[:, person[rows]], similarity > thresholds
                share = (of_probes * (above if wrong else ~above)).sum(1) / of_probes.sum(1)
                redrawn.setdefault((part, bool(wrong)), []).append(share)
    found = {}
    for part, both in errors.items():
        fnir, fpir_there = (
            _widened(
                rate((similarity > threshold) == bool(wrong), identities[rows]), torch.cat(redrawn[part, bool(wrong)])
            )
            for wrong, (rows, similarity) in enumerate(both)
        )
        found[part] = MissRate(fnir, float(threshold), fpir_there.count or 0, fpir_there)
    return found


def _widened(at_threshold: Estimate, redrawn: Tensor) -> Estimate:
    """A rate whose interval also knows what became of it in resamples, NaN where it had nobody: (R,)."""
    low, high = redrawn.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    low, high = min(at_threshold.low, low), max(at_threshold.high, high)
    return replace(at_threshold, low=low, high=high, method="bootstrap or Wilson")


def _design_effect(hits: Tensor, probes: Tensor) -> float:
    """By how much less than independent trials the probes are worth, from hits and probes of each identity, (I,)."""
    size = probes.mean(0, keepdim=True)
    hits, padded = torch.cat([hits, size / 2]), torch.cat([probes, size])
    share = hits.sum() / padded.sum()
    between = ((hits - share * padded) ** 2).sum() * len(hits) / (len(hits) - 1) / padded.sum() ** 2
    return float(between / (share * (1 - share) / padded.sum()))


def _thresholds(weights: Tensor, falling: Tensor, fpir: float) -> Tensor:
    """For each resample the similarity that must be surpassed: weights and similarities of probes, best first."""
    passed = (weights.cumsum(1) <= fpir * weights.sum(1, keepdim=True) + 1e-9).sum(1)
    return falling[passed.clamp_max(len(falling) - 1)]


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)
