"""Near-duplicates: compared with a search of all pairs, and with what is known of Labeled Faces in the Wild."""

import itertools
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable, drop_near_duplicates, duplicates, near_duplicates, perceptual_hashes

DATA = Path(os.environ.get("FAIRVEIL_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
BITS = duplicates.HASH_SIDE**2


def table_of(identities):
    frame = pl.DataFrame(
        {"image": [f"{row}.png" for row in range(len(identities))], "identity": identities},
        schema={"image": pl.String, "identity": pl.String},
    )
    return FaceTable.of(frame, Path("none"), name="made up")


def slow_groups(hashes, identities, distance, *, across):
    group_of = {row: {row} for row in range(len(hashes))}
    for a, b in itertools.combinations(range(len(hashes)), 2):
        if (across or identities[a] == identities[b]) and int((hashes[a] != hashes[b]).sum()) <= distance:
            joined = group_of[a] | group_of[b]
            for row in joined:
                group_of[row] = joined
    return sorted({tuple(sorted(group)) for group in group_of.values() if len(group) > 1})


def chain(rng, count, step):
    """Hashes that walk away from the first, flipping up to `step` bits at a time."""
    hashes = np.repeat(rng.random((1, BITS)) < 0.5, count, axis=0)
    for row in range(1, count):
        hashes[row] = hashes[row - 1]
        hashes[row, rng.choice(BITS, rng.integers(0, step + 1), replace=False)] ^= True
    return hashes


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 30), st.booleans(), st.sampled_from([3, 7, 2048]))
def test_groups_are_those_of_a_search_of_all_pairs(seed, count, distance, across, block):
    rng = np.random.default_rng(seed)
    hashes = chain(rng, count, 2 * distance + 1)[rng.permutation(count)]
    identities = rng.choice(np.array(["a", "b", None], object), count).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        found = near_duplicates(table_of(identities), distance=distance, across_identities=across, hashes=hashes)
    assert [tuple(group) for group in found] == slow_groups(hashes, identities, distance, across=across)


def test_the_first_of_each_group_stays_and_others_keep_their_order():
    hashes = np.zeros((6, BITS), np.bool_)
    hashes[1, :100] = hashes[4, 50:150] = True
    table = table_of(["b", "b", "a", "b", "b", "a"])
    kept, dropped = drop_near_duplicates(table, hashes=hashes)
    assert (kept.frame["image"].to_list(), dropped) == (["0.png", "1.png", "2.png", "4.png"], 2)
    kept, dropped = drop_near_duplicates(table, hashes=hashes, across_identities=True)
    assert (kept.frame["image"].to_list(), dropped) == (["0.png", "1.png", "4.png"], 3)
    assert len(table) == 6


def test_a_distance_is_reached_and_not_passed():
    hashes = np.zeros((2, BITS), np.bool_)
    hashes[1, :10] = True
    assert near_duplicates(table_of(["a", "a"]), distance=10, hashes=hashes) == [[0, 1]]
    assert near_duplicates(table_of(["a", "a"]), distance=9, hashes=hashes) == []


def test_many_copies_of_one_picture_are_one_group():
    count = 20_000  # 200 million pairs
    assert near_duplicates(table_of(["a"] * count), hashes=np.ones((count, BITS), np.bool_)) == [list(range(count))]


def test_copies_by_size_and_compression_are_found_among_other_pictures(tmp_path, portrait):
    picture = Image.fromarray(portrait)
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.jpg", quality=40)
    picture.resize((200, 200)).save(tmp_path / "c.png")
    Image.fromarray(np.minimum(portrait.astype(int) * 5 // 4, 255).astype(np.uint8)).save(tmp_path / "d.png")
    picture.rotate(90).save(tmp_path / "e.png")
    picture.crop((0, 0, 256, 256)).save(tmp_path / "f.png")
    table = FaceTable.from_folder(tmp_path)
    seen = []
    hashes = perceptual_hashes(table, on_photo=lambda: seen.append(1))
    assert (hashes.shape, hashes.dtype, len(seen)) == ((6, BITS), np.bool_, 6)
    assert near_duplicates(table) == near_duplicates(table, hashes=hashes) == [[0, 1, 2, 3]]
    assert drop_near_duplicates(table)[0].frame["image"].to_list() == ["a.png", "e.png", "f.png"]


@pytest.mark.parametrize("distance", [-1, BITS + 1])
def test_a_distance_that_is_none_is_refused(distance):
    with pytest.raises(FairveilError, match="lies between 0 and 256 bits"):
        near_duplicates(table_of(["a"]), distance=distance)


def test_hashes_of_another_table_are_refused():
    with pytest.raises(FairveilError, match="made up has 2 photos"):
        near_duplicates(table_of(["a", "a"]), hashes=np.zeros((3, BITS), np.bool_))


@pytest.mark.slow
def test_most_known_near_duplicates_of_lfw_are_found_and_little_else():
    if not (DATA / "lfw.csv").is_file() or not (DATA / "lfw.tar").is_file():
        pytest.skip(f"The pack lfw is not in {DATA}: set FAIRVEIL_DATA to its folder")
    table = FaceTable.from_csv(DATA / "lfw.csv")
    groups = table.frame.with_row_index("row").drop_nulls("dup_group").group_by("dup_group").agg("row")
    known = {tuple(rows) for rows in groups["row"].to_list() if len(rows) > 1}
    found = {tuple(group) for group in near_duplicates(table)}
    assert len(known) == 10
    assert len(found & known) >= 8
    assert not found - known
