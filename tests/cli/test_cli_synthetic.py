import json

import pytest
import typer
from typer.testing import CliRunner

from fairveil.cli.synthetic import generate
from fairveil.data.table import FaceTable


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(generate)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


SMALL = ("--identities", 4, "--per-identity", 1, "--size", 64)


def test_it_writes_the_faces_and_says_where(run, tmp_path):
    outcome = run(tmp_path / "faces", *SMALL)
    assert outcome.exit_code == 0, outcome.output
    assert "4 photos of 4 people" in outcome.stdout and "faces.csv" in outcome.stdout
    assert len(FaceTable.from_csv(tmp_path / "faces/faces.csv")) == 4


def test_json_tells_the_make_up_and_the_settings(run, tmp_path):
    words = ("--warm-share", 0.25, "--likeness", "cool=1.5", "--disturbance", "cool=2", "--disturbance", "round=0.5")
    outcome = run(tmp_path / "faces", *SMALL, *words, "--json")
    assert outcome.exit_code == 0, outcome.output
    record = json.loads(outcome.stdout)
    assert record["photos"] == 4 and sum(row["people"] for row in record["people"]) == 4
    assert sum(row["people"] for row in record["people"] if row["tone"] == "warm") == 1
    assert record["settings"]["difficulty"] == {
        "cool": {"likeness": 1.5, "disturbance": 2.0},
        "round": {"likeness": 1.0, "disturbance": 0.5},
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--likeness", "green=2"), "names no group"),
        (("--likeness", "cool"), "is no likeness"),
        (("--likeness", "cool=nan"), "is no likeness"),
        (("--disturbance", "cool=99"), "is no disturbance"),
        (("--size", 20), "64"),
    ],
)
def test_wrong_words_are_told_and_nothing_is_written(run, tmp_path, words, said):
    outcome = run(tmp_path / "faces", *words)
    assert outcome.exit_code == 2 and said in " ".join(outcome.output.split())
    assert not (tmp_path / "faces").exists()
