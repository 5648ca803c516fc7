"""Our penalties and fairret's, of the same predictions: where they are one quantity, and both in one loss.

With (N, S) membership, fairret's statistic s_g is a ratio of sums within group g, and s that ratio over everybody: the
mean of the s_g weighted by their denominators w_g. For two groups |s_0 − s| = w_1|s_0 − s_1| / (w_0 + w_1) and the
other way round, so that the violations |s_g / s − 1| that `NormLoss` adds up come to |s_0 − s_1| / s. Hence a gap of
ours is fairret's loss times fairret's overall statistic:

- PositiveRate, the mean of p: max − min of our group means is s · NormLoss, so that `disparate_impact` is
  −(1 − s · NormLoss / max). Given losses in place of p, s · NormLoss is `equal_loss` itself.
- FalsePositiveRate and TruePositiveRate are shares of the negatives and of the positives of a group. Ours, as the
  dissertation prints them, are shares of all of the group: fpr_g = (1 − π_g) FPR_g and fnr_g = π_g (1 − TPR_g), where
  π_g is its share of positives. Where π is the same in both groups, `equalized_odds` is therefore
  (1 − π) · |FPR_0 − FPR_1| + π · |TPR_0 − TPR_1|; where it is not, no function of fairret's rates alone.
"""

import pytest
import torch
import torch.nn.functional as F

from fairveil.fair import disparate_impact, equal_loss, equalized_odds

pytest.importorskip("fairret")

from fairret.loss import NormLoss
from fairret.statistic import FalsePositiveRate, PositiveRate, TruePositiveRate

GROUPS = torch.tensor([0] * 8 + [1] * 12)
MEMBERS = F.one_hot(GROUPS, 2).double()
EVEN = torch.tensor([1.0, 0.0, 0.0, 0.0] * 5, dtype=torch.float64)  # π is 1/4 in both groups
UNEVEN = (torch.arange(20) % 3 == 0).double()  # 3 of 8 and 4 of 12


def _logits(seed):
    return torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def _column(values):
    return values[:, None]


def _same_with_gradients(ours, theirs, leaf):
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-10)
    (first,), (second,) = (torch.autograd.grad(value, leaf, retain_graph=True) for value in (ours, theirs))
    assert torch.allclose(first, second, atol=1e-12)
    assert bool((first != 0).any())


@pytest.mark.parametrize("seed", range(4))
def test_equal_loss_is_fairrets_violation_of_the_mean_loss_times_that_mean(seed):
    logits = _logits(seed)
    losses = F.binary_cross_entropy_with_logits(logits, UNEVEN, reduction="none")
    statistic = PositiveRate()
    violation = NormLoss(statistic)(_column(losses), MEMBERS, pred_as_logit=False)
    _same_with_gradients(equal_loss(losses, GROUPS, 2), violation * statistic.overall_statistic(losses), logits)


@pytest.mark.parametrize("seed", range(4))
def test_disparate_impact_is_the_ratio_of_fairrets_positive_rates(seed):
    logits = _logits(seed)
    p, statistic = logits.sigmoid(), PositiveRate()
    rates = statistic(_column(p), MEMBERS)
    ours = disparate_impact(p, GROUPS, 2)
    _same_with_gradients(ours, -rates.min() / rates.max(), logits)
    gap = NormLoss(statistic)(_column(logits), MEMBERS) * statistic.overall_statistic(p)
    _same_with_gradients(ours, gap / rates.max() - 1, logits)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("targets", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_equalized_odds_weighs_fairrets_rates_by_the_shares_of_negatives_and_positives(targets, seed):
    logits = _logits(seed)
    p = logits.sigmoid()
    positives = torch.stack([targets[group == GROUPS].mean() for group in (0, 1)])
    false_positives = (1 - positives) * FalsePositiveRate()(_column(p), MEMBERS, _column(targets))
    false_negatives = positives * (1 - TruePositiveRate()(_column(p), MEMBERS, _column(targets)))
    theirs = false_positives.diff().abs().sum() + false_negatives.diff().abs().sum()
    _same_with_gradients(equalized_odds(p, targets, GROUPS, 2), theirs, logits)


@pytest.mark.parametrize("seed", range(4))
def test_where_groups_have_as_many_positives_equalized_odds_is_a_sum_of_fairrets_losses(seed):
    logits = _logits(seed)
    parts = []
    for statistic, share in ((FalsePositiveRate(), 0.75), (TruePositiveRate(), 0.25)):
        violation = NormLoss(statistic)(_column(logits), MEMBERS, _column(EVEN))
        parts.append(share * violation * statistic.overall_statistic(_column(logits.sigmoid()), _column(EVEN)))
    _same_with_gradients(equalized_odds(logits.sigmoid(), EVEN, GROUPS, 2), parts[0] + parts[1], logits)


def test_where_they_have_not_it_is_another_quantity():
    rates = 0.5 * torch.ones(20, dtype=torch.float64)  # whatever the truth, half is told: odds are equal
    for statistic in (FalsePositiveRate(), TruePositiveRate()):
        assert NormLoss(statistic)(_column(rates), MEMBERS, _column(UNEVEN), pred_as_logit=False) == pytest.approx(0)
    # positives are 9/24 and 8/24, and as printed the gaps are half of that apart, twice
    assert equalized_odds(rates, UNEVEN, GROUPS, 2).item() == pytest.approx(1 / 24)


def test_penalties_of_both_in_one_loss_give_the_sum_of_their_gradients():
    logits = _logits(0)
    losses = F.binary_cross_entropy_with_logits(logits, UNEVEN, reduction="none")
    ours = equal_loss(losses, GROUPS, 2)
    theirs = NormLoss(TruePositiveRate())(_column(logits), MEMBERS, _column(UNEVEN))
    apart = [torch.autograd.grad(part, logits, retain_graph=True)[0] for part in (losses.mean(), ours, theirs)]
    (losses.mean() + ours + theirs).backward()
    assert torch.allclose(logits.grad, sum(apart), atol=1e-12)
    assert all(bool((gradient != 0).any()) for gradient in apart)
