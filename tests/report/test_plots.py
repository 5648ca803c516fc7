import math
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest

from fairveil.base.estimate import Estimate
from fairveil.report.plots import Series, frontier, heat_map, lines

CURVE = Series(
    "clean",
    (1, 5, 50),
    (Estimate(0.5, 0.4, 0.6), Estimate(0.8, 0.7, 0.9), Estimate(0.95, 0.9, 1.0)),
    labels=("10", "20", "30"),
)
OTHER = Series("protected & <blurred>", (1, 5, 50), (Estimate(0.0), Estimate(0.1), Estimate(0.2)))


def _heat_map():
    return heat_map([[0.5, None], [math.nan, 0.968]], rows=["x", "y"], columns=["a", "b"], column_name="defender")


def _lines():
    return lines([CURVE, OTHER], x_name="rank k", y_name="recognised", logarithmic=True)


def _frontier():
    return frontier([CURVE, OTHER], x_name="LPIPS", y_name="recognised")


def _words(svg):
    return [
        "".join(element.itertext()).strip() for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.mark.parametrize("plot", [_heat_map, _lines, _frontier])
def test_the_same_figures_give_the_same_text_and_leave_no_trace(plot):
    before = dict(mpl.rcParams)
    first, second = plot(), plot()
    assert first == second
    assert not re.search(r"dc:date|20\d\d-\d\d", first)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("plot", [_heat_map, _lines, _frontier])
def test_plots_stand_on_white_and_ask_for_nothing_outside(plot):
    svg = plot()
    assert "fill: #ffffff" in svg
    references = re.findall(r"""(?:href|src)=["']([^"']*)|url\(([^)]*)\)""", svg)
    assert all((one or other).startswith(("#", "data:")) for one, other in references)


def test_a_heat_map_writes_every_share_and_a_dash_where_there_is_none():
    words = _words(_heat_map())
    assert words.count("–") == 2
    assert {"50.0", "96.8", "a", "b", "x", "y", "defender"} <= set(words)


def test_a_logarithmic_axis_counts_in_round_ranks():
    words = _words(_lines())
    assert [word for word in words if word.isdigit()] == ["1", "2", "5", "10", "20", "50"]
    assert {"0 %", "100 %", "clean", OTHER.name, "rank k"} <= set(words)


def test_lines_draw_a_band_only_where_there_are_intervals():
    def bands(*series):
        return len(re.findall(r'id="\w*PolyCollection', lines(series, x_name="", y_name="")))

    assert (bands(OTHER), bands(CURVE, OTHER), bands(CURVE, CURVE)) == (0, 1, 2)


def test_a_frontier_labels_its_points():
    assert {"10", "20", "30", "LPIPS", "clean"} <= set(_words(_frontier()))


def test_other_figures_than_shares_have_their_own_range():
    seconds = Series("", (1, 2), (Estimate(10.0), Estimate(40.0)))
    words = _words(lines([seconds], x_name="photos", y_name="seconds", shares=False))
    assert "40" in words
    assert not any("%" in word for word in words)
