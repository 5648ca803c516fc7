"""Sets of faces of any make-up, drawn from a set that is there (sections 5.4 and 5.5).

Imbalance is of two kinds: a group may have fewer identities, or fewer images of each identity. Sets of either kind are
drawn with the same totals of identities and of images, exactly. How images are spread over identities is as even as the
data allow, and where some people have far more of them than others, no more than that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.data.population import Population

Kind = Literal["identities", "images"]
"""What groups have unequal shares of: identities, at equal images per identity; or images, at equal identities."""

LEAST_IMAGES = 2
"""Images that an identity needs: one to look for, and one to find."""

PARTS: Mapping[Kind, tuple[int, ...]] = {"identities": tuple(range(11)), "images": tuple(range(2, 9))}
"""Of ten, what a group has in the sweeps of tables 5.2 to 5.7: 0:10 to 10:0 of identities, 2:8 to 8:2 of images, beyond
which identities would be left with too few images (section 5.4.2)."""

_MOST_LEAST = 20  # how many images per identity are at the most demanded so that imbalance of images is possible


@dataclass(frozen=True)
class Shares:
    """Which share of the identities and of the images each group has; each add up to 1.

    Attributes:
        identities: by group.
        images: by group.
    """

    identities: Mapping[str, Fraction]
    images: Mapping[str, Fraction]

    @classmethod
    def of(cls, kind: Kind, parts: Mapping[str, int | Fraction]) -> "Shares":
        """Shares in proportion to some parts: of identities with the images that come with them, or of images only.

        Raises:
            FairveilError: no such kind, or parts below zero, or none above it.

        >>> Shares.of("identities", {"F": 8, "M": 2}).images["M"]
        Fraction(1, 5)
        """
        if kind not in get_args(Kind):
            raise FairveilError(f"Groups may be unequal in {' or '.join(get_args(Kind))}, not in {kind!r}.")
        total = sum(parts.values())
        if total <= 0 or min(parts.values()) < 0:
            raise FairveilError(
                f"The parts {dict(parts)} are no shares: give numbers of 0 and more, one at least above."
            )
        shares = {group: Fraction(part) / total for group, part in parts.items()}
        equal = {group: Fraction(1, len(parts)) for group in parts}
        return cls(shares if kind == "identities" else equal, shares)

    @classmethod
    def balanced(cls, groups: Sequence[str]) -> "Shares":
        """The same share for every group."""
        return cls.of("identities", dict.fromkeys(groups, 1))


@dataclass(frozen=True)
class Composition:
    """How many identities and images of each group a set has.

    Attributes:
        identities: by group.
        images: by group.
        least: images that an identity must have to be drawn, however many are then taken.
    """

    identities: Mapping[str, int]
    images: Mapping[str, int]
    least: int = LEAST_IMAGES

    @classmethod
    def of(cls, shares: Shares, *, identities: int, images: int, least: int = LEAST_IMAGES) -> "Composition":
        """Some totals shared out: whole numbers nearest to the shares, which add up to the totals.

        >>> Composition.of(Shares.of("identities", {"F": 8, "M": 2}), identities=406, images=7000).identities
        {'F': 325, 'M': 81}
        """
        return cls(_shared_out(shares.identities, identities), _shared_out(shares.images, images), least)


def check_names(groups: Sequence[str], named: Mapping[str, object], column: str) -> None:
    """Refuse names that are not those of the groups.

    Raises:
        FairveilError: a name is unknown, or a group is not named.
    """
    if unknown := [name for name in named if name not in groups]:
        raise FairveilError(f"Nobody is {unknown[0]!r} by {column}.{did_you_mean(unknown[0], groups)}")
    if missing := [group for group in groups if group not in named]:
        raise FairveilError(f"No share is given for {missing[0]!r} of {column}: give one for each group.")


def largest(population: Population, wanted: Sequence[Shares]) -> list[Composition]:
    """The largest sets of some make-ups that a population can give, all with the same totals.

    Where images are to be unequal, identities need enough of them for the larger share: as few images as will do are
    then demanded of each identity, so that as many identities as possible remain.

    Returns:
        One make-up for each of `wanted`. Their totals are multiples of what makes every share a whole number, unless
        the population is too small for that.

    Raises:
        FairveilError: there are no such sets; the sentence says which group lacks what.
    """
    for shares in wanted:
        check_names(population.groups, shares.identities, population.column)
    counts = {group: population.images_of(group) for group in population.groups}
    complaint = ""
    for least in range(LEAST_IMAGES, _MOST_LEAST + 1):
        enough = {group: images[images >= least] for group, images in counts.items()}
        identities, images, why = _largest_totals(enough, wanted)
        if not why:
            return [Composition.of(shares, identities=identities, images=images, least=least) for shares in wanted]
        complaint = complaint or why
    raise FairveilError(f"Such sets cannot be drawn: {complaint}. More people or images are needed, or less imbalance.")


def sweep(
    population: Population,
    kind: Kind,
    focus: str,
    *,
    parts: Sequence[int] | None = None,
    identities: int | None = None,
    images: int | None = None,
) -> list[Composition]:
    """Make-ups in which the share of one group rises: 0:10, 1:9, … 10:0 of identities, 2:8, … 8:2 of images.

    The other groups share the rest equally.

    Args:
        population: what to draw from.
        kind: what is unequal.
        focus: the group whose share rises.
        parts: of the focus group, out of ten; by default all of `PARTS`.
        identities: in every set; by default as many as can be (see `largest`).
        images: in every set, likewise; given if and only if `identities` is.

    Raises:
        FairveilError: as `largest`; no such group; only one of the totals is given.
    """
    if focus not in population.groups:
        hint = did_you_mean(focus, population.groups)
        raise FairveilError(f"Nobody is {focus!r} by {population.column}.{hint}")
    if (identities is None) != (images is None):
        raise FairveilError("Give both totals, of identities and of images, or neither.")
    others = [group for group in population.groups if group != focus]
    wanted = [
        Shares.of(kind, {group: Fraction(part if group == focus else Fraction(10 - part, len(others)))
                         for group in population.groups})
        for part in (PARTS[kind] if parts is None else parts)
    ]  # fmt: skip
    if identities is None or images is None:
        return largest(population, wanted)
    return [Composition.of(shares, identities=identities, images=images) for shares in wanted]


def draw(population: Population, make_up: Composition, *, seed: int) -> Tensor:
    """Draw a set of a make-up.

    Identities are drawn at random, and of their images as many as give the total: equally many of each as far as they
    have them, so that those with most give up images first. Where the identities drawn have too few together, some are
    exchanged, at random, for others with more.

    Args:
        population: what to draw from.
        make_up: of the set.
        seed: of the draw; each group's is its own.

    Returns:
        Rows of the population, ascending, int64.

    Raises:
        FairveilError: a group has too few identities or images; the sentence says which and how many.
    """
    drawn = [torch.empty(0, dtype=torch.int64)]
    for number, group in enumerate(population.groups):
        if make_up.identities[group]:
            rows = (population.known & (population.group == number)).nonzero().flatten()
            random = np.random.default_rng([seed, number])
            chosen = _drawn_of_group(population.identity[rows].numpy(), group, make_up, random)
            drawn.append(rows[torch.from_numpy(chosen)])
    return torch.cat(drawn).sort().values


def _drawn_of_group(
    identity: NDArray[np.int64], group: str, make_up: Composition, random: np.random.Generator
) -> NDArray[np.int64]:
    """Positions of the drawn images among those of a group, given their identities."""
    wanted, images = make_up.identities[group], make_up.images[group]
    place, available = np.unique(identity, return_inverse=True, return_counts=True)[1:]
    order = random.permutation(len(available))
    able = order[available[order] >= make_up.least]
    if wanted > len(able):
        raise FairveilError(
            f"{wanted} identities of {group} with {make_up.least} or more images are asked for, and there are "
            f"{len(able)}: ask for fewer."
        )
    if images < LEAST_IMAGES * wanted:
        raise FairveilError(
            f"{images} images of {wanted} identities of {group} leave some with fewer than {LEAST_IMAGES}, so that "
            "nobody could be found: ask for more images or fewer identities."
        )
    chosen = _with_enough(available, able, wanted, images)
    if (most := int(available[chosen].sum())) < images:
        raise FairveilError(
            f"{images} images of {wanted} identities of {group} are asked for, and those with most have {most}: "
            "ask for fewer."
        )
    taken = np.zeros(len(available), np.int64)
    taken[chosen] = _leveled(available[chosen], images)
    lot = random.permutation(len(identity))
    by_person = np.lexsort((lot, place))
    starts = np.concatenate([[0], np.cumsum(available)[:-1]])
    nth = np.empty(len(identity), np.int64)
    nth[by_person] = np.arange(len(identity)) - np.repeat(starts, available)
    return np.flatnonzero(nth < taken[place])


def _with_enough(available: NDArray[np.int64], able: NDArray[np.int64], wanted: int, images: int) -> NDArray[np.int64]:
    """The first identities in a random order, the poorest exchanged for the next richer ones while they lack images."""
    chosen, short = able[:wanted].copy(), images - int(available[able[:wanted]].sum())
    for other in able[wanted:]:
        if short <= 0:
            break
        poorest = int(available[chosen].argmin())
        if (gain := int(available[other] - available[chosen[poorest]])) > 0:
            chosen[poorest], short = other, short - gain
    return chosen


def _leveled(available: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """How many images to take of each so that they add up to a total and differ as little as can be.

    >>> _leveled(np.array([2, 9, 5]), 11)
    array([2, 5, 4])
    """
    level = 0
    while np.minimum(available, level + 1).sum() <= total and level < available.max():
        level += 1
    taken = np.minimum(available, level)
    more = np.flatnonzero(available > level)[: total - int(taken.sum())]
    taken[more] += 1
    return taken


def _largest_totals(images: Mapping[str, NDArray[np.int64]], wanted: Sequence[Shares]) -> tuple[int, int, str]:
    """The largest totals of identities and images that serve all shares; else in words why there are none.

    Args:
        images: of each identity, by group.
        wanted: the shares.
    """
    means = {group: Fraction(int(some.sum()), max(1, len(some))) for group, some in images.items()}
    whole = math.lcm(*(share.denominator for shares in wanted for share in (
        *shares.identities.values(), *shares.images.values())))  # fmt: skip

    def rounded(total: Fraction) -> int:
        return math.floor(total) // whole * whole if total >= 2 * whole else math.floor(total)

    uses = [
        (group, shares.identities[group], shares.images[group])
        for shares in wanted
        for group in shares.identities
        if shares.identities[group] or shares.images[group]
    ]
    identities = rounded(min(len(images[group]) / people for group, people, _ in uses if people))
    if identities < len(images):
        scarce = min(uses, key=lambda use: len(images[use[0]]) / use[1] if use[1] else math.inf)[0]
        return 0, 0, f"{scarce} has {len(images[scarce])} identities with enough images"
    total = rounded(min(identities * people * means[group] / share for group, people, share in uses if share))
    richest = {group: np.concatenate([[0], np.cumsum(np.sort(some)[::-1])]) for group, some in images.items()}
    step = whole if total % whole == 0 else 1
    make_ups: list[Composition] = []
    while total > 0:
        make_ups = [Composition.of(shares, identities=identities, images=total) for shares in wanted]
        if all(made.images[group] <= richest[group][made.identities[group]] for made in make_ups for group in images):
            break  # rounded to whole people, a group may need more than these have
        total -= step
    if total <= 0:
        return 0, 0, "one of the groups would have images and no identities, or the other way round"
    for made in make_ups:
        for group, people in made.identities.items():
            if made.images[group] < LEAST_IMAGES * people:
                return (
                    0,
                    0,
                    f"{group} would have {made.images[group]} images of {people} identities, and each needs "
                    f"{LEAST_IMAGES}",
                )
    return identities, total, ""


def _shared_out(shares: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Whole numbers that add up to the total, by the largest remainders."""
    counts = {group: math.floor(share * total) for group, share in shares.items()}
    remainders = sorted(shares, key=lambda group: counts[group] - shares[group] * total)
    for group in remainders[: total - sum(counts.values())]:
        counts[group] += 1
    return counts
