"""Fairness as something to add to a loss: how far groups lie apart in a batch (section 6.4).

Each penalty is a function of what a network makes of a batch. The dissertation states them for two groups; with more,
the groups that lie furthest apart count, which for two is the same. Add one to any loss, times a weight α:

    loss = losses.mean() + 1.0 * equal_loss(losses, groups, 2)

All are computed in float32 at least, under autocast too, and of the batch of the process that calls them. Where several
processes train together, `across_processes=True` compares groups over the batches of all of them: each has to call it
at the same step.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.fair.group_means import Absent, check_absent, group_means, narrowed, widened


def equal_loss(
    losses: Tensor,
    groups: Tensor,
    group_count: int,
    *,
    known: Tensor | None = None,
    absent: Absent = "warn",
    across_processes: bool = False,
) -> Tensor:
    """|L(a+) − L(a−)|: how far the mean losses of groups lie apart (equation 6.2).

    Args:
        losses: of each sample, (B,), from any loss, margin heads included; or of each of K labels, (B, K).
        groups: int64 (B,), -1 where unknown.
        group_count: G.
        known: bool (B, K), which labels have a loss.
        absent: what to do where fewer than two groups are in the batch; by default its gap is none, with a warning.
        across_processes: whether groups are compared over the batches of all processes; see above.

    Returns:
        Scalar; for several labels the mean over them.

    Raises:
        FairveilError: fewer than two groups are there and that is refused, or shapes do not fit.

    >>> equal_loss(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), 2)
    tensor(3.)
    """
    means = group_means(losses, groups, group_count, known=known, across_processes=across_processes)
    return narrowed(means.gap(absent), losses)


def equalized_odds(
    probabilities: Tensor,
    targets: Tensor,
    groups: Tensor,
    group_count: int,
    *,
    known: Tensor | None = None,
    absent: Absent = "warn",
    across_processes: bool = False,
) -> Tensor:
    """Fpr + fnr, the gaps of false positives and of false negatives (equations 6.4 to 6.6; Padala and Gujar, 2020).

    As printed, both are taken of all samples of a group, not of its negatives or its positives only:
    fpr = |Σ p(1 − y)a / Σ a − Σ p(1 − y)(1 − a) / Σ(1 − a)|, and fnr is the same of (1 − p)y.

    Args:
        probabilities: p, that a label is present, (B,) or (B, K).
        targets: y, 0 or 1, of the same shape.
        groups: int64 (B,), -1 where unknown.
        group_count: G.
        known: bool, of the same shape as the targets: which of them are known.
        absent: what to do where fewer than two groups are in the batch; by default its gap is none, with a warning.
        across_processes: whether groups are compared over the batches of all processes; see above.

    Returns:
        Scalar; for several labels the mean over them.

    Raises:
        FairveilError: targets are classes, fewer than two groups are there and that is refused, or shapes do not fit.

    >>> equalized_odds(torch.tensor([0.75, 0.25]), torch.tensor([0.0, 1.0]), torch.tensor([0, 1]), 2)
    tensor(1.5000)
    """
    _check_binary(probabilities, targets, known)
    if known is not None:
        targets = targets.where(known, 0.0)  # an unknown target may be NaN, which gradients would be too
    p = widened(probabilities)
    about: dict[str, Any] = {"known": known, "across_processes": across_processes}
    false_positives = group_means(p * (1 - targets), groups, group_count, **about)
    false_negatives = group_means((1 - p) * targets, groups, group_count, **about)
    # whoever is absent from the one is absent from the other: one warning will do
    return narrowed(false_positives.gap(absent) + false_negatives.gap("skip"), probabilities)


def disparate_impact(
    probabilities: Tensor,
    groups: Tensor,
    group_count: int,
    *,
    known: Tensor | None = None,
    absent: Absent = "warn",
    across_processes: bool = False,
) -> Tensor:
    """−min(r, 1/r), where r is the ratio of the groups' mean probabilities (equation 6.9; Padala and Gujar, 2020).

    It is −1 where groups are given the label equally often, and 0 at worst.

    Args:
        probabilities: p, that a label is present, (B,) or (B, K).
        groups: int64 (B,), -1 where unknown.
        group_count: G.
        known: bool, of the same shape: which labels count.
        absent: what to do where fewer than two groups are in the batch; by default its gap is none, with a warning.
        across_processes: whether groups are compared over the batches of all processes; see above.

    Returns:
        Scalar; for several labels the mean over them. Zero where nothing is compared and that may be skipped.

    Raises:
        FairveilError: p is no probability, fewer than two groups are there and that is refused, or shapes do not fit.

    >>> disparate_impact(torch.tensor([0.75, 0.25]), torch.tensor([0, 1]), 2)
    tensor(-0.3333)
    """
    _check_binary(probabilities, None, known)
    means = group_means(probabilities, groups, group_count, known=known, across_processes=across_processes)
    compared = means.check(absent)
    lowest, highest = means.lowest().where(compared, 0.0), means.highest().where(compared, 1.0)
    tiny = torch.finfo(means.means.dtype).tiny  # nobody given the label in any group is no difference
    ratios = (lowest + tiny) / (highest + tiny)
    return narrowed(-ratios.where(compared, 0.0).sum() / compared.sum().clamp_min(1), probabilities)


def worst_group_loss(
    losses: Tensor,
    groups: Tensor,
    group_count: int,
    *,
    known: Tensor | None = None,
    absent: Absent = "warn",
    across_processes: bool = False,
) -> Tensor:
    """max{L(a+), L(a−)}: the mean loss of the group that has the highest in this batch (equation 6.11).

    Of a batch with one group it is that group's.

    Args:
        losses: of each sample, (B,), or of each of K labels, (B, K): then a group's loss is the mean over its labels.
        groups: int64 (B,), -1 where unknown.
        group_count: G.
        known: bool (B, K), which labels have a loss.
        absent: what to do where nobody of a known group is in the batch; by default the mean loss of everybody in it
            counts, with a warning.
        across_processes: whether groups are compared over the batches of all processes; see above.

    Returns:
        Scalar.

    Raises:
        FairveilError: nobody of a known group is in the batch and that is refused, or shapes do not fit.

    >>> worst_group_loss(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), 2)
    tensor(5.)
    """
    check_absent(absent)
    given = losses
    if losses.ndim > 1:  # one row for each label of each sample
        groups = groups[:, None].expand_as(losses).flatten()
        groups = groups if known is None else groups.where(known.flatten(), -1)
        losses = (losses if known is None else losses.where(known, 0.0)).flatten()
    means = group_means(losses, groups, group_count, across_processes=across_processes)
    if bool(means.present.any()):
        return narrowed(means.highest(), given)
    why = "Nobody in the batch is of a known group, so no group is worst"
    if absent == "refuse":
        raise FairveilError(f"{why}: take larger batches.")
    if absent == "warn":
        warnings.warn(f"{why}, and the mean loss of everybody counts instead.", stacklevel=2)
    counted = losses.numel() if known is None else int(known.sum())
    return narrowed(widened(losses).sum() / max(counted, 1), given)


def _check_binary(probabilities: Tensor, targets: Tensor | None, known: Tensor | None) -> None:
    outside = (probabilities < 0) | (probabilities > 1)
    if bool((outside if known is None else outside & known).any()):
        raise FairveilError("Probabilities lie outside 0 and 1: give the sigmoid of logits, not logits.")
    if targets is None:
        return
    odd = (targets != 0) & (targets != 1)
    if targets.shape != probabilities.shape or bool((odd if known is None else odd & known).any()):
        raise FairveilError(
            f"Targets of shape {tuple(targets.shape)} are not 0 or 1 for probabilities of shape "
            f"{tuple(probabilities.shape)}: this penalty is for binary and multi-label outputs. For many classes "
            "equal_loss can be used."
        )
