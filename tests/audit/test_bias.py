"""Errors by group and gallery, against a search written out, and with answers that are known."""

import itertools
import math

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F

from fairveil.audit.bias import Interplay, Response, Tally, respond, worst_and_best
from fairveil.audit.imbalance import Composition, draw, sweep
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.data.population import Population
from fairveil.faces.vectors import content_order


def people(count, images, *, spread=1.2, dimensions=12, seed=0, apart=4.0):
    """As many people of two groups, equally hard, who are hardly ever taken for somebody of the other group."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.arange(2 * count) % 2
    centers = torch.randn(2 * count, dimensions, generator=generator)
    centers[:, 0] += apart * (2 * group - 1)
    who = torch.arange(2 * count).repeat_interleave(images)
    vectors = centers[who] + spread * torch.randn(len(who), dimensions, generator=generator)
    frame = pl.DataFrame({"identity": who.numpy(), "gender": np.array(["F", "M"])[group[who].numpy()]})
    return F.normalize(vectors, dim=1), Population.of(frame, "gender")


def test_errors_are_those_of_a_search_written_out():
    vectors, population = people(12, 5)
    make_ups = sweep(population, "identities", "M", parts=[2, 5])
    found = respond(vectors, population, make_ups, seeds=3, ranks=(1, 2))
    order = content_order(vectors, population.identity)
    vectors, population = vectors[order], population.take(order)
    for place, make_up in enumerate(make_ups):
        for k, group in itertools.product((1, 2), ("F", "M")):
            errors = probes = own = 0
            for seed in range(3):
                rows = draw(population, make_up, seed=seed).tolist()
                for probe in rows:
                    if population.groups[population.group[probe]] != group:
                        continue
                    others = [row for row in rows if row != probe]
                    order = sorted(others, key=lambda row: -float(vectors[row] @ vectors[probe]))
                    names = [int(population.identity[row]) for row in order[:k]]
                    missed = int(population.identity[probe]) not in names
                    errors, probes = errors + missed, probes + 1
                    own += missed and k == 1 and bool(population.group[order[0]] == population.group[probe])
            rate = found.error(place, group, k)
            assert rate.value == pytest.approx(errors / probes)
            assert rate.count == probes
            if k == 1 and errors:
                assert found.supplied_by_own(place, group).value == pytest.approx(own / errors)


def test_more_people_of_a_group_in_the_gallery_make_its_people_harder_to_find():
    """The field's sanity oracle: two equally hard groups; the share of one from 0.1 to 0.9 raises its error."""
    vectors, population = people(100, 8, spread=1.9)
    found = respond(vectors, population, sweep(population, "identities", "M", parts=[1, 5, 9]), seeds=10)
    men = [found.error(place, "M").value for place in range(3)]
    women = [found.error(place, "F").value for place in range(3)]
    assert men[0] + 0.03 < men[1] < men[2] - 0.02
    assert women[0] - 0.02 > women[1] > women[2] + 0.03
    assert found.supplied_by_own(1, "M").value > 0.9


def test_more_images_of_each_person_make_a_group_easier_to_find_and_the_groups_meet_in_the_middle():
    vectors, population = people(60, 10, spread=1.6, dimensions=40)
    make_ups = sweep(population, "images", "M")
    found = respond(vectors, population, make_ups, seeds=5)
    men = [found.error(place, "M").value for place in range(len(make_ups))]
    assert men == sorted(men, reverse=True)
    assert men[0] > men[-1] + 0.15
    shares = [make_up.images["M"] / sum(make_up.images.values()) for make_up in make_ups]
    point = found.fair_point(shares, ("F", "M"))
    assert point.share.low < 0.5 < point.share.high
    assert point.share.value == pytest.approx(0.5, abs=0.1)
    assert point.certainty > 0.95
    change = found.ratio_change(0, 3, ("M", "F"))
    assert change.low > 1


def test_an_absent_group_has_no_error_and_no_ratio():
    vectors, population = people(20, 4)
    found = respond(vectors, population, sweep(population, "identities", "M", parts=[0, 5]), seeds=2)
    assert found.error(0, "M") is None
    assert found.error_ratio(0, ("F", "M")) is None
    assert found.spread(0, "M") is None
    assert found.ratio_change(0, 1, ("F", "M")) is None


def response_with(gaps):
    """Two people a group; women err as often as men and some more, make-up by make-up: errors of 100 probes."""
    tallies = []
    for gap in gaps:
        errors = np.array([50 + gap, 50 + gap, 50, 50])
        probes = np.full(4, 100)
        by_draw = np.array([[100, 100]]), np.array([[200, 200]])
        make_up = Composition({"F": 2, "M": 2}, {"F": 200, "M": 200})
        tallies.append(Tally(make_up, probes, {1: errors}, errors, np.zeros((2, 2), np.int64), by_draw))
    return Response("gender", ("F", "M"), np.array([0, 0, 1, 1]), 1, tuple(tallies))


@pytest.mark.parametrize(
    ("gaps", "point", "nearest"),
    [((10, -10, -20), 0.3, 0.2), ((5, 0, -5), 0.4, 0.4), ((30, 20, 10), None, 0.6), ((0, 5, 5), None, 0.2)],
)
def test_the_fair_point_lies_where_the_line_between_make_ups_crosses_zero(gaps, point, nearest):
    found = response_with(gaps).fair_point([0.2, 0.4, 0.6], ("F", "M"))
    assert found.share.value == pytest.approx(math.nan if point is None else point, nan_ok=True)
    assert found.nearest == nearest


@pytest.mark.parametrize("gaps", [(30, 20, 10), (10, 20, 30)])
def test_a_fair_point_beyond_the_shares_has_no_ends(gaps):
    found = response_with(gaps).fair_point([0.2, 0.4, 0.6], ("F", "M"))
    assert (found.share.measured, found.share.ends, found.certainty) == (False, (None, None), 0)


@pytest.mark.parametrize(
    ("errors", "more"),
    [
        ([[60] * 40 + [50] * 40] * 3, "F"),
        ([[50] * 40 + [60] * 40] * 3, "M"),
        ([[60] * 40 + [50] * 40] * 2 + [[50] * 80], None),  # equal at one share
        ([[53] * 20 + [50] * 20 + [100] * 20 + [0] * 20] * 3, None),  # by the figures alone
    ],
)
def test_a_group_is_missed_more_at_every_share_only_where_no_interval_of_the_gap_holds_zero(errors, more):
    make_up, probes = Composition({"F": 40, "M": 40}, {"F": 4000, "M": 4000}), np.full(80, 100)
    by_draw = np.array([[1, 1]]), np.array([[1, 1]])
    tallies = [
        Tally(make_up, probes, {1: np.array(some)}, np.array(some), np.zeros((2, 2), np.int64), by_draw)
        for some in errors
    ]
    found = Response("gender", ("F", "M"), np.repeat([0, 1], 40), 1, tuple(tallies))
    assert found.fair_point([0.2, 0.4, 0.6], ("F", "M")).more == more


def test_of_many_groups_a_fair_point_has_the_interval_of_all_pairs():
    random = np.random.default_rng(0)
    errors = [random.binomial(20, 0.5 + shift * np.repeat([1, 0], 30)) for shift in (0.1, 0.0, -0.1)]
    probes, by_draw = np.full(60, 20), (np.ones((1, 2)), np.ones((1, 2)))
    make_up = Composition({"F": 30, "M": 30}, {"F": 600, "M": 600})
    tallies = tuple(Tally(make_up, probes, {1: one}, one, np.zeros((2, 2), np.int64), by_draw) for one in errors)
    two = Response("tone", ("F", "M"), np.repeat([0, 1], 30), 1, tallies)
    many = Response("tone", ("F", "M", *"ABCDEF"), np.repeat([0, 1], 30), 1, tallies)
    narrow, wide = (one.fair_point([0.3, 0.5, 0.7], ("F", "M")) for one in (two, many))
    assert wide.share.value == narrow.share.value
    assert wide.share.low < narrow.share.low
    assert wide.share.high > narrow.share.high


def test_the_change_of_a_ratio_is_that_of_the_ratios():
    found = response_with((25, 0)).ratio_change(0, 1, ("F", "M"))
    assert found.value == pytest.approx(1.5)
    assert found.low <= 1.5 <= found.high  # everybody of a group fares alike, so resamples hardly differ
    assert math.isclose(found.low, found.high, rel_tol=0.01)


def test_a_ratio_that_moves_with_people_has_an_interval_that_covers_the_truth():
    """Errors of people are drawn from beta distributions; the true ratio of ratios is 2."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(60):
        tallies = []
        hard = random.beta(2, 6, 80), random.beta(2, 6, 80)  # mean 0.25, of the same people in both make-ups
        for women in (2.0, 1.0):
            errors = np.concatenate([random.binomial(10, hard[0] * women / 2.2), random.binomial(10, hard[1] / 2.2)])
            make_up = Composition({"F": 80, "M": 80}, {"F": 800, "M": 800})
            by_draw = np.ones((1, 2)), np.ones((1, 2))
            tallies.append(Tally(make_up, np.full(160, 10), {1: errors}, errors, np.zeros((2, 2), np.int64), by_draw))
        found = Response("g", ("F", "M"), np.repeat([0, 1], 80), 1, tuple(tallies)).ratio_change(0, 1, ("F", "M"))
        covered += found.low <= 2 <= found.high
    assert covered >= 51  # of 60: 95 % expected, 85 % at the least


def _runs(*values, reach=1.05, count=3):
    return [tuple(Estimate(value, value / reach, value * reach) for value in values)] * count


def test_interplay_tells_what_pulls_the_same_way():
    assert Interplay.of(_runs(1.6, 3.0, 4.0, 7.0)).verdict == "amplify"
    canceling = Interplay.of(_runs(1.6, 2.0, 1.3, 1.7))
    assert canceling.verdict == "cancel"
    assert canceling.expected == pytest.approx(2.0 * 1.3 / 1.6**2)


def test_nothing_is_said_of_an_interplay_that_may_be_chance():
    assert Interplay.of(_runs(1.6, 3.0, 4.0, 7.0, count=1)).verdict is None  # of other runs nothing is known
    assert Interplay.of(_runs(1.6, 3.0, 1.7, 7.0, reach=1.4)).verdict is None  # other people could turn it round
    unlike = [*_runs(1.6, 0.5, 4.0, 7.0, count=1), *_runs(1.6, 9.0, 4.0, 7.0, count=1)]
    assert Interplay.of(unlike).verdict is None  # runs disagree
    boundless = [(Estimate(1.6), *_runs(3.0, 4.0, 7.0)[0])] * 3
    assert Interplay.of(boundless).verdict is None
    assert Interplay.of(_runs(1.6, 0.0, 4.0, 7.0)) is None


def test_the_groups_furthest_apart_are_set_in_relation():
    rates = {name: Estimate(value, 0, 1) for name, value in {"a": 0.2, "b": 0.5, "c": 0.1}.items()}
    assert worst_and_best(rates) == ("b", "c")


def test_embeddings_and_labels_that_do_not_fit_are_refused():
    vectors, population = people(5, 3)
    with pytest.raises(FairveilError, match="labels of 30"):
        respond(vectors[:-1], population, sweep(population, "identities", "M", parts=[5]))
    vectors[3] = torch.nan
    with pytest.raises(FairveilError, match="zero, infinite or missing"):
        respond(vectors, population, sweep(population, "identities", "M", parts=[0, 10]))


def response_of(errors_by_make_up, probes_by_make_up):
    """Two people a group, with errors and probes of each in every make-up."""
    tallies = []
    for errors, probes in zip(map(np.array, errors_by_make_up), map(np.array, probes_by_make_up), strict=True):
        by_draw = np.ones((1, 2)), np.ones((1, 2))
        make_up = Composition({"F": 2, "M": 2}, {"F": 10, "M": 10})
        tallies.append(Tally(make_up, probes, {1: errors}, errors, np.zeros((2, 2), np.int64), by_draw))
    return Response("gender", ("F", "M"), np.array([0, 0, 1, 1]), 1, tuple(tallies))


def test_where_nobody_errs_there_is_no_fair_point():
    found = response_of([[0, 0, 0, 0]] * 3, [[9, 9, 9, 9]] * 3).fair_point([0.1, 0.5, 0.9], ("F", "M"))
    assert not found.share.measured
    assert found.nearest is None
    assert found.certainty == 0


def test_equal_rates_on_fewer_probes_are_no_change():
    found = response_of([[20, 20, 1, 1], [4, 4, 0.2, 0.2]], [[50, 50, 50, 50], [10, 10, 10, 10]])
    assert found.ratio_change(1, 0, ("F", "M")).value == pytest.approx(1)
    without = response_of([[20, 20, 0, 0], [4, 4, 0, 0]], [[50, 50, 50, 50], [10, 10, 10, 10]])
    assert without.ratio_change(1, 0, ("F", "M")) is None


def test_groups_without_any_errors_are_still_two_groups():
    none = Estimate(0.0, 0, 0.1)
    assert set(worst_and_best({"F": none, "M": none})) == {"F", "M"}
