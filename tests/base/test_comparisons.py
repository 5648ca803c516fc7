"""Confidence for many statements at once, against the distributions it is taken from."""

import numpy as np
import pytest
from scipy import stats

from fairveil.base.comparisons import family_confidence, groups_confidence, pairs_confidence


@pytest.mark.parametrize("groups", [2, 3, 8, 16])
def test_the_furthest_apart_of_equal_groups_are_covered_as_often_as_is_said(groups):
    means = np.random.default_rng(0).normal(size=(40_000, groups))
    apart = np.ptp(means, axis=1) / np.sqrt(2)  # in standard errors of a difference
    reach = np.quantile(np.abs(np.random.default_rng(1).normal(size=2_000_000)), pairs_confidence(groups))
    assert np.mean(apart > reach) == pytest.approx(0.05, abs=0.006)


def test_statements_share_what_may_be_wrong():
    assert family_confidence(1) == pytest.approx(0.95)
    assert family_confidence(50) == pytest.approx(0.999)
    assert family_confidence(0) == pytest.approx(0.95)


def test_what_is_said_of_each_of_some_groups_and_of_each_pair_holds_at_once():
    random = np.random.default_rng(0).normal(size=(400_000, 3))
    reach = stats.norm.ppf((1 + groups_confidence(3)) / 2)
    assert np.mean(np.abs(random).max(1) > reach) < 0.051
    assert np.mean(np.ptp(random, axis=1) / 2**0.5 > reach) < 0.05
    assert groups_confidence(2) == 0.95
    assert all(groups_confidence(groups) == pairs_confidence(groups) for groups in range(4, 17))
