"""How many people it takes, against simulated audits."""

import numpy as np
import pytest
import torch

from fairveil.audit.power import correlation_within, identities_needed, ratio_visible
from fairveil.base.differences import ratio
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.base.rates import rate


def simulated(random, error, people, images, correlation):
    """Errors of people whose images fare alike: a beta-binomial sample with that intraclass correlation."""
    total = 1 / correlation - 1
    return random.binomial(images, random.beta(error * total, (1 - error) * total, people))


def test_so_many_people_show_the_ratio_in_four_of_five_audits():
    random, images, seen, trials = np.random.default_rng(1), 8, 0, 150
    needed = identities_needed(2.0, 0.1, images=images, correlation=0.2)
    who = torch.arange(needed).repeat_interleave(images)
    nth = torch.arange(images).repeat(needed)
    for _ in range(trials):
        rates = [
            rate(nth < torch.from_numpy(simulated(random, error, needed, images, 0.2))[who], who)
            for error in (0.2, 0.1)
        ]
        seen += ratio(*rates).low > 1
    assert 0.7 < seen / trials < 0.9  # 0.8 was asked for; three standard deviations are 0.1


def test_the_correlation_of_simulated_people_is_found_again():
    errors = simulated(np.random.default_rng(0), 0.3, 4000, 6, 0.25)
    assert correlation_within(errors, np.full(4000, 6)) == pytest.approx(0.25, abs=0.03)
    assert correlation_within(np.array([0, 1]), np.array([1, 1])) is None
    assert correlation_within(np.array([0, 0]), np.array([4, 4])) is None


def test_fewer_people_are_needed_for_larger_ratios_more_images_and_more_errors():
    assert identities_needed(3, 0.05) < identities_needed(2, 0.05) < identities_needed(1.2, 0.05)
    assert identities_needed(2, 0.05, images=20) < identities_needed(2, 0.05, images=2)
    assert identities_needed(2, 0.2) < identities_needed(2, 0.02)
    assert identities_needed(2, 0.05, correlation=1, images=20) == identities_needed(2, 0.05, images=1)


def test_what_an_audit_could_have_seen_follows_from_its_interval():
    assert ratio_visible(Estimate(2.0, 0.0, 4.0)) is None
    assert ratio_visible(Estimate(2.0, 1.0)) is None
    narrow, wide = Estimate(1.0, 0.9, 1.1), Estimate(1.0, 0.5, 2.0)
    assert 1 < ratio_visible(narrow) < ratio_visible(wide)


@pytest.mark.parametrize(
    ("numbers", "complaint"),
    [
        ({"ratio": 1.0}, "above 1"),
        ({"error": 0.0}, "nothing to see"),
        ({"error": 0.7}, "nothing to see"),
        ({"images": 0}, "one image or more"),
        ({"correlation": 2}, "correlation is a number"),
        ({"power": 1}, "power is a number"),
        ({"power": 0.02}, "chance alone would do"),
        ({"images": float("nan")}, "one image or more"),
    ],
)
def test_numbers_out_of_range_are_told(numbers, complaint):
    with pytest.raises(FairveilError, match=complaint):
        identities_needed(**({"ratio": 1.5, "error": 0.1} | numbers))
