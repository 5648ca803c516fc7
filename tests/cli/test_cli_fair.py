import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from fairveil.base.errors import FairveilError
from fairveil.cli import app
from fairveil.cli.fair import _compared
from fairveil.data.synthetic import SyntheticFaces, write_faces
from fairveil.data.xrays import FINDINGS, SyntheticXrays
from fairveil.faces.trained import load_trained, read_model_card
from fairveil.fair.experiments import RunScores
from fairveil.fair.groups import groups_of
from fairveil.fair.scores import SCORES
from fairveil.fair.xray_classifier import load_xray_classifier
from fairveil.fair.xray_experiment import XrayExperiment

RUN = CliRunner()
QUICK = ["fair", "compare", "synthetic", "--task", "findings", "--group", "sex", "--epochs", "1", "--size", "16"]


def _run(*arguments):
    return RUN.invoke(app, [*QUICK, *arguments], catch_exceptions=False)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_comparison_is_printed_kept_and_written_as_a_page_with_json_beside_it(tmp_path, monkeypatch):
    result = _run("--interventions", "min-max,label-flipping", "--seeds", "2", "--report", "card.html", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told == json.loads((tmp_path / "card.json").read_text())
    assert next(one["name"].split("=")[0] for one in told["interventions"]) == "min-max"
    assert {one["column"] for one in told["bystanders"]} == {"age", "sex × age"}
    page = (tmp_path / "card.html").read_text()
    assert "With fewer than 3 runs nothing can be told." in page
    assert "Who gained and who paid" in page
    assert "leveled down" in page
    assert "with intervals over people" in page and "Who was counted" in page
    assert "means over " in page and told["findings"]
    gap = told["interventions"][0]["splits"]["test"]["gap over people"]
    assert gap["low"] < gap["value"] < gap["high"]
    # the same again trains nothing
    monkeypatch.setattr(XrayExperiment, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = _run("--interventions", "min-max,label-flipping", "--seeds", "2")
    assert again.exit_code == 0
    assert "min-max: the gap between" in " ".join(again.stdout.split())
    with pytest.raises(FairveilError, match="already exists"):
        _run("--report", "card.html")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--interventions", "min-mux", "--better", "M", "--worse", "F"], "no intervention 'min-mux'.*Did you mean"),
        (["--interventions", "margins", "--better", "M", "--worse", "F"], "margins is not for findings"),
        (["--group", "six"], "no column of groups 'six', but sex, age"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(arguments, sentence):
    with pytest.raises(FairveilError, match=sentence):
        _run(*arguments)


def test_a_report_that_would_be_its_own_json_is_refused():
    result = RUN.invoke(app, [*QUICK, "--report", "card.json"])
    assert (result.exit_code, "beside the report" in result.output) == (2, True)


def _train(*arguments, data="synthetic"):
    return RUN.invoke(app, ["fair", "train", data, "--epochs", "1", *arguments], catch_exceptions=False)


def test_a_network_for_xrays_is_trained_saved_and_read_again(tmp_path):
    asked = ("--task", "findings", "--group", "sex", "--size", "16", "--weight", "0.5", "--json")
    result = _train(*asked, "-o", "model.safetensors")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["intervention"] == {"kind": "equal-loss", "weight": 0.5, "on": "train"}
    assert {*told["groups"]["test"]} == {"everybody", "F", "M"}
    classifier = load_xray_classifier(tmp_path / "model.safetensors")
    assert classifier.findings == FINDINGS and classifier.about["intervention"]["weight"] == 0.5
    xrays = SyntheticXrays(patients=20, size=16, seed=5).draw()
    assert classifier(xrays.images.float() / 255).shape == (40, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]  # nothing is left lying about
    with pytest.raises(FairveilError, match="already exists"):
        _train("--task", "findings", "--group", "sex", "-o", "model.safetensors")


@pytest.mark.slow
def test_a_recognizer_without_the_group_is_a_recognizer_everywhere(tmp_path):
    write_faces(SyntheticFaces(identities=48, per_identity=8, size=64, framing="crop"), tmp_path / "people")
    asked = ("--group", "shape", "--face", "aligned", "--intervention", "fair-features", "--whose", "round")
    result = _train(*asked, "-o", "fair.safetensors", data=str(tmp_path / "people" / "faces.csv"))
    assert result.exit_code == 0, result.output
    assert "best less" in result.stdout and "One run says little" in result.stdout
    card = read_model_card(tmp_path / "fair.safetensors")
    assert card.projected and card.intervention == {"kind": "fair-features", "toward": "round", "weight": 2.0}
    recognizer = load_trained(tmp_path / "fair.safetensors")
    assert recognizer.embed_crops(torch.rand(3, 3, 64, 64)).shape == (3, card.dimension)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--task", "findings", "--intervention", "min-max", "--weight", "1"], "min-max does not take --weight"),
        (
            ["--task", "findings", "--intervention", "margins"],
            "margins needs to be told whose.*--whose",
        ),
        (["--task", "findings", "--intervention", "equal-los"], "Did you mean equal-loss"),
        (["--task", "findings", "--intervention", "margins", "--whose", "F"], "not for findings"),
        (["--task", "findings", "--weight", "1e9"], "does not take weight=1000000000.0"),
        (["--task", "findings", "--whose", "F"], "equal-loss does not take --whose, but --weight and --on"),
        (["--weights", "none.pth", "--task", "findings"], "ImageNet weights are of a DenseNet-121"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is(arguments, sentence, monkeypatch):
    monkeypatch.setattr("fairveil.fair.experiments.train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(FairveilError, match=sentence):
        _train("--group", "sex", "--size", "16", "-o", "model.safetensors", *arguments)


@pytest.mark.parametrize(
    ("rows", "group", "sentence"),
    [
        ("a/1.png,a,x\n", "sax", "no column of groups 'sax', but sex"),
        ("a/1.png,a,x\n", "sex", "has the one value 'x'"),
    ],
)
def test_a_column_without_two_groups_is_told_before_any_photo_is_looked_at(
    tmp_path, monkeypatch, rows, group, sentence
):
    (tmp_path / "faces.csv").write_text("image,identity,sex\n" + rows)
    monkeypatch.setattr("fairveil.cli.fair_data.cut_with_progress", lambda *_: pytest.fail("looked at"))
    with pytest.raises(FairveilError, match=sentence):
        _train("--group", group, "-o", "model.safetensors", data=str(tmp_path / "faces.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["faces.csv"]


@pytest.mark.parametrize("size", ["32", "256"])
def test_a_size_that_faces_are_not_generated_in_is_told_in_a_sentence(size):
    result = _train("--group", "shape", "--size", size, "-o", "model.safetensors")
    assert result.exit_code == 2 and "64 to 224 pixels" in result.output


class AllAlike:
    """An experiment in which every group of three has the same figure in every run."""

    task, column, fingerprint = "findings", "tone", "all alike"
    measures = dict.fromkeys(("train", "validation", "test"), "AUC")
    groups = groups_of({"tone": ["warm", "cool", "dark"]}, "tone")
    settings = SimpleNamespace(training=SimpleNamespace(epochs=1))

    def measure(self, intervention, *, seed, callbacks):
        rows = [
            (split, "AUC", label, "tone" if group else "", group, 0.5, None, None, 10, 10)
            for split in self.measures
            for label in ("A", "mean")
            for group in ("", "warm", "cool", "dark")
        ]
        return RunScores(pl.DataFrame(rows, schema=SCORES, orient="row"), 0.0)


def test_where_all_groups_fare_alike_labels_flip_for_one_and_it_is_said_that_none_is_better_off(tmp_path, capsys):
    found = _compared(AllAlike(), "label-flipping", (None, None), 1.0, 1, tmp_path)
    assert found.interventions == ["label-flipping cool=0.05"]
    assert (found.best_group, found.worst_group) == ("cool", "warm")
    told = " ".join(capsys.readouterr().err.split())
    assert "all groups of tone fare alike, so none is better off" in told
    assert "warm is taken for the group that is worse off" in told and "cool for the one" in told
    named = _compared(AllAlike(), "label-flipping", ("dark", "warm"), 1.0, 1, tmp_path)
    assert named.interventions == ["label-flipping dark=0.05"]
    assert "fare alike" not in capsys.readouterr().err


class ByChance(AllAlike):
    """The same, but for what each run adds to each group on each split."""

    fingerprint = "by chance"

    def measure(self, intervention, *, seed, callbacks):
        measured = super().measure(intervention, seed=seed, callbacks=callbacks)
        noise = np.random.default_rng([seed, len(intervention.name)]).normal(scale=0.02, size=len(measured.scores))
        return RunScores(measured.scores.with_columns(value=pl.col("value") + noise), 0.0)


def test_groups_that_runs_cannot_tell_apart_are_not_said_to_be_better_and_worse_off(tmp_path, capsys):
    found = _compared(ByChance(), "label-flipping", (None, None), 1.0, 3, tmp_path)
    best, worst = found.best_group, found.worst_group
    told = " ".join(capsys.readouterr().err.split())
    assert f"on validation {best} fares best and {worst} worst, which these runs cannot tell from chance" in told
    assert f"{worst} is taken for the group that is worse off" in told


def test_help_lists_every_intervention_and_its_options_without_loading_torch():
    script = (
        "import sys; from typer.testing import CliRunner; from fairveil.cli import app;"
        "assert 'pydantic' not in sys.modules;"  # other commands do not wait for the registry
        "run = lambda name: CliRunner().invoke(app, ['fair', name, '--help'], env={'COLUMNS': '500'}).output;"
        "train, compare = run('train'), run('compare');"
        "from fairveil.fair.interventions import KINDS, options;"
        "assert all(kind in text for kind in KINDS for text in (train, compare));"
        "assert all(option.help in ' '.join(train.split()) for option in options()), train;"
        "assert '--share' not in compare and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_nobody_is_better_and_worse_off_at_once():
    with pytest.raises(FairveilError, match="F cannot be better and worse off at once"):
        _run("--better", "F", "--worse", "F")
    found = _run("--better", "F", "--interventions", "label-flipping", "--seeds", "1", "--json")
    assert json.loads(found.stdout)["interventions"][0]["name"] == "label-flipping F=0.05"
    assert _run("--interventions", "baseline").exit_code == 2
