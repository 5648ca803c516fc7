"""What all commands share: results go to stdout, talk and progress to stderr."""

import re
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_ARGUMENT = re.compile(r"`(\w+)=([^`]*)`")

results, talk = Console(), Console(stderr=True)


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
