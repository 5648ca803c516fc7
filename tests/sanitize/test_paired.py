"""Paired differences, against a literal formula and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from fairveil.sanitize.paired import discordance, paired_fall
from fairveil.sanitize.poisoning import Hits


def test_pairs_of_single_pictures_are_counted_as_bonett_and_price_do():
    before, after = [1] * 9 + [0] * 3, [0] * 7 + [1] * 2 + [1] + [0] * 2
    fall = paired_fall([Hits(one, 1) for one in before], [Hits(one, 1) for one in after])
    down, up, count = (7 + 1) / 14, (1 + 1) / 14, 12
    reach = stats.norm.ppf(0.975) * ((down + up - (down - up) ** 2) / (count + 2)) ** 0.5
    assert (fall.value, fall.low, fall.high) == pytest.approx((6 / 12, down - up - reach, down - up + reach))
    assert fall == discordance(7, 1, 12)


def test_many_pictures_of_a_trial_are_one_trial_and_agreement_is_no_certainty():
    fall = paired_fall([Hits(1000, 1000)] * 4, [Hits(600, 1000)] * 4)
    assert fall.value == pytest.approx(0.4) and fall.high - fall.low > 0.2
    assert paired_fall([Hits(50, 100)] * 4, [Hits(50, 100)] * 4).value == 0


@pytest.mark.parametrize("pictures", [1, 200])
def test_intervals_cover_the_true_fall(pictures):
    rng, runs, trials, covered = np.random.default_rng(0), 400, 12, 0
    for _ in range(runs):
        high, low = rng.beta(9, 1, trials), rng.beta(3, 4, trials)  # of each trial: means 0.9 and 3/7
        before, after = (rng.binomial(pictures, share) for share in (high, low))
        fall = paired_fall([Hits(int(one), pictures) for one in before], [Hits(int(one), pictures) for one in after])
        covered += fall.low <= 0.9 - 3 / 7 <= fall.high
    assert covered / runs > 0.92
