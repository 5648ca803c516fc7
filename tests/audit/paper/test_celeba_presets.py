"""The presets that ask for CelebA, on lists like CelebA's in which some people are labeled both ways."""

import pytest
from typer.testing import CliRunner

from fairveil.base.errors import FairveilError
from fairveil.cli import app
from fairveil.data.face_crops import FaceCrops
from fairveil.experiment.catalogue import studies
from fairveil.experiment.overrides import override
from fairveil.experiment.subjects import table_at_hand

STUDIES = studies()
ON_CELEBA = [
    study.name
    for study in STUDIES.values()
    if getattr(getattr(study.presets["paper"], "subjects", None), "data", "") == "celeba"
]


@pytest.fixture
def celeba(tmp_path, monkeypatch):
    """Lists of 60 people with eight photos each and no photo, of whom three are mixed, one of these tied."""
    rows = {person: [1 if person % 2 else -1] * 8 for person in range(60)}
    rows[7][2] = -1
    rows[12][:3] = [1, 1, 1]
    rows[30][:4] = [1, 1, 1, 1]
    photos = [(person, value) for person, values in rows.items() for value in values]
    folder = tmp_path / "celeba"
    folder.mkdir()
    names = [f"{number:06}.jpg" for number in range(1, len(photos) + 1)]
    people = "".join(f"{name} {person}\n" for name, (person, _) in zip(names, photos, strict=True))
    labels = "".join(f"{name} {value}\n" for name, (_, value) in zip(names, photos, strict=True))
    (folder / "identity_CelebA.txt").write_text(people)
    (folder / "list_attr_celeba.txt").write_text(f"{len(photos)}\nMale\n{labels}")
    monkeypatch.chdir(tmp_path)
    return folder


def small_enough(name):
    """The paper preset with totals that the fixture has."""
    settings = STUDIES[name].presets["paper"]
    smaller = {"identities": None, "images": None, "train_identities": None, "train_images": None, "test_people": 6}
    smaller |= {"test": 0.25, "bystanders": None}
    return settings.model_copy(update={key: value for key, value in smaller.items() if hasattr(settings, key)})


def test_there_are_presets_that_ask_for_celeba():
    assert {"train-identities", "gallery-images", "random-extractors", "fair-recognition"} <= {*ON_CELEBA}


@pytest.mark.parametrize("name", [name for name in ON_CELEBA if "images" not in name])
def test_every_celeba_preset_takes_people_who_are_labeled_both_ways(celeba, name):
    told = list(STUDIES[name].check(small_enough(name)))
    assert len(told) == 1 and "3 of the 60 people of CelebA have photos of more than one Male" in told[0]
    assert "1 of them is tied" in told[0]


@pytest.mark.parametrize("name", ["train-identities", "gallery-identities", "fair-recognition"])
def test_what_the_labels_cannot_give_is_told_before_any_photo_is_opened(celeba, name):
    study = STUDIES[name]
    settings = override(study.presets["paper"], ["subjects.column=Young"])
    with pytest.raises(FairveilError, match="Young"):
        list(study.check(settings))
    (celeba / "list_attr_celeba.txt").write_text("1\nMale\n000001.jpg 1\n")
    with pytest.raises(FairveilError, match=r"has 'yes'|only 'yes'|one value 'yes'"):
        list(study.check(study.presets["paper"]))


def test_what_was_voted_is_among_the_differences_of_a_resolved_study(celeba):
    study = STUDIES["train-identities"]
    (celeba / "img_align_celeba").mkdir()
    for line in (celeba / "identity_CelebA.txt").read_text().splitlines():
        (celeba / "img_align_celeba" / line.split()[0]).write_bytes(b"")
    resolved = study.resolve(small_enough(study.name))
    assert any("more than one Male" in one for one in study.differences(resolved))
    assert "notes" not in study.presets["small"].subjects.model_dump()  # older records stay what they are


def test_labels_without_pictures_are_those_that_crops_would_have(celeba):
    crops = FaceCrops.without_pictures(table_at_hand(STUDIES["train-identities"].presets["paper"].subjects))
    assert (len(crops), len(crops.classes), crops.size) == (480, 60, 1)
    assert {value for value, who in zip(crops.groups["Male"], crops.labels.tolist(), strict=True)
            if crops.classes[who] == "30"} == {None}  # fmt: skip


def test_a_dry_run_of_the_paper_preset_says_what_it_saw_in_the_lists(celeba, monkeypatch):
    ran = []
    monkeypatch.setattr("fairveil.experiment.running.run_study", lambda *_, **how: ran.append(how["dry"]) or [])
    asked = ["study", "run", "train-identities", "--preset", "paper", "--dry-run", "--workers", "1"]
    result = CliRunner().invoke(app, asked, catch_exceptions=False)
    told = " ".join(result.output.split())
    assert (result.exit_code, ran) == (0, [True]), told
    assert "A dry run trains on made-up data, not on celeba." in told
    assert "3 of the 60 people of CelebA have photos of more than one Male (12, 30, 7)." in told
    assert "A real run would stop at the labels of celeba" in told  # 60 people are not 3,967


def test_default_train_set_of_gallery_studies_is_that_of_table_5_1():
    for name in ("gallery-identities", "gallery-images"):
        preset = STUDIES[name].presets["paper"]
        assert (preset.train_identities, preset.train_images, preset.test_people) == (7934, 140_000, 406)
        assert [trial.recognizer for trial in STUDIES[name].trials(preset)] == [
            "MFN CosFace", "MFN ArcFace", "ResNet-152 CosFace", "ResNet-152 ArcFace",
        ]  # fmt: skip
        assert not any("pretrained" in one for one in STUDIES[name].differences(preset))
        small = STUDIES[name].presets["small"].model_dump()
        assert not {"trained", "train_identities", "train_images", "test_people"} & {*small}
