"""Tables of photos, in the layouts they come in."""

import pickle
import tarfile

import numpy as np
import polars as pl
import pytest
from PIL import Image

from fairveil.data import FaceTable, has_pack, open_table, read_celeba, read_pack, read_umdfaces, split_probes
from fairveil.errors import FairveilError


def photo(path, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 12, 3), value, np.uint8)).save(path)


@pytest.fixture
def people(tmp_path):
    for value, name in enumerate(["ann/1.png", "ann/2.png", "bob/1.png"]):
        photo(tmp_path / "people" / name, value)
    return tmp_path / "people"


def test_a_folder_gives_an_identity_to_each_of_its_folders(people):
    table = open_table(people)
    assert table.frame.rows() == [("ann/1.png", "ann"), ("ann/2.png", "ann"), ("bob/1.png", "bob")]
    assert table.photo(1).shape == (3, 9, 12)
    assert int(table.photo(2)[0, 0, 0]) == 2
    assert table.filter(pl.col("identity") == "ann").identities == ["ann", "ann"]
    assert table.take([2, 0]).identities == ["bob", "ann"]


def test_a_csv_gives_groups_and_loses_stray_spaces(people):
    (people / "labels.csv").write_text("image, identity,gender\nann/1.png, ann ,F\nbob\\1.png,bob, \n")
    table = FaceTable.from_csv(people / "labels.csv")
    assert table.groups == ("gender",)
    assert table.frame.rows() == [("ann/1.png", "ann", "F"), ("bob/1.png", "bob", None)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "cannot be read as a CSV"),
        ("photo,identity\na.png,a\n", "has no column 'image'"),
        ("image,identity\n", "has no rows"),
        ("image,identity\n,a\n", "Row 1 of labels names no image"),
        ("image,identity\n../a.png,a\n", "not below"),
        ("image,identity\n/a.png,a\n", "not below"),
        ("image,identity\na.png,a\na.png,b\n", "more than once"),
    ],
)
def test_a_csv_that_makes_no_sense_is_a_sentence(tmp_path, text, complaint):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(FairveilError, match=complaint):
        FaceTable.from_csv(tmp_path / "labels.csv")


def test_unknown_groups_and_missing_files_are_sentences(people):
    (people / "labels.csv").write_text("image,gender\nann/1.png,F\nnone.png,M\n")
    with pytest.raises(FairveilError, match="Did you mean gender"):
        FaceTable.from_csv(people / "labels.csv", groups=["gendre"])
    with pytest.raises(FairveilError, match=r"none\.png is not there"):
        FaceTable.from_csv(people / "labels.csv").photo(1)
    with pytest.raises(FairveilError, match="There is no data set"):
        open_table("nothing")


def test_photos_are_read_from_an_archive_without_unpacking_it(people, monkeypatch):
    with tarfile.open(people.parent / "pack.tar", "w") as archive:
        archive.add(people / "ann", "ann")
    (people.parent / "pack.csv").write_text("image,identity\nann/1.png,ann\nann/2.png,ann\nann/3.png,ann\n")
    monkeypatch.setenv("FAIRVEIL_DATA", str(people.parent))
    assert has_pack("pack")
    table = pickle.loads(pickle.dumps(read_pack("pack")))
    assert int(table.photo(1)[0, 0, 0]) == 1
    with pytest.raises(FairveilError, match=r"has no member ann/3\.png"):
        table.photo(2)
    with pytest.raises(FairveilError, match="FAIRVEIL_DATA"):
        read_pack("other")


def test_celeba_is_read_in_its_published_layout(tmp_path):
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 2937\n")
    (tmp_path / "list_attr_celeba.txt").write_text("2\nMale Young\n000001.jpg -1  1\n000002.jpg  1 -1\n")
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 2\n")
    for table in (read_celeba(tmp_path), open_table(tmp_path)):
        assert table.frame["image"].to_list() == ["img_align_celeba/000001.jpg", "img_align_celeba/000002.jpg"]
        assert table.frame.select("identity", "gender", "Young", "split").rows() == [
            ("2880", "female", "yes", "train"),
            ("2937", "male", "no", "test"),
        ]
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg\n")
    with pytest.raises(FairveilError, match="Line 1"):
        read_celeba(tmp_path)


def test_lfw_facescrub_and_umdfaces_are_told_apart(tmp_path):
    photo(tmp_path / "lfw" / "Ann_Lee" / "Ann_Lee_0001.jpg")
    (tmp_path / "lfw" / "female_names.txt").write_text("Ann_Lee_0001.jpg\n")
    assert open_table(tmp_path / "lfw").frame.rows() == [("Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee", "female")]
    photo(tmp_path / "scrub" / "actors" / "Bo Li" / "Bo Li_1.jpg")
    assert open_table(tmp_path / "scrub").frame.rows() == [("actors/Bo Li/Bo Li_1.jpg", "Bo Li", "male")]
    batch = tmp_path / "umd" / "umdfaces_batch1"
    batch.mkdir(parents=True)
    (batch / "umdfaces_batch1_ultraface.csv").write_text("SUBJECT_ID,FILE,FACE_X\n4,cy/cy_1.jpg,3\n")
    assert read_umdfaces(tmp_path / "umd").frame.rows() == [("umdfaces_batch1/cy/cy_1.jpg", "4")]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_of_everybodys_photos_are_probes_whatever_the_order_and_the_others(tmp_path, share):
    rows = [(f"{who}/{number}.png", who) for who, count in (("a", 1), ("b", 2), ("c", 20)) for number in range(count)]
    table = FaceTable.of(pl.DataFrame(rows, schema=["image", "identity"], orient="row"), tmp_path, name="t")
    gallery, probes = split_probes(table, share=share)
    assert len(gallery) + len(probes) == len(table)
    assert probes.frame.group_by("identity").len().sort("identity").rows() == [("b", 1), ("c", round(20 * share))]
    shuffled = split_probes(table.take([*range(len(table))][::-1]), share=share)[1]
    alone = split_probes(table.filter(pl.col("identity") == "c"), share=share)[1]
    assert set(shuffled.frame["image"]) == set(probes.frame["image"])
    assert set(alone.frame["image"]) == {image for image in probes.frame["image"] if image.startswith("c/")}
    assert set(split_probes(table, share=share, seed=1)[1].frame["image"]) != set(probes.frame["image"])
