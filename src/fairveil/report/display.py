"""Results that print as text, show themselves in a notebook, and become a table of Polars."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fairveil.base.errors import missing_extra
from fairveil.report.tables import Table

if TYPE_CHECKING:
    import polars as pl


class DisplayMixin:
    """To be inherited by a result of a chapter.

    `display_of(result)` in the chapter's `report.py` gives the sentences and tables to show. It is found by its place,
    because reports are built on results, so results cannot be built on reports.
    """

    def __str__(self) -> str:
        """Sentences and tables as plain text; captions are left to `_repr_html_`."""
        from fairveil.report.rendering import to_markdown

        tables = (to_markdown(replace(table, caption="", notes=())).rstrip() for table in self._tables())
        return "\n\n".join([*self._sentences(), *tables])

    def _repr_html_(self) -> str:
        """The same with captions, as notebooks show it."""
        from fairveil.report.rendering import to_html

        sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in self._sentences())
        return f"<div>{sentences}{''.join(map(to_html, self._tables()))}</div>"

    def to_frame(self) -> "pl.DataFrame":
        """The figures as a table of Polars; `.to_pandas()` makes a table of pandas of it.

        Raises:
            MissingExtraError: Polars is not installed.
        """
        try:
            import polars as pl
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error
        return pl.DataFrame([*self._rows()], infer_schema_length=None)

    def _sentences(self) -> Iterable[str]:
        """What the figures say."""
        return self._display()[0]

    def _tables(self) -> Iterable[Table]:
        """The figures that matter most."""
        return self._display()[1]

    def _display(self) -> tuple[Iterable[str], Iterable[Table]]:
        chapter = type(self).__module__.rpartition(".")[0]
        found: tuple[Iterable[str], Iterable[Table]] = import_module(f"{chapter}.report").display_of(self)
        return found

    def _rows(self) -> Iterable[Mapping[str, Any]]:
        """Rows of `to_frame`."""
        return ()
