"""Tables of photos from CSV files, folders and archives."""

import os
import pickle
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable


def photo(path, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 12, 3), value, np.uint8)).save(path)


@pytest.fixture
def people(tmp_path):
    for value, name in enumerate(["ann/1.png", "ann/2.png", "bob/1.png"]):
        photo(tmp_path / "people" / name, value)
    return tmp_path / "people"


@pytest.fixture
def archived(people):
    with tarfile.open(people.parent / "pack.tar", "w") as archive:
        archive.add(people, "./")
    (people.parent / "pack.csv").write_text("image,identity\nann/1.png,ann\n./ann/2.png,ann\nbob/1.png,bob\n")
    return FaceTable.from_csv(people.parent / "pack.csv")


def value_of(table, row):
    return int(table.photo(row)[0, 0, 0])


def test_a_folder_gives_an_identity_to_each_of_its_folders(people):
    table = FaceTable.from_folder(people)
    assert table.frame.rows() == [("ann/1.png", "ann"), ("ann/2.png", "ann"), ("bob/1.png", "bob")]
    assert (table.name, table.root, table.groups, len(table)) == ("people", people, (), 3)
    assert table.photo(1).shape == (3, 9, 12)
    assert table.photo(1).dtype == torch.uint8
    assert value_of(table, 2) == 2


def test_photos_straight_in_a_folder_have_no_identity(people):
    photo(people / "none.png")
    assert FaceTable.from_folder(people).identities == ["ann", "ann", "bob", None]
    bare = FaceTable.from_folder(people / "ann")
    assert bare.frame.columns == ["image"]
    assert bare.identities == [None, None]


def test_rows_are_chosen_by_condition_and_by_number_and_keep_their_photos(people):
    table = FaceTable.from_folder(people)
    assert table.filter(pl.col("identity") == "ann").identities == ["ann", "ann"]
    assert table.filter(pl.Series([False, False, True])).identities == ["bob"]
    taken = table.take([2, 0])
    assert taken.identities == ["bob", "ann"]
    assert [value_of(taken, row) for row in range(2)] == [2, 0]
    assert replace(taken, name="other").name == "other"


def test_a_csv_gives_groups_and_loses_stray_spaces(people):
    (people / "labels.csv").write_text("\ufeffimage, identity,gender\nann/1.png, ann ,F\nbob\\1.png,bob, \n", "utf-8")
    table = FaceTable.from_csv(people / "labels.csv")
    assert table.groups == ("gender",)
    assert table.frame.rows() == [("ann/1.png", "ann", "F"), ("bob/1.png", "bob", None)]


def test_groups_are_chosen_and_columns_renamed(people):
    (people / "labels.csv").write_text("file,age,gender\nann/1.png,30,F\n")
    table = FaceTable.from_csv(people / "labels.csv", rename={"file": "image"}, groups=["gender", "gender"])
    assert table.frame.rows(named=True) == [{"image": "ann/1.png", "gender": "F"}]
    with pytest.raises(FairveilError, match=r"has no column 'nope' to rename; its columns are file, age, gender"):
        FaceTable.from_csv(people / "labels.csv", rename={"nope": "image"})
    with pytest.raises(FairveilError, match="would have two columns 'age'"):
        FaceTable.from_csv(people / "labels.csv", rename={"file": "age"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "cannot be read as a CSV"),
        ("image,identity\na.png,b,c\n", "cannot be read as a CSV"),
        (b"image,identity\na.png,Ren\xe9\n", "cannot be read as a CSV"),
        ("image, image\na.png,b.png\n", "has two columns 'image'"),
        ("photo,identity\na.png,a\n", "has no column 'image'"),
        ("image,identity\n", "has no rows"),
        ("image,identity\n,a\n", "Row 1 of labels names no image"),
        ("image,identity\na.png,a\n../a.png,a\n", "Row 2 of labels names .* not below"),
        ("image,identity\n/a.png,a\n", "not below"),
        ("image,identity\nC:\\a.png,a\n", "not below"),
        ("image,identity\n.,a\n", "not below"),
        ("image,identity\na.png,a\na.png,b\n", "more than once"),
        ("image,identity\na.png,a\n./a.png,b\n", "more than once"),
    ],
)
def test_a_csv_that_makes_no_sense_is_a_sentence(tmp_path, text, complaint):
    (tmp_path / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FairveilError, match=complaint) as raised:
        FaceTable.from_csv(tmp_path / "labels.csv")
    assert "\n" not in str(raised.value)


@given(st.lists(st.sampled_from(["a", "é b", "..", ".", "", "...", ".a", "a..", "C:", "b:c", "\\", "\n"]), min_size=1))
def test_paths_are_those_of_a_slow_check_part_by_part(parts):
    text = "/".join(parts)
    path = PurePosixPath(text.strip().replace("\\", "/"))
    good = path.parts and not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]
    frame = pl.DataFrame({"image": ["plain.png", text]})
    if good:
        assert FaceTable.of(frame, Path("root"), name="made up").frame["image"].to_list() == ["plain.png", str(path)]
    else:
        with pytest.raises(FairveilError, match="Row 2 of made up names"):
            FaceTable.of(frame, Path("root"), name="made up")


def test_a_csv_is_one_file_and_neither_a_folder_of_them_nor_a_pattern(tmp_path):
    (tmp_path / "one.csv").write_text("image\na.png\n")
    with pytest.raises(FairveilError, match="it is a folder"):
        FaceTable.from_csv(tmp_path)
    with pytest.raises(FairveilError, match="is not there"):
        FaceTable.from_csv(tmp_path / "*.csv")


def test_unknown_groups_and_missing_files_are_sentences(people):
    (people / "labels.csv").write_text("image,gender\nann/1.png,F\nnone.png,M\n")
    with pytest.raises(FairveilError, match="Did you mean gender"):
        FaceTable.from_csv(people / "labels.csv", groups=["gendre"])
    with pytest.raises(FairveilError, match=r"none\.png is not there"):
        FaceTable.from_csv(people / "labels.csv").photo(1)
    with pytest.raises(FairveilError, match="is not there"):
        FaceTable.from_folder(people / "nobody")
    (people / "empty").mkdir()
    with pytest.raises(FairveilError, match="There are no photos in"):
        FaceTable.from_folder(people / "empty")


def test_an_archive_is_read_without_unpacking_it(archived, people):
    before = sorted(people.parent.rglob("*"))
    assert archived.root == people.parent / "pack.tar"
    assert [value_of(archived, row) for row in range(3)] == [0, 1, 2]
    assert sorted(people.parent.rglob("*")) == before


def test_an_archive_is_read_by_many_threads_at_once(archived):
    rows = [row for _ in range(50) for row in range(3)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda row: value_of(archived, row), rows)) == rows


def test_a_table_of_an_archive_goes_to_another_process(archived):
    assert value_of(pickle.loads(pickle.dumps(archived)), 2) == 2
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        assert torch.equal(process.submit(archived.photo, 1).result(), archived.photo(1))


def test_an_archive_that_changes_is_read_anew(archived, people):
    assert value_of(archived, 0) == 0
    photo(people / "ann/1.png", 99)
    with tarfile.open(archived.root, "w") as archive:
        archive.add(people / "bob", "bob")
        archive.add(people / "ann", "ann")
    assert value_of(archived, 0) == 99


def test_what_is_wrong_with_an_archive_is_a_sentence_that_names_the_photo(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "bad.png", "bad.png")
    frame = pl.DataFrame({"image": ["bad.png", "none.png"]})
    table = FaceTable.of(frame, tmp_path / "a.tar", name="a")
    with pytest.raises(FairveilError, match=r"a\.tar/bad\.png is not a photo"):
        table.photo(0)
    with pytest.raises(FairveilError, match=r"a\.tar has no member none\.png"):
        table.photo(1)
    with tarfile.open(tmp_path / "b.tar", "w:gz") as archive:
        archive.add(tmp_path / "bad.png", "bad.png")
    with pytest.raises(FairveilError, match="cannot be read as an uncompressed tar archive"):
        FaceTable.of(frame, tmp_path / "b.tar", name="b").photo(0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_real_files_are_found_whatever_their_names(tmp_path):
    names = [" led by a space.png", "12:30.png", "back\\slash.png", " bob /1.png"]
    for value, name in enumerate(sorted(names)):
        photo(tmp_path / name, value)
    table = FaceTable.from_folder(tmp_path)
    assert sorted(table.frame["image"]) == sorted(names) and " bob " in table.identities
    assert {value_of(table, row) for row in range(4)} == set(range(4))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_that_is_not_unicode_is_told(tmp_path):
    photo(tmp_path / "good.png")
    (tmp_path / "good.png").rename(tmp_path / os.fsdecode(b"bad\xff.png"))
    with pytest.raises(FairveilError, match=r"bad.udcff.png' in .* is not Unicode: rename it"):
        FaceTable.from_folder(tmp_path)


def test_a_table_of_more_columns_than_labels_could_be_is_refused_at_once(tmp_path):
    (tmp_path / "wide.csv").write_bytes(b"image" + b"," * 1_000_000)
    with pytest.raises(FairveilError, match="more than 10,000 columns"):
        FaceTable.from_csv(tmp_path / "wide.csv")


@pytest.mark.parametrize("rows", ["1\n" * 4000, "a\n" + "\n" * 20_000], ids=["short", "blank"])
def test_rows_far_shorter_than_the_header_are_refused_at_once(tmp_path, rows):
    header = ",".join(["image", *(f"c{number}" for number in range(9990))])
    (tmp_path / "ragged.csv").write_text(f"{header}\n{rows}")
    with pytest.raises(FairveilError, match="9,991 columns over rows of fewer"):
        FaceTable.from_csv(tmp_path / "ragged.csv")


def test_a_cell_of_many_lines_is_no_reason_to_refuse(tmp_path):
    header = ",".join(["image", *(f"c{number}" for number in range(50))])
    (tmp_path / "notes.csv").write_text(f'{header}\na.jpg,"{"line" * 2}{chr(10) * 3000}"{"," * 49}\n')
    assert len(FaceTable.from_csv(tmp_path / "notes.csv")) == 1


def test_two_columns_without_a_name_are_two_of_one_name(tmp_path):
    (tmp_path / "faces.csv").write_bytes(b"image, ,\na.jpg,b,c\n")
    with pytest.raises(FairveilError, match="two columns ''"):
        FaceTable.from_csv(tmp_path / "faces.csv")


def test_a_complaint_names_the_first_of_many_columns(tmp_path):
    (tmp_path / "faces.csv").write_text(",".join(f"column {number}" for number in range(9000)) + "\n")
    with pytest.raises(FairveilError, match=r"has no column 'image'.* and 8,970 more") as refusal:
        FaceTable.from_csv(tmp_path / "faces.csv")
    assert len(str(refusal.value)) < 1000


def test_a_device_is_no_table():
    with pytest.raises(FairveilError, match="it is not an ordinary file"):
        FaceTable.from_csv(Path("/dev/null"))
