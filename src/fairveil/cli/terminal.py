"""What all commands share: results go to stdout, talk and progress to stderr."""

import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

results, talk = Console(), Console(stderr=True)


def named_path(text: str) -> Path:
    """A path that a person gave, for typer's `parser=`: an empty word, as of an unset variable, names nothing.

    `pathlib` would take it for the folder one is in.
    """
    if not text:
        raise typer.BadParameter("the name is empty.")
    return Path(text)


def progress_bar() -> Progress:
    """A bar on stderr that goes away when the work is done; its description says what is under way."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=talk,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # a bar on stderr must not swallow results that go to a file
    )
