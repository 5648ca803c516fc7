"""The few kinds of plot that studies need, from plain figures to SVG text.

The same figures give the same text: no date, no random names. Plots stand on white, so that they can be read on a dark
page and in print; colors are told apart by those who see few of them, and markers and lines differ as well.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from fairveil.base.estimate import Estimate

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito, 2008
_MARKERS, _DASHES = ("o", "s", "^", "D", "v", "P", "X"), ("-", "--", "-.", ":")
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fairveil",
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "text.color": "#1c2330",
    "axes.labelcolor": "#1c2330",
    "xtick.color": "#1c2330",
    "ytick.color": "#1c2330",
}


@dataclass(frozen=True)
class Series:
    """Points that belong together, in the order in which a line joins them.

    Attributes:
        name: in the legend.
        x: where the points are.
        y: their values, with intervals where there are any.
        labels: what to write at the points; none by default.
    """

    name: str
    x: Sequence[float]
    y: Sequence[Estimate]
    labels: Sequence[str] = ()

    @property
    def values(self) -> list[float]:
        """The values of y."""
        return [one.value for one in self.y]

    @property
    def ends(self) -> tuple[list[float], list[float]] | None:
        """Lower and upper ends of the intervals, the value where a point has none; None if no point has one."""
        if not any(one.bounded for one in self.y):
            return None
        both = [(one.low, one.high) if one.bounded else (one.value, one.value) for one in self.y]
        return [low for low, _ in both], [high for _, high in both]


def heat_map(
    values: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    row_name: str = "",
    column_name: str = "",
) -> str:
    """Shares as colored squares with their figures, as in the dissertation: the lighter, the lower.

    Args:
        values: shares in [0, 1], a sequence for each row; None or NaN where there is none.
        rows: their names.
        columns: their names.
        row_name: what rows are, such as "attacker".
        column_name: what columns are, such as "defender".

    Returns:
        SVG text.
    """
    shares = np.array(values, dtype=float).reshape(len(rows), len(columns))
    with _drawing(1.8 + 0.62 * len(columns), 1.2 + 0.36 * len(rows)) as (axes, svg):
        axes.imshow(shares, cmap="Oranges", vmin=0.0, vmax=1.0, aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            shown = "–" if np.isnan(share) else f"{100 * share:.1f}"
            color = "white" if share > 0.75 else "#1c2330"
            axes.text(column, row, shown, ha="center", va="center", color=color, fontsize=9)
        axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel=column_name, ylabel=row_name, title="")
    return svg()


def lines(
    series: Sequence[Series],
    *,
    x_name: str,
    y_name: str,
    logarithmic: bool = False,
    shares: bool = True,
    whole: bool = True,
) -> str:
    """Lines over a common axis, their intervals as bands; for cumulative match curves with a logarithmic axis of k.

    Args:
        series: what to draw; `labels` are not shown.
        x_name: what the horizontal axis is.
        y_name: what the vertical axis is.
        logarithmic: whether the horizontal axis is; all x are positive then.
        shares: whether y are shares in [0, 1], shown in percent.
        whole: whether shares are shown over the whole range, from 0 to 100 %; else over that of the values.

    Returns:
        SVG text.
    """
    with _drawing(6.4, 3.8) as (axes, svg):
        for one, color, marker, dash in zip(series, cycle(_COLORS), cycle(_MARKERS), cycle(_DASHES), strict=False):
            mark = marker if len(one.x) <= 20 else None  # a long curve would be hidden by its own marks
            axes.plot(one.x, one.values, dash, color=color, marker=mark, markersize=5, label=one.name)
            if one.ends is not None:
                axes.fill_between(one.x, *one.ends, color=color, alpha=0.15, linewidth=0)
        _finish(axes, series, x_name, y_name, shares=shares, whole=whole)
        if logarithmic:
            _count_by_powers(axes, [x for one in series for x in one.x])
    return svg()


def frontier(series: Sequence[Series], *, x_name: str, y_name: str, shares: bool = True) -> str:
    """What one thing costs in another, such as recognition against LPIPS: labeled points with intervals, joined.

    Args:
        series: what to draw, each the settings of one method in the order of their strength.
        x_name: what the horizontal axis is.
        y_name: what the vertical axis is.
        shares: whether y are shares in [0, 1], shown in percent over the whole range.

    Returns:
        SVG text.
    """
    with _drawing(6.4, 4.4) as (axes, svg):
        for one, color, marker in zip(series, cycle(_COLORS), cycle(_MARKERS), strict=False):
            axes.plot(one.x, one.values, "-", color=color, marker=marker, markersize=6, linewidth=1.2, label=one.name)
            if one.ends is not None:
                axes.vlines(one.x, *one.ends, color=color, alpha=0.45, linewidth=1.2)
            for x, y, label in zip(one.x, one.values, one.labels, strict=False):
                axes.annotate(label, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8, color=color)
        axes.margins(x=0.1)
        _finish(axes, series, x_name, y_name, shares=shares)
    return svg()


@contextmanager
def _drawing(width: float, height: float) -> Iterator[tuple[Axes, Callable[[], str]]]:
    """Axes on white paper of a size in inches, and what gives the finished SVG text after the block."""
    text: list[str] = []
    with matplotlib.rc_context(_STYLE):
        paper = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        yield paper.add_subplot(), lambda: text[0]
        stream = io.StringIO()
        paper.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text.append(stream.getvalue())


def _finish(
    axes: Axes, series: Sequence[Series], x_name: str, y_name: str, *, shares: bool, whole: bool = True
) -> None:
    axes.set(xlabel=x_name, ylabel=y_name)
    axes.grid(True)
    if shares:
        if whole:
            axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if whole else None, symbol=" %"))
    if any(one.name for one in series) and len(series) > 1:
        axes.figure.legend(loc="outside lower center", ncols=min(len(series), 3), fontsize=9)


def _count_by_powers(axes: Axes, x: Sequence[float]) -> None:
    """A logarithmic axis with round counts on it: 1, 2, 5, 10, 20, 50 and so on."""
    axes.set_xscale("log")
    low, high = min(x), max(x)
    ticks: Any = [step * 10.0**power for power in range(-3, 9) for step in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
