"""`fairveil study` as a person would use it."""

import json
from functools import partial
from pathlib import Path

import pytest

STUDY = "sleepy:SLEEPY"


@pytest.fixture
def fairveil(monkeypatch, run_fairveil, tmp_path):
    """The command `fairveil study`: gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "studies"))
    return partial(run_fairveil, "study")


def test_the_list_names_the_studies_of_the_dissertation(fairveil):
    code, out, _ = fairveil("list", "--json")
    assert code == 0
    assert "lowkey-transfer" in [study["name"] for study in json.loads(out)]


def test_a_study_is_run_shown_and_reported(fairveil, tmp_path):
    code, out, err = fairveil("run", STUDY, "--preset", "smoke", "--workers", "1")
    assert code == 0, err
    assert "nap 3" in out
    assert "9" in out
    code, out, _ = fairveil("table", STUDY, "--format", "csv")
    assert code == 0
    assert "nap 3" in out
    code, out, _ = fairveil("table", STUDY, "--format", "md")
    assert "| nap 3 |" in out
    code, out, err = fairveil("report", STUDY)
    assert code == 0, err
    page = (tmp_path / "studies.html").read_text()
    assert "Nobody published naps." in page
    assert "nap 3" in page
    code, _, err = fairveil("report", STUDY)
    assert code == 1
    assert "--overwrite" in err


def test_settings_are_shown_and_can_be_changed(fairveil):
    code, out, _ = fairveil("show", STUDY, "--set", "count=2", "--set", "inner.depth=5")
    assert code == 0
    assert "inner.depth" in out
    assert "2 trials" in out
    code, _, err = fairveil("run", STUDY, "--set", "cuont=2")
    assert code == 1
    assert "Did you mean count?" in err


def test_failed_trials_end_the_run_with_an_error(fairveil):
    code, _, err = fairveil("run", STUDY, "--preset", "smoke", "--set", "failing=[1]", "--workers", "1")
    assert code == 1
    assert "nap 1 failed: ValueError: nap 1 was not slept" in err
    assert "1 of 4 trials failed: nap 1" in err


def test_what_was_never_run_or_does_not_exist_is_a_sentence(fairveil):
    for words, complaint in (
        (("table", STUDY), "was not run in fairveil-studies yet"),
        (("report",), "No study was run"),
        (("run", "lowkey-transfr"), "Did you mean lowkey-transfer?"),
        (("run", "nowhere:AT_ALL"), "cannot be imported"),
        (("run", "json:dumps"), "not a Study"),
    ):
        code, _, err = fairveil(*words)
        assert code == 1
        assert complaint in err


def test_the_dry_run_of_the_published_setting_touches_no_records(fairveil, tmp_path):
    code, _, err = fairveil("run", STUDY, "--preset", "paper", "--dry-run", "--workers", "1")
    assert code == 0, err
    code, _, err = fairveil("table", STUDY)
    assert "was not run" in err
