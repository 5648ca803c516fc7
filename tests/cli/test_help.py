"""Every command explains itself in a terminal of 80 columns."""

import re

import pytest
import typer
from typer.testing import CliRunner

from fairveil.cli import app


def commands(command, words=()):
    """The words of every command that does something."""
    children = getattr(command, "commands", {})
    if not children or command.invoke_without_command:
        yield words
    for name, child in children.items():
        yield from commands(child, (*words, name))


COMMANDS = list(commands(typer.main.get_command(app)))


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_an_example_and_is_not_cut_off(words, narrow):
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    assert f"Example: fairveil {' '.join(words)} " in f"{' '.join(done.stdout.split())} "
    assert "…" not in done.stdout and max(map(len, done.stdout.splitlines())) <= 80


def options():
    """The options of every command: words, name, help."""
    for words in COMMANDS:
        command = typer.main.get_command(app)
        for word in words:
            command = command.commands[word]
        for option in command.params:
            if option.name not in ("help", "version", "install_completion", "show_completion"):
                yield words, max(getattr(option, "opts", [option.name]), key=len), option.help


def test_what_several_commands_share_is_said_in_the_same_words():
    shared = (
        "--report",
        "--overwrite",
        "--json",
        "--seed",
        "--device",
        "--minimum-face",
        "--person-folder",
        "--bins",
        "--ray",
    )
    for name in shared:
        assert len({said for _, option, said in options() if option == name}) == 1, name


def test_every_option_is_explained_in_a_phrase():
    assert [
        (words, name) for words, name, said in options() if not re.match(r"[A-Z].{8,}\.$", said or "", re.DOTALL)
    ] == []
