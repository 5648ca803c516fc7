"""The studies of chapter 3, at their smallest, with real recognizers and generated faces."""

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.base.executors import executor
from fairveil.data import FaceTable, open_table
from fairveil.experiment.catalogue import studies
from fairveil.experiment.overrides import override
from fairveil.experiment.presentation import settings_of
from fairveil.experiment.records import RecordStore
from fairveil.experiment.running import results_of, run_of, run_study
from fairveil.experiment.study import Measurement
from fairveil.experiment.workbench import Workbench
from fairveil.faces.zoo import ZOO
from fairveil.images import as_image
from fairveil.protection.lowkey import LowKey
from fairveil.protection.paper import people as people_module
from fairveil.protection.paper import protected as protected_module
from fairveil.protection.paper import variations
from fairveil.protection.paper.adapted import undo
from fairveil.protection.paper.alterations import ALTERATIONS
from fairveil.protection.paper.defenders import find_defender
from fairveil.protection.paper.people import People, cast
from fairveil.protection.paper.protected import GalleryAttack
from fairveil.protection.paper.rows import Row, run_row
from fairveil.protection.paper.setting import tiny
from fairveil.report.rendering import to_csv, to_markdown

ALL = [name for name in studies() if name.startswith("lowkey-")]
CHAPTER_3 = [name for name in ALL if name not in ("lowkey-runtime", "lowkey-detection", "lowkey-handling")]
"""Studies whose trials are rows: protected photos that defenders look for."""


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory):
    return RecordStore(tmp_path_factory.mktemp("studies"))


@pytest.fixture
def models(needs_models):
    needs_models("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet", "lpips-alexnet", "lpips-vgg16", "mobilefacenet-192")
    needs_models("mobileface.json", "mobileface.bin", "faceres.json", "faceres.bin", "mobilefacenet-512")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CHAPTER_3)
def test_the_smoke_run_fills_every_table(name, shared_store, models):
    study = studies()[name]
    settings = study.presets["smoke"]
    with executor() as where:
        records = run_study(study, settings, shared_store, where, preset="smoke")
    assert [record.failure for record in records] == [None] * len(records)
    found = results_of(study, settings, shared_store)
    tables = study.tables(settings, found)
    ours = next(table for table in tables if "rank-1 accuracy, ours" in table.title)
    assert len(ours.rows) == len(records)
    assert all(
        0 <= one.low <= one.value <= one.high <= 1 for _, row in ours.rows for one in [cell.estimate for cell in row]
    )
    assert to_markdown(ours)
    assert to_csv(tables)
    assert all(figure.svg.lstrip().startswith("<") for figure in study.figures(settings, found))
    assert study.differences(settings)


@pytest.mark.slow
def test_the_runtime_study_says_how_long_each_method_takes_and_what_it_achieves(shared_store, models):
    study = studies()["lowkey-runtime"]
    settings = study.presets["smoke"]
    with executor() as where:
        records = run_study(study, settings, shared_store, where, preset="smoke")
    assert [record.failure for record in records] == [None] * 8
    ours, published = study.tables(settings, results_of(study, settings, shared_store))
    assert [name for name, _ in ours.rows] == list(settings.methods)
    assert all(cell.measured for _, cells in ours.rows for cell in cells)
    assert "3.6.3" in published.title


@pytest.mark.parametrize("name", CHAPTER_3)
@pytest.mark.parametrize("preset", ["smoke", "small", "paper"])
def test_presets_give_distinct_trials_that_other_processes_can_take(name, preset):
    study = studies()[name]
    trials = study.trials(study.presets[preset])
    assert len({trial.label for trial in trials}) == len(trials) > 1
    assert len({study.key(trial) for trial in trials}) == len(trials)
    again = pickle.loads(pickle.dumps(study))
    assert [again.key(trial) for trial in pickle.loads(pickle.dumps(trials))] == [study.key(t) for t in trials]
    known = {
        name for trial in trials for name in (*trial.defenders, *(trial.attack.recognizers if trial.attack else ()))
    }
    assert known <= set(ZOO)
    assert {a for trial in trials for a in (trial.saved, trial.preprocessing, trial.probes)} <= set(ALTERATIONS)


@pytest.mark.parametrize("name", CHAPTER_3)
def test_the_rehearsal_of_the_published_setting_has_its_rows_and_one_step(name):
    study = studies()[name]
    settings = study.presets["paper"]
    rehearsed = study.trials(study.rehearsal(settings))
    assert [trial.label for trial in rehearsed] == [trial.label for trial in study.trials(settings)]
    assert {trial.attack.settings.steps for trial in rehearsed if trial.attack} == {1}


def test_the_cast_is_the_same_for_the_same_seed_and_nobody_plays_two_parts():
    people = People(data="synthetic", protected=3, gallery_photos=2, probe_photos=2, strangers=5, photos_of_stranger=2)
    chosen = cast(people)
    assert (len(chosen.protected), len(chosen.probes), len(chosen.strangers)) == (6, 6, 10)
    images = [image for table in (chosen.protected, chosen.probes, chosen.strangers) for image in table.frame["image"]]
    assert len(set(images)) == len(images)
    assert set(chosen.protected.identities) == set(chosen.probes.identities)
    assert not set(chosen.protected.identities) & set(chosen.strangers.identities)
    cast.cache_clear()
    assert cast(people).probes.frame.equals(chosen.probes.frame)


def test_a_tenth_of_each_identity_are_probes_where_nothing_else_is_said():
    people = People(data="synthetic", protected=2, gallery_photos=None, probe_photos=None, strangers=2)
    chosen = cast(people)
    assert len(chosen.probes) == 2
    assert len(chosen.protected) >= 2
    one_each = cast(people.model_copy(update={"gallery_photos": 1}))
    assert len(one_each.protected) == 2  # a tenth as probes leaves more, and one of each is asked for


def test_alterations_keep_size_and_type_and_change_the_photo():
    photo = torch.randint(0, 256, (3, 40, 52), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for name, alter in ALTERATIONS.items():
        altered = alter(photo)
        assert altered.shape == photo.shape
        assert altered.dtype == torch.uint8
        assert torch.equal(altered, photo) == (name == "none")


def test_an_adapted_defender_brings_back_what_it_learned_and_leaves_clean_faces_alone():
    generator = torch.Generator().manual_seed(0)
    clean = torch.nn.functional.normalize(torch.randn(300, 16, generator=generator), dim=1)
    shift = torch.nn.functional.normalize(torch.randn(1, 16, generator=generator), dim=1)
    protected = torch.nn.functional.normalize(-0.4 * clean + shift, dim=1)
    back = undo(clean[:250], protected[:250])
    before = (protected[250:] * clean[250:]).sum(1).mean()
    after = (back(protected[250:]) * clean[250:]).sum(1).mean()
    assert after > before + 0.2
    assert (back(clean[250:]) * clean[250:]).sum(1).mean() > 0.6


def test_rows_are_told_apart_by_everything_their_result_depends_on():
    row = Row(name="a", people=tiny(), attack=None, defenders=("mobileface",))
    attack = protected_module.GalleryAttack(recognizers=("faceres",), settings=LowKey())
    others = {
        "name": "b",
        "people": tiny().model_copy(update={"content": "another"}),
        "attack": attack,
        "saved": "JPEG 90",
        "preprocessing": "JPEG 90",
        "probes": "JPEG 90",
        "probes_protected": True,
        "gallery_protected": False,
        "old_photos": 1,
        "adapted_on": 1,
        "retrained_on": 1,
        "gallery_photos": 1,
        "purified_on": 1,
        "aligner": "box",
        "defenders": ("faceres",),
    }
    assert others.keys() == Row.model_fields.keys()
    rows = [row, *(row.model_copy(update={name: value}) for name, value in others.items())]
    rows.append(row.model_copy(update={"attack": attack.model_copy(update={"seed": 1})}))
    assert len({studies()["lowkey-transfer"].key(one) for one in rows}) == len(rows)


def test_records_from_before_a_setting_came_stay_valid():
    people = {"data": "lfw", "faces": "central", "protected": 6, "gallery_photos": 12, "probe_photos": 8}
    people |= {"strangers": None, "photos_of_stranger": 3, "synthetic_size": 160, "seed": 0}
    assert People().model_dump(mode="json") == people
    row = Row(name="Clean", people=People(), attack=None, defenders=("mobileface",))
    assert row.model_dump(mode="json").keys() == {
        "name", "people", "attack", "saved", "preprocessing", "probes", "probes_protected", "adapted_on", "defenders"
    }  # fmt: skip
    other = Row(name="Clean", people=People(drop_duplicates=True), attack=None, defenders=(), gallery_photos=3)
    assert Row.model_validate_json(other.model_dump_json()) == other


def test_whoever_has_many_photos_is_not_chosen_more_often():
    rows = [(f"{name}/{number}", name) for name in map(str, range(40)) for number in range(50 if int(name) < 10 else 1)]
    frame = pl.DataFrame(rows, schema=["image", "identity"], orient="row")
    table = FaceTable.of(frame, Path("/"), name="many and few")
    first = [int(people_module._shuffled(table, seed)["identity"][0]) < 10 for seed in range(120)]
    assert 0.12 < sum(first) / len(first) < 0.38  # a quarter has many, nine tenths of the photos


def test_a_photo_that_changed_under_its_path_is_protected_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(protected_module, "fingerprint", str)
    monkeypatch.setattr(protected_module, "load_recognizer", str)
    monkeypatch.setattr(
        protected_module, "_protect", lambda path, *, table, row, **_: as_image(table.photo(row)).save(path, "PNG")
    )
    attack = protected_module.GalleryAttack(recognizers=("a",), settings=LowKey())
    (tmp_path / "ann").mkdir()
    seen = []
    for level in (10, 240):
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "ann" / "1.png")
        photos = protected_module.protected_photos(
            open_table(str(tmp_path)), attack, "aligned", Workbench(tmp_path / "cache")
        )
        seen.append(int(photos.photo(0).max()))
    assert seen == [10, 240]


def test_plots_join_rows_that_differ_in_strength_only():
    study = studies()["lowkey-frontier"]
    settings = study.presets["small"]
    costs = {trial: 0.01 * number for number, trial in enumerate(study.trials(settings), start=1)}
    results = {
        trial: [
            Measurement(labels={"cost": "LPIPS (VGG)"}, value=cost),
            *(
                Measurement(labels={"defender": name, "metric": "rank-50", "group": "all"}, value=1 - cost)
                for name in settings.defenders
            ),
        ]
        for trial, cost in costs.items()
    }
    captions = [figure.caption.split(":")[0] for figure in study.figures(settings, results)]
    assert captions == [name for name in settings.defenders if name in captions]
    left_out = {"dlib-resnet", "faceres", "faceres-deep", "mobilefacenet-512", "mobilefacenet-192", "mobileface"}
    left_out |= {"facenet-512"}
    assert set(captions) == left_out  # each family is left out of the attack by some rows
    families = ("dlib", "FaceRes", "MobileFaceNet")
    ours = [f"{name}, without {family}" for family in families for name in ("low", "medium", "high")]
    assert _joined(study.trials(settings)) == ours
    fawkes = [f"Fawkes, {name}, without {family}" for family in families for name in ("mid", "high")]
    assert _joined(study.trials(study.presets["paper"]))[-len(fawkes) :] == fawkes


def _joined(rows):
    """The names of rows that are joined with others by a line."""
    lines = [variations._but_for_strength(row) for row in rows]
    return [row.name for row, line in zip(rows, lines, strict=True) if lines.count(line) > 1]


def test_a_defender_is_left_out_only_where_none_of_its_family_was_attacked():
    study = studies()["lowkey-frontier"]
    for trial in study.trials(study.presets["small"]):
        if trial.attack and "without FaceRes" in trial.name:
            assert not {"faceres", "faceres-deep"} & set(trial.attack.recognizers)


def test_older_photos_stay_in_the_gallery_as_they_were(tmp_path, monkeypatch):
    witness = _witness(monkeypatch)
    people = People(data="synthetic", protected=2, gallery_photos=2, probe_photos=1, strangers=2)
    attack = GalleryAttack(recognizers=("mobileface",), settings=LowKey(steps=1, smoothing="none", mirror=False))
    row = Row(name="old", people=people, attack=attack, old_photos=1, defenders=("test_lowkey_studies:WITNESS",))
    run_row(row, Workbench(tmp_path))
    run_row(row.model_copy(update={"attack": None, "old_photos": 0}), Workbench(tmp_path))
    ((users, others), probes), ((clean, strangers), same_probes) = witness.shown
    assert probes == same_probes
    assert others[: len(strangers)] == strangers and set(others[len(strangers) :]) < set(clean)
    assert len(others) - len(strangers) == len(users) == len(clean) // 2
    assert not set(users) & set(clean)  # protected photos have other names


@pytest.fixture
def album(tmp_path):
    """A folder of two people with six photos each, of which one is another saved anew."""
    for person, seed in (("ann", 1), ("bob", 2)):
        folder = tmp_path / "album" / person
        folder.mkdir(parents=True)
        generator = np.random.default_rng(seed)
        for number in range(5):
            coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        Image.open(folder / "0.png").save(folder / "9.jpg", quality=80)
    return tmp_path / "album"


def test_near_duplicates_are_left_out_where_that_is_asked_for_and_hashed_once(album, tmp_path, monkeypatch):
    settings = {"data": str(album), "faces": "aligned", "protected": 2, "gallery_photos": 4, "probe_photos": None}
    images = [
        {image for table in vars(cast(People(**settings, drop_duplicates=drop), tmp_path / "cache")).values()
         for image in table.frame["image"]}
        for drop in (False, True)
    ]  # fmt: skip
    assert any("9.jpg" in image for image in images[0])
    assert images[1] == {f"{person}/{number}.png" for person in ("ann", "bob") for number in range(5)}
    cast.cache_clear()
    monkeypatch.setattr(people_module, "perceptual_hashes", None)
    cast(People(**settings, drop_duplicates=True), tmp_path / "cache")


class Witness:
    """A defender that finds everybody and notes what it was shown."""

    def __init__(self):
        self.shown = []

    def ranks(self, gallery, probes):
        self.shown.append(([[*table.frame["image"]] for table in gallery], [*probes.frame["image"]]))
        return [1] * len(probes)


WITNESS = Witness()


def _witness(monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    witness = find_defender("test_lowkey_studies:WITNESS")
    witness.shown.clear()
    return witness


def test_fewer_gallery_photos_in_a_row_are_of_the_same_users_with_the_same_probes(tmp_path, monkeypatch):
    witness = _witness(monkeypatch)
    people = People(data="synthetic", protected=2, gallery_photos=3, probe_photos=1, strangers=3)
    row = Row(name="Clean", people=people, attack=None, defenders=("test_lowkey_studies:WITNESS",))
    for one in (row, row.model_copy(update={"gallery_photos": 2})):
        run_row(one, Workbench(tmp_path))
    ((users, strangers), probes), ((fewer, same_strangers), same_probes) = witness.shown
    assert (probes, strangers) == (same_probes, same_strangers)
    assert len(users) == 6
    assert len(fewer) == 4
    assert set(fewer) < set(users)


def test_recognizers_are_known_by_name_before_anything_runs():
    smoke = studies()["lowkey-transfer"].presets["smoke"]
    assert override(smoke, ["ensembles.Mine=faceres, dlib-resnet"]).ensembles["Mine"] == ("faceres", "dlib-resnet")
    with pytest.raises(FairveilError, match=r"no recognizer 'facerse'\. Did you mean faceres\?"):
        override(smoke, ["ensembles.Mine=facerse"])
    named = ["defenders=frbench:irse-100/arcface/ms1m, fairveil.protection.paper.defenders:AmazonRekognition"]
    assert len(override(smoke, named).defenders) == 2


def test_the_smaller_perturbation_is_set_beside_the_larger_one():
    study = studies()["lowkey-small"]
    alphas = {t.label: t.attack.settings.alpha for t in study.trials(study.presets["small"]) if t.attack}
    assert alphas["Ensemble"] == 0.08
    assert alphas["Ensemble, α 0.05"] == 0.05


def test_a_data_set_that_changed_makes_new_trials(album):
    study = studies()["lowkey-transfer"]
    asked = override(study.presets["smoke"], [f"people.data={album}", "people.faces=aligned"])
    before = [study.key(trial) for trial in study.trials(study.resolve(asked))]
    assert [study.key(trial) for trial in study.trials(study.resolve(asked))] == before
    Image.new("RGB", (64, 64)).save(album / "ann" / "0.png")
    after = [study.key(trial) for trial in study.trials(study.resolve(asked))]
    assert not set(before) & set(after)


def test_a_run_is_shown_as_it_was_made_wherever_it_is_shown(monkeypatch):
    study = studies()["lowkey-transfer"]
    monkeypatch.setattr(people_module, "has_pack", lambda name: False)
    run = run_of(study, study.resolve(study.presets["small"]), "small")
    monkeypatch.setattr(people_module, "has_pack", lambda name: True)
    settings = settings_of(study, run)
    assert settings.people.data == "synthetic"
    assert any("generated faces" in line for line in study.differences(settings))
    for older in (run.model_copy(update={"keys": run.keys[1:]}), run.model_copy(update={"settings": {"gone": 1}})):
        with pytest.raises(FairveilError, match="another version of the study: run it again"):
            settings_of(study, older)
