"""Results that print, show themselves in a notebook, and become tables of Polars."""

from fairveil.base.estimate import Estimate
from fairveil.report.display import DisplayMixin
from fairveil.report.tables import Cell, Table


class Result(DisplayMixin):
    def _sentences(self):
        return ("A < B & C.",)

    def _tables(self):
        yield Table(
            "Rates",
            ("rank-1",),
            (("women", (Cell(Estimate(0.5, 0.25, 0.75)),)),),
            caption="Long words.",
            row_name="group",
        )

    def _rows(self):
        yield {"group": "women", "value": 0.5, "low": None}
        yield {"group": "men", "value": 1.0, "low": 0.5}


def test_text_has_sentences_and_tables_and_leaves_captions_to_notebooks():
    assert str(Result()).splitlines() == [
        "A < B & C.",
        "",
        "**Rates**",
        "",
        "| group |             rank-1 |",
        "| :---- | -----------------: |",
        "| women | 50.0 % [25.0–75.0] |",
    ]


def test_a_notebook_shows_the_same_with_captions_and_escapes_what_is_said():
    html = Result()._repr_html_()
    assert html.startswith("<div><p>A &lt; B &amp; C.</p>") and html.count("<table") == 1
    assert "50.0 %" in html and "Long words." in html


def test_rows_become_a_frame_though_figures_are_missing_at_first():
    frame = Result().to_frame()
    assert frame.columns == ["group", "value", "low"] and frame["low"].to_list() == [None, 0.5]
