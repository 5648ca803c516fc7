"""Rates with intervals that resample identities: photos of one person succeed or fail together."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fairveil.errors import FairveilError

RESAMPLES = 2000
"""How often identities are drawn anew for an interval."""

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


def rate(successes: Tensor, identities: Tensor, *, seed: int = 0) -> Rate:
    """The share of successes, with the percentile interval of a bootstrap that draws whole identities.

    Where every identity fares alike, as when nobody is found, all resamples agree and the bootstrap would claim
    certainty; the interval is then Wilson's, with the identities as the number of trials.

    Args:
        successes: of each probe, (P,), bool.
        identities: numbers, (P,), int64.
        seed: of the resampling.

    Raises:
        FairveilError: there are no probes.

    >>> none_found = rate(torch.zeros(80, dtype=torch.bool), torch.arange(80) // 8)
    >>> none_found.value, round(none_found.high, 2)
    (0.0, 0.28)
    """
    if not len(successes):
        raise FairveilError("There are no probes to take a rate of.")
    people, person = torch.unique(identities, return_inverse=True)
    probes = torch.zeros(len(people), dtype=torch.float64).index_add_(0, person, torch.ones(len(person)).double())
    hits = torch.zeros_like(probes).index_add_(0, person, successes.double())
    value = float(hits.sum() / probes.sum())
    if ((hits / probes) == value).all():
        low, high = wilson(value, len(people))
    else:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(people), (RESAMPLES, len(people)), generator=generator)
        resampled = hits[drawn].sum(1) / probes[drawn].sum(1)
        low, high = (float(end) for end in resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)))
    return Rate(value, low, high, len(successes), len(people))


def wilson(share: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of independent trials.

    >>> [round(end, 2) for end in wilson(0.75, 20)]
    [0.53, 0.89]
    """
    centre = (share + _Z**2 / (2 * trials)) / (1 + _Z**2 / trials)
    reach = _Z / (1 + _Z**2 / trials) * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def rank_accuracy(rank: Tensor, k: int, identities: Tensor, *, seed: int = 0) -> Rate:
    """Rank-k accuracy: the share of probes whose identity is among the k nearest photos.

    Args:
        rank: of `Outcome`, (P,); probes whose identity is not in the gallery, rank 0, are left out.
        k: how many of the nearest count.
        identities: of the probes, (P,), int64.
        seed: of the interval's resampling.

    Raises:
        FairveilError: no probe's identity is in the gallery.
    """
    enrolled = rank > 0
    return rate(rank[enrolled] <= k, identities[enrolled], seed=seed)
