"""How often each group is not found, how the make-up of the gallery moves that, and what a naive audit would hide."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from fairveil.audit.imbalance import Composition, draw
from fairveil.base.comparisons import pairs_confidence
from fairveil.base.differences import ratio
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.base.rates import RESAMPLES, comparable_rates, rate_of_people
from fairveil.data.population import Population
from fairveil.faces.identification import identify, nearest_labels
from fairveil.faces.vectors import content_order

SEEDS = 5
"""How often a set of each make-up is drawn (section 5.5.1)."""


@dataclass(frozen=True, eq=False)
class Tally:
    """How the probes of every identity fared in galleries of one make-up, all draws together.

    Attributes:
        make_up: of the galleries.
        probes: how often an image of each identity was looked for, (I,), int64.
        errors: how often an image of anybody else was nearer than all of its own, by rank: (I,) each, int64. At rank k:
            how often none of its own was among the k nearest.
        by_own: how often the nearest was somebody else of the same group, (I,), float64: where several are equally near
            each counts for its share.
        wrong: whose images the nearest were where they were somebody else's: from the group of a row to the group of a
            column, (G, G), float64, likewise.
        by_draw: rank-1 errors and probes of each group in each draw, (draws, G) each.
    """

    make_up: Composition
    probes: NDArray[np.int64]
    errors: Mapping[int, NDArray[np.int64]]
    by_own: NDArray[np.float64]
    wrong: NDArray[np.float64]
    by_draw: tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Response:
    """How the errors of groups respond to the make-up of the gallery (figure 5.3).

    Attributes:
        column: what the groups are of.
        groups: their names.
        group: of each identity, a position in `groups`, (I,).
        draws: how many galleries there were of every make-up.
        tallies: what came of each make-up, in the order asked for.
    """

    column: str
    groups: tuple[str, ...]
    group: NDArray[np.int64]
    draws: int
    tallies: tuple[Tally, ...]

    def error(self, place: int, group: str, k: int = 1) -> Estimate | None:
        """How often people of a group were not found; None where the gallery has none of them.

        Draws are pooled, and the interval takes identities for the sample, each with its probes in all draws.
        """
        tally = self.tallies[place]
        return self._rate(group, tally.errors[k], tally.probes)

    def accuracy(self, place: int, group: str, k: int = 1) -> Estimate | None:
        """How often they were found; see `error`."""
        error = self.error(place, group, k)
        return None if error is None else 1 - error

    def spread(self, place: int, group: str) -> float | None:
        """The standard deviation of a group's rank-1 error between draws; None of one draw, or without the group."""
        errors, probes = (counts[:, self.groups.index(group)] for counts in self.tallies[place].by_draw)
        return float(np.std(errors / probes, ddof=1)) if len(errors) > 1 and probes.all() else None

    def error_ratio(self, place: int, versus: tuple[str, str], k: int = 1) -> Estimate | None:
        """How many times as often the first group is missed as the second; None where one of them is absent.

        The interval holds for all pairs of groups at once, see `comparable_rates`.
        """
        tally = self.tallies[place]
        errors, probes = torch.from_numpy(tally.errors[k]), torch.from_numpy(tally.probes)
        members = {group: torch.from_numpy(self.group == number) for number, group in enumerate(self.groups)}
        rates = comparable_rates({group: (errors[mine], probes[mine]) for group, mine in members.items()})
        first, second = (rates.get(group) for group in versus)
        return None if first is None or second is None else ratio(first, second)

    def supplied_by_own(self, place: int, group: str) -> Estimate | None:
        """Of the probes of a group that found somebody else: how often someone of their own group; None without any."""
        tally = self.tallies[place]
        return self._rate(group, tally.by_own, tally.errors[1])

    def fair_point(self, shares: Sequence[float], versus: tuple[str, str]) -> "FairPoint":
        """Where two groups are missed equally often, as the share of one rises: by straight lines between make-ups.

        Of more than two groups the interval is wide enough for all pairs at once (`pairs_confidence`).

        Args:
            shares: of a group in each make-up, rising.
            versus: the two groups.
        """
        first, second = (self._resampled(group) for group in versus)
        gaps = np.where((first == 0) & (second == 0), np.nan, first - second)  # who errs nowhere tells nothing
        measured = _crossing(shares, gaps[0])
        known = np.flatnonzero(~np.isnan(gaps[0]))
        points = np.array([_crossing(shares, gap) for gap in gaps[1:]])
        # Where a resample does not cross, its point lies beyond the shares, on the side to which the gap closes.
        rises = len(known) > 0 and gaps[0][known[-1]] > gaps[0][known[0]]
        positive = np.nansum(gaps[1:], axis=1) > 0
        beyond = np.where(positive == rises, -np.inf, np.inf)
        tail = (1 - pairs_confidence(len(self.groups))) / 2
        low, high = np.quantile(np.where(np.isnan(points), beyond, points), [tail, 1 - tail], method="nearest")
        return FairPoint(
            share=Estimate(
                float(measured),
                float(np.fmin(low, measured)) if np.isfinite(low) else -math.inf,
                float(np.fmax(high, measured)) if np.isfinite(high) else math.inf,
                int(np.isin(self.group, [self.groups.index(group) for group in versus]).sum()),
                "people",
                "bootstrap",
            ),
            certainty=float(np.mean(~np.isnan(points))),
            nearest=float(shares[known[np.abs(gaps[0][known]).argmin()]]) if len(known) else None,
            more=self._always_more(gaps[:, known], versus, tail),
        )

    def ratio_change(self, make_up: int, against: int, versus: tuple[str, str]) -> Estimate | None:
        """How many times the error ratio of one make-up is that of another; None where one of them is unknown.

        Both are measured on the same identities redrawn together, and of more than two groups the interval holds for
        all pairs at once (`pairs_confidence`). In resamples half an error of the smallest sample is
        added to every rate alike, so that groups that happen to have none do not make a ratio infinite.
        """
        errors = np.stack([self._resampled(group)[:, [make_up, against]] for group in versus])  # (2, 1 + R, 2)
        measured = errors[:, 0]
        if np.isnan(measured).any() or (measured == 0).any():
            return None
        fewest = min(
            self.tallies[place].probes[self.group == self.groups.index(group)].sum()
            for place in (make_up, against)
            for group in versus
        )
        padded = errors[:, 1:] + 0.5 / fewest
        changes = np.log(padded[0, :, 0] / padded[1, :, 0]) - np.log(padded[0, :, 1] / padded[1, :, 1])
        change = (measured[0, 0] / measured[1, 0]) / (measured[0, 1] / measured[1, 1])
        beyond = (1 - pairs_confidence(len(self.groups))) / 2
        low, high = np.exp(np.nanquantile(changes, [beyond, 1 - beyond]))
        return Estimate(float(change), float(min(low, change)), float(max(high, change)), method="bootstrap")

    def _always_more(self, gaps: NDArray[np.float64], versus: tuple[str, str], tail: float) -> str | None:
        """Which of two groups is missed more often in every make-up, by their gaps as measured and in resamples.

        All gaps have one sign as measured, and in all resamples but so few that no interval of a gap holds 0.
        """
        for group, signed in zip(versus, (gaps, -gaps), strict=True):
            if gaps.size and (signed[0] > 0).all() and (np.mean(~(signed[1:] > 0), axis=0) <= tail).all():
                return group
        return None

    def _rate(self, group: str, hits: NDArray[Any], trials: NDArray[np.int64]) -> Estimate | None:
        """A rate of the people of a group, from hits and trials of every identity; None without any trial."""
        mine = self.group == self.groups.index(group)
        if not trials[mine].any():
            return None
        return rate_of_people(torch.from_numpy(hits[mine]), torch.from_numpy(trials[mine]))

    def _resampled(self, group: str) -> NDArray[np.float64]:
        """The error of a group in each make-up, first as measured, then for its identities drawn anew.

        Returns:
            (1 + RESAMPLES, make-ups); NaN where the group is absent.
        """
        mine, random = self.group == self.groups.index(group), np.random.default_rng([0, self.groups.index(group)])
        people = int(mine.sum())
        drawn = random.multinomial(people, np.full(people, 1 / people), RESAMPLES)
        weights = np.concatenate([np.ones((1, people)), drawn])
        errors, probes = (
            weights @ np.stack([counts[mine] for counts in some], 1)
            for some in ([tally.errors[1] for tally in self.tallies], [tally.probes for tally in self.tallies])
        )
        return np.where(probes > 0, errors / np.maximum(probes, 1), np.nan)


@dataclass(frozen=True)
class FairPoint:
    """The share of a group at which two groups are missed equally often (sections 5.4 and 5.5).

    Attributes:
        share: of the group; NaN if nowhere within the shares that were tried. An end of its interval is infinite where
            it lies beyond the shares that were tried.
        certainty: the share of resamples in which there is such a point.
        nearest: at which of the shares tried the two are nearest to each other; None if they never met in a gallery,
            or neither is ever missed.
        more: the group that is missed more often at every share tried, if that can be told from chance.
    """

    share: Estimate
    certainty: float
    nearest: float | None
    more: str | None = None


@dataclass(frozen=True)
class Interplay:
    """What imbalance of the train set and of the gallery do to the error ratio, alone and together (section 5.6).

    Attributes:
        train: by what the ratio is multiplied where only the train set is unequal.
        gallery: where only the gallery is.
        both: where both are, in the same way.
    """

    train: Estimate
    gallery: Estimate
    both: Estimate

    @classmethod
    def of(cls, runs: Sequence[tuple[Estimate, Estimate, Estimate, Estimate]]) -> "Interplay | None":
        """From four error ratios of each run: of balanced sets, of one of both unequal, and of both.

        A run is a recognizer trained anew and tested on the same people. What a ratio is multiplied by is the
        geometric mean over runs. Its interval adds, on the logarithm's scale, what other people would change (from the
        intervals of the two ratios, as if they were of different people, which is wide rather than narrow) and what
        other runs would (Student's, from two runs on; of a single run it is not known, and the interval has no ends).

        Returns:
            None where a ratio has no value or is zero.

        >>> sure = [Estimate(value, value / 1.1, value * 1.1) for value in (1.6, 3.2, 0.8, 1.6)]
        >>> Interplay.of([tuple(sure)] * 2).verdict
        'cancel'
        """
        if not runs or not all(ratio.value > 0 for run in runs for ratio in run):
            return None
        return cls(*(_multiplied([(run[0], run[place]) for run in runs]) for place in (1, 2, 3)))

    @property
    def verdict(self) -> str | None:
        """Whether the two "amplify" each other, pulling the same way, or "cancel" each other, pulling apart.

        None where one of the two is not told from doing nothing.
        """
        if not (self.train.excludes(1) and self.gallery.excludes(1)):
            return None
        return "amplify" if (self.train.low > 1) == (self.gallery.low > 1) else "cancel"

    @property
    def expected(self) -> float:
        """By what the ratio would be multiplied if the two did not know of each other."""
        return self.train.value * self.gallery.value


def _multiplied(pairs: Sequence[tuple[Estimate, Estimate]]) -> Estimate:
    """What a ratio is multiplied by, from the ratio before and after in each run; see `Interplay.of`."""
    logs = [math.log(after.value / before.value) for before, after in pairs]
    value = float(np.mean(logs))
    reaches = [_log_reach(one) for pair in pairs for one in pair]
    if len(logs) < 2 or math.inf in reaches:
        return Estimate(math.exp(value), n=len(logs), unit="runs")
    people = 2 * float(np.mean(np.square(reaches)))
    runs = float(stats.t.ppf(0.975, len(logs) - 1)) ** 2 * float(np.var(logs, ddof=1)) / len(logs)
    reach = math.sqrt(people + runs)
    return Estimate(math.exp(value), math.exp(value - reach), math.exp(value + reach), len(logs), "runs", "Student")


def _log_reach(one: Estimate) -> float:
    """Half of the length of an interval on the logarithm's scale."""
    return math.log(one.high / one.low) / 2 if one.low > 0 else math.inf


def respond(
    embeddings: Tensor,
    population: Population,
    make_ups: Sequence[Composition],
    *,
    seeds: int = SEEDS,
    ranks: Sequence[int] = (1,),
) -> Response:
    """Look for every image of galleries of some make-ups among the others of its gallery (sections 5.3 and 5.5).

    One pass over the similarities serves all galleries. Images are put in an order of their own first, so that the rows
    of a file may stand in any.

    Args:
        embeddings: unit vectors, (N, D).
        population: of the same N images.
        make_ups: of the galleries.
        seeds: how many galleries are drawn of each.
        ranks: the k of rank-k errors; 1 is always among them.

    Raises:
        FairveilError: images and embeddings are not equally many, a set cannot be drawn (see `draw`), or an embedding
            is zero or not finite.
    """
    if len(embeddings) != len(population):
        raise FairveilError(
            f"There are {len(embeddings)} embeddings and labels of {len(population)} images: give one for each."
        )
    order = content_order(embeddings, population.identity)
    embeddings, population = embeddings[order], population.take(order)
    drawn = [draw(population, make_up, seed=seed) for make_up in make_ups for seed in range(seeds)]
    used = torch.zeros(len(population), dtype=torch.bool)
    used[torch.cat(drawn)] = True  # the rest is in no gallery
    where = used.cumsum(0) - 1
    masks = [torch.zeros(int(used.sum()), dtype=torch.bool).index_fill(0, where[rows], True) for rows in drawn]
    vectors, identity, group = embeddings[used], population.identity[used], population.group[used]
    itself = torch.arange(len(vectors))
    everybody = vectors, vectors, identity, identity
    outcomes = identify(*everybody, exclude=itself, galleries=masks)
    names, person = torch.unique(identity, return_inverse=True)
    group_of = torch.zeros(len(names), dtype=torch.int64).index_copy(0, person, group)
    tallies = []
    for place, make_up in enumerate(make_ups):
        probes, errors = np.zeros(len(names), np.int64), {k: np.zeros(len(names), np.int64) for k in {1, *ranks}}
        wrong, by_own = np.zeros((len(population.groups),) * 2), np.zeros(len(names))
        by_draw = []
        for mask, outcome in zip(
            *(some[place * seeds : (place + 1) * seeds] for some in (masks, outcomes)), strict=True
        ):
            rank, who, mine = outcome.rank[mask], person[mask], group[mask]
            probes += _counted(who, len(names))
            for k in errors:
                errors[k] += _counted(who[rank > k], len(names))
            missed = rank > 1
            rows = mask.nonzero().flatten()[missed]
            other = nearest_labels(outcome, rows, group, len(wrong), *everybody, exclude=itself, among=mask).numpy()
            np.add.at(wrong, mine[missed].numpy(), other)
            np.add.at(by_own, who[missed].numpy(), other[np.arange(len(other)), mine[missed].numpy()])
            by_draw.append([_counted(mine[missed], len(wrong)), _counted(mine, len(wrong))])
        by_group = np.array(by_draw)
        tallies.append(Tally(make_up, probes, errors, by_own, wrong, (by_group[:, 0], by_group[:, 1])))
    return Response(population.column, population.groups, group_of.numpy(), seeds, tuple(tallies))


def worst_and_best(errors: Mapping[str, Estimate]) -> tuple[str, str]:
    """The groups that are missed most and least often, of two or more; two different ones, of equals by their names."""
    fewest, *_, most = sorted(sorted(errors), key=lambda group: errors[group].value)
    return most, fewest


def _counted(numbers: Tensor, length: int) -> NDArray[np.int64]:
    return np.asarray(torch.bincount(numbers, minlength=length).numpy())


def _crossing(shares: Sequence[float], gaps: NDArray[np.float64]) -> float:
    """Where the line through the gaps first changes its sign; in the middle of a stretch of zeros; NaN if nowhere."""
    signed = [(share, gap) for share, gap in zip(shares, gaps, strict=True) if not np.isnan(gap) and gap != 0]
    for (left, before), (right, after) in pairwise(signed):
        if before * after < 0:
            zeros = [share for share, gap in zip(shares, gaps, strict=True) if left < share < right and gap == 0]
            if zeros:
                return (zeros[0] + zeros[-1]) / 2
            return float(left + (right - left) * before / (before - after))
    return math.nan
