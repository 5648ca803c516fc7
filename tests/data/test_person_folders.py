"""Whom photos in folders are of."""

import unicodedata

import numpy as np
import polars as pl
import pytest
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable
from fairveil.data.folders import people_of
from fairveil.data.grouping import grouped
from fairveil.data.labels import padding_told, tidy_labels

NESTED = ["anna/frontal/1.jpg", "anna/profile/1.jpg", "ben/frontal/1.jpg"]


@pytest.mark.parametrize("folder", [
    "@eaDir", "__MACOSX", "#recycle", "Thumbnails", "@__thumb", "$RECYCLE.BIN", "_thumb", "RECYCLER", ".git",
    ".ipynb_checkpoints",
])  # fmt: skip
def test_folders_of_housekeeping_are_nobody_and_that_is_said(folder):
    found = people_of(["anna/1.jpg", f"anna/{folder}/1.jpg", f"{folder}/anna/1.jpg"])
    assert found.images == ("anna/1.jpg",)
    assert found.identities == ("anna",)
    assert found.notes == (f"2 photos in folders {folder} are passed over: no person is called so.",)
    assert found.nested is None


def test_folders_in_folders_are_asked_about_and_a_level_answers():
    found = people_of(NESTED)
    assert "--person-folder 1 (2 people, such as anna, ben)" in found.nested
    assert "--person-folder -1 (2 people, such as frontal, profile)" in found.nested
    assert people_of(NESTED, level=1).identities == ("anna", "anna", "ben")
    assert people_of(NESTED, level=1).nested is None
    assert people_of(NESTED, level=-1).identities == ("frontal", "profile", "frontal")
    assert people_of(["a.jpg", "anna/1.jpg"], level=2).identities == (None, "anna")
    with pytest.raises(FairveilError, match="0 names none"):
        people_of(NESTED, level=0)


def test_folders_that_all_photos_share_are_no_question():
    assert people_of(["lfw/anna/1.jpg", "lfw/ben/1.jpg"]).nested is None
    assert "--person-folder 2" in people_of([f"lfw/{image}" for image in NESTED]).nested


def test_names_composed_and_in_parts_are_one_person_and_their_photos_are_found(tmp_path):
    for form, name in (("NFC", "1.png"), ("NFD", "2.png")):
        folder = tmp_path / unicodedata.normalize(form, "Zoë")
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / name)
    table = FaceTable.from_folder(tmp_path)
    assert set(table.identities) == {"Zo\u00eb"}
    labels = tmp_path / "labels.csv"
    pl.DataFrame({"image": [unicodedata.normalize("NFC", f"Zoë/{n}.png") for n in (1, 2)]}).write_csv(labels)
    assert [FaceTable.from_csv(labels).photo(row).shape for row in (0, 1)] == [(3, 8, 8)] * 2


def test_labels_of_all_programs_come_to_the_same_texts():
    assert tidy_labels(pl.Series([1, 2])).to_list() == ["1", "2"]
    assert tidy_labels(pl.Series([1.0, float("nan"), 0.5])).to_list() == ["1", None, "0.5"]
    assert tidy_labels(pl.Series([1e19, 2e19, 3.0])).to_list() == ["1e+19", "2e+19", "3"]
    assert tidy_labels(pl.Series([True, None])).to_list() == tidy_labels(pl.Series(["True", "None"])).to_list()
    nothing = ["None", "null", "NULL", "NA", "N/A", "#N/A", "NaT", "NAN", " "]  # of pandas, R, databases
    assert tidy_labels(pl.Series(nothing)).to_list() == [None] * len(nothing)
    texts = ["1", "1.0", "01", " nan", "NaN", "", "<NA>", "Nan", "v1.0", "Zoe\u0308"]
    expected = ["1", "1", "01", None, None, None, None, "Nan", "v1.0", "Zo\u00eb"]
    assert tidy_labels(pl.Series(texts)).to_list() == expected


def test_zeros_before_numbers_are_told_and_not_taken_off():
    assert padding_told(pl.Series(["01", "2"]), pl.Series(["1", "2"])).startswith("1 names differ only in zeros")
    assert padding_told(pl.Series(["1", "2"]), pl.Series(["2", "1"])) is None
    assert padding_told(pl.Series(["1", "01"]), pl.Series(["1", "01"])) is not None


def test_what_stands_for_nothing_in_a_csv_is_nobody_and_no_group_and_the_index_is_left_out(tmp_path):
    rows = [",image,identity,sex,age", "0,a.png,None,NA,17", "1,b.png,NA,null,N/A", "2,c.png,1.0,F,30"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    table = FaceTable.from_csv(tmp_path / "labels.csv")
    assert table.identities == [None, None, "1"]
    assert table.groups == ("sex", "age")
    assert table.frame["sex"].to_list() == [None, None, "F"]
    binned = grouped([table.frame], ["age"], {"age": [18]})
    assert binned.frames[0]["age"].to_list() == ["below 18", None, "18 and above"]
