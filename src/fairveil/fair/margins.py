"""Angles between faces, which larger margins for one group are to change (section 6.4.4; Wang and Deng, 2020)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError

_BLOCK = 1024  # identities whose cosines with all others are held at a time


@dataclass(frozen=True)
class Angles:
    """How close faces of one person lie together, and how far apart people do.

    Attributes:
        intra: the mean angle between an identity's average vector and the vectors of its images, (K,), in degrees.
        inter: the angle between an identity's average vector and the nearest other identity's, (K,), in degrees.
        identities: which these are, int64 (K,), rising.
    """

    intra: Tensor
    inter: Tensor
    identities: Tensor


def angles(vectors: Tensor, labels: Tensor) -> Angles:
    """Intra- and inter-class angles of every identity (table 6.3).

    Averages over the identities of a group are what the table prints. The nearest other identity may be of any group.

    Args:
        vectors: embeddings of any length, (N, D).
        labels: identities, int64 (N,).

    Raises:
        FairveilError: there are fewer than two identities, or an identity's vectors cancel each other.

    >>> found = angles(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([3, 5]))
    >>> found.intra.tolist(), found.inter.tolist()
    ([0.0, 0.0], [90.0, 90.0])
    """
    identities, number = torch.unique(labels, return_inverse=True)
    if len(identities) < 2:
        raise FairveilError("Angles between identities need two of them at least.")
    unit = F.normalize(vectors.double())
    sums = torch.zeros(len(identities), unit.shape[1], dtype=unit.dtype).index_add_(0, number, unit)
    if bool((sums.norm(dim=1) < 1e-9).any()):
        raise FairveilError("The vectors of an identity cancel each other, so that it has no direction: check them.")
    middle = F.normalize(sums)
    own = _degrees((unit * middle[number]).sum(1))
    counts = torch.bincount(number)
    intra = torch.zeros(len(identities), dtype=own.dtype).index_add_(0, number, own) / counts
    inter = torch.empty_like(intra)
    for start in range(0, len(middle), _BLOCK):
        cosines = middle[start : start + _BLOCK] @ middle.T
        cosines.diagonal(start).fill_(-1)
        inter[start : start + _BLOCK] = _degrees(cosines.amax(1))
    return Angles(intra, inter, identities)


def _degrees(cosines: Tensor) -> Tensor:
    return cosines.clamp(-1, 1).arccos().rad2deg()
