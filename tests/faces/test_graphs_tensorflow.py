"""The reader of frozen TensorFlow graphs, on files that are put together byte by byte here."""

import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fairveil.base.errors import FairveilError
from fairveil.faces.graphs import read_tensorflow

RANDOM = np.random.default_rng(0)
FLOAT, INTEGER, STRING = 1, 3, 7


def varint(number):
    number &= (1 << 64) - 1
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def field(number, content):
    """A field of protobuf's wire format: an integer, or bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def shape(*sizes):
    return b"".join(field(2, field(1, size)) for size in sizes)


def numbers(*entries):
    return field(1, field(3, b"".join(map(varint, entries))))


def node(name, kind, inputs=(), **attributes):
    parts = [field(1, name), field(2, kind), *(field(3, source) for source in inputs)]
    parts += [field(5, field(1, key) + field(2, value)) for key, value in attributes.items()]
    return field(1, b"".join(parts))


def constant(name, values=None, *, kind=FLOAT, sizes=None, content=None):
    """A constant in packed bytes, or of whatever content is given."""
    if content is None:
        values = np.asarray(values, np.float32 if kind == FLOAT else np.int32)
        content = field(4, values.tobytes())
    sizes = values.shape if sizes is None else sizes
    tensor = field(1, kind) + field(2, shape(*sizes)) + content
    return node(name, "Const", dtype=field(6, kind), value=field(8, tensor))


PICTURE = node("x", "Placeholder", dtype=field(6, FLOAT), shape=field(7, shape(1, 6, 7, 3)))


def window(name, kind, inputs, stride=1, **more):
    return node(
        name, kind, inputs,
        T=field(6, FLOAT), strides=numbers(1, stride, stride, 1), padding=field(2, "VALID"),
        data_format=field(2, "NHWC"), **more,
    )  # fmt: skip


def write(folder, *parts):
    (folder / "graph.pb").write_bytes(b"".join(parts))
    return folder / "graph.pb"


def test_a_small_network_is_what_its_definition_gives_and_has_gradients(tmp_path):
    kernel, bias = (RANDOM.normal(size=size).astype(np.float32) for size in ((3, 3, 3, 4), (4,)))
    matrix = RANDOM.normal(size=(24, 5)).astype(np.float32)
    file = write(
        tmp_path, PICTURE, constant("w", kernel), constant("b", bias), constant("m", matrix),
        window("conv", "Conv2D", ["x:0", "w"], 2, dilations=numbers(1, 1, 1, 1), use_cudnn_on_gpu=field(5, 1)),
        node("add", "BiasAdd", ["conv", "b"], T=field(6, FLOAT)),
        node("relu", "Relu", ["add"], T=field(6, FLOAT)),
        constant("flat", [-1, 24], kind=INTEGER),
        node("reshape", "Reshape", ["relu", "flat"], T=field(6, FLOAT), Tshape=field(6, INTEGER)),
        node("out", "MatMul", ["reshape", "m"], transpose_a=field(5, 0), transpose_b=field(5, 0), T=field(6, FLOAT)),
    )  # fmt: skip
    pictures = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = read_tensorflow(file)(pictures)
    maps = F.conv2d(pictures, torch.from_numpy(kernel).permute(3, 2, 0, 1), torch.from_numpy(bias), stride=2).relu()
    expected = maps.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(matrix)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(one.square().sum(), pictures)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("stored", "true"),
    [
        (field(5, struct.pack("<3f", 1, 2, 3)), [1, 2, 3]),
        (field(5, struct.pack("<f", 2.5)), [2.5, 2.5, 2.5]),
        (field(5, struct.pack("<2f", 1, 2)), [1, 2, 2]),
    ],
)
def test_numbers_that_are_left_out_are_the_last_one(tmp_path, stored, true):
    file = write(
        tmp_path,
        PICTURE,
        constant("c", sizes=(3,), content=stored),
        node("y", "Mul", ["x", "c"], T=field(6, FLOAT)),
    )
    found = read_tensorflow(file)(torch.ones(1, 3, 6, 7))
    torch.testing.assert_close(found[0, 0, 0], torch.tensor(true, dtype=torch.float32))


def test_an_inner_node_can_be_asked_for(tmp_path):
    file = write(tmp_path, PICTURE, node("a", "Relu", ["x"]), node("b", "Square", ["a"]))
    pictures = torch.full((1, 3, 6, 7), -2.0)
    assert read_tensorflow(file, "a")(pictures).max() == 0
    with pytest.raises(FairveilError, match="no output 'c'"):
        read_tensorflow(file, "c")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([b"no protobuf"], "is not a frozen TensorFlow graph"),
        ([PICTURE[:-3]], "is not a frozen TensorFlow graph"),
        ([node("a", "Relu", ["x"])], "takes 0 inputs"),
        ([PICTURE, node("a", "Erf", ["x"])], "TensorFlow operator Erf"),
        ([PICTURE, node("a", "Relu", ["x"], slope=b"\x25" + struct.pack("<f", 2))], "attribute slope=2.0"),
        ([PICTURE, constant("c", kind=STRING, sizes=(1,), content=b"")], "TensorFlow's type 7"),
        ([PICTURE, constant("c", sizes=(4,), content=field(4, bytes(8)))], "holds 8 bytes"),
        ([PICTURE, constant("c", sizes=(1 << 40,), content=field(5, bytes(4)))], "asks for"),
        ([PICTURE, constant("c", sizes=(3,), content=b"")], "has 0 numbers"),
        ([PICTURE, node("c", "Const", dtype=field(6, FLOAT)), node("a", "Mul", ["x", "c"])], "KeyError"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, parts, message):
    with pytest.raises(FairveilError, match=message):
        read_tensorflow(write(tmp_path, *parts))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FairveilError, match=r"Cannot read .*nothing\.pb"):
        read_tensorflow(tmp_path / "nothing.pb")
