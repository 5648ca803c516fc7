import json

import pytest
from typer.testing import CliRunner

from fairveil.cli import app
from fairveil.errors import FairveilError
from fairveil.fair.findings import XrayExperiment

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
    assert "levelled down" in page
    # the same again trains nothing
    monkeypatch.setattr(XrayExperiment, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = _run("--interventions", "min-max,label-flipping", "--seeds", "2")
    assert again.exit_code == 0
    assert "min-max: the gap between" in " ".join(again.stdout.split())
    with pytest.raises(FairveilError, match="is there already"):
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
