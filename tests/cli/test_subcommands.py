"""A command that also has subcommands."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from fairveil.cli.subcommands import CommandWithSubcommands

inner = typer.Typer(cls=CommandWithSubcommands, invoke_without_command=True)


@inner.callback()
def whole(file: Annotated[str | None, typer.Argument()] = None, level: int = 1) -> None:
    typer.echo(f"whole {file} {level}")


@inner.command("power")
def power(by: Annotated[str, typer.Argument()] = "nothing", level: int = 2) -> None:
    typer.echo(f"power {by} {level}")


app = typer.Typer()
app.add_typer(inner, name="audit")
app.command("other")(lambda: None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("audit", "whole None 1"),
        ("audit faces.parquet --level 5", "whole faces.parquet 5"),
        ("audit --level 5 faces.parquet", "whole faces.parquet 5"),
        ("audit ./power", "whole ./power 1"),
        ("audit power", "power nothing 2"),
        ("audit power 3 --level 5", "power 3 5"),
    ],
)
def test_the_name_of_a_subcommand_starts_it_and_anything_else_the_command(words, said):
    done = CliRunner().invoke(app, words.split())
    assert (done.exit_code, done.stdout) == (0, f"{said}\n")


def test_help_has_both_and_mistakes_name_their_own_command():
    help_text = CliRunner().invoke(app, ["audit", "--help"]).stdout
    assert "--level" in help_text and "power" in help_text
    mistake = CliRunner().invoke(app, ["audit", "power", "1", "2"])
    assert mistake.exit_code == 2 and "audit power [OPTIONS]" in mistake.stderr
    assert CliRunner().invoke(app, ["audit", "a", "b"]).exit_code == 2
