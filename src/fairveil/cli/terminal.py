"""How all commands talk: results go to stdout; talk and progress go to stderr."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:  # jinja2 and more, for which --help should not wait
    from fairveil.report.tables import Table

_ARGUMENT = re.compile(r"`(\w+)=([^`]*)`")

results, talk = Console(), Console(stderr=True)

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def as_options(sentence: str) -> str:
    """A sentence of the library, with the arguments of Python that it names as the options they are of commands.

    >>> as_options("me.jpg already exists: allow `overwrite=True`, or say `channels=BGR`.")
    'me.jpg already exists: allow --overwrite, or say --channels BGR.'
    """

    def option(argument: "re.Match[str]") -> str:
        name, value = argument.groups()
        if name == "max_pixels":
            name, value = "max_megapixels", str(int(value) // 10**6)
        return f"--{name.replace('_', '-')}" + (f" {value}" if value != "True" else "")

    return _ARGUMENT.sub(option, sentence)


def named_path(text: str) -> Path:
    """A path that a person gave, for typer's `parser=`: an empty word, as of an unset variable, names nothing.

    `pathlib` would take it for the folder one is in.
    """
    if not text:
        raise typer.BadParameter("the name is empty.")
    return Path(text)


def say(sentence: str, style: str = "") -> None:
    """Tell the person something that is not a result."""
    talk.print(Text(sentence, style), soft_wrap=True)


def print_sentence(sentence: str) -> None:
    """Print a sentence of results as it is, without marks of rich."""
    results.print(Text(sentence), soft_wrap=True)


def print_table(table: "Table") -> None:
    """Print a table of results, as wide as the terminal."""
    from fairveil.report.rendering import to_terminal

    for part in to_terminal(table, width=results.width):
        results.print(part)


@contextmanager
def stopped_by_ctrl_c(kept: str) -> Iterator[None]:
    """Where Ctrl-C ends the command: says so, and what is kept in a sentence.

    Raises:
        typer.Exit: with the exit code of an interrupted command.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"Stopped. {kept}".rstrip())
        raise typer.Exit(INTERRUPTED) from None


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
