"""Pages that are a list of sections, each of sentences, tables and plots."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairveil.report.rendering import write_sheet
from fairveil.report.study import Figure
from fairveil.report.tables import Table


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: of it.
        paragraphs: at its head.
        warnings: sentences that must not be overlooked.
        points: sentences in a list.
        tables: of figures.
        plots: with captions.
    """

    title: str
    paragraphs: Sequence[str] = ()
    warnings: Sequence[str] = ()
    points: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Figure] = ()


def write_sections(
    page: Path, sections: Sequence[Section], *, title: str, date: str, note: str, overwrite: bool = False
) -> None:
    """Write sections as one HTML page that needs no other file.

    Args:
        page: the file to write; its folder must exist.
        sections: in order.
        title: of the page.
        date: when it was made, as readers see it.
        note: a sentence below the title.
        overwrite: replace a page that already exists.

    Raises:
        FairveilError: the page already exists, or cannot be written.
    """
    write_sheet(page, "sections.html", overwrite=overwrite, sections=sections, title=title, date=date, note=note)
