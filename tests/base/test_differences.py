"""Differences, paired and not, and ratios: against literal formulas and simulated coverage."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairveil.base.differences import difference, discordance, mean_of_runs, paired_fall, ratio
from fairveil.base.estimate import BinomialCount, Estimate
from fairveil.base.rates import rate, wilson


def test_pairs_of_single_pictures_are_counted_as_bonett_and_price_do():
    before, after = [1] * 9 + [0] * 3, [0] * 7 + [1] * 2 + [1] + [0] * 2
    fall = paired_fall([BinomialCount(one, 1) for one in before], [BinomialCount(one, 1) for one in after])
    down, up, count = (7 + 1) / 14, (1 + 1) / 14, 12
    reach = stats.norm.ppf(0.975) * ((down + up - (down - up) ** 2) / (count + 2)) ** 0.5
    assert (fall.value, fall.low, fall.high) == pytest.approx((6 / 12, down - up - reach, down - up + reach))
    assert fall == discordance(7, 1, 12)


def test_many_pictures_of_a_trial_are_one_trial_and_agreement_is_no_certainty():
    fall = paired_fall([BinomialCount(1000, 1000)] * 4, [BinomialCount(600, 1000)] * 4)
    assert fall.value == pytest.approx(0.4) and fall.high - fall.low > 0.2
    assert paired_fall([BinomialCount(50, 100)] * 4, [BinomialCount(50, 100)] * 4).value == 0


@pytest.mark.parametrize("pictures", [1, 200])
def test_intervals_cover_the_true_fall(pictures):
    rng, runs, trials, covered = np.random.default_rng(0), 400, 12, 0
    for _ in range(runs):
        high, low = rng.beta(9, 1, trials), rng.beta(3, 4, trials)  # of each trial: means 0.9 and 3/7
        before, after = (rng.binomial(pictures, share) for share in (high, low))
        fall = paired_fall(
            [BinomialCount(int(one), pictures) for one in before], [BinomialCount(int(one), pictures) for one in after]
        )
        covered += fall.low <= 0.9 - 3 / 7 <= fall.high
    assert covered / runs > 0.92


def test_the_interval_of_a_ratio_covers_the_truth_about_as_often_as_it_says():
    generator, covered = torch.Generator().manual_seed(0), 0
    person = torch.arange(60).repeat_interleave(5)
    for _ in range(300):
        often, seldom = (
            rate(
                (torch.rand(60, 5, generator=generator) < share * 2 * torch.rand(60, 1, generator=generator)).flatten(),
                person,
            )
            for share in (0.2, 0.1)
        )
        found = ratio(often, seldom)
        covered += found.low <= 2 <= found.high
    assert 0.93 <= covered / 300 <= 1


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 200), st.integers(2, 200))
def test_a_ratio_lies_in_its_interval_whatever_the_rates(first, second, few, many):
    rates = [Estimate(share, *wilson(share, trials)) for share, trials in ((first, few), (second, many))]
    found = ratio(*rates)
    assert found.low >= 0
    assert found.high >= found.low
    if found.measured and second > 1e-6:
        assert found.low <= found.value * (1 + 1e-6) + 1e-9
        assert found.value <= found.high * (1 + 1e-6) + 1e-9


def test_the_interval_of_a_mean_of_runs_is_students():
    found = mean_of_runs([0.1, 0.2, 0.6])
    assert (found.value, found.high - found.value) == (pytest.approx(0.3), pytest.approx(4.302653 * 0.2645751 / 3**0.5))
    assert (found.n, found.unit, found.excludes(0)) == (3, "runs", False)
    assert mean_of_runs([1.0, 1.1, 0.9]).excludes(0)


def test_of_too_few_runs_no_interval_is_given():
    two = mean_of_runs([1.0, 2.0])
    assert (two.value, two.bounded, two.excludes(0)) == (1.5, False, False)
    half = stats.t.ppf(0.975, 1) * 0.5
    assert mean_of_runs([1.0, 2.0], least=2).high == pytest.approx(1.5 + half)
    assert not mean_of_runs([]).measured


def test_runs_that_all_gave_the_same_tell_nothing():
    assert not mean_of_runs([0.1, 0.1, 0.1]).excludes(0)


def test_without_an_interval_of_both_a_difference_has_none():
    known, bare = Estimate(0.7, 0.6, 0.8), Estimate(0.4)
    assert difference(known, bare, groups=2) == Estimate(known.value - bare.value)
    assert difference(known, known, groups=2).bounded
