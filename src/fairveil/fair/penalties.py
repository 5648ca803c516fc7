"""Fairness as something to add to a loss: how far groups lie apart in a batch (section 6.4).

Each penalty is a function of what a network makes of a batch. The dissertation states them for two groups; with more,
the groups that lie furthest apart count, which for two is the same. Add one to any loss, times a weight α:

    loss = losses.mean() + 1.0 * equal_loss(losses, groups)

All penalties are computed in float32 at least, under autocast too, and share these arguments:

- `groups`: whole numbers (B,), from 0 to G − 1; -1 for samples whose group is unknown, which do not count.
- `group_count`: G. By default one more than the highest number in the batch, or in the batches of all processes that
  compare together.
- by keyword, the options of `fairveil.fair.group_means.Grouping`.

They raise `FairveilError` where shapes do not fit, or where fewer than two groups are in the batch and that is refused.
"""

import warnings
from typing import Unpack

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.fair.group_means import Grouping, group_means, narrowed, widened


def equal_loss(losses: Tensor, groups: Tensor, group_count: int | None = None, **options: Unpack[Grouping]) -> Tensor:
    """|L(a+) − L(a−)|: how far the mean losses of groups lie apart (equation 6.2).

    Args:
        losses: of each sample, (B,), from any loss, margin heads included; or of each of K labels, (B, K).
        groups: see above.
        group_count: see above.
        options: see `Grouping`.

    Returns:
        Scalar; for several labels the mean over them.

    >>> equal_loss(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]))
    tensor(3.)
    """
    means = group_means(losses, groups, group_count, **options)
    return narrowed(means.averaged(means.spread()), losses)


def equalized_odds(
    probabilities: Tensor,
    targets: Tensor,
    groups: Tensor,
    group_count: int | None = None,
    **options: Unpack[Grouping],
) -> Tensor:
    """Fpr + fnr, the gaps of false positives and of false negatives (equations 6.4 to 6.6; Padala and Gujar, 2020).

    As printed, both are taken of all samples of a group, not of its negatives or its positives only:
    fpr = |Σ p(1 − y)a / Σ a − Σ p(1 − y)(1 − a) / Σ(1 − a)|, and fnr is the same of (1 − p)y.

    Args:
        probabilities: p, that a label is present, (B,) or (B, K).
        targets: y, 0 or 1 in any type, of the same shape.
        groups: see above.
        group_count: see above.
        options: see `Grouping`; targets that are not known may be NaN.

    Returns:
        Scalar; for several labels the mean over them.

    Raises:
        FairveilError: targets are classes, or p is no probability.

    >>> equalized_odds(torch.tensor([0.75, 0.25]), torch.tensor([0, 1]), torch.tensor([0, 1]))
    tensor(1.5000)
    """
    known = options.get("known")
    _check_binary(probabilities, targets, known)
    p = widened(probabilities)
    y = targets.to(p.dtype)
    if known is not None:
        y = y.where(known, 0.0)  # an unknown target may be NaN, which gradients would be too
    false_positives = group_means(p * (1 - y), groups, group_count, **options)
    options["absent"] = "skip"  # whoever is absent from the one is absent from the other: one warning will do
    false_negatives = group_means((1 - p) * y, groups, group_count, **options)
    gaps = false_positives.averaged(false_positives.spread()) + false_negatives.averaged(false_negatives.spread())
    return narrowed(gaps, probabilities)


def disparate_impact(
    probabilities: Tensor, groups: Tensor, group_count: int | None = None, **options: Unpack[Grouping]
) -> Tensor:
    """−min(r, 1/r), where r is the ratio of the groups' mean probabilities (equation 6.9; Padala and Gujar, 2020).

    It is −1 where groups are given the label equally often, and 0 at worst.

    Args:
        probabilities: p, that a label is present, (B,) or (B, K).
        groups: see above.
        group_count: see above.
        options: see `Grouping`.

    Returns:
        Scalar; for several labels the mean over them. Zero where nothing is compared and that may be skipped.

    Raises:
        FairveilError: p is no probability.

    >>> disparate_impact(torch.tensor([0.75, 0.25]), torch.tensor([0, 1]))
    tensor(-0.3333)
    """
    _check_binary(probabilities, None, options.get("known"))
    means = group_means(probabilities, groups, group_count, **options)
    lowest, highest = means.lowest().where(means.compared, 0.0), means.highest().where(means.compared, 1.0)
    tiny = torch.finfo(means.means.dtype).tiny  # nobody given the label in any group is no difference
    return narrowed(means.averaged(-(lowest + tiny) / (highest + tiny)), probabilities)


def worst_group_loss(
    losses: Tensor, groups: Tensor, group_count: int | None = None, **options: Unpack[Grouping]
) -> Tensor:
    """max{L(a+), L(a−)}: the mean loss of the group that has the highest in this batch (equation 6.11).

    Of a batch with one group it is that group's. Where nobody of a known group is in the batch, the mean loss of
    everybody in it counts, with a warning, unless `absent` says otherwise.

    Args:
        losses: of each sample, (B,), or of each of K labels, (B, K): then a group's loss is the mean over its labels.
        groups: see above.
        group_count: see above.
        options: see `Grouping`.

    Returns:
        Scalar.

    >>> worst_group_loss(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]))
    tensor(5.)
    """
    given, known = losses, options.pop("known", None)
    if losses.ndim > 1:  # one row for each label of each sample
        groups = groups[:, None].expand_as(losses).flatten()
        groups = groups if known is None else groups.where(known.flatten(), -1)
        losses = (losses if known is None else losses.where(known, 0.0)).flatten()
    means = group_means(losses, groups, group_count, **options)
    if bool(means.present.any()):
        return narrowed(means.highest(), given)
    why = "Nobody in the batch is of a known group, so no group is worst"
    if means.absent == "refuse":
        raise FairveilError(f"{why}: take larger batches.")
    if means.absent == "warn":
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
