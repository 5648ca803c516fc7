"""The page of results is made from records where there are some, and from the committed figures."""

import csv
from importlib import import_module
from pathlib import Path

import pytest

from fairveil.base.errors import FairveilError
from fairveil.base.executors import executor
from fairveil.experiment import published
from fairveil.experiment.records import RecordStore
from fairveil.experiment.running import run_study
from fairveil.report.tables import Cell, Table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    return import_module("measured")


@pytest.fixture
def sleepy(monkeypatch, measured):
    monkeypatch.syspath_prepend(ROOT / "tests" / "experiment")
    study = import_module("sleepy").SLEEPY
    monkeypatch.setattr(measured, "studies", lambda: {study.name: study})
    return study


def test_without_records_the_committed_figures_are_shown_and_said_to_be_so(measured):
    page = measured.published_against_ours(RESULTS, None)
    assert "No records of studies were at hand" in page
    assert page.count("<table") == len(list(RESULTS.glob("*.csv"))) - 1
    assert "<td>42.6 %</td>" in page.replace(' class="first"', "")
    assert "fairveil study run gallery-images --preset small\n" in page


def test_with_records_a_study_that_was_run_stands_there_with_what_differs(measured, sleepy, tmp_path):
    store = RecordStore(tmp_path)
    with executor() as here:
        run_study(sleepy, sleepy.presets["smoke"], store, here, preset="smoke")
    page = measured.published_against_ours(RESULTS, tmp_path)
    assert "No records of studies were at hand" not in page
    assert "fairveil study run sleepy --preset smoke" in page
    assert "Naps, ours (smoke" in page
    assert "- Nobody published naps." in page


def test_a_study_that_is_shown_from_records_is_not_shown_as_committed_too(measured, sleepy, tmp_path, monkeypatch):
    store = RecordStore(tmp_path)
    with executor() as here:
        run_study(sleepy, sleepy.presets["smoke"], store, here, preset="smoke")
    contents = RESULTS / "contents.csv"
    lines = measured._lines(contents)
    lines[0]["command"] = "fairveil study run sleepy --preset small"
    lines[1]["command"] = "fairveil study run sleepy --preset small && fairveil study run other --preset small"
    read = measured._lines
    monkeypatch.setattr(measured, "_lines", lambda path: lines if path == contents else read(path))
    page = measured.published_against_ours(RESULTS, tmp_path)
    assert f"## {lines[0]['title']}\n" not in page
    assert f"## {lines[1]['title']}\n" in page
    assert "a last 0" in page


def test_a_folder_without_runs_is_refused(measured, tmp_path):
    with pytest.raises(FairveilError, match="holds no run of any study"):
        measured.published_against_ours(RESULTS, tmp_path)


def test_wide_tables_have_the_published_beside_ours_in_every_column(measured):
    names = ("a", "b", "c", "d")
    cells = tuple(Cell.of(float(number)) for number in range(8))
    wide = Table("t", names * 2, (("row", cells),), unit=("%", "s") * 4, groups=(("ours", 4), ("published", 4)))
    turned = measured._column_by_column(wide)
    assert turned.groups == (("a", 2), ("b", 2), ("c", 2), ("d", 2))
    assert turned.columns == ("ours", "published") * 4
    assert [cell.value for cell in turned.rows[0][1]] == [0, 4, 1, 5, 2, 6, 3, 7]
    assert turned.unit == ("%", "%", "s", "s") * 2
    narrow = Table("t", ("a", "a"), (("row", cells[:2]),), groups=(("ours", 1), ("published", 1)))
    assert measured._column_by_column(narrow) is narrow


def test_a_run_of_an_older_version_is_named_and_hides_no_other(measured, sleepy, tmp_path, monkeypatch):
    store = RecordStore(tmp_path)
    with executor() as here:
        run_study(sleepy, sleepy.presets["smoke"], store, here, preset="smoke")

    def refused(*_):
        raise FairveilError("The run was made by another version of the study.")

    monkeypatch.setattr(measured, "section_of", refused)
    page = measured.published_against_ours(RESULTS, tmp_path)
    assert "made by another version" in page
    assert "<table" in page


def test_every_study_is_on_the_page_of_studies(measured):
    page = measured.every_study()
    assert all(f"## {name}\n" in page for name in measured.studies())


TABLES = [*RESULTS.glob("*.csv"), *Path(published.__file__).parent.glob("*.csv")]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_no_line_of_a_committed_table_has_more_or_fewer_cells_than_its_heading(path):
    with path.open(encoding="utf-8", newline="") as file:
        heading, *lines = csv.reader(file)
    assert {len(line) for line in lines} == {len(heading)}
