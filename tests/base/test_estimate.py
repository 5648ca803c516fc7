"""What is carried with a figure, and how it is written."""

import json
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairveil.base.estimate import BinomialCount, Estimate, recorded
from fairveil.experiment.study import Measurement

SHARE = Estimate(0.75, 0.5, 1.0, 4, "people", "Wilson", 8)


def test_one_less_a_share_is_the_share_of_the_others_of_the_same_sample():
    assert Estimate(0.25, 0.0, 0.5, 4, "people", "Wilson", 8) == 1 - SHARE
    assert Estimate(-0.75, -1.0, -0.5, 4, "people", "Wilson", 8) == -SHARE
    assert math.copysign(1, (-Estimate(0.0, 0.0, 0.1)).value) == 1  # "-0.0" would be shown with a sign


@pytest.mark.parametrize(
    ("estimate", "number", "excluded"),
    [
        (Estimate(2.0, 1.5, 3.0), 1, True),
        (Estimate(0.5, 0.2, 0.9), 1, True),
        (Estimate(1.2, 0.9, 3.0), 1, False),
        (Estimate(2.0, 1.5), 1, True),  # no upper end
        (Estimate(2.0), 1, False),  # no interval
        (Estimate(math.nan, 1.5), 1, True),  # such as a ratio to zero that is above 1 at the least
        (Estimate(0.3, 0.3, 0.3), 0, False),  # no width
    ],
)
def test_a_figure_is_told_from_a_number_that_its_interval_leaves_out(estimate, number, excluded):
    assert estimate.excludes(number) is excluded


@given(st.integers(1, 50_000), st.data())
def test_counts_come_back_from_their_shares_of_64_and_of_32_bits(trials, data):
    count = BinomialCount(data.draw(st.integers(0, trials)), trials)
    assert BinomialCount.of_share(count.share, trials) == count
    narrow = float(torch.tensor(float(count.successes)) / trials)
    assert BinomialCount.of_share(narrow, trials) == count


def test_a_share_that_no_count_gives_is_refused_and_not_rounded():
    with pytest.raises(ValueError, match="no share of 10 trials"):
        BinomialCount.of_share(0.26, 10)
    with pytest.raises(ValueError, match="not possible"):
        BinomialCount(5, 4)
    assert math.isnan(BinomialCount(0, 0).share)


@dataclass(frozen=True)
class Result:
    name: str
    shares: dict[str, Estimate]
    gap: tuple[str, Estimate] | None


def test_results_are_written_with_null_where_nothing_is_known():
    found = recorded(Result("a", {"F": SHARE, "M": Estimate(math.nan, 0.0)}, ("x", Estimate(0.2, n=3))), n="runs")
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "name": "a",
        "shares": {
            "F": {"value": 0.75, "low": 0.5, "high": 1.0, "probes": 8, "runs": 4},
            "M": {"value": None, "low": 0.0, "high": None},
        },
        "gap": ["x", {"value": 0.2, "low": None, "high": None, "runs": 3}],
    }


def test_a_measurement_keeps_figure_interval_and_count_of_an_estimate():
    kept = Measurement.of({"what": "share"}, SHARE)
    assert kept.model_dump() == {"labels": {"what": "share"}, "value": 0.75, "low": 0.5, "high": 1.0, "count": 8}
    assert kept.estimate == Estimate(0.75, 0.5, 1.0, count=8)
    assert kept.counted == BinomialCount(6, 8)
    boundless = Measurement.of({}, Estimate(2.0, 1.5))
    assert (boundless.low, boundless.high, boundless.estimate) == (1.5, None, Estimate(2.0, 1.5))
