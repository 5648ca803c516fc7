"""The pages of results: what the dissertation published beside what came out here.

Where a folder of records of studies is named, tables are made from them, as `fairveil study table` makes them. Where
none is, they are made from `results/*.csv`: figures that we measured, each file with the command that made it.
"""

import csv
import re
from collections.abc import Iterator, Set
from dataclasses import replace
from itertools import groupby
from math import inf, nan
from pathlib import Path

from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.experiment.catalogue import studies
from fairveil.experiment.presentation import section_of
from fairveil.experiment.records import RecordStore
from fairveil.report.rendering import to_html
from fairveil.report.tables import Cell, Table

_INTRODUCTION = """# Published against ours

Every table of the dissertation's chapters 3 to 6 is a [study](studies.md) that anyone can run. This page sets what came
out of them beside what was published. Brackets hold 95 % intervals unless the text at a table says otherwise; those
over 3 runs (Student's) leave nearly everything open. "Published" is what the dissertation prints; it
was not measured by us.
"""

_MANY_COLUMNS = 8
"""From so many on, a table is wider than the page, and the published would be out of sight."""

_COMMITTED = """
!!! note "Where these figures come from"
    No records of studies were at hand when this page was built, so it shows the figures that are committed with the
    source (`docs/results/*.csv`). They were measured by the commands that stand above them, on two cores without
    a GPU. Many were kept as whole per cents or with one decimal, so a last 0 need not be measured. To have the page
    made from records of your own, build it with `FAIRVEIL_STUDIES=fairveil-studies make docs`.
"""

_RECORDED = """
!!! note "Where these figures come from"
    This page was made from the records of studies: of each study the latest run. What differs from the
    published setting stands below each. Figures of studies without records stand at the end, as they are committed
    with the source (`docs/results/*.csv`); many of these were kept as whole per cents or with one decimal, so a last 0
    need not be measured.
"""


def published_against_ours(figures: Path, records: Path | None) -> str:
    """The page, as Markdown with tables in HTML.

    Args:
        figures: folder of the committed figures.
        records: folder of records of studies; None if there is none.

    Raises:
        FairveilError: the folder holds no run of any study.
    """
    if records is None:
        return "\n".join([_INTRODUCTION, _COMMITTED, *_committed(figures, set())])
    store = RecordStore(records)
    if not any(store.runs(name) for name in studies()):
        raise FairveilError(
            f"{records} holds no run of any study: name a folder that `fairveil study run --out` wrote to, or none."
        )
    sections = dict(_from_records(store))
    shown = {name for name, section in sections.items() if "<table" in section}
    return "\n".join([_INTRODUCTION, _RECORDED, *sections.values(), *_committed(figures, shown)])


def every_study() -> str:
    """The page of all studies: what each asks, where the dissertation has it, and what differs here."""
    parts = [
        "# Every study\n",
        "`fairveil study run NAME` runs one; `fairveil study show NAME` lists its settings. Below each stands what "
        "its preset `small`, made for two cores, does otherwise than the dissertation.\n",
    ]
    for study in studies().values():
        differences = study.differences(study.presets["small"])
        parts += [
            f"## {study.name}\n",
            f"{study.question} *{study.title}; {study.source}.*\n",
            *(f"- {_escaped(difference)}" for difference in differences),
            "",
        ]
    return "\n".join(parts)


def _from_records(store: RecordStore) -> Iterator[tuple[str, str]]:
    """Names of studies that were run, and what there is to show of each."""
    for name, study in studies().items():
        runs = store.runs(name)
        if not runs:
            continue
        try:
            section = section_of(study, runs[0], store)
        except FairveilError as error:  # of an older version, or nothing is finished: the other studies are shown
            yield name, f"## {study.title}\n\n{_escaped(str(error))}\n"
            continue
        parts = [
            f"## {section.title}\n",
            f"{section.question} Published: {section.source}. Preset `{section.preset}`.\n",
            f"    fairveil study run {name} --preset {section.preset}\n",
            *(_framed(_column_by_column(table)) for table in section.tables),
            *(f"- {_escaped(difference)}" for difference in section.differences),
            "",
        ]
        yield name, "\n".join(parts)


def _column_by_column(table: Table) -> Table:
    """Ours and the published, one beside the other in every column rather than table beside table."""
    if len(table.groups) != 2 or len(table.columns) < _MANY_COLUMNS:
        return table
    width = table.groups[0][1]
    ours, published = range(width), range(width, len(table.columns))
    if not {table.columns[i] for i in published} <= {table.columns[i] for i in ours}:
        return table
    pairs = [(i, *(j for j in published if table.columns[j] == table.columns[i])) for i in ours]
    order = [i for pair in pairs for i in pair]
    names = [heading for heading, _ in table.headings]
    return replace(
        table,
        columns=tuple(names[i] for i in order),
        rows=tuple((name, tuple(cells[i] for i in order)) for name, cells in table.rows),
        unit=tuple(table.units[i] for i in order),
        groups=tuple((table.columns[pair[0]], len(pair)) for pair in pairs),
    )


def _committed(folder: Path, shown: Set[str]) -> Iterator[str]:
    """Figures that are committed, but for those whose studies are all shown already."""
    for about in _lines(folder / "contents.csv"):
        runs = re.findall(r"fairveil study run (\S+)", about["command"])
        if runs and shown.issuperset(runs):
            continue
        yield f"## {about['title']}\n"
        yield f"{about['what']}\n"
        yield "".join(f"    {command}\n" for command in about["command"].split(" && "))
        yield _framed(_table(about, _lines(folder / f"{about['file']}.csv")), titled=False)
        yield f"{about['reading']}\n"


def _table(about: dict[str, str], lines: list[dict[str, str]]) -> Table:
    """A table from lines `row,group,column,value,low,high,unit`; shares are in [0, 1]."""
    headings = list(dict.fromkeys((line["group"], line["column"]) for line in lines))
    rows = list(dict.fromkeys(line["row"] for line in lines))
    cells = {(line["row"], line["group"], line["column"]): line for line in lines}
    units = {(line["group"], line["column"]): line["unit"] for line in lines}
    groups = tuple((group, len(list(same))) for group, same in groupby(group for group, _ in headings))
    return Table(
        title=about["title"],
        columns=tuple(column for _, column in headings),
        rows=tuple((row, tuple(_cell(cells.get((row, *heading))) for heading in headings)) for row in rows),
        unit=tuple(units[heading] for heading in headings),  # type: ignore[arg-type]
        row_name=about["row_name"],
        groups=groups if any(group for group, _ in groups) else (),
    )


def _cell(line: dict[str, str] | None) -> Cell:
    if line is None:
        return Cell()
    value, low, high = (float(line[name] or none) for name, none in (("value", nan), ("low", -inf), ("high", inf)))
    return Cell(Estimate(value, low, high))


def _framed(table: Table, *, titled: bool = True) -> str:
    """As a block of HTML that Markdown leaves alone; its title, if it is shown, is no heading of the page."""
    title = r"<p><strong>\1</strong></p>" if titled else ""
    html = re.sub(r"<h3>(.*?)</h3>", title, to_html(table), count=1, flags=re.DOTALL)
    return f'<div class="measured">\n{html}\n</div>\n'


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _escaped(text: str) -> str:
    return text.replace("*", r"\*").replace("_", r"\_")
