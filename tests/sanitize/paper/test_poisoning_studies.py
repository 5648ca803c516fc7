"""The studies of chapter 4, at their smallest, on generated pictures."""

import pytest
import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.base.executors import executor
from fairveil.data.images import synthetic_images
from fairveil.experiment.catalogue import studies
from fairveil.experiment.overrides import override
from fairveil.experiment.records import RecordStore
from fairveil.experiment.running import results_of, run_study
from fairveil.experiment.study import Measurement
from fairveil.experiment.workbench import Workbench
from fairveil.sanitize.paper.backdoors import BACKDOOR_DEFENSES, BACKDOOR_RECALL, Infection, _of_classes
from fairveil.sanitize.paper.matching import GRADIENT_MATCHING_DEFENSES, TRANSFER_DEFENSES
from fairveil.sanitize.paper.trigger_map import TRIGGER_MAP
from fairveil.training import learning_rate_at

KEYS_BEFORE = ("a0944d28aa69ef561f39", "4c4c4690df91e655c923")
"""Of trials of the small presets, as they were before settings were added."""


@pytest.mark.slow
def test_the_smoke_run_fills_the_table_beside_the_published(tmp_path):
    study, settings = BACKDOOR_DEFENSES, BACKDOOR_DEFENSES.presets["smoke"]
    with executor() as where:
        records = run_study(study, settings, RecordStore(tmp_path), where, preset="smoke")
    assert [record.failure for record in records] == [None] * 6
    found = results_of(study, settings, RecordStore(tmp_path))
    table, changes, base_rate = study.tables(settings, found)
    assert table.groups == (("ours", 6), ("published", 4))
    assert table.columns[:3] == ("Poison Success (100%)", "Val Accuracy (100%)", "Target Recall (100%)")
    assert [name for name, _ in changes.rows] == ["CutMix", "MaxUp-cutout"] and len(changes.columns) == 6
    rows = dict(table.rows)
    assert set(rows) == {"Baseline", "CutMix", "MaxUp-cutout", "mixup"}
    assert all(cell.measured for cell in rows["Baseline"]) and not any(cell.measured for cell in rows["mixup"][:6])
    assert [cell.value for cell in rows["CutMix"][6:]] == [0.36, 0.94, 0.23, 0.95]
    assert len(base_rate.rows) == 3


def test_trials_are_paired_and_told_apart():
    settings = BACKDOOR_DEFENSES.presets["small"]
    trials = BACKDOOR_DEFENSES.trials(settings)
    assert len(trials) == 40 == len({BACKDOOR_DEFENSES.key(trial) for trial in trials})
    assert {trial.run for trial in trials if trial.defense == "CutMix"} == {0, 1, 2, 3}
    assert len({trial.label for trial in trials}) == 40


def test_runs_are_pooled_with_runs_for_the_sample():
    settings = override(BACKDOOR_DEFENSES.presets["small"], ["runs=2", "shares=[1.0]"])
    labels = {"what": "Poison Success"}
    results = {
        trial: [Measurement(labels=labels, value=1.0 if trial.run else 0.5, count=200)]
        for trial in BACKDOOR_DEFENSES.trials(settings)
    }
    table = dict(BACKDOOR_DEFENSES.tables(settings, results)[0].rows)
    success = table["CutMix"][0].estimate
    assert success.value == pytest.approx(0.75)
    assert success.high - success.low > 0.5  # two runs say little, however many pictures they had


def test_data_that_are_not_here_are_generated_and_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("FAIRVEIL_DATA", str(tmp_path))
    study = studies()["backdoor-defenses"]
    settings = study.resolve(study.presets["small"])
    assert settings.victim.data == "synthetic"
    assert "generated stripes" in study.differences(settings)[0]
    with pytest.raises(FairveilError, match="no defense 'cutmixx'"):
        override(study.presets["small"], ["defenses=['cutmixx']"])
    assert Infection.model_fields.keys() == {"victim", "defense", "share", "trigger", "classes", "run"}


@pytest.mark.parametrize("study", [BACKDOOR_DEFENSES, GRADIENT_MATCHING_DEFENSES])
def test_a_network_that_is_none_is_refused_before_any_trial(study):
    with pytest.raises(FairveilError, match=r"no network 'resnet-9'\. Did you mean resnet-8"):
        override(study.small, ["victim.network=resnet-9"])


def test_settings_that_came_later_leave_older_records_valid():
    for study, keys in ((BACKDOOR_DEFENSES, KEYS_BEFORE[0]), (GRADIENT_MATCHING_DEFENSES, KEYS_BEFORE[1])):
        assert study.key(study.trials(study.presets["small"])[7]) == keys


def test_recall_of_the_target_class_is_measured_on_its_own_clean_pictures(monkeypatch, tmp_path):
    class OneClass(nn.Module):
        """Takes everything for the second class, the base class of a trial of two classes."""

        def __init__(self):
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            return torch.tensor([0.0, 1.0]).expand(len(images), 2) + self.anchor

    monkeypatch.setattr("fairveil.sanitize.trials.ResidualNetwork", lambda *_, **__: OneClass())
    settings = BACKDOOR_RECALL.presets["smoke"]
    trial = BACKDOOR_RECALL.trials(settings)[0]
    bench = Workbench(tmp_path, "cpu")
    found = {one.labels["what"]: one for one in BACKDOOR_RECALL.run(trial, bench)}
    assert found["Target Recall"].value == 0 and found["Poison Success"].value == 0
    assert 0 < found["Val Accuracy"].value < 1 and found["Target Recall"].count < found["Val Accuracy"].count


def test_two_classes_have_equally_many_pictures_and_the_target_class_comes_first():
    data = synthetic_images(300, classes=5, size=8)
    some = _of_classes(data, [3, 1], 40, torch.Generator().manual_seed(0))
    assert some.classes == (data.classes[3], data.classes[1])
    assert torch.bincount(some.labels).tolist() == [20, 20]
    rows = {tuple(image.flatten().tolist()): int(label) for image, label in zip(data.images, data.labels, strict=True)}
    seen = [rows[tuple(image.flatten().tolist())] for image in some.images]
    assert seen == [3] * 20 + [1] * 20


def test_changes_are_paired_by_run():
    settings = override(BACKDOOR_RECALL.presets["small"], ["runs=3"])
    recall = {"Baseline": (0.1, 0.3, 0.5), "mixup": (0.1, 0.3, 0.5), "CutMix": (0.6, 0.8, 1.0)}
    results = {
        trial: [Measurement(labels={"what": "Target Recall"}, value=recall[trial.defense][trial.run], count=100)]
        for trial in BACKDOOR_RECALL.trials(settings)
    }
    (changes,) = [table for table in BACKDOOR_RECALL.tables(settings, results) if table.title.startswith("Changes")]
    rows = dict(changes.rows)
    cell = rows["CutMix"][2]
    change = cell.estimate
    assert (change.value, change.low, change.high) == pytest.approx((0.5, 0.5, 0.5)) and rows["mixup"][2].value == 0


def test_paper_is_as_published_with_ours_in_a_row_each():
    settings = BACKDOOR_DEFENSES.presets["paper"]
    assert settings.trigger.pattern == "bernoulli" and settings.trigger.margin == 0
    assert {f"published-{name}" for name in settings.defenses if "-" not in name} <= set(settings.defenses)
    patches = {trial.trigger for trial in BACKDOOR_DEFENSES.trials(settings)}
    assert len(patches) == settings.runs  # a new one in each run, the same under every defense
    labels = {"what": "Poison Success"}
    results = {trial: [Measurement(labels=labels, value=0.5, count=10)] for trial in BACKDOOR_DEFENSES.trials(settings)}
    rows = dict(BACKDOOR_DEFENSES.tables(settings, results)[0].rows)
    assert rows["CutMix"][6].value == rows["published-CutMix"][6].value == 0.36
    assert [learning_rate_at(epoch, settings.victim.training) for epoch in (13, 14, 23, 24, 34, 35)] == pytest.approx(
        [0.1, 0.01, 0.01, 0.001, 0.001, 0.0001]
    )
    assert all("published-" in " ".join(study.differences(study.presets["paper"])) for study in
               (BACKDOOR_DEFENSES, GRADIENT_MATCHING_DEFENSES))  # fmt: skip
    assert GRADIENT_MATCHING_DEFENSES.presets["paper"].victim.usual == "published-Baseline"


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["smoke", "paper"])
def test_gradient_matching_fills_the_table_and_the_figure(tmp_path, preset):
    study = GRADIENT_MATCHING_DEFENSES
    settings = study.rehearsal(override(study.presets[preset], ["defenses=['Baseline', 'mixup']"]))
    with executor() as where:
        records = run_study(study, settings, RecordStore(tmp_path), where, preset="smoke")
    assert [record.failure for record in records] == [None] * 4
    found = results_of(study, settings, RecordStore(tmp_path))
    table, base_rate = study.tables(settings, found)
    assert table.groups == (("ours", 3), ("published", 3))
    rows = dict(table.rows)
    assert all(cell.measured for cell in rows["mixup"]) and rows["mixup"][3].value == 0.45
    assert not any(cell.measured for cell in rows["DP-SGD (0.05)"][:3]) and rows["DP-SGD (0.05)"][3].value == 0.01
    assert len(base_rate.rows) == 1
    assert [figure.caption.split(",")[0] for figure in study.figures(settings, found)] == [
        "Basic Attack",
        "Adaptive Attack",
    ]


def test_whether_heads_or_whole_networks_are_trained_is_said():
    study = GRADIENT_MATCHING_DEFENSES
    small, paper = (study.differences(study.presets[name]) for name in ("small", "paper"))
    assert any("transfer regime, not the published one" in line for line in small)
    assert len(paper) == 1 and "as the chapter's code has them" in paper[0]
    assert len(study.trials(study.presets["small"])) == 40 * 6 * 2
    assert len(study.trials(study.presets["paper"])) == 20 * 16 * 2


@pytest.mark.slow
def test_the_trigger_map_has_a_table_for_each_padding(tmp_path):
    study, places = TRIGGER_MAP, ["places=['corner', 'centre']", "sizes=[4]"]
    settings = override(study.presets["smoke"], places)
    with executor() as where:
        records = run_study(study, settings, RecordStore(tmp_path), where, preset="smoke")
    assert [record.failure for record in records] == [None] * 8
    assert len({record.label for record in records}) == 8
    tables = study.tables(settings, results_of(study, settings, RecordStore(tmp_path)))
    assert [table.title for table in tables] == [f"Backdoors by patch, crops of ±{n} px, ours" for n in (0, 4)]
    assert [name for name, _ in tables[0].rows] == ["corner, 4 px", "centre, 4 px"]
    assert all(cell.measured and not cell.estimate.bounded for _, cells in tables[1].rows for cell in cells)
    labels = [trial.label for trial in study.trials(study.presets["small"])]
    assert len(set(labels)) == len(labels) == 36


@pytest.mark.slow
def test_the_transfer_regime_has_a_table_for_each_budget(tmp_path):
    study = TRANSFER_DEFENSES
    settings = override(study.presets["smoke"], ["budgets=[0.05, 0.1]", "defenses=['Baseline', 'CutMix']"])
    with executor() as where:
        records = run_study(study, settings, RecordStore(tmp_path), where, preset="smoke")
    assert [record.failure for record in records] == [None] * 4
    found = results_of(study, settings, RecordStore(tmp_path))
    *tables, base_rate = study.tables(settings, found)
    assert [table.title for table in tables] == [f"Gradient matching at {budget}, ours" for budget in ("5.0%", "10.0%")]
    assert all(cell.measured for table in tables for _, cells in table.rows for cell in cells)
    assert len(base_rate.rows[0][1]) == 2 and len(study.figures(settings, found)) == 2
