"""The command line: parse, call, print. Results go to stdout, talk to stderr."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer
from rich.text import Text

from fairveil.base.errors import FairveilError, missing_extra
from fairveil.cli.audit import audit_app
from fairveil.cli.faces import embed, identify
from fairveil.cli.fair import fair_app
from fairveil.cli.models import models_app
from fairveil.cli.protection import check, protect
from fairveil.cli.sanitize import sanitize_app
from fairveil.cli.serve import serve
from fairveil.cli.studies import study_app
from fairveil.cli.synthetic import generate
from fairveil.cli.terminal import as_options, talk
from fairveil.cli.training import train
from fairveil.version import __version__

_WRITING = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF}
"""What goes wrong when results are written."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Photos that face recognition can no longer match, and honest tests of what it does to whom.",
)
for command in (protect, check, serve, embed, identify, train):
    app.command()(command)
app.add_typer(audit_app, name="audit")
app.add_typer(models_app, name="models")
app.add_typer(sanitize_app, name="sanitize")
app.add_typer(study_app, name="study")
app.add_typer(fair_app, name="fair")
faces_app = typer.Typer(no_args_is_help=True, help="Generate faces of people who do not exist.")
faces_app.command()(generate)
app.add_typer(faces_app, name="faces")


def main() -> None:
    """Run the command line; every expected failure ends as one sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or a σ that a terminal cannot show must not end the work
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error
        finally:
            if sys.stdout:
                sys.stdout.flush()  # here, where a full disk can still be told of
    except FairveilError as error:
        _say(as_options(str(error)))
        sys.exit(1)
    except OSError as error:
        if error.filename is not None or error.errno not in _WRITING:  # not about where the results go
            raise
        _discard_results()
        if not isinstance(error, BrokenPipeError):  # whoever read them had enough, as `head` does
            _say(f"The results could not be written: {error.strerror or error}.")
        sys.exit(1)


def _say(sentence: str) -> None:
    talk.print(Text("Error: ", "bold red"), Text(sentence), sep="", soft_wrap=True)


def _discard_results() -> None:
    """Nothing more can be written to stdout; what is still waiting must not fail once more when Python ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


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
