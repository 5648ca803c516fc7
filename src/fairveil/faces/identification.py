"""Who is it? Exact search of a gallery by cosine: blocks of probes against blocks of gallery, in bounded memory.

Embeddings are unit vectors, so cosines are inner products. All ties are broken by the row of the gallery: of two
photos that are equally similar, the one that comes first is the nearer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairveil.errors import FairveilError

_BLOCK = 1 << 23  # similarities in a block: 32 MB
_TILE = 1024  # gallery photos in one product: what stays in a processor's cache
_ROWS = 128  # probes in a block of `identify` at the least: with fewer the product is slow
_GROUP = 32  # similarities of which only the largest is looked at first
_NEAR = 128  # nearest others that are kept while one pass serves many galleries


@dataclass(frozen=True)
class Neighbours:
    """The nearest photos of a gallery for each of P probes, nearest first.

    Attributes:
        similarity: cosines, (P, k).
        index: rows of the gallery, (P, k).
    """

    similarity: Tensor
    index: Tensor


@dataclass(frozen=True)
class Outcome:
    """How each of P probes fared against one gallery.

    Attributes:
        rank: the place of the first photo of the probe's identity, 1 for the nearest of all; 0 where the gallery has
            no photo of it. Rank-k accuracy for every k follows from it. Shape (P,).
        mate: similarity of the nearest photo of the probe's identity, -inf where there is none, (P,).
        other: similarity of the nearest photo of anybody else, -inf where there is nobody, (P,).
        other_index: the row of that photo, -1 where there is nobody, (P,).
    """

    rank: Tensor
    mate: Tensor
    other: Tensor
    other_index: Tensor


@torch.no_grad()
def nearest(probes: Tensor, gallery: Tensor, k: int, *, exclude: Tensor | None = None) -> Neighbours:
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
    return Neighbours(*(torch.cat(parts) for parts in zip(*found, strict=True)))


@torch.no_grad()
def identify(
    probes: Tensor,
    gallery: Tensor,
    probe_identities: Tensor,
    gallery_identities: Tensor,
    *,
    exclude: Tensor | None = None,
    galleries: Sequence[Tensor] | None = None,
) -> list[Outcome]:
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
    tensor([1, 0])
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
    outcomes: list[list[Outcome]] = [[] for _ in masks]
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
                found.append(_outcome(similarity, likeness, where))
            else:
                asked = likeness
                if exclude is not None:  # a photo that is not in this gallery is none of its probes
                    away = (exclude[rows] >= 0) & ~mask[exclude[rows].clamp_min(0)]
                    asked = likeness.masked_fill(away[:, None], -torch.inf)
                found.append(_outcome_among(mask, similarity, Neighbours(*near), asked, where))
    return [_joined(parts) for parts in outcomes]


class _Mates:
    """Where in the gallery the photos of each probe's identity are."""

    def __init__(self, probe_identities: Tensor, gallery_identities: Tensor) -> None:
        self._order = gallery_identities.argsort(stable=True)
        known = gallery_identities[self._order]
        self._first = torch.searchsorted(known, probe_identities)
        self._end = torch.searchsorted(known, probe_identities, right=True)

    def of(self, rows: slice) -> Tensor:
        """The rows of the gallery, ascending, -1 beyond the last: (B, as many as the most have, at least 1)."""
        first, end = self._first[rows, None], self._end[rows, None]
        most = max(1, int((end - first).max()))
        place = first + torch.arange(most, device=first.device)
        return self._order[place.clamp_max(len(self._order) - 1)].masked_fill_(place >= end, -1)


def _outcome(others: Tensor, likeness: Tensor, where: Tensor, columns: Tensor | None = None) -> Outcome:
    """The outcome for a block of probes.

    Args:
        others: similarities to the M photos of a gallery, -inf for those of the probe's identity, (B, M).
        likeness: similarities to the photos of the probe's identity, -inf for what is not in this gallery, (B, m).
        where: the rows of these, (B, m).
        columns: the rows of the M photos, all by default, (M,).
    """
    mate, place = likeness.max(1)
    first_mate = where.gather(1, place[:, None])
    other, other_index = _first_best(others)
    rank = (mate > -torch.inf).long()
    beaten = ((rank > 0) & (other >= mate)).nonzero().flatten()
    if len(beaten):
        rows, best = others if len(beaten) == len(others) else others[beaten], mate[beaten, None]
        rank[beaten] += (rows > best).sum(1, dtype=torch.int32)
        tied = (rows == best).sum(1, dtype=torch.int32).nonzero().flatten()
        if len(tied):
            row, column = (rows[tied] == best[tied]).nonzero(as_tuple=True)
            column = column if columns is None else columns[column]
            again = beaten[tied][row]
            rank.index_add_(0, again, (column < first_mate[again, 0]).long())
    if columns is not None and len(columns):
        other_index = columns[other_index]
    return Outcome(rank, mate, other, other_index.masked_fill(other == -torch.inf, -1))


def _outcome_among(mask: Tensor, others: Tensor, near: Neighbours, likeness: Tensor, where: Tensor) -> Outcome:
    """The outcome for a block of probes in the gallery of some rows, from the nearest others wherever they tell it.

    Args:
        mask: which rows make up the gallery, (N,), bool.
        others: similarities to all rows, -inf for those of the probe's identity, (B, N or more).
        near: the nearest of these, (B, k).
        likeness: similarities to the photos of the probe's identity, (B, m).
        where: the rows of these, -1 where there are fewer, (B, m).
    """
    theirs = likeness.masked_fill(~mask[where], -torch.inf)
    mate, place = theirs.max(1)
    first_mate = where.gather(1, place[:, None])
    known = near.similarity > -torch.inf
    inside = mask[near.index.clamp_max(len(mask) - 1)] & known
    first = inside.int().argmax(1, keepdim=True)
    other = near.similarity.gather(1, first)[:, 0].masked_fill(~inside.any(1), -torch.inf)
    other_index = near.index.gather(1, first)[:, 0].masked_fill(~inside.any(1), -1)
    tied = (near.similarity == mate[:, None]) & (near.index < first_mate)
    nearer = inside & ((near.similarity > mate[:, None]) | tied)
    rank = (nearer.sum(1) + 1).masked_fill(mate == -torch.inf, 0)
    last = near.similarity[:, -1]  # what lies beyond it is not known: at the most as similar
    unsettled = ((last > -torch.inf) & ((other == -torch.inf) | ((rank > 0) & (last >= mate)))).nonzero().flatten()
    found = Outcome(rank, mate, other, other_index)
    if len(unsettled):
        columns = mask.nonzero().flatten()
        rows = _window(_space(others, len(unsettled), len(columns)), len(unsettled), len(columns))
        rows[:, : len(columns)] = others[unsettled[:, None], columns]
        exact = _outcome(rows, theirs[unsettled], where[unsettled], columns)
        for name in ("rank", "mate", "other", "other_index"):
            getattr(found, name)[unsettled] = getattr(exact, name)
    return found


def _joined(parts: Sequence[Outcome]) -> Outcome:
    return Outcome(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("rank", "mate", "other", "other_index"))
    )


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


def _first_best(block: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of each row and the first column that holds it; -inf and 0 where there are no columns."""
    if not block.shape[1]:
        return block.new_full((len(block),), -torch.inf), torch.zeros(len(block), dtype=torch.long, device=block.device)
    groups = block.unflatten(1, (-1, _GROUP))  # type: ignore[no-untyped-call]
    first = groups.amax(2).argmax(1)  # like every argmax of torch, the first of equals
    best, place = groups[torch.arange(len(block), device=block.device), first].max(1)
    return best, first * _GROUP + place


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
            "embed both with the same recogniser."
        )
