"""The report on studies: one HTML page that opens anywhere, with everything inside."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairveil.report.rendering import write_sheet
from fairveil.report.tables import Cell, Table, figure


@dataclass(frozen=True)
class Figure:
    """A plot of a report: its caption and the picture as SVG text."""

    caption: str
    svg: str


@dataclass(frozen=True)
class TrialRow:
    """How one trial went.

    Attributes:
        label: what it is called.
        seconds: how long it took; None if it never ran.
        status: how it ended.
        error: why it failed.
        machine: which of the section's machines it ran on, counted from 1; None if there is only one.
    """

    label: str
    seconds: float | None
    status: Literal["finished", "failed", "not run"]
    error: str = ""
    machine: int | None = None


@dataclass(frozen=True)
class StudySection:
    """What the page says about one study.

    Attributes:
        name: by which commands know it.
        title: a few words.
        question: what it answers, in a sentence.
        source: where the dissertation has it.
        preset: the size it ran at.
        settings: of the study; may be nested.
        tables: ours and the published.
        plots: with captions.
        differences: what differs from the published setting and why, a sentence each.
        trials: how they went.
        machines: where they ran: what is to be said of each, such as {"cores": 2, "torch": "2.13.0"}.
    """

    name: str
    title: str
    question: str
    source: str
    preset: str
    settings: Mapping[str, Any]
    tables: Sequence[Table] = ()
    plots: Sequence[Figure] = ()
    differences: Sequence[str] = ()
    trials: Sequence[TrialRow] = ()
    machines: Sequence[Mapping[str, Any]] = ()

    @property
    def seconds(self) -> float:
        """What all trials took together."""
        return sum(trial.seconds or 0.0 for trial in self.trials)


def write_report(
    page: Path,
    sections: Sequence[StudySection],
    *,
    title: str,
    date: str,
    introduction: str = "",
    overwrite: bool = False,
) -> None:
    """Write a report on studies as one HTML page with its pictures inside; it needs no network and no script.

    Args:
        page: the file to write; its folder must exist.
        sections: the studies, in order.
        title: of the page.
        date: when the report was made, as readers see it.
        introduction: a paragraph at the top.
        overwrite: replace a page that already exists.

    Raises:
        FairveilError: the page already exists, or cannot be written.
    """
    write_sheet(
        page,
        "study.html",
        overwrite=overwrite,
        sections=sections,
        title=title,
        date=date,
        introduction=introduction,
        settings=_leaves,
        duration=_duration,
    )


def _leaves(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as the command line names them, with their values in words."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{name}.")
        elif isinstance(value, str) or not isinstance(value, Sequence):
            yield f"{above}{name}", "none" if value is None else str(value)
        else:
            yield f"{above}{name}", ", ".join(map(str, value)) or "none"


def _duration(seconds: float) -> str:
    """A time as people say it: "2.50 s", "3 min 20 s", "1 h 05 min"."""
    if seconds < 60:
        return figure(Cell.of(seconds), "s")
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"
