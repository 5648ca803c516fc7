"""Wrong labels for the better-off group: a simple baseline for fairness (section 6.6; Chang et al., 2020)."""

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError


def flip_identities(labels: Tensor, groups: Tensor, group: int, share: float, generator: torch.Generator) -> Tensor:
    """Give a share p of a group's images the identity of somebody else of the group.

    Drawn once before training, so that the wrong labels stay the same. The other groups' labels stay right.

    Args:
        labels: identities, int64 (N,).
        groups: int64 (N,), that of each image's person.
        group: the better-off one.
        share: p, from 0 to 1.
        generator: of the CPU.

    Returns:
        Labels, (N,), of which round(p · n) of the group's n images are others than before.

    Raises:
        FairveilError: the group has one identity only, or p is no share.

    >>> labels, groups = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 0, 1])
    >>> flip_identities(labels, groups, 0, 1.0, torch.Generator()).tolist()
    [1, 1, 0, 2]
    """
    _check_share(share)
    rows = (groups == group).nonzero().flatten()
    people = torch.unique(labels[rows])
    if len(people) < 2:
        raise FairveilError(f"Group {group} has {len(people)} identities, and none to exchange labels with: give two.")
    chosen = rows[torch.randperm(len(rows), generator=generator)[: round(share * len(rows))]]
    own = torch.searchsorted(people, labels[chosen])
    steps = torch.randint(1, len(people), (len(chosen),), generator=generator)  # never all the way round
    return labels.index_put((chosen,), people[(own + steps) % len(people)])


def flip_labels(targets: Tensor, groups: Tensor, group: int, share: float, generator: torch.Generator) -> Tensor:
    """Turn all labels of a share p of a group's samples in a batch around: 1 to 0 and 0 to 1.

    Each sample of the group is drawn with probability p, anew in every batch. (The dissertation takes a whole number of
    them, which for small p needs large batches not to be none.)

    Args:
        targets: 0 or 1, float (B, K) or (B,); NaN, for unknown ones, stays.
        groups: int64 (B,).
        group: the better-off one.
        share: p, from 0 to 1.
        generator: of the targets' device.

    Returns:
        Targets of the same shape.

    Raises:
        FairveilError: p is no share.

    >>> flip_labels(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]), 0, 1.0, torch.Generator())
    tensor([[0., 1.],
            [1., 0.]])
    """
    _check_share(share)
    drawn = torch.rand(len(targets), generator=generator, device=targets.device) < share
    flipped = drawn & (groups == group)
    return torch.where(flipped.view(-1, *[1] * (targets.ndim - 1)), 1 - targets, targets)


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise FairveilError(f"A share of {share:g} of the labels cannot be flipped: give one from 0 to 1.")
