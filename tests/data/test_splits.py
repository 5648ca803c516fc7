"""The draw of probes: the same whatever the order of rows and whoever else is in the table."""

import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable, split_probes
from fairveil.data.splits import draws

COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=6)
SHARES = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**32)


def people(counts):
    rows = [(f"{who}/{number}.png", f"p{who}") for who, count in enumerate(counts) for number in range(count)]
    return FaceTable.of(pl.DataFrame(rows, schema=["image", "identity"], orient="row"), Path("none"), name="people")


def images(table):
    return table.frame["image"].to_list()


@given(COUNTS, SHARES, SEEDS)
def test_everybody_with_two_photos_has_a_probe_and_nobody_has_only_probes(counts, share, seed):
    table = people(counts)
    gallery, probes = split_probes(table, share=share, seed=seed)
    for who, count in enumerate(counts):
        drawn = probes.identities.count(f"p{who}")
        assert drawn == min(max(round(count * share), 1), count - 1) or abs(count * share % 1 - 0.5) < 1e-6
        assert gallery.identities.count(f"p{who}") == count - drawn >= 1
        assert drawn >= 1 or count == 1
    chosen = set(images(probes))
    assert images(probes) == [image for image in images(table) if image in chosen]
    assert images(gallery) == [image for image in images(table) if image not in chosen]


@given(COUNTS, SHARES, SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_change_the_draw(counts, share, seed, chance: random.Random):
    table = people(counts)
    rows = list(range(len(table)))
    chance.shuffle(rows)
    shuffled = split_probes(table.take(rows), share=share, seed=seed)[1]
    assert set(images(shuffled)) == set(images(split_probes(table, share=share, seed=seed)[1]))


@given(COUNTS, SHARES, SEEDS, st.data())
def test_other_people_do_not_change_the_draw(counts, share, seed, data):
    table = people(counts)
    who = f"p{data.draw(st.integers(0, len(counts) - 1))}"
    alone = split_probes(table.filter(pl.col("identity") == who), share=share, seed=seed)[1]
    among = split_probes(table, share=share, seed=seed)[1].filter(pl.col("identity") == who)
    assert images(alone) == images(among)


def test_seeds_draw_differently_and_each_photo_is_drawn_about_equally_often():
    table = people([20])
    times = dict.fromkeys(images(table), 0)
    for seed in range(400):
        for image in images(split_probes(table, share=0.25, seed=seed)[1]):
            times[image] += 1
    # 400 draws of a quarter: 100 each with a standard deviation of 8.7
    assert sum(times.values()) == 400 * 5
    assert all(abs(count - 100) < 5 * 8.7 for count in times.values())


def test_a_draw_is_the_same_on_every_machine():
    # SHA-256 of "7/p0/0/0.png", first 56 bits
    assert draws(people([1]), 7).to_list() == [0xC64CCDAF96A5A1]


def test_unknown_people_stay_in_the_gallery():
    frame = pl.DataFrame({"image": ["a.png", "b.png", "c.png", "d.png"], "identity": [None, None, "x", "x"]})
    gallery, probes = split_probes(FaceTable.of(frame, Path("none"), name="some"))
    assert images(gallery)[:2] == ["a.png", "b.png"]
    assert probes.identities == ["x"]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_of_none_or_all_is_refused(share):
    with pytest.raises(FairveilError, match="lies between 0 and 1"):
        split_probes(people([3]), share=share)


def test_a_table_without_identities_is_refused():
    bare = FaceTable.of(pl.DataFrame({"image": ["a.png"]}), Path("none"), name="bare")
    with pytest.raises(FairveilError, match="bare has no identities"):
        split_probes(bare)
