"""Rates and their intervals."""

import pytest
import torch

from fairveil.errors import FairveilError
from fairveil.faces.rates import rank_accuracy, rate, wilson


def test_the_interval_resamples_identities_and_not_photos():
    person = torch.arange(40).repeat_interleave(50)
    lucky = (torch.arange(40) % 2 == 0).repeat_interleave(50)
    clustered = rate(lucky, person)
    independent = rate(torch.arange(2000) % 2 == 0, torch.arange(2000))
    assert clustered.value == independent.value == 0.5
    assert clustered.high - clustered.low > 4 * (independent.high - independent.low)
    assert (clustered.probes, clustered.identities) == (2000, 40)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):
        skill = torch.rand(30, generator=generator)
        hits = torch.rand(30, 5, generator=generator) < skill[:, None]
        found = rate(hits.flatten(), torch.arange(30).repeat_interleave(5))
        covered += found.low <= 0.5 <= found.high
    assert 0.87 <= covered / 200 <= 0.99


def test_nobody_found_is_no_certainty():
    found = rate(torch.zeros(80, dtype=torch.bool), torch.arange(8).repeat_interleave(10))
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(wilson(0.0, 8)[1])
    assert 0.2 < found.high < 0.5


def test_rank_accuracy_leaves_out_probes_that_are_not_in_the_gallery():
    rank = torch.tensor([1, 3, 0, 2])
    found = rank_accuracy(rank, 2, torch.tensor([1, 2, 3, 4]))
    assert found.value == pytest.approx(2 / 3)
    assert found.probes == 3
    with pytest.raises(FairveilError, match="no probes"):
        rank_accuracy(torch.zeros(2).long(), 1, torch.tensor([1, 2]))
