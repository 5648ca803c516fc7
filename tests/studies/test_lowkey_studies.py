"""The studies of chapter 3, at their smallest, with real recognisers and generated faces."""

import pickle

import pytest
import torch

from fairveil.faces.zoo import ZOO
from fairveil.report.rendering import to_csv, to_markdown
from fairveil.studies.catalogue import STUDIES
from fairveil.studies.executors import executor
from fairveil.studies.lowkey.adapted import undo
from fairveil.studies.lowkey.alterations import ALTERATIONS
from fairveil.studies.lowkey.people import People, cast
from fairveil.studies.lowkey.rows import Row
from fairveil.studies.lowkey.transfer import tiny
from fairveil.studies.records import RecordStore
from fairveil.studies.running import results_of, run_study

ALL = [name for name in STUDIES if name.startswith("lowkey-")]
CHAPTER_3 = [name for name in ALL if name != "lowkey-runtime"]


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
    study = STUDIES[name]
    settings = study.presets["smoke"]
    with executor() as where:
        records = run_study(study, settings, shared_store, where, preset="smoke")
    assert [record.failure for record in records] == [None] * len(records)
    found = results_of(study, settings, shared_store)
    tables = study.tables(settings, found)
    ours = next(table for table in tables if "rank-1 accuracy, ours" in table.title)
    assert len(ours.rows) == len(records)
    assert all(cell.measured and 0 <= cell.low <= cell.value <= cell.high <= 1 for _, row in ours.rows for cell in row)
    assert to_markdown(ours)
    assert to_csv(tables)
    assert all(figure.svg.lstrip().startswith("<") for figure in study.figures(settings, found))
    assert study.differences(settings)


@pytest.mark.slow
def test_the_runtime_study_says_how_long_each_method_takes_and_what_it_achieves(shared_store, models):
    study = STUDIES["lowkey-runtime"]
    settings = study.presets["smoke"]
    with executor() as where:
        records = run_study(study, settings, shared_store, where, preset="smoke")
    assert [record.failure for record in records] == [None] * 5
    ours, published = study.tables(settings, results_of(study, settings, shared_store))
    assert [name for name, _ in ours.rows] == list(settings.methods)
    assert all(cell.measured for _, cells in ours.rows for cell in cells)
    assert "3.6.3" in published.title


@pytest.mark.parametrize("name", CHAPTER_3)
@pytest.mark.parametrize("preset", ["smoke", "small", "paper"])
def test_presets_give_distinct_trials_that_other_processes_can_take(name, preset):
    study = STUDIES[name]
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
    study = STUDIES[name]
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
    fewer = cast(people.model_copy(update={"gallery_photos": 1}))
    assert set(fewer.probes.frame["image"]) != set() <= {*chosen.probes.frame["image"]}


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
    keys = {
        STUDIES["lowkey-transfer"].key(other)
        for other in (
            row,
            row.model_copy(update={"saved": "JPEG 90"}),
            row.model_copy(update={"people": tiny().model_copy(update={"seed": 1})}),
            row.model_copy(update={"defenders": ("faceres",)}),
        )
    }
    assert len(keys) == 4
