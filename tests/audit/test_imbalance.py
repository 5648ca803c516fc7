"""Sets of any make-up: exactly balanced in totals, seeded, and refused in words where the data cannot give them."""

from fractions import Fraction

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairveil.audit.imbalance import Composition, Shares, draw, largest, sweep
from fairveil.base.errors import FairveilError
from fairveil.data.population import Population


def frame_of(images_of_people):
    """A table of people by group: {"F": [3, 4]} is two women with three and four images."""
    rows = [
        {"image": f"{group}{person}/{image}", "identity": f"{group}{person}", "gender": group}
        for group, people in images_of_people.items()
        for person, images in enumerate(people)
        for image in range(images)
    ]
    return pl.DataFrame(rows)


def population_of(images_of_people):
    return Population.of(frame_of(images_of_people), "gender")


def counted(population, rows):
    """Identities and images of each group among some rows, counted one by one."""
    people, images = {group: set() for group in population.groups}, dict.fromkeys(population.groups, 0)
    for row in rows.tolist():
        group = population.groups[int(population.group[row])]
        people[group].add(int(population.identity[row]))
        images[group] += 1
    return {group: len(some) for group, some in people.items()}, images


PEOPLE = st.lists(st.integers(1, 30), min_size=12, max_size=60)


@given(PEOPLE, PEOPLE, st.sampled_from(["identities", "images"]), st.integers(0, 1000))
def test_every_set_of_a_sweep_has_exactly_its_make_up_and_the_same_totals(women, men, kind, seed):
    population = population_of({"F": women, "M": men})
    try:
        make_ups = sweep(population, kind, "M")
    except FairveilError as error:
        assert "cannot be drawn" in str(error)
        return
    for make_up in make_ups:
        rows = draw(population, make_up, seed=seed)
        identities, images = counted(population, rows)
        assert (identities, images) == (dict(make_up.identities), dict(make_up.images))
        assert len(rows.unique()) == len(rows)
        each = torch.bincount(population.identity[rows])
        assert int(each[each > 0].min()) >= 2
    assert len({sum(make_up.identities.values()) for make_up in make_ups}) == 1
    assert len({sum(make_up.images.values()) for make_up in make_ups}) == 1


def test_the_sizes_of_table_5_4_come_out():
    """406 identities and 7,000 images, from 406 of each group with 7,000 images each."""
    images = [17] * 308 + [18] * 98  # 7,000
    population = population_of({"F": images, "M": images})
    make_ups = sweep(population, "identities", "M", identities=406, images=7000)
    men = [(make_up.identities["M"], make_up.images["M"]) for make_up in make_ups]
    assert men[:6] == [(0, 0), (41, 700), (81, 1400), (122, 2100), (162, 2800), (203, 3500)]
    assert men[-1] == (406, 7000)
    assert counted(population, draw(population, make_ups[2], seed=3))[1] == {"F": 5600, "M": 1400}


def test_the_sizes_of_table_5_5_come_out():
    images = [17] * 308 + [18] * 98
    population = population_of({"F": images, "M": images})
    make_ups = sweep(population, "images", "M", identities=812, images=7000)
    assert [make_up.images["M"] for make_up in make_ups] == [1400, 2100, 2800, 3500, 4200, 4900, 5600]
    assert all(make_up.identities == {"F": 406, "M": 406} for make_up in make_ups)


def test_images_are_taken_equally_of_each_person_as_far_as_they_have_them():
    population = population_of({"F": [2, 9, 9, 9], "M": [5, 5, 5, 5]})
    make_up = Composition({"F": 4, "M": 4}, {"F": 17, "M": 16})
    rows = draw(population, make_up, seed=0)
    of_women = torch.bincount(population.identity[rows][population.group[rows] == 0])
    assert sorted(of_women[of_women > 0].tolist()) == [2, 5, 5, 5]
    of_men = torch.bincount(population.identity[rows][population.group[rows] == 1])
    assert of_men[of_men > 0].tolist() == [4, 4, 4, 4]


def test_draws_depend_on_the_seed_alone_and_rising_shares_hold_each_other():
    population = population_of({"F": [4] * 40, "M": [4] * 40})
    make_ups = sweep(population, "identities", "M")
    assert torch.equal(draw(population, make_ups[4], seed=1), draw(population, make_ups[4], seed=1))
    assert not torch.equal(draw(population, make_ups[4], seed=1), draw(population, make_ups[4], seed=2))

    def men(place):
        rows = draw(population, make_ups[place], seed=1)
        return set(population.identity[rows[population.group[rows] == 1]].tolist())

    assert men(3) < men(4) < men(9)


def test_every_person_is_as_likely_to_be_drawn():
    population = population_of({"F": [3] * 20, "M": [3] * 20})
    make_up = Composition({"F": 5, "M": 5}, {"F": 10, "M": 10})
    often = sum(
        torch.bincount(population.identity[draw(population, make_up, seed=seed)], minlength=40) for seed in range(400)
    )
    assert int(often.min()) > 135  # 200 images expected, standard deviation 17
    assert int(often.max()) < 265


def test_more_than_two_groups_share_the_rest_equally():
    population = population_of({"a": [4] * 30, "b": [4] * 30, "c": [4] * 30})
    make_up = sweep(population, "identities", "a", parts=[4])[0]
    assert make_up.identities["b"] == make_up.identities["c"]
    assert make_up.identities["a"] * 6 == (make_up.identities["b"] + make_up.identities["c"]) * 4


def test_unequal_images_ask_for_people_with_enough_of_them_and_no_more():
    """80 % of the images of half of the people: those of two images cannot take part, those of ten can."""
    population = population_of({"F": [2] * 50 + [10] * 20, "M": [2] * 50 + [10] * 20})
    make_up = sweep(population, "images", "M")[0]
    assert make_up.least > 2
    assert make_up.identities == {"F": 20, "M": 20}


def test_shares_may_be_of_identities_and_images_at_once():
    population = population_of({"F": [6] * 50, "M": [6] * 50})
    shares = Shares({"F": Fraction(1, 4), "M": Fraction(3, 4)}, {"F": Fraction(1, 5), "M": Fraction(4, 5)})
    make_up = largest(population, [shares, Shares.balanced(population.groups)])[0]
    identities, images = counted(population, draw(population, make_up, seed=0))
    assert identities["M"] == 3 * identities["F"]
    assert images["M"] == 4 * images["F"]


def test_labels_lose_their_spaces_and_what_is_empty_is_unknown():
    frame = pl.DataFrame({"identity": ["a ", " a", "b", None, "c"], "gender": ["F", " F", "M ", "M", " "]})
    population = Population.of(frame, "gender")
    assert population.groups == ("F", "M")
    assert population.known.tolist() == [True, True, True, False, False]
    assert int(population.identity[0]) == int(population.identity[1])


WOMEN_AND_MEN = {"F": [3, 4, 1], "M": [5, 5, 5]}


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: Population.of(pl.DataFrame({"gender": ["F", "M"]}), "gender"), "No identities are known"),
        (lambda: Population.of(frame_of(WOMEN_AND_MEN), "gendre"), "Did you mean gender"),
        (lambda: Population.of(frame_of({"F": [2, 2]}), "gender"), "only 'F'"),
        (
            lambda: Population.of(pl.DataFrame({"identity": ["a", "a"], "gender": ["F", "M"]}), "gender"),
            r"a is in several groups of gender \(F, M\)",
        ),
        (lambda: sweep(population_of(WOMEN_AND_MEN), "identities", "X"), "Nobody is 'X'"),
        (lambda: sweep(population_of(WOMEN_AND_MEN), "identities", "M", images=8), "both totals"),
        (lambda: sweep(population_of({"F": [2] * 9, "M": [2] * 9}), "images", "M"), "cannot be drawn"),
        (lambda: Shares.of("people", {"F": 1}), "not in 'people'"),
        (lambda: Shares.of("images", {"F": 0, "M": 0}), "no shares"),
        (
            lambda: draw(population_of(WOMEN_AND_MEN), Composition({"F": 3, "M": 0}, {"F": 6, "M": 0}), seed=0),
            "there are 2",
        ),
        (
            lambda: draw(population_of(WOMEN_AND_MEN), Composition({"F": 2, "M": 0}, {"F": 9, "M": 0}), seed=0),
            "those with most have 7",
        ),
        (
            lambda: draw(population_of(WOMEN_AND_MEN), Composition({"F": 2, "M": 0}, {"F": 3, "M": 0}), seed=0),
            "fewer than 2",
        ),
        (
            lambda: largest(population_of(WOMEN_AND_MEN), [Shares.of("identities", {"F": 1})]),
            "No share is given for 'M'",
        ),
    ],
)
def test_what_cannot_be_is_a_sentence(call, complaint):
    with pytest.raises(FairveilError, match=complaint):
        call()


def test_sets_that_are_proposed_can_be_drawn_however_few_people_there_are():
    """Of six people with four images each, shares of 2:1 came to five images of one person."""
    population = population_of({"F": [4] * 3, "M": [4] * 3})
    for parts in ({"F": 2, "M": 1}, {"F": 1, "M": 3}, {"F": 1, "M": 1}):
        make_up = largest(population, [Shares.of("identities", parts)])[0]
        assert counted(population, draw(population, make_up, seed=0)) == (make_up.identities, make_up.images)
