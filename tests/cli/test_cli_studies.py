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
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "experiment"))
    return partial(run_fairveil, "study")


def test_the_list_names_the_studies_of_the_dissertation(fairveil):
    code, out, _ = fairveil("list", "--json")
    assert code == 0
    assert "lowkey-transfer" in [study["name"] for study in json.loads(out)]


def test_the_list_names_whole_studies_in_80_columns(fairveil, monkeypatch):
    from fairveil.cli.terminal import results
    from fairveil.experiment.catalogue import studies

    monkeypatch.setattr(results, "_width", 80)
    code, out, _ = fairveil("list")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert [name for name in studies() if f" {name} " not in out] == []


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
    (record,) = json.loads((tmp_path / "studies.json").read_text())
    assert record["name"] == "sleepy" and record["tables"] and len(record["trials"]) == 4
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
        (("table", STUDY), "has not been run in fairveil-studies yet"),
        (("report",), "No study has been run"),
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
    assert "has not been run" in err


@pytest.mark.parametrize("format", ["terminal", "md", "csv", "html"])
def test_tables_say_which_preset_and_which_data_are_ours(fairveil, format):
    code, out, err = fairveil("run", STUDY, "--preset", "smoke", "--workers", "1", "--set", "bed=four-poster")
    assert code == 0
    assert "The data set four-poster is not here: floor data stand in for it." in err
    assert "Naps, ours (smoke, floor)" in out
    code, out, _ = fairveil("table", STUDY, "--format", format)
    assert code == 0
    assert "Naps, ours (smoke, floor)" in out


def test_settings_and_records_that_cannot_be_used_are_a_sentence(fairveil, tmp_path):
    for name, content in (("bad.toml", b"count = "), ("bytes.toml", b"\xff"), ("wrong.toml", b"count = 'many'")):
        (tmp_path / name).write_bytes(content)
        code, _, err = fairveil("run", STUDY, "--settings", name)
        assert code == 1
        assert err.startswith("Error: ")
    assert fairveil("run", STUDY, "--workers", "0")[0] == 2
    assert fairveil("run", STUDY, "--out", "")[0] == 2
    (tmp_path / "file").touch()
    for words, complaint in (
        (("--out", "file"), "Records cannot be kept in file/runs"),
        (("--set", "count=0"), "leave sleepy without a trial"),
        (("--device", "abacus"), "Networks cannot run on 'abacus'"),
    ):
        code, _, err = fairveil("run", STUDY, "--preset", "smoke", "--workers", "1", *words)
        assert code == 1
        assert complaint in err
    assert fairveil("run", STUDY, "--preset", "smoke", "--workers", "1")[0] == 0
    for path in tmp_path.glob("fairveil-studies/r*/**/*.json"):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        code, _, err = fairveil("table", STUDY)
        assert code == 1
        assert err.count("\n") == 1
        assert "or a damaged one" in err
        path.write_bytes(whole)


def test_a_run_of_another_version_is_a_sentence(fairveil, tmp_path):
    assert fairveil("run", STUDY, "--preset", "smoke", "--workers", "1")[0] == 0
    (path,) = tmp_path.glob("fairveil-studies/runs/*.json")
    path.write_text(path.read_text().replace('"bed"', '"mattress"'))
    for command in ("table", "report"):
        code, _, err = fairveil(command, STUDY)
        assert code == 1
        assert "made by another version of the study" in err


def test_a_report_on_all_says_which_it_cannot_find_and_has_none_twice(fairveil, tmp_path):
    assert fairveil("run", STUDY, "--preset", "smoke", "--workers", "1")[0] == 0
    code, _, err = fairveil("report")
    assert code == 1
    assert "sleepy is no study of fairveil's: name it as package.module:NAME." in err
    assert fairveil("report", STUDY, STUDY)[0] == 0
    assert (tmp_path / "studies.html").read_text().count("<article") == 1
