"""The studies of chapter 5, at their smallest, on generated faces."""

import numpy as np
import polars as pl
import pytest
import torch

from fairveil.audit.paper.curves import curves_of
from fairveil.audit.paper.train_sets import split
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.base.executors import executor
from fairveil.data.face_crops import FaceCrops
from fairveil.data.population import Population
from fairveil.experiment.catalogue import studies
from fairveil.experiment.overrides import override
from fairveil.experiment.records import RecordStore
from fairveil.experiment.running import results_of, run_study
from fairveil.experiment.study import Measurement
from fairveil.experiment.workbench import Workbench
from fairveil.faces.vectors import Embeddings, vector_column

ALL = (
    "train-identities", "train-images", "gallery-identities", "gallery-images", "matched-identities", "matched-images",
    "random-extractors", "without-balanced-sampling", "human-agreement",
)  # fmt: skip


def run_all(study, settings, folder):
    """Every trial, each of which has to succeed."""
    with executor() as where:
        records = run_study(study, settings, RecordStore(folder), where, preset="smoke")
    assert [record.failure for record in records] == [None] * len(records)
    return results_of(study, settings, RecordStore(folder))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("preset", ["smoke", "small", "paper"])
def test_trials_are_told_apart_and_differences_are_said(name, preset):
    study = studies()[name]
    settings = study.presets[preset]
    trials = study.trials(settings)
    assert len({study.key(trial) for trial in trials}) == len({trial.label for trial in trials}) == len(trials)
    assert study.differences(settings)
    assert study.trials(study.rehearsal(settings))


def test_paper_presets_have_the_sizes_of_table_5_1():
    train, gallery = studies()["train-images"].presets["paper"], studies()["gallery-images"].presets["paper"]
    assert (train.identities, train.images, train.test_people) == (7934, 70_000, 406)
    assert (gallery.identities, gallery.images, gallery.draws) == (812, 7000, 5)
    model = train.models["ResNet-152 ArcFace"]
    assert (model.backbone, model.head, model.balanced, model.training.batch_size) == (
        "resnet-152",
        "arcface",
        True,
        512,
    )
    without = studies()["without-balanced-sampling"].presets["paper"]
    assert not any(model.balanced for model in without.models.values())


@pytest.fixture
def embedded(tmp_path):
    """A Parquet file of 60 people with twelve faces each, of two recognizers."""
    random = np.random.default_rng(0)
    who = np.repeat(np.arange(60), 12)
    frame = pl.DataFrame(
        {
            "image": [f"{row}.jpg" for row in range(len(who))],
            "identity": [f"person {person}" for person in who],
            "gender": np.array(["F", "M"])[who % 2],
        }
    )
    for name in ("one", "two"):
        centers = random.normal(size=(60, 16))
        vectors = centers[who] + 1.2 * random.normal(size=(len(who), 16))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        frame = frame.with_columns(vector_column(name, vectors.astype(np.float32)))
    Embeddings(frame).write(tmp_path / "faces.parquet")
    return tmp_path / "faces.parquet"


def test_a_file_of_embeddings_runs_the_sweep_of_table_5_5_beside_the_published(embedded, tmp_path):
    study = studies()["gallery-images"]
    chosen = [f'subjects.data="{embedded}"', "recognizers=one,two"]
    settings = study.resolve(override(study.presets["small"], chosen))
    assert settings.subjects.content
    found = run_all(study, settings, tmp_path / "records")
    men, women, ratio, suppliers = study.tables(settings, found)
    assert men.columns == ("one", "two", "MFN CosFace", "MFN ArcFace", "ResNet-152 CosFace", "ResNet-152 ArcFace")
    assert [name for name, _ in ratio.rows] == ["2:8", "3:7", "4:6", "5:5", "6:4", "7:3", "8:2"]
    assert all(cell.measured for _, cells in women.rows for cell in cells)
    assert dict(ratio.rows)["3:7"][2].value == 1.06  # published
    assert dict(men.rows)["2:8"][0].value < dict(men.rows)["8:2"][0].value
    assert len(suppliers.columns) == 4
    assert len(study.figures(settings, found)) == 2


@pytest.mark.slow
def test_random_networks_of_one_kind_are_shown_as_one(tmp_path):
    study = studies()["random-extractors"]
    settings = study.presets["smoke"]
    found = run_all(study, settings, tmp_path)
    men, *_ = study.tables(settings, found)
    assert men.columns[0] == "random:resnet-18"
    assert all(cell.estimate.low <= cell.value <= cell.estimate.high for _, (cell, *_) in men.rows)


@pytest.mark.slow
def test_recognizers_are_trained_once_for_all_studies_that_ask_for_them(tmp_path):
    train, matched = studies()["train-images"], studies()["matched-images"]
    chosen = ["parts=[2, 5]"]
    settings = override(train.presets["smoke"], chosen)
    results = run_all(train, settings, tmp_path)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "recognizers").glob("*.safetensors")}
    assert len(made) == 2
    in_both = override(matched.presets["smoke"], chosen)
    matched_results = run_all(matched, in_both, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert set((tmp_path / "cache" / "recognizers").glob("*.safetensors")) == set(made)
    tables = train.tables(settings, results)
    assert [cell.measured for cell in dict(tables[0].rows)["2:8"]] == [True] * 5
    *_, interplay = matched.tables(in_both, matched_results)
    assert interplay.columns == ("train set alone", "gallery alone", "if independent", "both", "they")


@pytest.mark.slow
def test_recognizers_are_asked_the_questions_that_people_were_asked(tmp_path):
    study = studies()["human-agreement"]
    settings = override(study.presets["smoke"], ["parts=[5]"])
    found = run_all(study, settings, tmp_path)
    (table,) = study.tables(settings, found)
    assert set(table.columns) == {"all", "shape long", "shape round", "within groups"}
    assert all(-1 <= cell.value <= 1 for _, cells in table.rows for cell in cells)
    assert "says nothing of people" in study.differences(settings)[-1]


def crops(people, images=4):
    """Blank crops of people of two groups in turns."""
    who = torch.arange(people).repeat_interleave(images)
    names = tuple(f"person {person:03}" for person in range(people))
    pixels = torch.zeros(len(who), 3, 16, 16, dtype=torch.uint8)
    photos = tuple(f"{row}.png" for row in range(len(who)))
    group = tuple("FM"[person % 2] for person in who.tolist())
    return FaceCrops(pixels, who, names, "blank", photos, {"gender": group})


def test_people_are_put_aside_for_tests_of_each_group_equally_and_never_trained_on():
    train, test = split(crops(40), "gender", 6)
    assert not {*train.classes} & {*test.classes}
    population = Population.of(test.frame, "gender")
    assert [len(population.images_of(group)) for group in population.groups] == [6, 6]
    assert len(train.classes) == 28
    with pytest.raises(FairveilError, match="F has 4 people with two images"):
        split(crops(8), "gender", 6)


def test_runs_are_a_mean_between_the_lowest_and_the_highest():
    def one(value):
        return "net", Measurement(labels={"what": "M Acc", "ratio": "5:5"}, value=value, low=0.0, high=1.0)

    assert curves_of([one(0.4), one(0.6)]) == {
        ("net", "M Acc", "5:5"): Estimate(0.5, 0.4, 0.6, 2, "runs", "lowest and highest")
    }
    assert curves_of([one(0.4)]) == {("net", "M Acc", "5:5"): Estimate(0.4, 0.0, 1.0)}


def test_generated_people_stand_in_for_a_pack_that_is_not_here(monkeypatch, tmp_path):
    monkeypatch.setenv("FAIRVEIL_DATA", str(tmp_path))
    study = studies()["gallery-identities"]
    settings = study.resolve(study.presets["small"])
    assert (settings.subjects.data, settings.subjects.column) == ("synthetic", "shape")
    assert "generated ones" in study.differences(settings)[0]


def test_the_order_of_rows_changes_no_gallery_study(tmp_path):
    """The trial of tables 5.4 and 5.5 on embeddings with many ties, in two orders."""
    rng = np.random.default_rng(0)
    who = np.arange(24).repeat(6)
    vectors = np.sign(rng.normal(size=(24, 12))[who] + 0.9 * rng.normal(size=(144, 12))) / np.sqrt(12)
    frame = pl.DataFrame({"identity": [f"p{one}" for one in who], "gender": np.array([*"FM"])[who % 2]})
    frame = frame.with_columns(vector_column("net", vectors.astype(np.float32)))
    study, found = studies()["gallery-identities"], []
    for name, rows in (("women", frame.sort("gender")), ("men", frame.sort("gender", descending=True))):
        Embeddings(rows.with_columns(image=pl.format("row {}", pl.int_range(pl.len())))).write(
            tmp_path / f"{name}.parquet"
        )
        chosen = [f"subjects.data={tmp_path / name}.parquet", 'recognizers=["net"]', "draws=2"]
        settings = override(study.presets["small"], chosen)
        (trial,) = study.trials(settings)
        found.append(study.run(trial, Workbench(cache=tmp_path, device="cpu")))
    assert found[0] == found[1]
