"""Rates and their intervals."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairveil.base.differences import ratio
from fairveil.base.errors import FairveilError
from fairveil.base.rates import comparable_rates, miss_rate, rank_accuracy, rate, rate_of_people


def test_the_interval_resamples_identities_and_not_photos():
    person = torch.arange(40).repeat_interleave(50)
    lucky = (torch.arange(40) % 2 == 0).repeat_interleave(50)
    clustered = rate(lucky, person)
    independent = rate(torch.arange(2000) % 2 == 0, torch.arange(2000))
    assert clustered.value == independent.value == 0.5
    assert clustered.high - clustered.low > 4 * (independent.high - independent.low)
    assert (clustered.count, clustered.n) == (2000, 40)


@pytest.mark.parametrize(("people", "truth", "alike"), [(6, 0.1, 0.3), (12, 0.5, 0.5), (40, 0.3, 0.1), (6, 0.02, 0.1)])
def test_the_interval_covers_the_truth_at_least_as_often_as_it_says(people, truth, alike):
    skill = stats.beta(truth * (1 - alike) / alike, (1 - truth) * (1 - alike) / alike)
    person = torch.arange(people).repeat_interleave(8)
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        hits = generator.random((people, 8)) < skill.rvs(people, random_state=generator)[:, None]
        found = rate(torch.from_numpy(hits).flatten(), person)
        covered += found.low <= truth <= found.high
    assert covered / 400 >= 0.94


def test_nobody_found_is_no_certainty_and_one_found_is_no_better_bound():
    person = torch.arange(6).repeat_interleave(8)
    none, one = torch.zeros(48, dtype=torch.bool), torch.arange(48) == 0
    assert (rate(none, person).value, rate(none, person).low) == (0.0, 0.0)
    assert 0.2 < rate(none, person).high < 0.5
    assert rate(one, person).high > 0.8 * rate(none, person).high
    assert rate(~none, person).high == 1.0
    assert rate(~none, person).low == pytest.approx(1 - rate(none, person).high)


def literal_miss_rate(mate, other, fpir):
    """The lowest of all similarities above which no more than the asked share of searches find somebody."""
    for threshold in sorted(other):
        if np.mean(other > threshold) <= fpir + 1e-12:
            return threshold, np.mean(mate[mate > -np.inf] <= threshold)
    raise AssertionError


@given(st.integers(0, 10_000), st.integers(5, 60), st.floats(0.02, 0.98))
def test_the_miss_rate_is_that_of_a_literal_search_for_the_threshold(seed, probes, fpir):
    generator = np.random.default_rng(seed)
    mate = np.where(generator.random(probes) < 0.2, -np.inf, generator.random(probes).round(1))
    mate[0], other = 0.5, generator.random(probes).round(1)
    if not 1 <= fpir * probes < probes:
        return
    found = miss_rate(torch.tensor(mate), torch.tensor(other), torch.arange(probes) // 3, fpir)
    threshold, missed = literal_miss_rate(mate, other, fpir)
    assert found.threshold == pytest.approx(threshold)
    assert found.rate.value == pytest.approx(missed)
    assert found.rate.low <= found.rate.value <= found.rate.high


def test_the_interval_of_the_miss_rate_knows_that_the_threshold_was_estimated():
    generator = torch.Generator().manual_seed(0)
    mate, other = torch.rand(300, generator=generator) + 0.3, torch.rand(300, generator=generator)
    person = torch.arange(300) // 3
    found = miss_rate(mate, other, person, 0.02)
    fixed = rate(mate <= found.threshold, person)
    assert found.rate.high - found.rate.low >= fixed.high - fixed.low
    with pytest.raises(FairveilError, match="cannot be let through"):
        miss_rate(mate, other, person, 0.001)
    with pytest.raises(FairveilError, match="none can be missed"):
        miss_rate(torch.full((300,), -torch.inf), other, person, 0.1)


def test_rank_accuracy_leaves_out_probes_that_are_not_in_the_gallery():
    rank = torch.tensor([1, 3, 0, 2])
    found = rank_accuracy(rank, 2, torch.tensor([1, 2, 3, 4]))
    assert found.value == pytest.approx(2 / 3)
    assert found.count == 3
    with pytest.raises(FairveilError, match="no probes"):
        rank_accuracy(torch.zeros(2).long(), 1, torch.tensor([1, 2]))


@pytest.mark.parametrize("groups", [2, 5, 8, 16])
def test_of_many_equal_groups_hardly_any_audit_states_a_difference(groups):
    """At most 5 %, with room for the chance of 150 audits; uncorrected about half of those of eight groups do."""
    random, told = np.random.default_rng(0), 0
    for _ in range(150):
        counts = {
            str(group): (torch.from_numpy(random.binomial(6, random.beta(0.233, 2.1, 60))), torch.full((60,), 6))
            for group in range(groups)
        }
        rates = comparable_rates(counts)
        fewest, *_, most = sorted(rates, key=lambda group: rates[group].value)
        told += ratio(rates[most], rates[fewest]).excludes(1)
    assert told <= 13  # as many or more in one of a hundred tries, if 5 % were true


def test_a_difference_that_is_there_is_still_told_among_eight_groups():
    random, told = np.random.default_rng(0), 0
    for _ in range(20):
        errors = [0.3, *(0.1,) * 7]
        rates = comparable_rates(
            {str(group): (torch.from_numpy(random.binomial(6, random.beta(2.3 * error, 2.3 * (1 - error), 100))),
                          torch.full((100,), 6)) for group, error in enumerate(errors)}
        )  # fmt: skip
        fewest, *_, most = sorted(rates, key=lambda group: rates[group].value)
        told += most == "0" and ratio(rates[most], rates[fewest]).low > 1
    assert told >= 18


def test_of_two_groups_only_the_design_effect_is_shared():
    hits, probes = torch.tensor([3, 0, 1, 0, 2, 0]), torch.full((6,), 6)
    both = comparable_rates({"a": (hits, probes), "b": (hits, probes), "absent": (hits, 0 * probes)})
    assert both.keys() == {"a", "b"}
    assert both["a"] == rate_of_people(hits, probes)
