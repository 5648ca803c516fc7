"""Who is it? Exact search of a gallery by cosine: blocks of probes against blocks of gallery, in bounded memory.

Embeddings are unit vectors, so cosines are inner products. All ties are broken by the row of the gallery: of two
photos that are equally similar, the one that comes first is the nearer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairveil.errors import FairveilError

_BLOCK = 1 << 23  # similarities held at a time: 32 MB, whatever the sizes of probes and gallery


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
    columns = max(k, _BLOCK // 1024)
    best, where = [], []
    for rows in _slices(len(probes), max(1, _BLOCK // min(columns, len(gallery)))):
        similarity = probes.new_empty(len(probes[rows]), 0)
        index = similarity.long()
        for part in _slices(len(gallery), columns):
            block = probes[rows] @ gallery[part].T
            _leave_out(block, exclude, rows, part)
            wanted = min(k, block.shape[1])
            if similarity.shape[1] == k:  # most blocks hold few that are better than the k best so far
                wanted = min(wanted, int((block > similarity[:, -1:]).sum(1).max()))
                if not wanted:
                    continue
            block, inside = _largest(block, wanted)
            similarity = torch.cat([similarity, block], 1)
            index = torch.cat([index, inside + part.start], 1)
            similarity, index = _ordered(similarity, index, k)
        best.append(similarity)
        where.append(index)
    return Neighbours(torch.cat(best), torch.cat(where))


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
        galleries: which rows make up each gallery, (N,) bool; by default one gallery of all.

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
    masks = [torch.ones_like(gallery_identities, dtype=torch.bool)] if galleries is None else galleries
    outcomes: list[list[Outcome]] = [[] for _ in masks]
    for rows in _slices(len(probes), max(1, _BLOCK // max(1, len(gallery)))):
        similarity = probes[rows] @ gallery.T
        _leave_out(similarity, exclude, rows, slice(0, len(gallery)))
        same = probe_identities[rows, None] == gallery_identities
        for mask, found in zip(masks, outcomes, strict=True):
            found.append(_outcome(similarity[:, mask], same[:, mask], mask.nonzero().flatten()))
    return [_joined(parts) for parts in outcomes]


def _outcome(similarity: Tensor, same: Tensor, rows: Tensor) -> Outcome:
    """The outcome for a block of probes: similarities and whether the identity is theirs, (B, M)."""
    nothing = similarity.new_full((len(similarity), 1), -torch.inf)
    theirs = torch.cat([similarity.masked_fill(~same, -torch.inf), nothing], 1)
    others = torch.cat([similarity.masked_fill(same, -torch.inf), nothing], 1)
    mate, place = _first_best(theirs)
    other, other_place = _first_best(others)
    columns = torch.arange(others.shape[1], device=others.device)
    ahead = (others > mate[:, None]) | ((others == mate[:, None]) & (columns < place[:, None]))
    known = mate > -torch.inf
    padded = torch.cat([rows, rows.new_full((1,), -1)])
    return Outcome((ahead.sum(1) + 1) * known, mate, other, torch.where(other > -torch.inf, padded[other_place], -1))


def _first_best(values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest value of each row and the first column that holds it."""
    best = values.amax(1)
    return best, (values == best[:, None]).int().argmax(1)


def _joined(parts: Sequence[Outcome]) -> Outcome:
    return Outcome(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("rank", "mate", "other", "other_index"))
    )


def _largest(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their columns; of those that equal the last, the first columns."""
    values, columns = block.topk(k, dim=1)
    unsettled = ((block >= values[:, -1:]).sum(1) > k).nonzero().flatten()  # topk may have taken any of the equals
    if len(unsettled):
        columns[unsettled] = torch.sort(block[unsettled], stable=True, dim=1, descending=True).indices[:, :k]
    return values, columns


def _ordered(similarity: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row, best first, and of equals the one with the lower index first."""
    by_index = index.argsort(1)
    similarity, index = similarity.gather(1, by_index), index.gather(1, by_index)
    by_similarity = torch.sort(similarity, stable=True, dim=1, descending=True).indices[:, :k]
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
        if not torch.isfinite(vectors).all() or not vectors.any(1).all():
            raise FairveilError(f"Some embeddings of the {name} are zero, infinite or missing: leave those rows out.")
    if probes.shape[1] != gallery.shape[1]:
        raise FairveilError(
            f"Probes have {probes.shape[1]} dimensions and the gallery {gallery.shape[1]}: "
            "embed both with the same recogniser."
        )
