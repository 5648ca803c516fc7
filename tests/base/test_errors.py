"""What callers can catch, and that the library speaks of its arguments, not of the command's options."""

import ast
import re
from pathlib import Path

import pytest
import torch

import fairveil
from fairveil.base.errors import AlreadyExistsError, FairveilError, NoFaceError, UnreadableFileError, missing_extra
from fairveil.images import Photo, Saving, read_photo, write_photo

SOURCE = Path(fairveil.__file__).parent
OF_COMMANDS = (
    "cli",
    "web",
    "experiment",
    "paper",
    "assets/clients.py",
    "assets/store.py",
    "data/folders.py",
    "data/table.py",
)
"""Where options may be spoken of alone: commands, studies, and what runs pip and npm; elsewhere in whole commands."""

GRAY = torch.full((3, 30, 30), 99, dtype=torch.uint8)


def test_every_error_a_person_can_mend_is_a_value_error():
    assert issubclass(FairveilError, ValueError)
    assert all(issubclass(one, FairveilError) for one in (AlreadyExistsError, NoFaceError, UnreadableFileError))
    assert issubclass(fairveil.MissingExtraError, FairveilError) and issubclass(fairveil.MissingExtraError, ImportError)


def test_what_went_wrong_with_a_file_can_be_caught_apart(tmp_path):
    with pytest.raises(UnreadableFileError, match="is not there"):
        read_photo(tmp_path / "nothing.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(UnreadableFileError, match="is damaged or cut short"):
        read_photo(tmp_path / "torn.png")
    write_photo(Photo(GRAY, None, "PNG"), tmp_path / "grey.png")
    with pytest.raises(AlreadyExistsError, match=r"grey\.png already exists: allow `overwrite=True`"):
        write_photo(Photo(GRAY, None, "PNG"), tmp_path / "grey.png")
    write_photo(Photo(GRAY, None, "PNG"), tmp_path / "grey.png", Saving(overwrite=True))


def test_a_file_that_cannot_be_written_for_a_reason_of_its_own_keeps_its_sentence(tmp_path):
    """The sentence is a ValueError now, and must not be taken for one of the file system's."""
    with pytest.raises(FairveilError, match="is a folder: give the name of a file in it") as caught:
        write_photo(Photo(GRAY, None, "PNG"), tmp_path)
    assert "cannot be written" not in str(caught.value)


def test_a_module_that_no_extra_has_stays_the_error_it_was():
    error = ModuleNotFoundError("No module named 'left_out'", name="left_out")
    assert missing_extra(error) is error


def test_messages_of_the_library_name_no_options_of_commands():
    named = {
        f"{file.relative_to(SOURCE)}: {text}"
        for file in SOURCE.rglob("*.py")
        if not any(part in file.relative_to(SOURCE).as_posix() for part in OF_COMMANDS)
        for text in messages(file)
        if re.search(r"(^|[\s(`'])--[a-z]{2}", re.sub(r"(fairveil|ray) [a-z][^`]*", "", text))
    }
    assert not named


def messages(file):
    """The texts of a file that are no docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value
