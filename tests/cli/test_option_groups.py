"""A dataclass stands for the options that several commands take."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from fairveil.cli.option_groups import with_option_groups


@dataclass(frozen=True)
class Weather:
    """Two options and an argument."""

    place: Annotated[str, typer.Argument()]
    days: Annotated[int, typer.Option(min=1)] = 3
    wet: Annotated[list[str] | None, typer.Option(help="Where it rains.")] = None


def run(command, *words):
    app = typer.Typer()
    app.command()(with_option_groups(command))
    return CliRunner().invoke(app, words)


def forecast(*, loud: Annotated[bool, typer.Option("--loud")] = False, weather: Weather, name: str = "nobody") -> None:
    typer.echo(f"{loud} {weather} {name}")


def test_fields_are_options_and_the_command_gets_the_dataclass():
    done = run(forecast, "Oslo", "--wet", "here", "--wet", "there", "--name", "me")
    assert done.stdout == f"False {Weather('Oslo', 3, ['here', 'there'])} me\n"


def test_options_stand_in_the_place_of_the_dataclass_with_their_checks_and_defaults():
    help_text = run(forecast, "--help").stdout
    assert [help_text.index(f"--{name}") for name in ("loud", "days", "wet", "name")] == sorted(
        help_text.index(f"--{name}") for name in ("loud", "days", "wet", "name")
    )
    assert run(forecast, "Oslo", "--days", "0").exit_code == 2
    assert run(forecast).exit_code == 2  # no place


def test_two_options_of_one_name_are_a_mistake_of_the_program():
    def twice(*, weather: Weather, days: int = 1) -> None: ...

    with pytest.raises(ValueError, match="days"):
        with_option_groups(twice)
