"""Data sets in the layouts they are published in, made up here in small."""

import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.data import (
    has_pack,
    open_table,
    read_balancedface,
    read_celeba,
    read_facescrub,
    read_lfw,
    read_pack,
    read_rfw,
    read_umdfaces,
)

DATA = Path(os.environ.get("FAIRVEIL_DATA") or Path(__file__).parents[2].parent / "shared" / "data")


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def celeba(root, *, published):
    anno, evaluation, images = [root / part if published else root for part in ("Anno", "Eval", "Img")]
    write(anno / "identity_CelebA.txt", "000001.jpg 2880\n000002.jpg 2937\n000003.jpg 8692\n")
    write(anno / "list_attr_celeba.txt", "3\nMale Young \n000001.jpg -1  1\n000002.jpg  1 -1\n000003.jpg -1 -1\n")
    write(evaluation / "list_eval_partition.txt", "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    for number in (1, 2, 3):
        photo(images / "img_align_celeba" / f"{number:06}.jpg")
    return root


@pytest.mark.parametrize("published", [True, False])
def test_celeba_is_read_from_its_folders_and_from_one(tmp_path, published):
    root = celeba(tmp_path, published=published)
    for table in (read_celeba(root), open_table(root)):
        assert (table.name, table.groups) == ("CelebA", ("Male", "Young", "gender", "split"))
        assert table.frame.select("identity", "gender", "Male", "Young", "split").rows() == [
            ("2880", "female", "no", "yes", "train"),
            ("2937", "male", "yes", "no", "validation"),
            ("8692", "female", "no", "no", "test"),
        ]
        assert table.photo(2).shape == (3, 6, 8)


def test_who_celeba_gives_no_attributes_has_no_gender(tmp_path):
    root = celeba(tmp_path, published=False)
    write(root / "list_attr_celeba.txt", "1\nMale Young\n000002.jpg  1 -1\n")
    assert read_celeba(root).frame["gender"].to_list() == [None, "male", None]
    assert read_celeba(root).frame["Male"].to_list() == [None, "yes", None]


def celeba_labels(root, genders):
    """CelebA's lists without photos: by person, what each of their photos says of Male."""
    photos = [(person, value) for person, values in genders.items() for value in values]
    names = [f"{number:06}.jpg" for number in range(1, len(photos) + 1)]
    write(root / "identity_CelebA.txt", "".join(f"{n} {p}\n" for n, (p, _) in zip(names, photos, strict=True)))
    rows = "".join(f"{n} {v} 1\n" for n, (_, v) in zip(names, photos, strict=True) if v is not None)
    write(root / "list_attr_celeba.txt", f"{len(photos)}\nMale Young\n{rows}")
    return root


def test_people_whom_celeba_labels_both_ways_are_what_most_of_their_photos_say(tmp_path):
    genders = {"7": [1, 1, -1, None], "8": [-1, -1], "9": [-1, 1], "10": [-1, 1, -1]}
    table = read_celeba(celeba_labels(tmp_path, genders))
    found = {
        person: table.frame.filter(identity=person)["Male"].to_list()
        for person in table.frame["identity"].unique(maintain_order=True)
    }
    assert found == {"7": ["yes", "yes", "yes", None], "8": ["no"] * 2, "9": [None] * 2, "10": ["no"] * 3}
    assert table.frame["gender"].to_list() == [
        *("male", "male", "male", None), *("female", "female"), *(None, None), *("female", "female", "female"),
    ]  # fmt: skip
    assert table.frame["Young"].drop_nulls().unique().to_list() == ["yes"]
    assert table.notes == (
        "3 of the 4 people of CelebA have photos of more than one Male (10, 7, 9). Each of them counts as what most of "
        "their photos say. 1 of them is tied, and of no known Male.",
    )


def test_of_people_labeled_one_way_celeba_has_nothing_to_tell(tmp_path):
    assert read_celeba(celeba(tmp_path, published=False)).notes == ()


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("identity_CelebA.txt", "000001.jpg 1\n\n000002.jpg\n", "Line 3 of .* has 1 columns, not 2"),
        ("identity_CelebA.txt", b"\xff\xfe", "it is not text"),
        ("identity_CelebA.txt", "", "has no rows"),
        ("identity_CelebA.txt", "1.jpg 1\n1.jpg 2\n", "more than once"),
        ("list_attr_celeba.txt", "3\n", "no names of attributes"),
        ("list_attr_celeba.txt", "1\nMale Young\n000001.jpg 1\n", "Line 3 of"),
        ("list_attr_celeba.txt", "1\nMale\n000001.jpg 0\n", "has the value '0' where CelebA has 1 or -1"),
    ],
)
def test_what_is_unlike_celeba_is_a_sentence(tmp_path, file, text, complaint):
    write(celeba(tmp_path, published=False) / file, text)
    with pytest.raises(FairveilError, match=complaint):
        read_celeba(tmp_path)


def test_celeba_without_identities_is_a_sentence(tmp_path):
    with pytest.raises(FairveilError, match=r"identity_CelebA\.txt cannot be read"):
        read_celeba(tmp_path)


@pytest.mark.parametrize("below", ["", "lfw", "lfw-deepfunneled"])
def test_lfw_has_genders_of_its_lists_and_people_by_folder(tmp_path, below):
    for name in ("Ann_Lee/Ann_Lee_0001.jpg", "Bo_Li/Bo_Li_0001.jpg", "Cy/Cy_0001.jpg"):
        photo(tmp_path / below / name)
    write(tmp_path / "female_names.txt", "Ann_Lee_0001.jpg\n")
    write(tmp_path / "male_names.txt", "Bo_Li_0001.jpg\n\n")
    for table in (read_lfw(tmp_path), open_table(tmp_path)):
        assert table.frame.select("identity", "gender").rows() == [
            ("Ann_Lee", "female"),
            ("Bo_Li", "male"),
            ("Cy", None),
        ]
        assert table.photo(0).shape == (3, 6, 8)


@pytest.mark.parametrize("reader", [read_lfw, read_facescrub])
def test_housekeeping_in_published_layouts_is_passed_over_aloud(tmp_path, reader):
    photo(tmp_path / "actors" / "Ann" / "1.jpg")
    photo(tmp_path / "actors" / "Ann" / "@eaDir" / "1.jpg")
    table = reader(tmp_path)
    assert table.identities == ["Ann"]
    assert "1 photos in folders @eaDir are passed over" in table.notes[0]


def test_lfw_without_lists_has_no_groups(tmp_path):
    photo(tmp_path / "Ann_Lee" / "Ann_Lee_0001.jpg")
    assert read_lfw(tmp_path).groups == ()


@pytest.mark.parametrize("below", ["", "face"])
def test_facescrub_has_genders_of_its_lists(tmp_path, below):
    photo(tmp_path / "actors" / "Bo Li" / below / "Bo Li_1.jpg")
    photo(tmp_path / "actresses" / "Ann Lee" / below / "Ann Lee_2.jpg")
    for table in (read_facescrub(tmp_path), open_table(tmp_path)):
        assert table.frame.select("identity", "gender").rows() == [("Bo Li", "male"), ("Ann Lee", "female")]
        assert table.photo(1).shape == (3, 6, 8)


def test_facescrub_in_plain_folders_has_no_groups(tmp_path):
    photo(tmp_path / "Bo_Li" / "1.jpg")
    table = read_facescrub(tmp_path)
    assert (table.identities, table.groups) == (["Bo_Li"], ())


@pytest.mark.parametrize(
    ("whole", "cut"), [("{0}/1.jpg", "{0}/face/1.jpg"), ("images/{0}/{0}_1.jpeg", "faces/{0}/{0}_1_2.jpeg")]
)
def test_a_photo_of_facescrub_and_the_face_cut_from_it_are_not_two_photos(tmp_path, whole, cut):
    for name in ("Bo_Li", "Cy_Ng"):
        photo(tmp_path / "actors" / cut.format(name))
    photo(tmp_path / "actors" / whole.format("Bo_Li"))
    rows = read_facescrub(tmp_path).frame.select("identity", "image").rows()
    assert sorted(rows) == [("Bo_Li", f"actors/{whole.format('Bo_Li')}"), ("Cy_Ng", f"actors/{cut.format('Cy_Ng')}")]


def test_people_of_umdfaces_stay_apart_where_batches_number_them_anew(tmp_path):
    for batch, rows in ((1, "1, cy/cy_1.jpg ,3\n1,cy/cy_1.jpg,9\n"), (2, "1,di/di_1.jpg,3\n")):
        folder = tmp_path / f"umdfaces_batch{batch}"
        write(folder / f"umdfaces_batch{batch}_ultraface.csv", "SUBJECT_ID, FILE, FACE_X\n" + rows)
    photo(tmp_path / "umdfaces_batch2" / "di" / "di_1.jpg")
    for table in (read_umdfaces(tmp_path), open_table(tmp_path)):
        assert table.frame.rows() == [("umdfaces_batch1/cy/cy_1.jpg", "cy"), ("umdfaces_batch2/di/di_1.jpg", "di")]
        assert table.photo(1).shape == (3, 6, 8)


def test_what_is_unlike_umdfaces_is_a_sentence(tmp_path):
    with pytest.raises(FairveilError, match=r"has no umdfaces_batch"):
        read_umdfaces(tmp_path)
    write(tmp_path / "umdfaces_batch1" / "a.csv", "FILE\nx.jpg\n")
    with pytest.raises(FairveilError, match="has no columns SUBJECT_ID and FILE"):
        read_umdfaces(tmp_path)
    write(tmp_path / "umdfaces_batch1" / "a.csv", "")
    with pytest.raises(FairveilError, match="cannot be read as a CSV"):
        read_umdfaces(tmp_path)


def test_a_plain_folder_and_a_csv_are_opened_by_path(tmp_path):
    photo(tmp_path / "Ann" / "1.jpg")
    write(tmp_path / "faces.CSV", "image,identity\nAnn/1.jpg,x\n")
    assert open_table(tmp_path).identities == ["Ann"]
    assert open_table(str(tmp_path / "faces.CSV")).identities == ["x"]
    with pytest.raises(FairveilError, match=r"no data set nothing: name a CSV, a folder, a tar archive, or one of"):
        open_table("nothing")


@pytest.fixture
def packed(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "lfw.tar", "w") as archive:
        for number in range(5):
            photo(tmp_path / "photos" / f"{number}.jpg")
            archive.add(tmp_path / "photos" / f"{number}.jpg", f"{number}.jpg")
    rows = ["0.jpg,a,F,d1,x", "1.jpg,a,F,d1,x", "2.jpg,a,F,,x", "3.jpg,b,M,d1,x", "4.jpg,b,M,,x"]
    write(tmp_path / "lfw.csv", "image,identity,gender,dup_group,split\n" + "\n".join(rows) + "\n")
    monkeypatch.setenv("FAIRVEIL_DATA", str(tmp_path))


def test_an_archive_is_opened_by_path_with_the_labels_beside_it_or_those_of_its_folders(tmp_path):
    for name in ("Ann/1.jpg", "none.jpg", ".hidden/2.jpg", "notes.txt"):
        photo(tmp_path / "made" / name) if name.endswith("jpg") else write(tmp_path / "made" / name, "text")
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        archive.add(tmp_path / "made", "./")
    table = open_table(tmp_path / "faces.tar")
    assert (table.name, table.frame.rows()) == ("faces", [("Ann/1.jpg", "Ann"), ("none.jpg", None)])
    assert table.photo(1).shape == (3, 6, 8)
    write(tmp_path / "faces.csv", "image,identity\nnone.jpg,Bo\n")
    assert open_table(str(tmp_path / "faces.tar")).frame.rows() == [("none.jpg", "Bo")]
    with pytest.raises(FairveilError, match=r"gone\.tar is not there"):
        open_table(tmp_path / "gone.tar")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(FairveilError, match=r"There are no photos in .*empty\.tar"):
        open_table(tmp_path / "empty.tar")


def test_packs_without_a_csv_have_the_labels_that_their_folders_are(tmp_path, monkeypatch):
    photo(tmp_path / "made" / "Ann" / "1.jpg")
    for name in ("lfw10", "photos"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.add(tmp_path / "made", ".")
    monkeypatch.delenv("FAIRVEIL_DATA", raising=False)
    assert not has_pack("lfw10")
    assert has_pack("lfw10", tmp_path)
    assert read_pack("lfw10", tmp_path).identities == ["Ann"]
    bare = read_pack("photos", tmp_path)
    assert (bare.name, bare.frame.rows(), bare.groups) == ("photos", [("Ann/1.jpg",)], ())
    with pytest.raises(FairveilError, match=r"Set FAIRVEIL_DATA to the folder with lfw10\.tar\."):
        read_pack("lfw10")


@pytest.mark.usefixtures("packed")
def test_a_pack_is_found_by_name_and_loses_its_marked_near_duplicates():
    assert has_pack("lfw")
    for table in (read_pack("lfw"), open_table("lfw")):
        assert table.frame.rows() == [
            ("0.jpg", "a", "F"),
            ("2.jpg", "a", "F"),
            ("3.jpg", "b", "M"),
            ("4.jpg", "b", "M"),
        ]
        assert table.groups == ("gender",)
        assert table.photo(3).shape == (3, 6, 8)


def test_a_pack_that_is_not_here_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRVEIL_DATA", str(tmp_path))
    assert not has_pack("lfw")
    with pytest.raises(FairveilError, match="does not hold it"):
        open_table("lfw")
    monkeypatch.delenv("FAIRVEIL_DATA")
    assert not has_pack("lfw")
    with pytest.raises(FairveilError, match="FAIRVEIL_DATA is not set"):
        open_table("lfw")


@pytest.mark.parametrize(
    ("pack", "photos", "people", "groups"),
    [
        ("lfw", 7371, 1680, ("gender",)),
        ("celeb18", 6112, 18, ("gender",)),
        ("lfw10", 100, 10, ()),
        ("photos", 15, 1, ()),  # one unknown
    ],
)
def test_the_packs_are_whole(monkeypatch, pack, photos, people, groups):
    monkeypatch.setenv("FAIRVEIL_DATA", str(DATA))
    if not has_pack(pack):
        pytest.skip(f"The pack {pack} is not in {DATA}: set FAIRVEIL_DATA to its folder")
    table = read_pack(pack)
    assert (len(table), len(set(table.identities)), table.groups) == (photos, people, groups)
    assert table.photo(len(table) - 1).shape[0] == 3


RACES = {"African": "m.01", "Asian": "m.02", "Caucasian": "m.03", "Indian": "m.04"}


@pytest.mark.parametrize(
    ("below", "reader", "name"),
    [
        ("race_per_7000", read_balancedface, "BUPT-Balancedface"),
        ("images/race_per_7000", read_balancedface, "BUPT-Balancedface"),
        ("race_per_7000_112x112", read_balancedface, "BUPT-Balancedface"),
        ("data", read_rfw, "RFW"),
        ("test/data", read_rfw, "RFW"),
        ("images/test_aligned/data", read_rfw, "RFW"),
    ],
)
def test_faces_of_four_races_are_read_with_their_race(tmp_path, below, reader, name):
    for race, person in RACES.items():
        photo(tmp_path / below / race / person / f"{person}_0001.jpg")
        write(tmp_path / "test" / "txts" / race / f"{race}_people.txt", f"{person}\t1\n")
    for table in (reader(tmp_path), open_table(tmp_path)):
        assert (table.name, table.groups, table.notes) == (name, ("race",), ())
        assert table.frame.select("identity", "race").rows() == [(person, race) for race, person in RACES.items()]
        assert table.photo(2).shape == (3, 6, 8)


def test_folders_of_races_by_another_name_are_no_published_data_set(tmp_path):
    for race, person in RACES.items():
        photo(tmp_path / "mine" / race / person / "1.jpg")
    table = open_table(tmp_path / "mine")
    assert (table.name, table.groups) == ("mine", ("race",))


def test_who_is_in_two_folders_of_races_is_told_and_of_the_one_with_more_photos(tmp_path):
    for number in range(3):
        photo(tmp_path / "data" / "African" / "m.01" / f"{number}.jpg")
    photo(tmp_path / "data" / "Indian" / "m.01" / "9.jpg")
    photo(tmp_path / "data" / "Indian" / "m.04" / "1.jpg")
    photo(tmp_path / "data" / "Indian" / "stray.jpg")
    table = read_rfw(tmp_path)
    assert table.frame.select("identity", "race").unique().sort("identity").rows() == [
        ("m.01", "African"), ("m.04", "Indian"),
    ]  # fmt: skip
    voted, passed = table.notes
    assert "1 of the 2 people of RFW has photos of more than one race (m.01)" in voted
    assert passed == "1 photo of RFW is in no folder RACE/PERSON, and passed over."


@pytest.mark.parametrize("reader", [read_balancedface, read_rfw])
def test_what_is_unlike_folders_of_races_is_a_sentence(tmp_path, reader):
    with pytest.raises(FairveilError, match="has no folders African, Asian, Caucasian, Indian"):
        reader(tmp_path)
