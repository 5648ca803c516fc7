"""Tables of measurements: what they hold, how measurements become one, and how ours stands beside the published."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from types import MappingProxyType
from typing import Literal, Protocol

from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate

Unit = Literal["%", "s", "cosine", "LPIPS", "dB", "ratio", "count", "AUC", "°", "ΔE"]
"""What the values of a table are. Shares are kept in [0, 1] and shown in percent."""

Shade = Literal["low is good", "high is good"]
"""What a darker cell means; a lighter one is the lower value in either case, as in the dissertation."""


@dataclass(frozen=True)
class Cell:
    """One figure of a table.

    Attributes:
        estimate: the figure with its interval; None if there is none.
        text: shown instead of the figure, such as why there is none.
        note: shown below the table, with a mark at the figure.
    """

    estimate: Estimate | None = None
    text: str | None = None
    note: str | None = None

    @classmethod
    def of(cls, value: float | None, *, note: str | None = None) -> "Cell":
        """A figure without an interval; None for none."""
        return cls(None if value is None else Estimate(value), note=note)

    @property
    def measured(self) -> bool:
        """Whether there is a figure."""
        return self.estimate is not None and self.estimate.measured

    @property
    def value(self) -> float | None:
        """The figure; None if there is none."""
        return self.estimate.value if self.estimate is not None and self.measured else None


@dataclass(frozen=True)
class Table:
    """Named rows and columns of figures.

    Attributes:
        title: what it shows, in a few words.
        columns: their names. With `groups` a name may come back in another group.
        rows: each a name and as many cells as there are columns.
        caption: what a reader has to know to read it.
        unit: of all columns, or one for each column.
        shade: whether cells are shaded, and what a dark one means.
        notes: shown below.
        row_name: what rows are, such as "attacker".
        column_name: what columns are, such as "defender".
        groups: neighboring columns under a common heading: its text and how many columns it spans.

    Raises:
        ValueError: a row, the units or the groups do not fit the columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    caption: str = ""
    unit: Unit | tuple[Unit, ...] = "%"
    shade: Shade | None = None
    notes: tuple[str, ...] = ()
    row_name: str = ""
    column_name: str = ""
    groups: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for name, cells in self.rows:
            if len(cells) != len(self.columns):
                raise ValueError(
                    f"Row {name!r} of {self.title!r} has {len(cells)} cells for {len(self.columns)} columns."
                )
        if not isinstance(self.unit, str) and len(self.unit) != len(self.columns):
            raise ValueError(f"{self.title!r} has {len(self.unit)} units for {len(self.columns)} columns.")
        if self.groups and sum(span for _, span in self.groups) != len(self.columns):
            raise ValueError(f"The groups of {self.title!r} do not span its {len(self.columns)} columns.")

    @property
    def units(self) -> tuple[Unit, ...]:
        """The unit of each column."""
        return (self.unit,) * len(self.columns) if isinstance(self.unit, str) else self.unit

    @property
    def headings(self) -> tuple[tuple[str, str], ...]:
        """The group of each column (empty if there are none), and the column's name."""
        of_groups = [group for group, span in self.groups for _ in range(span)] or [""] * len(self.columns)
        return tuple(zip(of_groups, self.columns, strict=True))

    @property
    def footnotes(self) -> dict[str, int]:
        """The notes at cells, numbered from 1 in reading order; cells with the same note share its number."""
        notes = dict.fromkeys(cell.note for _, cells in self.rows for cell in cells if cell.note)
        return {note: number for number, note in enumerate(notes, start=1)}


def figure(cell: Cell, unit: Unit) -> str:
    """A cell as a reader sees it.

    >>> figure(Cell(Estimate(0.025, 0.003, 0.087)), "%")
    '2.5 % [0.3–8.7]'
    """
    return f"{value_shown(cell, unit)} {interval_shown(cell, unit)}".rstrip()


def value_shown(cell: Cell, unit: Unit) -> str:
    """A cell's figure with its unit, or the text that stands for it."""
    if cell.text is not None:
        return cell.text
    if cell.value is None:
        return "–"
    sign = unit if unit in ("%", "s", "dB", "°") else ""
    return f"{_number(cell.value, unit)} {sign}".rstrip()


def interval_shown(cell: Cell, unit: Unit) -> str:
    """A cell's interval in brackets; empty if it has none."""
    one = cell.estimate
    if cell.text is not None or one is None or not one.measured or not isfinite(one.low):
        return ""
    dash = " to " if unit == "cosine" or one.low < 0 else "–"  # a dash before a sign would be misread
    return f"[{_number(one.low, unit)}{dash}{_number(one.high, unit)}]"


def _number(value: float, unit: Unit) -> str:
    return "∞" if value == inf else _NUMBERS[unit](value)


def _seconds(value: float) -> str:
    """Three digits that matter, and never more than milliseconds."""
    places = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{places}f}"


_NUMBERS: Mapping[Unit, Callable[[float], str]] = {
    "%": lambda value: f"{100 * value:.1f}",
    "s": _seconds,
    "cosine": lambda value: f"{value:+.2f}",
    "LPIPS": lambda value: f"{value:.3f}",
    "dB": lambda value: f"{value:.1f}",
    "ratio": lambda value: f"{value:.2f}",
    "count": lambda value: f"{value:,.0f}",
    "AUC": lambda value: f"{value:.3f}",
    "°": lambda value: f"{value:.1f}",
    "ΔE": lambda value: f"{value:.2f}",
}


class Measured(Protocol):
    """A figure and what it is of."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What it is of, such as {"defender": "dlib-resnet", "metric": "rank-1"}."""

    @property
    def estimate(self) -> Estimate:
        """The figure with its interval."""


def pivot(
    measurements: Iterable[Measured],
    *,
    row: str,
    column: str,
    title: str,
    where: Mapping[str, str] = MappingProxyType({}),
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    caption: str = "",
    unit: Unit | tuple[Unit, ...] = "%",
    shade: Shade | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """A table of measurements: one label down, one across.

    Args:
        measurements: what was measured; those without the labels `row` and `column` are left out.
        row: the label that names rows.
        column: the label that names columns.
        title: of the table.
        where: labels that measurements must have to be taken.
        rows: which rows and in which order; as they come by default. One that was not measured is left empty.
        columns: the same for columns.
        caption: of the table.
        unit: of the values.
        shade: of the table.
        notes: of the table.

    Raises:
        FairveilError: two measurements belong in the same cell.
    """
    cells: dict[tuple[str, str], Cell] = {}
    for one in measurements:
        if not ({row, column} <= one.labels.keys() and where.items() <= one.labels.items()):
            continue
        place = one.labels[row], one.labels[column]
        if place in cells:
            raise FairveilError(
                f"The table {title!r} has two measurements for row {place[0]!r} and column {place[1]!r}: choose with "
                "`where` which is shown, or put their mean in their place."
            )
        cells[place] = Cell(one.estimate)
    rows = list(dict.fromkeys(name for name, _ in cells)) if rows is None else rows
    columns = list(dict.fromkeys(name for _, name in cells)) if columns is None else columns
    return Table(
        title=title,
        columns=tuple(columns),
        rows=tuple((name, tuple(cells.get((name, other), Cell()) for other in columns)) for name in rows),
        caption=caption,
        unit=unit,
        shade=shade,
        notes=tuple(notes),
        row_name=row,
        column_name=column,
    )


def beside(
    ours: Table, published: Table, *, ours_name: str = "ours", published_name: str = "published"
) -> tuple[Table, ...]:
    """Ours and the published, side by side where they can be compared cell by cell, else one under the other.

    They can if every published column is one of ours and they have a row in common. Rows that only one of them has are
    kept, and left empty on the other side.

    Args:
        ours: what was measured here, without groups.
        published: what it stands beside, without groups.
        ours_name: the heading over ours, such as "ours (small)".
        published_name: the heading over the other.

    Returns:
        One table, or two.
    """
    ours_rows, published_rows = dict(ours.rows), dict(published.rows)
    shared = [name for name in ours.columns if name in published.columns]
    if len(shared) < len(published.columns) or not ours_rows.keys() & published_rows.keys():
        return (
            replace(ours, title=f"{ours.title}: {ours_name}"),
            replace(published, title=f"{published.title}: {published_name}"),
        )
    order = [published.columns.index(name) for name in shared]
    nothing = (Cell(),) * len(ours.columns)
    nothing_published = (Cell(),) * len(published.columns)
    rows = {
        name: (*ours_rows.get(name, nothing), *(published_rows.get(name, nothing_published)[i] for i in order))
        for name in (*ours_rows, *published_rows)
    }
    joined = Table(
        title=ours.title,
        columns=(*ours.columns, *shared),
        rows=tuple(rows.items()),
        caption=" ".join(
            f"{name[:1].upper()}{name[1:]}: {table.caption}"
            for name, table in ((ours_name, ours), (published_name, published))
            if table.caption
        ),
        unit=(*ours.units, *(published.units[i] for i in order)),
        shade=ours.shade,
        notes=(*ours.notes, *published.notes),
        row_name=ours.row_name,
        column_name=ours.column_name,
        groups=((ours_name, len(ours.columns)), (published_name, len(shared))),
    )
    return (joined,)
