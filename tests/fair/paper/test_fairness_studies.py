"""The studies of chapter 6, at their smallest, on generated faces and X-rays."""

import pytest

from fairveil.base.errors import FairveilError
from fairveil.base.executors import executor
from fairveil.experiment.catalogue import studies
from fairveil.experiment.overrides import override
from fairveil.experiment.published import published_table
from fairveil.experiment.records import RecordStore
from fairveil.experiment.running import results_of, run_study
from fairveil.fair.interventions import EqualLoss, FairFeatures, LabelFlipping
from fairveil.fair.paper.schemes import baseline_among
from fairveil.fair.paper.xray_studies import weights_of
from fairveil.fair.paper.xray_trials import Patients
from fairveil.fair.xray_classifier import build_xray_network

ALL = (
    "fair-recognition", "fair-margins-angles", "fair-features", "gerrymandering-recognition", "fair-xray",
    "gerrymandering-xray", "overfitting",
)  # fmt: skip


def smallest(name, *schemes, models=1):
    """The smoke preset with some of its schemes and models."""
    settings = studies()[name].presets["smoke"]
    kept = {scheme: settings.schemes[scheme] for scheme in schemes}
    return settings.model_copy(update={"schemes": kept, "models": dict([*settings.models.items()][:models])})


def run_all(name, settings, folder):
    """Every trial, each of which has to succeed."""
    with executor() as where:
        records = run_study(studies()[name], settings, RecordStore(folder), where, preset="smoke")
    assert [record.failure and record.failure.message for record in records] == [None] * len(records)
    return results_of(studies()[name], settings, RecordStore(folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("preset", ["smoke", "small", "paper"])
def test_trials_are_told_apart_and_differences_are_said(name, preset):
    study = studies()[name]
    settings = study.presets[preset]
    trials = study.trials(settings)
    assert len({study.key(trial) for trial in trials}) == len({trial.label for trial in trials}) == len(trials)
    assert study.differences(settings)
    assert study.trials(study.rehearsal(settings))


@pytest.mark.parametrize(
    ("name", "numbers", "rows"),
    [
        ("fair-recognition", ["6.2", "6.6"], list),
        ("fair-xray", ["6.1", "6.8", "6.9", "6.10"], lambda rows: {row.rpartition(" ")[0] for row in rows}),
    ],
)
def test_paper_presets_have_every_published_scheme(name, numbers, rows):
    schemes = studies()[name].presets["paper"].schemes
    for number in numbers:
        assert {*rows(published_table(number).rows)} <= {*schemes}


def test_paper_presets_have_the_published_settings():
    faces = studies()["fair-recognition"].presets["paper"]
    assert {model.backbone for model in faces.models.values()} == {"resnet-18", "resnet-152"}
    first = faces.models["ResNet-18"]
    assert (first.head, first.loss, first.training.epochs, first.training.batch_size) == ("cosface", "focal", 120, 512)
    assert round(faces.test * 10_177) == 1000
    model = studies()["fair-xray"].presets["paper"].models["DenseNet-121"]
    assert (model.network, model.training.batch_size, model.training.epochs) == ("densenet-121", 56, 20)
    assert studies()["gerrymandering-recognition"].presets["paper"].bystanders.column == "race"


def test_networks_of_table_6_1_have_dropout_and_weight_decay_and_it_is_said_that_the_text_has_no_figures():
    study = studies()["fair-xray"]
    model = study.presets["paper"].models["DenseNet-121"]
    assert (model.dropout, model.training.weight_decay) == (0.2, 1e-4)
    assert {
        part.drop_rate for part in build_xray_network(model, 5, seed=0).modules() if hasattr(part, "drop_rate")
    } == {0.2}
    for preset, told in (("paper", "0.2 and 0.0001"), ("small", "0 and 0")):
        (one,) = [one for one in study.differences(study.presets[preset]) if one.startswith("Dropout")]
        assert "gives no figures" in one and f"Here they are {told};" in one


def test_labels_are_flipped_of_the_group_that_loses_in_the_train_columns_of_table_6_10():
    published = published_table("6.10")
    before, after = ("Baseline Avg", "Random Flip p = 0.1 Avg")
    lost = {sex: published.values[before, f"train {sex}"] - published.values[after, f"train {sex}"] for sex in "MF"}
    assert lost["F"] > 3 * lost["M"]
    preset = studies()["fair-xray"].presets["paper"]
    flips = [one for one in preset.schemes.values() if isinstance(one, LabelFlipping)]
    assert {one.group for one in flips} == {"F"} and len(flips) == 3
    assert any("Table 6.10 does not say whose" in one for one in studies()["fair-xray"].differences(preset))


def test_what_a_paper_preset_changes_is_among_its_differences():
    told = " ".join(studies()["fair-xray"].differences(studies()["fair-xray"].presets["paper"]))
    for change in ("80 to 20 by patient", "without sex or age are kept", "Uncertain findings", "Weights: random"):
        assert change in told


def test_the_group_that_is_penalized_is_made_to_look_like_the_other():
    settings = studies()["fair-features"].presets["paper"]
    assert (settings.subjects.focus, settings.subjects.other) == ("yes", "no")  # CelebA's column is called Male
    assert settings.schemes["Fair Features (Females) α = 1"].toward == "yes"
    assert settings.schemes["Fair Features (Males) α = 1"].toward == "no"


def test_every_scheme_is_compared_with_training_on_the_same_data():
    schemes = studies()["fair-recognition"].presets["small"].schemes
    assert baseline_among(schemes, "Min-Max") == "Baseline"
    assert baseline_among(schemes, "Eq. Loss Holdout α = 0.5") == "Eq. Loss Holdout baseline"
    assert baseline_among(schemes, "Fair Features (Males) α = 2") == "Fair Features baseline"
    assert baseline_among({"alone": EqualLoss(weight=1)}, "alone") == "alone"
    two = {"none": FairFeatures(toward="a", weight=0), "some": FairFeatures(toward="b", weight=1)}
    assert baseline_among(two, "some") == "none"


def test_schemes_of_recognizers_stand_beside_the_published(folder):
    settings = smallest("fair-recognition", "Baseline", "Min-Max", "Fair Features baseline",
                        "Fair Features (Males) α = 2")  # fmt: skip
    results = run_all("fair-recognition", settings, folder)
    schemes, gaps, cost = studies()["fair-recognition"].tables(settings, results)
    assert [heading for heading, _ in schemes.groups] == ["ours", "published (tables 6.2 and 6.6)"]
    rows = dict(schemes.rows)
    assert rows["Baseline"][9 + 6].value == pytest.approx(0.948)  # men on test, as printed
    men, women, gap = (one.value for one in rows["Min-Max"][:3])
    assert gap == pytest.approx(men - women)
    assert [name for name, _ in gaps.rows] == [*settings.schemes]
    assert [name for name, _ in cost.rows] == ["Min-Max", "Fair Features (Males) α = 2"]


def test_studies_share_what_they_have_both_trained(folder, monkeypatch):
    settings = smallest("fair-margins-angles", "Baseline")
    run_all("fair-recognition", smallest("fair-recognition", "Baseline"), folder)
    monkeypatch.setattr("fairveil.fair.experiments.train", lambda *_, **__: pytest.fail("trained again"))
    results = run_all("fair-margins-angles", settings, folder)
    (table,) = studies()["fair-margins-angles"].tables(settings, results)
    ours = dict(table.rows)["test baseline"][:7]
    assert all(one.measured for one in ours)
    assert all(0 < one.value < 180 for one in ours[3:])


def test_features_and_bystanders_have_tables_of_their_own(folder):
    settings = smallest("fair-features", "Fair Features baseline", "Fair Features (Females) α = 2")
    table, _ = studies()["fair-features"].tables(settings, run_all("fair-features", settings, folder))
    rows = dict(table.rows)
    assert rows["Penalize Females α = 2"][3].measured and 0 <= rows["Penalize Females α = 2"][3].value <= 1
    settings = smallest("gerrymandering-recognition", "Baseline", "Adjusted Margins")
    results = run_all("gerrymandering-recognition", settings, folder)
    ours, published, matrix = studies()["gerrymandering-recognition"].tables(settings, results)
    assert {*ours.columns} == {"warm", "cool"}
    assert published.columns == ("African", "Asian", "Caucasian", "Indian")
    rows = dict(ours.rows)
    for before, after, lost in zip(rows["Baseline"], rows["Margins"], rows["Margins diff"], strict=True):
        assert lost.value == pytest.approx(before.value - after.value)
    assert "test" in matrix.title


def test_people_of_another_data_set_can_be_the_bystanders(folder):
    settings = smallest("gerrymandering-recognition", "Baseline", "Adjusted Margins")
    others = settings.subjects.model_copy(update={"people": 24, "column": "tone", "focus": "warm", "other": "cool"})
    settings = settings.model_copy(update={"bystanders": others, "untargeted": "none"})
    results = run_all("gerrymandering-recognition", settings, folder)
    ours, _, matrix = studies()["gerrymandering-recognition"].tables(settings, results)
    assert {*ours.columns} == {"warm", "cool"}
    assert "bystanders" in matrix.title


def test_schemes_of_xrays_stand_beside_the_published(folder):
    settings = smallest(
        "fair-xray", "Baseline", "Eq. Odds α = 2", "Random Flip p = 0.1", "Val baseline", "Eq. Loss Val"
    )
    results = run_all("fair-xray", settings, folder)
    tables = studies()["fair-xray"].tables(settings, results)
    first, held, flips = tables[0], tables[1], tables[2]
    assert first.columns[:8] == published_table("6.1").columns
    rows = dict(first.rows)
    assert {"Baseline CD", "Eq. Odds α = 2 Avg", "Disp. Impact α = 1000 PE"} <= rows.keys()
    gaps = [rows[f"Baseline {task}"][2].value for task in ("CD", "ED", "CO", "AT", "PE", "Avg")]
    assert min(gaps) >= 0 and gaps[-1] == pytest.approx(sum(gaps[:-1]) / 5)
    penalties = [rows[f"Eq. Odds α = 2 {task}"][3].value for task in ("CD", "ED", "CO", "AT", "PE", "Avg")]
    assert penalties[-1] == pytest.approx(sum(penalties[:-1]) / 5)
    assert "Eq. Loss Val AT" in dict(held.rows) and "Eq. Odds α = 2 AT" not in dict(held.rows)
    assert dict(flips.rows)["Random Flip p = 0.1 CO"][0].measured


def test_a_penalty_is_followed_from_small_networks_to_large_ones(folder):
    settings = smallest("overfitting", "Baseline", "Eq. Loss Train α = 1", models=2)
    results = run_all("overfitting", settings, folder)
    table, penalty = studies()["overfitting"].tables(settings, results)
    assert all(one.value >= 0 for _, cells in penalty.rows for one in cells)
    small, large = (weights_of(model) for model in settings.models.values())
    assert small < large
    assert [row[0].value for _, row in table.rows] == [small, large]
    (plot,) = studies()["overfitting"].figures(settings, results)
    assert plot.svg.startswith("<?xml") and "groups came closer" in plot.svg


def test_age_is_looked_at_where_sex_was_asked_for(folder):
    settings = smallest("gerrymandering-xray", "Baseline", "Eq. Loss Train α = 2")
    results = run_all("gerrymandering-xray", settings, folder)
    one, everything, matrix = studies()["gerrymandering-xray"].tables(settings, results)
    assert {*one.columns} == {*everything.columns} == {"young", "old"}
    assert "whose gap by sex shrank most" in one.title
    assert matrix.rows[0][0] == "Eq. Loss Train α = 2"


def test_lists_that_are_not_there_are_told_of(tmp_path):
    study = studies()["fair-xray"]
    with pytest.raises(FairveilError, match=r"no file .*train\.csv for patients\.data"):
        study.resolve(study.presets["paper"])
    (tmp_path / "list.csv").write_text("image,patient,sex\n")
    named = study.presets["small"].model_copy(update={"patients": Patients(data=str(tmp_path / "list.csv"))})
    first = study.resolve(named).patients.content
    (tmp_path / "list.csv").write_text("image,patient,sex,A\n")
    assert first is not None and study.resolve(named).patients.content != first


def test_settings_of_schemes_can_be_changed_from_the_command_line():
    settings = override(studies()["fair-xray"].presets["small"], ["runs=1", "models.ResNet-8.width=16"])
    assert (settings.runs, settings.models["ResNet-8"].width) == (1, 16)
