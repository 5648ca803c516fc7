import csv
import io
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.experiment.published import published_table
from fairveil.report.rendering import to_csv, to_html, to_markdown, to_terminal
from fairveil.report.tables import Cell, Table, beside, figure, pivot


@dataclass(frozen=True)
class Figure:
    labels: dict[str, str]
    estimate: Estimate


def _table(values, columns=("a", "b"), **settings):
    rows = tuple((name, tuple(Cell.of(value) for value in row)) for name, row in values.items())
    return Table("A table", columns, rows, **settings)


def _printed(table, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*to_terminal(table, width=width), sep="\n")
    return console.export_text()


@pytest.mark.parametrize(
    ("cell", "unit", "shown"),
    [
        (Cell(Estimate(0.025, 0.003, 0.087)), "%", "2.5 % [0.3–8.7]"),
        (Cell.of(1.0), "%", "100.0 %"),
        (Cell(Estimate(0.5, low=0.4)), "%", "50.0 % [40.0–∞]"),
        (Cell.of(1234.4), "s", "1234 s"),
        (Cell(Estimate(32.0, 30.0, 34.0)), "s", "32.0 s [30.0–34.0]"),
        (Cell.of(0.0123), "s", "0.012 s"),
        (Cell(Estimate(0.123, -0.1, 0.2)), "cosine", "+0.12 [-0.10 to +0.20]"),
        (Cell.of(0.0456), "LPIPS", "0.046"),
        (Cell.of(34.56), "dB", "34.6 dB"),
        (Cell.of(1.5), "ratio", "1.50"),
        (Cell.of(13233), "count", "13,233"),
        (Cell(), "%", "–"),
        (Cell.of(math.nan), "%", "–"),
        (Cell(Estimate(0.1, 0.0, 0.2), text="cannot run"), "%", "cannot run"),
    ],
)
def test_a_figure_is_shown_in_its_unit_with_its_interval(cell, unit, shown):
    assert figure(cell, unit) == shown


@pytest.mark.parametrize(
    "settings", [{"columns": ("a",)}, {"unit": ("%",)}, {"groups": (("ours", 1),)}], ids=["cells", "units", "groups"]
)
def test_a_table_whose_parts_do_not_fit_is_refused(settings):
    with pytest.raises(ValueError, match="A table"):
        _table({"x": (0.1, 0.2)}, **settings)


def test_measurements_become_rows_and_columns_in_their_order():
    measured = [
        Figure({"attacker": "clean", "defender": "b", "metric": "rank-1"}, Estimate(0.9, 0.8, 1.0)),
        Figure({"attacker": "clean", "defender": "a", "metric": "rank-1"}, Estimate(0.7)),
        Figure({"attacker": "a", "defender": "a", "metric": "rank-1"}, Estimate(0.1)),
        Figure({"attacker": "a", "defender": "a", "metric": "rank-50"}, Estimate(0.3)),
        Figure({"attacker": "a", "metric": "LPIPS"}, Estimate(0.05)),
    ]
    table = pivot(measured, row="attacker", column="defender", where={"metric": "rank-1"}, title="Rank-1")
    assert table.columns == ("b", "a")
    assert table.rows == (("clean", (Cell(Estimate(0.9, 0.8, 1.0)), Cell.of(0.7))), ("a", (Cell(), Cell.of(0.1))))
    assert (table.row_name, table.column_name) == ("attacker", "defender")


def test_rows_and_columns_that_are_asked_for_come_whether_measured_or_not():
    table = pivot(
        [Figure({"r": "x", "c": "a"}, Estimate(0.1)), Figure({"r": "y", "c": "b"}, Estimate(0.2))],
        row="r",
        column="c",
        title="Some",
        rows=["z", "x"],
        columns=["b", "a"],
    )
    assert table.rows == (("z", (Cell(), Cell())), ("x", (Cell(), Cell.of(0.1))))


def test_two_measurements_for_one_cell_are_refused():
    twice = [Figure({"r": "x", "c": "a", "seed": seed}, Estimate(0.1)) for seed in "01"]
    with pytest.raises(FairveilError, match=r"two measurements for row 'x' and column 'a': choose with `where`"):
        pivot(twice, row="r", column="c", title="Some")


def test_tables_with_the_same_columns_stand_side_by_side():
    ours = _table({"x": (0.1, 0.2), "z": (0.3, 0.4)}, unit=("%", "s"), caption="LFW.")
    published = _table({"x": (0.5, 0.6), "y": (0.7, 0.8)}, columns=("b", "a"), caption="FaceScrub.", notes=("N.",))
    (joined,) = beside(ours, published, ours_name="ours (small)")
    assert joined.headings == (
        ("ours (small)", "a"),
        ("ours (small)", "b"),
        ("published", "a"),
        ("published", "b"),
    )
    assert {name: [cell.value for cell in cells] for name, cells in joined.rows} == {
        "x": [0.1, 0.2, 0.6, 0.5],
        "z": [0.3, 0.4, None, None],
        "y": [None, None, 0.8, 0.7],
    }
    assert joined.units == ("%", "s", "%", "%")
    assert (joined.caption, joined.notes) == ("Ours (small): LFW. Published: FaceScrub.", ("N.",))


def test_ours_may_have_more_columns_than_the_published():
    (joined,) = beside(_table({"x": (0.1, 0.2)}), _table({"x": (0.5,)}, columns=("b",)))
    assert joined.columns == ("a", "b", "b")


@pytest.mark.parametrize(
    "published",
    [_table({"x": (0.1, 0.2)}, columns=("a", "c")), _table({"y": (0.1, 0.2)})],
    ids=["another column", "no row in common"],
)
def test_tables_that_cannot_be_compared_stand_one_under_the_other(published):
    ours = _table({"x": (0.1, 0.2)})
    first, second = beside(ours, published)
    assert (first.title, second.title) == ("A table: ours", "A table: published")
    assert (first.rows, second.rows) == (ours.rows, published.rows)


def test_markdown_has_a_line_for_each_row_and_the_notes_below():
    table = Table(
        "Who | knows",
        ("a|b", "c"),
        (
            ("clean", (Cell.of(0.968), Cell(Estimate(0.025, 0.003, 0.087), note="odd"))),
            ("x", (Cell(note="odd"), Cell())),
        ),
        caption="A caption.",
        notes=("More.",),
        row_name="attacker",
    )
    assert to_markdown(table).splitlines() == [
        "**Who | knows**",
        "",
        "| attacker |   a\\|b |                c |",
        "| :------- | -----: | ---------------: |",
        "| clean    | 96.8 % | 2.5 % [0.3–8.7]¹ |",
        "| x        |     –¹ |                – |",
        "",
        "A caption.",
        "",
        "- ¹ odd",
        "- More.",
    ]


@given(st.floats(0, 1), st.floats(0, 1) | st.just(-math.inf), st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_csv_gives_back_every_value_exactly(value, low, note):
    table = replace(
        _table({"x, y": (value, None)}, columns=('a "quoted"', "b")),
        rows=(("x, y", (Cell(Estimate(value, low), note=note), Cell())),),
    )
    first, second = csv.DictReader(io.StringIO(to_csv([table])))
    assert float(first["value"]) == value
    assert (float(first["low"]) if first["low"] else -math.inf) == low
    assert first["high"] == ("inf" if first["low"] else "")
    assert (first["row"], first["column"], first["note"]) == ("x, y", 'a "quoted"', note)
    assert second["value"] == ""


def test_csv_of_several_tables_has_one_head_and_names_groups():
    (joined,) = beside(_table({"x": (0.1, 0.2)}), _table({"x": (0.3, 0.4)}))
    lines = list(csv.DictReader(io.StringIO(to_csv([joined, _table({"y": (1, math.nan)})]))))
    assert [(line["row"], line["group"], line["column"], line["value"]) for line in lines] == [
        ("x", "ours", "a", "0.1"),
        ("x", "ours", "b", "0.2"),
        ("x", "published", "a", "0.3"),
        ("x", "published", "b", "0.4"),
        ("y", "", "a", "1"),
        ("y", "", "b", ""),
    ]


def _opacities(html):
    return [float(part.split(")")[0]) for part in html.split("background-color:rgb(213 94 0 / ")[1:]]


def test_html_shades_shares_by_their_value_and_other_figures_by_their_column():
    shares = _opacities(to_html(_table({"x": (0.0, 0.5), "y": (1.0, 2.0)}, shade="low is good")))
    assert shares == pytest.approx([0, shares[2] / 2, shares[2], shares[2]], abs=1e-3)
    seconds = _table({"x": (10.0, 7.0), "y": (20.0, None), "z": (30.0, 7.0)}, shade="low is good", unit="s")
    opacities = _opacities(to_html(seconds))
    assert opacities == pytest.approx([0, 0, opacities[-2] / 2, opacities[-2], 0], abs=1e-3)


def test_html_tells_what_dark_means_by_its_hue_and_leaves_plain_tables_plain():
    table = _table({"x": (0.0, 0.5)})
    assert "background-color" not in to_html(table)
    assert not _opacities(to_html(replace(table, shade="high is good")))
    assert "background-color" in to_html(replace(table, shade="high is good"))


def test_html_escapes_everything_it_is_given():
    evil = "<script>alert('&')</script>"
    table = Table(
        evil, (evil,), ((evil, (Cell(text=evil, note=evil),)),), evil, notes=(evil,), row_name=evil, groups=((evil, 1),)
    )
    html = to_html(table)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 9


def test_the_published_matrix_fits_a_terminal_in_one_piece():
    printed = _printed(published_table("3.2").table())
    assert max(map(len, printed.splitlines())) <= 80
    assert sum(line.strip().startswith("Ensemble") for line in printed.splitlines()) == 1
    assert "96.8 %¹" in printed
    assert "¹ The text reads 90.8 %" in printed


def test_a_wide_table_is_broken_into_pieces_that_fit_and_lose_nothing():
    columns = tuple(f"mobilefacenet-{i}" for i in range(8))
    rows = tuple(
        (f"attacker {i}", tuple(Cell(Estimate(i / 10 + j / 100, 0.01, 0.99)) for j in range(8))) for i in range(8)
    )
    printed = _printed(Table("Wide", columns, rows))
    assert max(map(len, printed.splitlines())) <= 80
    words = printed.split()
    for i in range(8):
        for j in range(8):
            assert f"{10 * i + j}.0" in words
    pieces = printed.count("attacker 0")
    assert 1 < pieces <= 3


def test_a_wide_pair_is_broken_where_the_published_begins():
    matrix = published_table("3.2").table()
    (joined,) = beside(matrix, matrix)
    heads = [line for line in _printed(joined).splitlines() if {"ours", "published"} & set(line.split())]
    assert heads
    assert all(len(set(line.split()) & {"ours", "published"}) == 1 for line in heads)


def test_markup_in_names_is_printed_as_it_is():
    assert "[bold]x[/]" in _printed(_table({"[bold]x[/]": (0.1, 0.2)}))


@pytest.mark.parametrize("table", [Table("Nothing", (), ()), Table("No rows", ("a",), ())])
def test_empty_tables_are_shown_as_such(table):
    for shown in (to_markdown(table), to_html(table), _printed(table)):
        assert table.title in shown
    assert len(to_csv([table]).splitlines()) == 1
