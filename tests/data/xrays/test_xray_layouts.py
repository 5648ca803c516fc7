import math
import shutil
import tarfile

import polars as pl
import pytest
import torch
from small_lists import CHEXPERT_HEADER, NIH_HEADER, chexpert, nih, plain, write

from fairveil.base.errors import FairveilError
from fairveil.data.xrays.cells import age_bands, sexes, years
from fairveil.data.xrays.layouts import list_xrays

NAN = math.nan


def _same(labels, expected):
    return torch.equal(labels.nan_to_num(nan=-9), torch.tensor(expected).nan_to_num(nan=-9))


def test_chexpert_is_read_as_published(tmp_path):
    listing = list_xrays(chexpert(tmp_path))
    assert listing.classes == ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
    assert listing.table.name == "CheXpert train"
    assert listing.table.identities == ["patient00001", *["patient00002"] * 3, "patient00003"]
    assert listing.names[0] == "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
    assert listing.table.frame["sex"].to_list() == ["F", "M", "M", None, "M"]
    assert listing.table.frame["age"].to_list() == ["60-79", "<40", "40-59", None, "80+"]
    assert listing.table.frame["view"].to_list() == ["AP", "PA", "lateral", "AP", "AP"]
    assert listing.left_out == {}


UNCERTAIN = {
    "mixed": [0.0, 1.0, 0.0, 1.0, 0.0],
    "zeros": [0.0] * 5,
    "ones": [1.0] * 5,
}


@pytest.mark.parametrize(("uncertain", "second"), UNCERTAIN.items())
def test_uncertain_findings_count_as_asked_and_unmentioned_ones_as_absent(tmp_path, uncertain, second):
    labels = list_xrays(chexpert(tmp_path), uncertain=uncertain).labels
    assert labels.dtype == torch.float32
    assert labels[1].tolist() == second
    assert labels[0].tolist() == [0, 0, 0, 0, 0]
    assert labels[2].tolist() == [1, 1, 0, 0, 1]


def test_a_row_of_nothing_but_ignored_doubt_is_left_out(tmp_path):
    listing = list_xrays(chexpert(tmp_path), uncertain="ignore")
    assert len(listing.labels) == len(listing.names) == len(listing.table) == 4
    assert listing.left_out == {"no finding known": 1}
    assert not any("patient00002/study2/view1" in name for name in listing.names)


def test_other_findings_can_be_asked_for(tmp_path):
    path = chexpert(tmp_path)
    listing = list_xrays(path, findings=["Support Devices", "Fracture"])
    assert listing.classes == ("Support Devices", "Fracture")
    assert listing.labels.tolist() == [[1, 0], [0, 1], [0, 0], [1, 0], [0, 0]]
    with pytest.raises(FairveilError, match=r"has no finding 'Effusion'\. Did you mean Pleural Effusion\?"):
        list_xrays(path, findings=["Effusion"])
    with pytest.raises(FairveilError, match="No finding is asked for"):
        list_xrays(path, findings=[])


def test_views_are_chosen_and_others_counted(tmp_path):
    path = chexpert(tmp_path)
    frontal, lateral = (list_xrays(path, views=views) for views in ("frontal", "lateral"))
    assert (len(frontal.names), frontal.left_out) == (4, {"another view": 1})
    assert (len(lateral.names), lateral.left_out) == (1, {"another view": 4})
    assert lateral.labels.tolist() == [[1, 1, 0, 0, 1]]


def test_chexpert_is_found_from_its_own_folder_its_parent_and_a_renamed_one(tmp_path):
    own = chexpert(tmp_path / "own")
    parent = tmp_path / "parent" / "labels.csv"
    shutil.copytree(own.parent, parent.parent / own.parent.name)
    shutil.copy(own, parent)
    renamed = chexpert(tmp_path / "renamed", folder="small")
    for path in (own, parent, renamed):
        table = list_xrays(path).table
        assert [int(table.photo(row).float().mean().round()) for row in range(5)] == [0, 10, 20, 30, 40]


def test_chestxray14_is_read_as_published(tmp_path):
    listing = list_xrays(nih(tmp_path))
    assert listing.classes == ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Effusion")
    assert listing.labels.tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 1, 0, 0, 0]]
    assert listing.table.identities == ["1", "1", "2", "3"]
    assert listing.names == ("00000001_000.png", "00000001_001.png", "00000002_000.png", "00000003_000.png")
    assert listing.table.frame["sex"].to_list() == ["M", "M", "F", "F"]
    assert listing.table.frame["age"].to_list() == ["40-59", "40-59", None, "<40"]
    assert listing.table.frame["view"].to_list() == ["PA", "AP", "PA", "PA"]
    assert [int(listing.table.photo(row).float().mean()) for row in range(4)] == [0, 10, 20, 30]


def test_chestxray14_has_other_findings_and_sexes_under_either_name(tmp_path):
    path = nih(tmp_path)
    path.write_text(path.read_text().replace("Gender", "Sex"))
    listing = list_xrays(path, findings=["Emphysema", "Hernia"])
    assert listing.labels.tolist() == [[1, 0], [0, 0], [0, 0], [0, 0]]
    assert listing.table.frame["sex"].to_list() == ["M", "M", "F", "F"]
    with pytest.raises(FairveilError, match="Did you mean Effusion"):
        list_xrays(path, findings=["Pleural Effusion"])
    with pytest.raises(FairveilError, match=r"None of the 4 X-rays .* \(another view: 4\)"):
        list_xrays(path, views="lateral")


def test_plain_lists_have_the_usual_findings_they_have_and_unknown_cells(tmp_path):
    listing = list_xrays(plain(tmp_path))
    assert listing.classes == ("Edema", "Effusion")
    assert _same(listing.labels, [[1.0, 0.0], [NAN, 0.0], [0.0, 1.0]])
    assert listing.table.groups == ("sex", "age")
    assert listing.table.frame["sex"].to_list() == ["M", "M", None]
    assert listing.table.frame["age"].to_list() == ["<40", "60-79", None]
    assert listing.table.identities == ["p1", "p1", "p2"]


def test_plain_lists_may_spell_effusion_in_full_and_call_images_files(tmp_path):
    path = plain(tmp_path, "file,patient,Pleural Effusion,Edema,site", "a.png,p1,1,0,north", "b.png,p2,0,,south")
    listing = list_xrays(path, groups=["site"])
    assert listing.classes == ("Edema", "Pleural Effusion")
    assert listing.table.groups == ("site",)
    assert list_xrays(path).table.groups == ()


def test_ages_in_words_stay_words(tmp_path):
    listing = list_xrays(plain(tmp_path, "image,patient,age,Edema", "a.png,p1,young,1", "b.png,p2,80,0"))
    assert listing.table.frame["age"].to_list() == ["young", "80"]


def test_views_of_plain_lists(tmp_path):
    path = plain(
        tmp_path,
        "image,patient,view,Edema",
        *(f"{name}.png,{name},{view},1" for name, view in zip("abcdef", ["PA", "AP Supine", "L", "", "lateral", "?"])),  # noqa: B905
    )
    listing = list_xrays(path, views="frontal", groups=["view"])
    assert listing.names == ("a.png", "b.png")
    assert listing.left_out == {"view not known": 2, "another view": 2}
    assert list_xrays(path, groups=["view"]).table.frame["view"].to_list()[:3] == ["PA", "AP Supine", "lateral"]
    without = plain(tmp_path / "without", "image,patient,Edema", "a.png,p,1")
    with pytest.raises(FairveilError, match="add a column view, or read all views"):
        list_xrays(without, views="frontal")


def test_rows_without_patient_or_finding_are_left_out(tmp_path):
    path = plain(tmp_path, "image,patient,Edema", "a.png,,1", "b.png,p,", "c.png,p,1")
    listing = list_xrays(path)
    assert listing.names == ("c.png",)
    assert listing.left_out == {"no patient": 1, "no finding known": 1}
    with pytest.raises(FairveilError, match=r"None of the 1 X-rays of list is left \(no finding known: 1\)"):
        list_xrays(plain(tmp_path / "none", "image,patient,Edema", "a.png,p,"))


def test_images_may_be_in_an_archive_beside_the_list(tmp_path):
    path = plain(tmp_path)
    with tarfile.open(tmp_path / "list.tar", "w") as archive:
        for name in "abc":
            archive.add(tmp_path / f"{name}.png", f"{name}.png")
            (tmp_path / f"{name}.png").unlink()
    for source in (path, path.with_suffix(".tar")):
        table = list_xrays(source).table
        assert int(table.photo(2).float().mean()) == 20


def test_a_folder_means_the_list_in_it(tmp_path):
    assert list_xrays(chexpert(tmp_path / "c").parent).table.name == "CheXpert train"
    (tmp_path / "c" / "CheXpert-v1.0-small" / "valid.csv").write_text("nothing")
    assert list_xrays(tmp_path / "c" / "CheXpert-v1.0-small").table.name == "CheXpert train"
    path = nih(tmp_path / "n")
    write(path.parent / "BBox_List_2017.csv", "Image Index,x")
    assert list_xrays(path.parent).table.name == "ChestX-ray14"
    assert list_xrays(plain(tmp_path / "p").parent).table.name == "list"
    write(tmp_path / "p" / "other.csv", "image,patient")
    with pytest.raises(FairveilError, match="has 2 CSV files: name the CSV"):
        list_xrays(tmp_path / "p")
    with pytest.raises(FairveilError, match="has no CSV file"):
        list_xrays(tmp_path)


@pytest.mark.parametrize(
    ("header", "line", "sentence"),
    [
        ("image,patient,Edema", "a.png,p,2", r"Row 1 of .*list\.csv has '2' for Edema: give 1 \(present\)"),
        ("image,patient,Edema", "a.png,p,yes", "has 'yes' for Edema"),
        ("image,patient,Edema", "a.png,p,uncertain", "has 'uncertain' for Edema"),
        ("image,patient,Hernia", "a.png,p,1", "has none of the usual findings"),
        ("image,person,Edema", "a.png,p,1", r"is no list of X-rays: .*CheXpert \(.*ChestX-ray14 \(.*or image, patient"),
        (f"{CHEXPERT_HEADER.replace('Edema', 'Oedema')}", "a" + "," * 18, "Did you mean Oedema"),
        (NIH_HEADER, ",Edema,0,1,058Y,M,PA,1,1,1,1,", "Row 1 of ChestX-ray14 names no image"),
        ("image,patient,Edema", "../a.png,p,1", "is not below"),
    ],
)
def test_lists_that_make_no_sense_are_told_of(tmp_path, header, line, sentence):
    with pytest.raises(FairveilError, match=sentence):
        list_xrays(write(tmp_path / "list.csv", header, line))


def test_other_mistakes_are_told_of(tmp_path):
    path = plain(tmp_path)
    with pytest.raises(FairveilError, match="is not there"):
        list_xrays(tmp_path / "none.csv")
    with pytest.raises(FairveilError, match=r"there is no none\.csv with findings"):
        list_xrays(tmp_path / "none.tar")
    with pytest.raises(FairveilError, match="uncertain is 'maybe': choose from mixed, zeros, ones, ignore"):
        list_xrays(path, uncertain="maybe")
    with pytest.raises(FairveilError, match="views is 'side': choose from all, frontal, lateral"):
        list_xrays(path, views="side")
    with pytest.raises(FairveilError, match=r"no groups by 'sexe'\. Did you mean sex\?"):
        list_xrays(path, groups=["sexe"])
    with pytest.raises(FairveilError, match="has no rows"):
        list_xrays(write(tmp_path / "empty.csv", "image,patient,Edema"))
    twice = write(tmp_path / "twice.csv", "image,patient,Edema", "a.png,p,1", "a.png,q,1")
    with pytest.raises(FairveilError, match=r"lists a\.png more than once"):
        list_xrays(twice)


def test_patients_stay_patients_where_a_column_is_called_identity(tmp_path):
    path = plain(tmp_path, "image,patient,identity,Edema", "a.png,p1,x,1", "b.png,p2,x,1")
    assert list_xrays(path).table.identities == ["p1", "p2"]
    with pytest.raises(FairveilError, match="no groups by 'identity'"):
        list_xrays(path, groups=["identity"])


def test_ages_in_all_spellings_and_bands():
    written = pl.Series(["58", "058Y", "58.0", "018M", "003D", "-3", "old", None, "39.9", "40"])
    assert [value and round(value, 2) for value in years(written)][:5] == [58, 58, 58, 1.5, 0.01]
    assert years(written).is_null().to_list()[5:] == [True, True, True, False, False]
    assert age_bands(years(written)).to_list()[-2:] == ["<40", "40-59"]
    assert age_bands(pl.Series([None, None], dtype=pl.Float64)).to_list() == [None, None]
    assert age_bands(pl.Series([0.0, 59.9, 120.0, 121.0])).to_list() == ["<40", "40-59", "80+", None]


def test_sexes_in_all_spellings():
    assert sexes(pl.Series(["male", "F", "Unknown", None, "U", "intersex"])).to_list() == [
        *("M", "F", None, None, None),
        "intersex",
    ]
