"""The restricted reader of NumPy checkpoints against honest, broken and hostile files."""

import pickle
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fairveil.assets import read_numpy_pickle
from fairveil.base.errors import FairveilError


@pytest.fixture
def written(tmp_path):
    def write(content, protocol=4):
        file = tmp_path / "weights.ckpt"
        file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
        return file

    return write


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "file"


@settings(max_examples=60, deadline=None)
@given(
    array=arrays.arrays(
        dtype=st.sampled_from(["<f4", ">f4", "<f8", "<f2", "u1", "<i8", ">i2", "?"]),
        shape=arrays.array_shapes(min_dims=0, max_dims=4, max_side=5),
    ),
    fortran=st.booleans(),
    protocol=st.sampled_from([3, 4]),
)
def test_reads_what_pickle_reads(scratch, array, fortran, protocol):
    array = np.asfortranarray(array) if fortran else array
    scratch.write_bytes(pickle.dumps({"layer": {"kernel": array}, "bias": array}, protocol=protocol))
    read = read_numpy_pickle(scratch)
    np.testing.assert_array_equal(read["layer"]["kernel"], array)
    assert read["bias"].dtype == array.dtype
    assert read["bias"].flags.writeable and read["bias"] is read["layer"]["kernel"]


def test_reads_the_old_module_path_of_numpy(written):
    content = pickle.dumps({"a": np.arange(3.0)}, protocol=3)
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(read_numpy_pickle(written(old))["a"], np.arange(3.0))


class Runs:
    """Pickles to a call of any function, and then a state for what it returns."""

    def __init__(self, function, *arguments, state=None):
        self.call = function, arguments, state

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_hostile_calls_are_refused_by_name_and_not_made(written, tmp_path, protocol):
    import os

    canary = tmp_path / "ran"
    for function, argument, name in (
        (os.system, f"touch {canary}", r"(posix|nt)\.system"),
        (eval, f"open({str(canary)!r}, 'w')", r"(builtins|__builtin__)\.eval"),
        (np.load, str(canary), r"numpy\.load"),
    ):
        file = written({"weights": Runs(function, argument)}, protocol)
        with pytest.raises(FairveilError, match=f"{name}, which is refused"):
            read_numpy_pickle(file)
    assert not canary.exists()


@pytest.mark.parametrize(
    "name",
    ["numpy\nload", "numpy.core.multiarray\nscalar", "numpy\n_core.multiarray._reconstruct", "os\nsystem"],
)
def test_other_globals_are_refused_even_unused(written, name):
    with pytest.raises(FairveilError, match="which is refused"):
        read_numpy_pickle(written(b"\x80\x03c" + name.encode() + b"\n."))


@pytest.mark.parametrize(
    "content",
    [
        np.array([{"an": "object"}], dtype=object),
        np.zeros(2, dtype=[("field", "f4")]),
        np.array(["text"]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.zeros(2, dtype=[("hidden", "O")]),
        [np.zeros(2)],
        "text",
        1.5,
    ],
)
def test_anything_but_plain_arrays_is_refused(written, content):
    with pytest.raises(FairveilError, match="not a checkpoint of plain arrays"):
        read_numpy_pickle(written({"a": content}))


@pytest.mark.parametrize("content", [np.zeros(2), [1], {1: np.zeros(2)}, {("a",): np.zeros(2)}])
def test_arrays_must_have_names(written, content):
    with pytest.raises(FairveilError):
        read_numpy_pickle(written(content))


def test_every_truncation_is_refused(written):
    whole = pickle.dumps({"a": np.arange(4, dtype=np.float32)}, protocol=4)
    for length in range(len(whole)):
        with pytest.raises(FairveilError, match=r"weights\.ckpt is not a checkpoint"):
            read_numpy_pickle(written(whole[:length]))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_altered_bytes_give_arrays_or_a_clear_error(scratch, data):
    whole = bytearray(pickle.dumps({"a": {"b": np.arange(4, dtype=np.float32)}}, protocol=4))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    scratch.write_bytes(whole)
    with suppress(FairveilError):
        assert isinstance(read_numpy_pickle(scratch), dict)


def _with_shape(shape: int) -> bytes:
    whole = pickle.dumps({"a": np.zeros(77, dtype=np.uint8)}, protocol=3)
    assert whole.count(b"K\x4d\x85") == 1
    return whole.replace(b"K\x4d\x85", b"J" + struct.pack("<i", shape) + b"\x85")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "remain", id="a string of a tebibyte"),
        pytest.param(b"\x80\x03B" + struct.pack("<I", (1 << 32) - 1) + b"x.", "remain", id="a string of 4 GB"),
        pytest.param(b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.", "truncated", id="a huge frame"),
        pytest.param(b"\x80\x03}r" + struct.pack("<I", (1 << 32) - 1) + b".", "number 4294967295", id="a vast memo"),
        pytest.param(b"\x80\x03}p4000000000\n.", "number 4000000000", id="a vast memo, as text"),
        pytest.param(_with_shape(2**31 - 1), "reshape", id="an array larger than its content"),
        pytest.param(b"\x80\x03})" + b"\x85" * 200_000 + b"Ns.", "more instructions", id="nested tuples"),
        pytest.param(b"\x80\x03]q\x00" + b"h\x00a" * 50_000 + b".", "more instructions", id="endless instructions"),
    ],
)
def test_claims_larger_than_the_file_are_refused_at_once(written, content, why):
    with pytest.raises(FairveilError, match=why):
        read_numpy_pickle(written(content))


def test_sharing_cannot_multiply_the_content(written):
    constructor, arguments, state = np.zeros(10_000).__reduce__()
    shared = {str(i): Runs(constructor, *arguments, state=state) for i in range(3)}
    with pytest.raises(FairveilError, match="larger than the file"):
        read_numpy_pickle(written(shared))


def test_a_dictionary_within_itself_is_refused(written):
    endless = {}
    endless["again"] = endless
    with pytest.raises(FairveilError, match="not plain names"):
        read_numpy_pickle(written(endless))


def test_missing_file_is_said(tmp_path):
    with pytest.raises(FairveilError, match="No such file"):
        read_numpy_pickle(tmp_path / "absent")
