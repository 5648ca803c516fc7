"""Intersections and bins, against tables written out."""

import polars as pl
import pytest

from fairveil.base.errors import FairveilError
from fairveil.data.grouping import bins_of, grouped


def test_one_column_of_words_stays_as_it_is():
    frame = pl.DataFrame({"sex": ["F", None], "identity": ["1", "2"]})
    found = grouped([frame], ["sex"])
    assert (found.column, found.notes, found.frames[0].equals(frame)) == ("sex", (), True)


def test_whoever_lacks_one_of_the_groups_is_in_no_intersection():
    frame = pl.DataFrame({"sex": ["F", "F", None], "race": ["a", None, "b"], "identity": ["1", "2", "3"]})
    found = grouped([frame], ["sex", "race", "sex"])
    assert found.frames[0]["sex × race"].to_list() == ["F × a", None, None]
    assert found.notes == ("Groups of sex × race: F × a (1 images of 1 people).",)


def test_numbers_are_put_into_bins_and_a_person_of_many_ages_into_one():
    ages = ["17", "18", "29.5", "44", "45", "70", "16", "40", "41", ""]
    people = ["a", "b", "c", "d", "e", "f", "g", "g", "g", "h"]
    frame = pl.DataFrame({"age": ages, "identity": people})
    found = grouped([frame], ["age"], bins_of(["age=18,30,45,60"]))
    assert found.frames[0]["age"].to_list() == [
        "below 18", "18 to below 30", "18 to below 30", "30 to below 45", "45 to below 60", "60 and above",
        "30 to below 45", "30 to below 45", "30 to below 45", None,
    ]  # fmt: skip


def test_many_numbers_get_bins_that_both_sides_share_and_few_do_not():
    first, second = (pl.DataFrame({"yaw": [*map(float, part)]}) for part in (range(8), range(8, 16)))
    found = grouped([first, second], ["yaw"])
    assert found.bins["yaw"] == (4.0, 8.0, 11.0)
    assert set(found.frames[0]["yaw"]) == {"below 4", "4 to below 8"}
    few = pl.DataFrame({"batch": ["1", "2", "3"]})
    assert grouped([few], ["batch"]).frames[0].equals(few)
    assert grouped([pl.DataFrame({"age": [str(one) for one in range(80)]})], ["age"]).bins["age"] == (18, 30, 45, 60)


@pytest.mark.parametrize(
    ("columns", "bins", "complaint"),
    [
        (["sec"], {}, "no column 'sec' of groups. Did you mean sex"),
        (["sex"], {"sex": [3.0]}, "holds something that is no number"),
        (["sex"], {"age": [3.0]}, "name it as a group"),
    ],
)
def test_what_cannot_be_grouped_is_a_sentence(columns, bins, complaint):
    with pytest.raises(FairveilError, match=complaint):
        grouped([pl.DataFrame({"sex": ["F", "M"]})], columns, bins)


def test_bins_that_are_no_numbers_are_a_sentence():
    with pytest.raises(FairveilError, match="write where they begin"):
        bins_of(["age=young"])
