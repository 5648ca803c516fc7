"""Who is it? Exact search of a gallery by cosine: blocks of probes against blocks of gallery, in bounded memory.

Embeddings are unit vectors, so cosines are inner products. Similarities closer than `TIE` count as equal: single
precision does not tell them apart. Where a rank depends on a tie, any order of the equals is taken to be as likely as
another, and the rank is the expected one; `nearest`, which lists photos, lists equals by their row in the gallery.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError

TIE = 2.0**-20
"""Similarities that differ by no more than this, about a millionth, are equal."""

_BLOCK = 1 << 23  # similarities in a block: 32 MB
_TILE = 1024  # gallery photos in one product: what stays in a processor's cache
_ROWS = 128  # probes in a block of `identify` at the least: with fewer the product is slow
_GROUP = 32  # similarities of which only the largest is looked at first
_NEAR = 128  # nearest others that are kept while one pass serves many galleries


@dataclass(frozen=True)
class Neighbors:
    """The nearest photos of a gallery for each of P probes, nearest first.

    Attributes:
        similarity: cosines, (P, k).
        index: rows of the gallery, (P, k).
    """

    similarity: Tensor
    index: Tensor


@dataclass(frozen=True)
class SearchOutcome:
    """How each of P probes fared against one gallery.

    Attributes:
        rank: the place of the first photo of the probe's identity, 1 for the nearest of all; 0 where the gallery has
            no photo of it. Of o others and m own photos that are as similar as the nearest own photo, any order is
            equally likely, and the first own one has the place 1 + (others that are nearer) + o / (m + 1) on average:
            that is the rank, and it need not be a whole number. A probe is found at rank k where its rank is k or
            less. Rank-k accuracy for every k follows from it. Shape (P,), float64.
        mate: similarity of the nearest photo of the probe's identity, -inf where there is none, (P,). As `other` a
            multiple of `TIE`, so that equals are equal.
        other: similarity of the nearest photo of anybody else, -inf where there is nobody, (P,).
        other_index: the row of that photo, of equals the first, -1 where there is nobody, (P,).
        tied: how many photos of others are as similar as the nearest own photo, (P,), int64.
        nearest_others: how many photos of others are as similar as the nearest of them, (P,), int64; see
            `nearest_labels`.
    """

    rank: Tensor
    mate: Tensor
    other: Tensor
    other_index: Tensor
    tied: Tensor
    nearest_others: Tensor


@torch.no_grad()
def nearest(probes: Tensor, gallery: Tensor, k: int, *, exclude: Tensor | None = None) -> Neighbors:
    """The k nearest photos of a gallery for each probe.

    Args:
        probes: unit vectors, (P, D).
        gallery: unit vectors, (N, D).
        k: how many.
        exclude: for each probe a row of the gallery that is left out, itself for leave-one-out; -1 for none. (P,).

    Raises:
        FairveilError: the vectors do not fit each other or are none, or the gallery has fewer than k.

    >>> found = nearest(torch.eye(3)[:1], torch.eye(3), 2, exclude=torch.tensor([0]))
    >>> found.index
    tensor([[1, 2]])
    """
    _check(probes, gallery)
    if not 1 <= k <= len(gallery) - (exclude is not None):
        raise FairveilError(f"{k} nearest of a gallery of {len(gallery)} photos cannot be had: ask for fewer.")
    width = min(len(gallery), max(_BLOCK // 512, 512 * k))
    space = _space(probes, min(len(probes), max(1, _BLOCK // width)), width)
    found = []
    for rows in _slices(len(probes), len(space)):
        similarity = probes.new_empty(rows.stop - rows.start, 0)
        index = similarity.long()
        for part in _slices(len(gallery), width):
            block = _product(probes[rows], gallery[part], space)
            _leave_out(block, exclude, rows, part)
            values, columns = _largest(block, k, better_than=similarity[:, -1:] if similarity.shape[1] == k else None)
            similarity, index = torch.cat([similarity, values], 1), torch.cat([index, columns + part.start], 1)
            similarity, index = _best(similarity, index, min(k, similarity.shape[1]))
        found.append(_ordered(similarity, index))
    return Neighbors(*(torch.cat(parts) for parts in zip(*found, strict=True)))


@torch.no_grad()
def identify(
    probes: Tensor,
    gallery: Tensor,
    probe_identities: Tensor,
    gallery_identities: Tensor,
    *,
    exclude: Tensor | None = None,
    galleries: Sequence[Tensor] | None = None,
) -> list[SearchOutcome]:
    """Look every probe up in a gallery, or in many galleries made of its rows, with one pass over the similarities.

    Args:
        probes: unit vectors, (P, D).
        gallery: unit vectors, (N, D).
        probe_identities: numbers, (P,), int64.
        gallery_identities: numbers, (N,), int64.
        exclude: for each probe a row of the gallery that is left out, itself for leave-one-out; -1 for none. (P,).
        galleries: which rows make up each gallery, (N,) bool; by default one gallery of all. A probe that is a row of
            the gallery itself, by `exclude`, is looked up in those that have this row; in others its rank is 0.

    Returns:
        One outcome a gallery.

    Raises:
        FairveilError: the vectors or the numbers of identities do not fit each other.

    >>> once = identify(torch.eye(2), torch.eye(2), torch.tensor([7, 9]), torch.tensor([7, 8]))[0]
    >>> once.rank
    tensor([1., 0.], dtype=torch.float64)
    """
    _check(probes, gallery)
    for name, vectors, identities in (
        ("probes", probes, probe_identities),
        ("gallery photos", gallery, gallery_identities),
    ):
        if identities.shape != (len(vectors),) or identities.dtype != torch.int64:
            raise FairveilError(
                f"There are {len(vectors)} {name} and identities of shape {tuple(identities.shape)} and type "
                f"{identities.dtype}: give one int64 number each."
            )
    masks: Sequence[Tensor | None] = [None] if galleries is None else galleries
    outcomes: list[list[SearchOutcome]] = [[] for _ in masks]
    mates = _Mates(probe_identities, gallery_identities)
    height = min(len(probes), max(_ROWS, _BLOCK // len(gallery)))
    space = _space(probes, height, len(gallery))
    for rows in _slices(len(probes), height):
        similarity = _product(probes[rows], gallery, space)
        _leave_out(similarity, exclude, rows, slice(0, len(gallery)))
        where = mates.of(rows)
        likeness = similarity.gather(1, where.clamp_min(0)).masked_fill_(where < 0, -torch.inf)
        row, place = (where >= 0).nonzero(as_tuple=True)
        similarity[row, where[row, place]] = -torch.inf  # what is left are others
        near = None if galleries is None else _ordered(*_largest(similarity, min(_NEAR, similarity.shape[1])))
        for mask, found in zip(masks, outcomes, strict=True):
            if mask is None or near is None:
                found.append(_outcome(similarity, likeness))
            else:
                asked = likeness
                if exclude is not None:  # a photo that is not in this gallery is none of its probes
                    away = (exclude[rows] >= 0) & ~mask[exclude[rows].clamp_min(0)]
                    asked = likeness.masked_fill(away[:, None], -torch.inf)
                found.append(_outcome_among(mask, similarity, Neighbors(*near), asked, where))
    return [_joined(parts) for parts in outcomes]


class _Mates:
    """Where in the gallery the photos of each probe's identity are."""

    def __init__(self, probe_identities: Tensor, gallery_identities: Tensor) -> None:
        self._order = gallery_identities.argsort(stable=True)
        known = gallery_identities[self._order]
        self._first = torch.searchsorted(known, probe_identities)
        self._end = torch.searchsorted(known, probe_identities, right=True)

    def of(self, rows: slice | Tensor) -> Tensor:
        """The rows of the gallery, ascending, -1 beyond the last: (B, as many as the most have, at least 1)."""
        first, end = self._first[rows, None], self._end[rows, None]
        most = max(1, int((end - first).max()))
        place = first + torch.arange(most, device=first.device)
        return self._order[place.clamp_max(len(self._order) - 1)].masked_fill_(place >= end, -1)


@torch.no_grad()
def nearest_labels(
    outcome: SearchOutcome,
    rows: Tensor,
    labels: Tensor,
    kinds: int,
    probes: Tensor,
    gallery: Tensor,
    probe_identities: Tensor,
    gallery_identities: Tensor,
    *,
    exclude: Tensor | None = None,
    among: Tensor | None = None,
) -> Tensor:
    """Of which label the nearest photo of anybody else is; equals share, so that their order decides nothing.

    Args:
        outcome: of all probes, as `identify` gave it for the same arguments.
        rows: which probes are asked about, (B,), int64.
        labels: of each photo of the gallery, (N,), int64, from 0 to below `kinds`.
        kinds: how many labels there are, K.
        probes: unit vectors, (P, D).
        gallery: unit vectors, (N, D).
        probe_identities: numbers, (P,), int64.
        gallery_identities: numbers, (N,), int64.
        exclude: as in `identify`, (P,).
        among: the rows that make up the gallery, (N,), bool; all by default.

    Returns:
        Shares of each label, (B, K), float64, that add up to 1; zeros where there is nobody else.

    >>> gallery, who = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([1, 2])
    >>> asked = torch.tensor([[1.0, 0.0]]), gallery, torch.tensor([0]), who
    >>> nearest_labels(identify(*asked)[0], torch.tensor([0]), torch.tensor([0, 1]), 2, *asked)
    tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    first = outcome.other_index[rows]
    shares = torch.zeros(len(rows), kinds, dtype=torch.float64)
    there = (first >= 0).nonzero().flatten()
    shares[there, labels[first[there]]] = 1
    tied = (outcome.nearest_others[rows] > 1).nonzero().flatten()
    height = max(1, _BLOCK // len(gallery))
    space = _space(probes, min(max(1, len(tied)), height), len(gallery))
    mates = _Mates(probe_identities, gallery_identities)
    for some in _slices(len(tied), height):
        part = tied[some]
        asked = rows[part]
        similarity = _product(probes[asked], gallery, space)
        where = mates.of(asked)
        row, place = (where >= 0).nonzero(as_tuple=True)
        similarity[row, where[row, place]] = -torch.inf
        if exclude is not None:
            _leave_out(similarity, exclude[asked], slice(0, len(asked)), slice(0, len(gallery)))
        if among is not None:
            similarity[:, : len(gallery)].masked_fill_(~among, -torch.inf)
        equal = similarity[:, : len(gallery)] >= similarity.amax(1, keepdim=True) - TIE
        counts = torch.zeros(len(asked), kinds, dtype=torch.float64)
        counts.index_add_(1, labels, equal.double())
        shares[part] = counts / counts.sum(1, keepdim=True)
    return shares


def _outcome(others: Tensor, likeness: Tensor, columns: Tensor | None = None) -> SearchOutcome:
    """The outcome for a block of probes.

    Args:
        others: similarities to the M photos of a gallery, -inf for those of the probe's identity, (B, M).
        likeness: similarities to the photos of the probe's identity, -inf for what is not in this gallery, (B, m).
        columns: the rows of the M photos, all by default, (M,).
    """
    mate = likeness.amax(1)
    other, other_index, equal = _first_best(others)
    nearer, tied = torch.zeros_like(other_index), torch.zeros_like(other_index)
    beaten = ((mate > -torch.inf) & (other >= mate - TIE)).nonzero().flatten()
    if len(beaten):
        rows, best = others if len(beaten) == len(others) else others[beaten], mate[beaten, None]
        nearer[beaten] = (rows > best + TIE).sum(1, dtype=torch.int32).long()
        tied[beaten] = (rows >= best - TIE).sum(1, dtype=torch.int32).long() - nearer[beaten]
    if columns is not None and len(columns):
        other_index = columns[other_index]
    other_index = other_index.masked_fill(other == -torch.inf, -1)
    return SearchOutcome(_expected(nearer, tied, likeness, mate), _told(mate), _told(other), other_index, tied, equal)


def _expected(nearer: Tensor, tied: Tensor, likeness: Tensor, mate: Tensor) -> Tensor:
    """The rank of the first own photo, on average over the orders of equals; 0 where there is none."""
    own = (likeness >= mate[:, None] - TIE).sum(1)
    return (1 + nearer + tied / (own + 1).double()).masked_fill(mate == -torch.inf, 0)


def _told(similarity: Tensor) -> Tensor:
    """Similarities as multiples of `TIE`, so that what is equal but for rounding is equal."""
    return ((similarity.double() / TIE).round() * TIE).to(similarity.dtype)


def _outcome_among(mask: Tensor, others: Tensor, near: Neighbors, likeness: Tensor, where: Tensor) -> SearchOutcome:
    """The outcome for a block of probes in the gallery of some rows, from the nearest others wherever they tell it.

    Args:
        mask: which rows make up the gallery, (N,), bool.
        others: similarities to all rows, -inf for those of the probe's identity, (B, N or more).
        near: the nearest of these, (B, k).
        likeness: similarities to the photos of the probe's identity, (B, m).
        where: the rows of these, -1 where there are fewer, (B, m).
    """
    theirs = likeness.masked_fill(~mask[where], -torch.inf)
    mate = theirs.amax(1)
    known = near.similarity > -torch.inf
    inside = mask[near.index.clamp_max(len(mask) - 1)] & known
    first = inside.int().argmax(1, keepdim=True)
    nobody = ~inside.any(1)
    other = near.similarity.gather(1, first)[:, 0].masked_fill(nobody, -torch.inf)
    other_index = near.index.gather(1, first)[:, 0].masked_fill(nobody, -1)
    nearer = (inside & (near.similarity > mate[:, None] + TIE)).sum(1)
    tied = (inside & (near.similarity >= mate[:, None] - TIE)).sum(1) - nearer
    absent = mate == -torch.inf
    nearer, tied = nearer.masked_fill(absent, 0), tied.masked_fill(absent, 0)
    equal = (inside & (near.similarity >= other[:, None] - TIE)).sum(1)
    found = SearchOutcome(_expected(nearer, tied, theirs, mate), _told(mate), _told(other), other_index, tied, equal)
    last = near.similarity[:, -1]  # what lies beyond it is not known: at the most as similar
    more = (other == -torch.inf) | (last >= other - TIE) | (~absent & (last >= mate - TIE))
    unsettled = ((last > -torch.inf) & more).nonzero().flatten()
    if len(unsettled):
        columns = mask.nonzero().flatten()
        rows = _window(_space(others, len(unsettled), len(columns)), len(unsettled), len(columns))
        rows[:, : len(columns)] = others[unsettled[:, None], columns]
        exact = _outcome(rows, theirs[unsettled], columns)
        for name in _FIELDS:
            getattr(found, name)[unsettled] = getattr(exact, name)
    return found


_FIELDS = tuple(one.name for one in fields(SearchOutcome))


def _joined(parts: Sequence[SearchOutcome]) -> SearchOutcome:
    return SearchOutcome(*(torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS))


def _space(like: Tensor, height: int, width: int) -> Tensor:
    """Memory for blocks: to ask for new memory costs a third of the product, and rows of odd lengths even more."""
    return like.new_empty(height, -(-width // _GROUP) * _GROUP)


def _window(space: Tensor, height: int, width: int) -> Tensor:
    """Memory for a block, as wide as whole groups take; what is beyond its width is less than all."""
    block = space[:height, : -(-width // _GROUP) * _GROUP]
    block[:, width:] = -torch.inf
    return block


def _product(probes: Tensor, gallery: Tensor, space: Tensor) -> Tensor:
    """The similarities (B, M), followed by -inf up to a whole number of groups."""
    block = _window(space, len(probes), len(gallery))
    for part in _slices(len(gallery), _TILE):
        torch.mm(probes, gallery[part].T, out=block[:, part])
    return block


def _first_best(block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest of each row, the first column that holds it, and how many equal it; -inf, 0, 0 without columns."""
    if not block.shape[1]:
        none = torch.zeros(len(block), dtype=torch.long, device=block.device)
        return block.new_full((len(block),), -torch.inf), none, none
    groups = block.unflatten(1, (-1, _GROUP))  # type: ignore[no-untyped-call]
    maxima = groups.amax(2)
    first = maxima.argmax(1)  # like every argmax of torch, the first of equals
    chosen = groups[torch.arange(len(block), device=block.device), first]
    best, place = chosen.max(1)
    least = best[:, None] - TIE
    equal = (chosen >= least).sum(1)
    several = ((maxima >= least).sum(1) > 1).nonzero().flatten()  # equals in other groups are rare
    if len(several):
        equal[several] = (block[several] >= least[several]).sum(1)
    return best, first * _GROUP + place, equal.masked_fill_(best == -torch.inf, 0)


def _largest(block: Tensor, k: int, *, better_than: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their columns; of those that equal the last, the first columns.

    Of what is not above the bound (B, 1) some may be missing, and as many columns less are given.
    """
    groups = block.unflatten(1, (-1, _GROUP))  # type: ignore[no-untyped-call]
    maxima = groups.amax(2)
    wanted = min(k, maxima.shape[1])
    if better_than is not None:
        wanted = min(wanted, int((maxima > better_than).sum(1).max()))
    # The k largest are in the k groups of the largest maxima,
    top, chosen = maxima.topk(wanted, dim=1)
    members = groups[torch.arange(len(block), device=block.device)[:, None], chosen].flatten(1)
    columns = (chosen[..., None] * _GROUP + torch.arange(_GROUP, device=block.device)).flatten(1)
    values, columns = _best(members, columns, min(k, members.shape[1]))
    if 0 < wanted < maxima.shape[1]:  # unless a group that was not looked into has what equals the last of them.
        unsettled = ((values[:, -1] == top[:, -1]) & ((maxima >= top[:, -1:]).sum(1) > wanted)).nonzero().flatten()
        if len(unsettled):
            order = torch.sort(block[unsettled], stable=True, dim=1, descending=True).indices
            columns[unsettled] = order[:, : columns.shape[1]]
    return values, columns


def _best(similarity: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of candidates; of those that equal the last, the ones of the lowest index."""
    values, place = similarity.topk(k, dim=1)
    chosen = index.gather(1, place)
    unsettled = ((similarity >= values[:, -1:]).sum(1) > k).nonzero().flatten()  # topk takes any of the equals
    if len(unsettled):
        chosen[unsettled] = _ordered(similarity[unsettled], index[unsettled])[1][:, :k]
    return values, chosen


def _ordered(similarity: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates of each row, best first, and of equals the one with the lower index first."""
    by_index = index.argsort(1)
    similarity, index = similarity.gather(1, by_index), index.gather(1, by_index)
    by_similarity = torch.sort(similarity, stable=True, dim=1, descending=True).indices
    return similarity.gather(1, by_similarity), index.gather(1, by_similarity)


def _leave_out(block: Tensor, exclude: Tensor | None, rows: slice, part: slice) -> None:
    if exclude is None:
        return
    column = exclude[rows] - part.start  # below 0 too where nothing is left out
    inside = ((column >= 0) & (column < block.shape[1])).nonzero().flatten()
    block[inside, column[inside]] = -torch.inf


def _slices(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _check(probes: Tensor, gallery: Tensor) -> None:
    for name, vectors in (("probes", probes), ("gallery", gallery)):
        if vectors.ndim != 2 or not len(vectors) or not vectors.is_floating_point():
            raise FairveilError(
                f"The {name} have shape {tuple(vectors.shape)} and type {vectors.dtype}: "
                "embeddings are rows of floating-point numbers, (N, D), at least one."
            )
        length = torch.linalg.vector_norm(vectors, dim=1)
        if not (torch.isfinite(length) & (length > 0)).all():
            raise FairveilError(f"Some embeddings of the {name} are zero, infinite or missing: leave those rows out.")
    if probes.shape[1] != gallery.shape[1]:
        raise FairveilError(
            f"Probes have {probes.shape[1]} dimensions and the gallery {gallery.shape[1]}: "
            "embed both with the same recognizer."
        )
