"""The command line: parse, call, print. Results go to stdout, talk to stderr."""

import io
import sys
from typing import Annotated

import typer
from rich.text import Text

from fairveil.cli.models import models_app
from fairveil.cli.protection import check, protect
from fairveil.cli.terminal import talk
from fairveil.errors import FairveilError
from fairveil.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Photos that face recognition can no longer match, and honest tests of what it does to whom.",
)
for command in (protect, check):
    app.command()(command)
app.add_typer(models_app, name="models")


def main() -> None:
    """Run the command line; every expected failure ends as one sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or a σ that a terminal cannot show must not end the work
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except FairveilError as error:
        talk.print(Text("Error: ", "bold red"), Text(str(error)), sep="", soft_wrap=True)
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fairveil {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of the whole program."""
