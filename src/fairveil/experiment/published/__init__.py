"""The dissertation's numbers as it prints them: a file for each table, or each section with figures in its text.

Shares are in [0, 1]. Every file is in long form: `table,row,column,value,note`. The text was read from a scan, so notes
tell which values had to be reconstructed and which look like slips; the latter stand unchanged. A cell that the
dissertation leaves empty, or gives as a range, has a line without a value.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import cast

from fairveil.base.errors import FairveilError
from fairveil.report.tables import Cell, Shade, Table, Unit

__all__ = ["PublishedTable", "published_numbers", "published_table"]


@dataclass(frozen=True)
class PublishedTable:
    """One table of the dissertation, or the figures that one of its sections gives in the text.

    Attributes:
        number: of the table ("3.2") or the section ("3.6.3").
        title: what it shows, in a few words of ours.
        caption: the dissertation's own, or for a section what its text says.
        rows: their names, in order.
        columns: their names, in order.
        values: by row and column; cells without a figure are missing.
        notes: by row and column, where a value was reconstructed or looks like a slip, or a row's name does.
        remark: what to know about the table as a whole; may be empty.
        unit: of all columns, or one for each column.
        shade: what a dark cell means in a report; None where cells are not shaded.
        row_name: what rows are, such as "attacker".
        column_name: what columns are, such as "defender"; may be empty.
    """

    number: str
    title: str
    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Mapping[tuple[str, str], float]
    notes: Mapping[tuple[str, str], str]
    remark: str
    unit: Unit | tuple[Unit, ...]
    shade: Shade | None
    row_name: str
    column_name: str

    @property
    def name(self) -> str:
        """What to call it: "table 3.2", "section 3.6.3"."""
        return f"{'section' if self.number.count('.') == 2 else 'table'} {self.number}"

    def table(self) -> Table:
        """The same for a report, shaded as in the dissertation."""
        return Table(
            title=f"{self.title} ({self.name})",
            columns=self.columns,
            rows=tuple(
                (
                    row,
                    tuple(
                        Cell.of(self.values.get((row, column)), note=self.notes.get((row, column)))
                        for column in self.columns
                    ),
                )
                for row in self.rows
            ),
            caption=self.caption,
            unit=self.unit,
            shade=self.shade,
            notes=(self.remark,) if self.remark else (),
            row_name=self.row_name,
            column_name=self.column_name,
        )


def published_numbers() -> tuple[str, ...]:
    """The tables and sections there are numbers of, chapter by chapter and tables first."""
    return tuple(_contents())


@cache
def published_table(number: str) -> PublishedTable:
    """The numbers of one table or section of the dissertation.

    Raises:
        FairveilError: there are no numbers under this number.

    >>> published_table("3.1").values["LowKey", "Amazon rank-50"]
    0.024
    """
    if number not in _contents():
        raise FairveilError(f"There are no published numbers of {number!r}, only of {', '.join(_contents())}.")
    about, lines = _contents()[number], _lines(number)
    units = cast(tuple[Unit, ...], tuple(about["unit"].split("|")))
    return PublishedTable(
        number=number,
        title=about["title"],
        caption=about["caption"],
        rows=tuple(dict.fromkeys(line["row"] for line in lines)),
        columns=tuple(dict.fromkeys(line["column"] for line in lines)),
        values=MappingProxyType(
            {(line["row"], line["column"]): float(line["value"]) for line in lines if line["value"]}
        ),
        notes=MappingProxyType({(line["row"], line["column"]): line["note"] for line in lines if line["note"]}),
        remark=about["note"],
        unit=units[0] if len(units) == 1 else units,
        shade=cast(Shade, about["shade"]) or None,
        row_name=about["row_name"],
        column_name=about["column_name"],
    )


@cache
def _contents() -> dict[str, dict[str, str]]:
    return {line["table"]: line for line in _lines("contents")}


def _lines(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(files(__name__).joinpath(f"{name}.csv").read_text(encoding="utf-8").splitlines()))
