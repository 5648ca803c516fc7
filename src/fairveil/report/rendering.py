"""Tables as Markdown, CSV, HTML and text for the terminal; and what HTML pages share."""

import base64
import csv
import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from math import isfinite
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table as TerminalTable
from rich.text import Text

from fairveil.base.errors import AlreadyExistsError, FairveilError, shown
from fairveil.base.files import atomic_path, replaceable
from fairveil.report.tables import Cell, Table, Unit, figure, interval_shown, value_shown
from fairveil.version import __version__

_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_HUES = {"low is good": "213 94 0", "high is good": "0 114 178"}  # told apart also by those who see few colors
_DARKEST = 0.55  # opacity of the highest value's cell: the figure stays legible on light and on dark pages
_LABEL_WIDTH, _NAME_WIDTH = 26, 9  # where names of rows and of narrow columns are broken in the terminal


def to_markdown(table: Table) -> str:
    """A table as GitHub shows it, with its title, caption and notes; columns line up in the source as well."""
    head = [table.row_name, *(f"{group}: {name}" if group else name for group, name in table.headings)]
    body = [[name, *_figures(table, cells)] for name, cells in table.rows]
    lines = [[text.replace("|", r"\|").replace("\n", " ") for text in line] for line in (head, *body)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]
    rule = [f":{'-' * (widths[0] - 1)}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    aligned = [
        [line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))]
        for line in (lines[0], rule, *lines[1:])
    ]
    parts = [f"**{table.title}**", "\n".join(f"| {' | '.join(line)} |" for line in aligned), table.caption]
    parts += ["\n".join(f"- {note}" for note in _notes(table))]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_csv(tables: Iterable[Table]) -> str:
    """Tables in long form, a line for each cell: values with full precision, shares in [0, 1]."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("table", "row", "group", "column", "value", "low", "high", "unit", "text", "note"))
    for table in tables:
        for row, cells in table.rows:
            for (group, column), cell, unit in zip(table.headings, cells, table.units, strict=True):
                writer.writerow((table.title, row, group, column, *_numbers(cell), unit, cell.text, cell.note))
    return stream.getvalue()


def _numbers(cell: Cell) -> tuple[float | None, float | None, float | None]:
    """A cell's figure and the ends of its interval, where there are such; "inf" where the upper one is not bounded."""
    one = cell.estimate
    if one is None or not one.measured:
        return None, None, None
    return (one.value, one.low, one.high) if isfinite(one.low) else (one.value, None, None)


def to_html(table: Table) -> str:
    """A table as an HTML fragment that needs no style sheet; classes let one do more.

    The shade lies over the page's own background, so that it suits light and dark pages alike.
    """
    template = environment().get_template("table.html")
    return template.render(table=table, rows=_html_rows(table), starts=_starts(table))


def to_terminal(table: Table, *, width: int = 80) -> list[RenderableType]:
    """A table for rich to print: its title, the table, its caption and notes.

    A table wider than `width` is broken into several, each with the names of the rows. Only a single column that is
    wider by itself will not fit.
    """
    below = [Text(text) for text in (table.caption, *_notes(table)) if text]
    return [Text(table.title, style="bold"), *_fitting(table, width), *below]


def _figures(table: Table, cells: Sequence[Cell]) -> list[str]:
    """The cells of a row with the marks of their notes."""
    return [figure(cell, unit) + _mark(table, cell) for cell, unit in zip(cells, table.units, strict=True)]


def _mark(table: Table, cell: Cell) -> str:
    return str(table.footnotes[cell.note]).translate(_RAISED) if cell.note else ""


def _notes(table: Table) -> list[str]:
    return [*(f"{str(number).translate(_RAISED)} {note}" for note, number in table.footnotes.items()), *table.notes]


def _html_rows(table: Table) -> list[tuple[str, list[dict[str, object]]]]:
    heats = _heats(table)
    return [
        (
            name,
            [
                {
                    "estimate": value_shown(cell, unit),
                    "interval": interval_shown(cell, unit),
                    "mark": table.footnotes[cell.note] if cell.note else None,
                    "note": cell.note,
                    "background": _background(table, heat),
                    "first": column in _starts(table),
                }
                for column, (cell, unit, heat) in enumerate(zip(cells, table.units, row_heats, strict=True))
            ],
        )
        for (name, cells), row_heats in zip(table.rows, heats, strict=True)
    ]


def _background(table: Table, heat: float | None) -> str | None:
    if table.shade is None or heat is None:
        return None
    return f"rgb({_HUES[table.shade]} / {_DARKEST * heat:.3f})"


def _heats(table: Table) -> list[list[float | None]]:
    """How dark each cell is, from 0 to 1: a share by its value, others from the lowest to the highest of the column."""
    columns = [_heats_of_column([cells[i] for _, cells in table.rows], unit) for i, unit in enumerate(table.units)]
    return [[column[i] for column in columns] for i in range(len(table.rows))]


def _heats_of_column(cells: Sequence[Cell], unit: Unit) -> list[float | None]:
    values = [cell.value for cell in cells]
    known = [value for value in values if value is not None]
    low, high = (0.0, 1.0) if unit == "%" or not known else (min(known), max(known))
    span = (high - low) or 1.0
    return [None if value is None else min(max((value - low) / span, 0.0), 1.0) for value in values]


def _starts(table: Table) -> set[int]:
    """The columns with which a group begins, but for the first."""
    groups = [group for group, _ in table.headings]
    return {i for i in range(1, len(groups)) if groups[i] != groups[i - 1]}


def _fitting(table: Table, width: int) -> list[TerminalTable]:
    """The table in pieces that fit a width: in one if it can be, else broken between groups and where need be."""
    ruler, everything = Console(width=10_000), range(len(table.columns))

    def fits(piece: TerminalTable) -> bool:
        return ruler.measure(piece).maximum <= width

    whole = _terminal_table(table, everything)
    if not everything or fits(whole):
        return [whole]
    starts, pieces = _starts(table), [range(1)]
    for column in everything[1:]:
        longer = range(pieces[-1].start, column + 1)
        if column in starts or not fits(_terminal_table(table, longer, stacked=True)):
            pieces.append(range(column, column + 1))
        else:
            pieces[-1] = longer
    return [_terminal_table(table, piece, stacked=True) for piece in pieces]


def _terminal_table(table: Table, columns: range, *, stacked: bool = False) -> TerminalTable:
    """The given columns, `stacked` with intervals below figures; long names are broken at spaces and hyphens."""
    shown = TerminalTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column(Text(table.row_name), max_width=_LABEL_WIDTH, overflow="fold")
    rows = [
        [text.replace(" [", "\n[") if stacked else text for text in _figures(table, cells)] for _, cells in table.rows
    ]
    for column in columns:
        words = [word for text in table.headings[column] for word in re.findall(r"[^\s-]+-?", text)]
        figures = [line for row in rows for line in row[column].split("\n")]
        room = max(_NAME_WIDTH, *map(cell_len, (*words, *figures)), 0)
        lines = [line for text in table.headings[column] for line in textwrap.wrap(text, room)]
        shown.add_column(Text("\n".join(lines)), justify="right", no_wrap=True)
    for (name, _), row in zip(table.rows, rows, strict=True):
        shown.add_row(Text(name), *(Text(row[column]) for column in columns))
    return shown


def write_page(page: Path, html: str, *, overwrite: bool) -> None:
    """Write an HTML page, whole or not at all.

    Raises:
        FairveilError: the page already exists and is not to be replaced, is no ordinary file, or cannot be written.
    """
    if not replaceable(page):
        raise FairveilError(f"{shown(page)} is not an ordinary file and is never replaced: choose another name.")
    try:
        with atomic_path(page, overwrite=overwrite) as temporary:
            temporary.write_text(html, encoding="utf-8")
    except FileExistsError:
        raise AlreadyExistsError(f"{page} already exists: allow `overwrite=True`, or choose another name.") from None
    except OSError as error:
        raise FairveilError(f"{page} could not be written: {error.strerror or error}.") from error


def write_sheet(page: Path, template: str, *, overwrite: bool, **words: object) -> None:
    """Write a page of tables and plots from a template, which can call `table` and `picture` and knows the version.

    Raises:
        FairveilError: as `write_page`.
    """
    html = (
        environment()
        .get_template(template)
        .render(words, version=__version__, table=lambda table: Markup(to_html(table)), picture=_picture_address)
    )
    write_page(page, html, overwrite=overwrite)


def _picture_address(svg: str) -> str:
    """A picture as an address that holds all of it, for a page that needs no other file."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


@cache
def environment() -> Environment:
    """The templates of the report; what they are given is escaped."""
    return Environment(
        loader=PackageLoader("fairveil.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
