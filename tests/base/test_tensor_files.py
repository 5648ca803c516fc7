import os

import pytest
import torch

from fairveil.base.errors import FairveilError
from fairveil.base.tensor_files import read_tensors, write_tensors

KIND = {"format": "fairveil test 1", "what": "numbers", "maker": "the tests"}
TENSORS = {"a": torch.arange(6).reshape(2, 3), "b": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)}


@pytest.fixture
def file(tmp_path):
    write_tensors(tmp_path / "numbers", TENSORS, {"said": "ö"}, format=KIND["format"])
    return tmp_path / "numbers"


def test_what_is_written_is_read_again(file):
    with read_tensors(file, **KIND) as (tensors, metadata):
        assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
            name: tensor.tolist() for name, tensor in TENSORS.items()
        }
        assert metadata["said"] == "ö"


def test_others_may_read_a_file_if_they_may_read_what_its_owner_writes(tmp_path):
    before = os.umask(0o022)
    try:
        write_tensors(tmp_path / "numbers", TENSORS, {}, format=KIND["format"])
    finally:
        os.umask(before)
    assert (tmp_path / "numbers").stat().st_mode & 0o777 == 0o644


def test_changing_a_tensor_leaves_its_file_as_it_is(file):
    before = file.read_bytes()
    with read_tensors(file, **KIND) as (tensors, _):
        tensors["a"].zero_()
    assert file.read_bytes() == before


def test_a_file_that_is_there_is_not_replaced_and_none_is_half_written(file):
    before = file.read_bytes()
    with pytest.raises(FairveilError, match="already exists"):
        write_tensors(file, {}, {}, format=KIND["format"])
    assert file.read_bytes() == before
    with pytest.raises(FairveilError, match="cannot be written"):
        write_tensors(file.parent / "nowhere" / "numbers", TENSORS, {}, format=KIND["format"])
    assert list(file.parent.iterdir()) == [file]


def test_files_of_another_kind_and_damaged_ones_are_told_apart(file):
    with (
        pytest.raises(FairveilError, match="holds no letters"),
        read_tensors(file, **{**KIND, "format": "x", "what": "letters"}),
    ):
        pass
    with pytest.raises(FairveilError, match="give a file of the tests"), read_tensors(file, **KIND) as (tensors, _):
        tensors["c"]
