"""The readers of TensorFlow's graphs against literal NumPy transcriptions of its definitions."""

import base64
import json
import math
import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fairveil.base.errors import FairveilError
from fairveil.faces.graphs.tensorflow import read_tensorflow, read_tfjs, read_tfjs_weights

RANDOM = np.random.default_rng(0)


def values(*shape, low=-1.0, high=1.0):
    return RANDOM.uniform(low, high, shape).astype(np.float32)


def text(value):
    return {"s": base64.b64encode(value.encode()).decode()}


def numbers(*entries):
    return {"list": {"i": [str(entry) for entry in entries]}}


def node(op, name, inputs, **attributes):
    return {"op": op, "name": name, "input": list(inputs), "attr": {"T": {"type": "DT_FLOAT"}, **attributes}}


def window(op, name, inputs, strides=(1, 1), dilations=(1, 1), padding="SAME", **attributes):
    return node(
        op, name, inputs,
        strides=numbers(1, *strides, 1), dilations=numbers(1, *dilations, 1), padding=text(padding),
        data_format=text("NHWC"), explicit_paddings={"list": {}}, use_cudnn_on_gpu={"b": True}, **attributes,
    )  # fmt: skip


def write(folder, nodes, constants, size=(6, 7)):
    """A model file and its weights: picture "x", the given nodes, float32 and int32 constants."""
    sizes = [{"size": str(size)} for size in (-1, *size, 3)]
    placeholder = {"op": "Placeholder", "name": "x", "attr": {"shape": {"shape": {"dim": sizes}}}}
    constants = {name: np.asarray(value) for name, value in constants.items()}
    specifications = [
        {"name": name, "shape": list(value.shape), "dtype": str(value.dtype)} for name, value in constants.items()
    ]
    document = {
        "format": "graph-model",
        "modelTopology": {"node": [*nodes, placeholder, *[{"op": "Const", "name": name} for name in constants]]},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": specifications}],
    }
    (folder / "model.json").write_text(json.dumps(document))
    (folder / "weights.bin").write_bytes(b"".join(value.tobytes() for value in constants.values()))
    return folder / "model.json", folder / "weights.bin"


def run(folder, nodes, constants, x, output="y"):
    """The model's output for pictures (B, H, W, 3)."""
    graph = read_tfjs(*write(folder, nodes, constants, x.shape[1:3]), output)
    return graph(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()


def windows(x, kernel, stride, dilation, padding, fill=0.0):
    """Every window of pictures (B, H, W, C), one at a time: (B, rows, columns, kernel, kernel, C).

    The published formula: out = ceil(in / stride); pad = max((out - 1) * stride + extent - in, 0), the odd one after.
    """
    pads = [(0, 0)]
    for size, k, s, d in zip(x.shape[1:3], kernel, stride, dilation, strict=True):
        extent = (k - 1) * d + 1
        total = max((math.ceil(size / s) - 1) * s + extent - size, 0) if padding == "SAME" else 0
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, [*pads, (0, 0)], constant_values=fill)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    rows = range(0, x.shape[1] - extents[0] + 1, stride[0])
    columns = range(0, x.shape[2] - extents[1] + 1, stride[1])
    return np.stack(
        [
            np.stack([x[:, r : r + extents[0] : dilation[0], c : c + extents[1] : dilation[1]] for c in columns], 1)
            for r in rows
        ],
        1,
    )


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.sampled_from(["SAME", "VALID"]),
    depthwise=st.booleans(),
)
def test_any_convolution_follows_the_definition(
    tmp_path_factory, *, size, kernel, stride, dilation, padding, depthwise
):
    x, weight = values(2, *size, 3), values(*kernel, 3, 2)
    seen = windows(x, kernel, stride, dilation, padding)
    if depthwise:  # output c * multiplier + m reads input c only
        expected = np.einsum("brcijk,ijkm->brckm", seen, weight).reshape(*seen.shape[:3], 6)
    else:
        expected = np.einsum("brcijk,ijko->brco", seen, weight)
    op = "DepthwiseConv2dNative" if depthwise else "Conv2D"
    nodes = [window(op, "y", ["x", "w"], stride, dilation, padding)]
    found = run(tmp_path_factory.mktemp("tfjs"), nodes, {"w": weight}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("op", "fill", "reduction"), [("MaxPool", -np.inf, np.max), ("AvgPool", np.nan, np.nanmean)])
def test_pools_leave_padding_out(op, fill, reduction, padding, tmp_path):
    x = values(2, 6, 7, 3)
    expected = reduction(windows(x, (3, 2), (2, 3), (1, 1), padding, fill), axis=(3, 4))
    pool = window(op, "y", ["x"], (2, 3), padding=padding, ksize=numbers(1, 3, 2, 1))
    for unused in ("dilations", "use_cudnn_on_gpu"):
        del pool["attr"][unused]
    np.testing.assert_allclose(run(tmp_path, [pool], {}, x), expected, rtol=1e-5)


C = values(3)
ONE_OPERATOR = {
    "Relu": ({}, {}, lambda x: np.maximum(x, 0)),
    "Square": ({}, {}, np.square),
    "Add": ({}, {"c": C}, lambda x: x + C),
    "AddV2": ({}, {"c": np.float32(2)}, lambda x: x + 2),
    "BiasAdd": ({"data_format": text("NHWC")}, {"c": C}, lambda x: x + C),
    "Sub": ({}, {"c": C}, lambda x: x - C),
    "Mul": ({}, {"c": C}, lambda x: x * C),
    "Maximum": ({}, {"c": np.float32(0.5)}, lambda x: np.maximum(x, 0.5)),
    "Minimum": ({}, {"c": C}, lambda x: np.minimum(x, C)),
    "Mean": ({"keep_dims": {"b": False}}, {"c": np.array([1, 2], np.int32)}, lambda x: x.mean((1, 2))),
    "Sum": ({"keep_dims": {"b": True}}, {"c": np.array([-1], np.int32)}, lambda x: x.sum(3, keepdims=True)),
    "Pad": (
        {},
        {"c": np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32)},
        lambda x: np.pad(x, [(0, 0), (1, 2), (0, 3), (0, 0)]),
    ),
    "Reshape": ({}, {"c": np.array([-1, 126], np.int32)}, lambda x: x.reshape(len(x), 126)),
}


@pytest.mark.parametrize("op", ONE_OPERATOR)
def test_an_operator_follows_the_definition(op, tmp_path):
    attributes, constants, reference = ONE_OPERATOR[op]
    x = 3 * values(2, 6, 7, 3)
    found = run(tmp_path, [node(op, "y", ["x", *constants], **attributes)], constants, x)
    np.testing.assert_allclose(found, reference(x), rtol=1e-5, atol=1e-5)


def test_batch_norm_uses_its_statistics(tmp_path):
    x, gain, bias, mean, variance = values(2, 6, 7, 3), values(3), values(3), values(3), values(3, low=0.1)
    constants = {"g": gain, "b": bias, "m": mean, "v": variance}
    attributes = {"epsilon": {"f": 1e-3}, "is_training": {"b": False}, "data_format": text("NHWC")}
    found = run(tmp_path, [node("FusedBatchNorm", "y", ["x", *constants], **attributes)], constants, x)
    np.testing.assert_allclose(found, gain * (x - mean) / np.sqrt(variance + 1e-3) + bias, rtol=1e-4, atol=1e-5)


def test_reciprocal_roots_of_positive_numbers(tmp_path):
    x = values(2, 6, 7, 3, low=0.1)
    np.testing.assert_allclose(run(tmp_path, [node("Rsqrt", "y", ["x"])], {}, x), 1 / np.sqrt(x), rtol=1e-5)


def test_maps_are_joined_by_channels(tmp_path):
    x = values(2, 6, 7, 3)
    nodes = [node("Square", "a", ["x"]), node("ConcatV2", "y", ["x", "a", "axis"], N={"i": "2"})]
    found = run(tmp_path, nodes, {"axis": np.array(3, np.int32)}, x)
    np.testing.assert_allclose(found, np.concatenate([x, x * x], 3), rtol=1e-6)


def test_inputs_may_name_their_slot_and_what_must_run_before(tmp_path):
    nodes = [node("Square", "a", ["x:0"]), node("Add", "y", ["a:0", "a", "^a"])]
    x = values(1, 6, 7, 3)
    np.testing.assert_allclose(run(tmp_path, nodes, {}, x), 2 * x * x)


def test_an_inner_node_can_be_asked_for_and_what_is_behind_it_need_not_be_known(tmp_path):
    files = write(tmp_path, [node("Relu", "a", ["x"]), node("Erf", "b", ["a"])], {})
    assert read_tfjs(*files, "a")(-torch.ones(1, 3, 6, 7)).max() == 0
    with pytest.raises(FairveilError, match="no output 'c'"):
        read_tfjs(*files, "c")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("NonMaxSuppressionV5", "y", ["x"])], "TensorFlow operator NonMaxSuppressionV5"),
        ([window("Conv2D", "y", ["x", "w"], padding="EXPLICIT")], "padding='EXPLICIT'"),
        ([node("Relu", "y", ["x"], odd={"i": "3"})], "attribute odd='3'"),
        ([node("Square", "y", ["ghost"])], "'ghost'"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(nodes, message, tmp_path):
    with pytest.raises(FairveilError, match=message):
        read_tfjs(*write(tmp_path, nodes, {"w": values(3, 3, 3, 4)}), "y")


def manifest(**weight):
    return [{"name": "w", "shape": [2, 3], "dtype": "float32", **weight}]


def test_quantized_weights_are_scaled_back(tmp_path):
    true, scale, least = values(2, 3), 0.01, -1.2
    (tmp_path / "w").write_bytes(np.round((true - least) / scale).astype(np.uint8).tobytes())
    quantization = {"dtype": "uint8", "scale": scale, "min": least}
    found = read_tfjs_weights(manifest(quantization=quantization), tmp_path / "w")["w"]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, true, atol=0.00505)


def test_half_precision_weights_are_widened(tmp_path):
    true = values(2, 3).astype(np.float16)
    (tmp_path / "w").write_bytes(true.tobytes())
    found = read_tfjs_weights(manifest(quantization={"dtype": "float16"}), tmp_path / "w")["w"]
    np.testing.assert_array_equal(found, true.astype(np.float32))


def test_weights_follow_each_other(tmp_path):
    one, other = values(2, 3), np.array([7, -8], np.int32)
    (tmp_path / "w").write_bytes(one.tobytes() + other.tobytes())
    found = read_tfjs_weights([*manifest(), {"name": "i", "shape": [2], "dtype": "int32"}], tmp_path / "w")
    np.testing.assert_array_equal(found["w"], one)
    assert found["i"].tolist() == [7, -8]


# A frozen graph is put together byte by byte, in protobuf's wire format.

FLOAT, INTEGER = 1, 3


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


def _shape(*sizes):
    return b"".join(field(2, field(1, size)) for size in sizes)


def packed(*entries):
    return field(1, field(3, b"".join(map(varint, entries))))


def message(name, kind, inputs=(), **attributes):
    parts = [field(1, name), field(2, kind), *(field(3, source) for source in inputs)]
    parts += [field(5, field(1, key) + field(2, value)) for key, value in attributes.items()]
    return field(1, b"".join(parts))


def constant(name, values=None, *, kind=FLOAT, sizes=None, content=None):
    """A constant in packed bytes, or of whatever content is given."""
    if content is None:
        values = np.asarray(values, np.float32 if kind == FLOAT else np.int32)
        content = field(4, values.tobytes())
    sizes = values.shape if sizes is None else sizes
    tensor = field(1, kind) + field(2, _shape(*sizes)) + content
    return message(name, "Const", dtype=field(6, kind), value=field(8, tensor))


PICTURE = message("x", "Placeholder", dtype=field(6, FLOAT), shape=field(7, _shape(1, 6, 7, 3)))


def frozen_window(name, kind, inputs, stride=1, **more):
    return message(
        name, kind, inputs,
        T=field(6, FLOAT), strides=packed(1, stride, stride, 1), padding=field(2, "VALID"),
        data_format=field(2, "NHWC"), **more,
    )  # fmt: skip


def write_frozen(folder, *parts):
    (folder / "graph.pb").write_bytes(b"".join(parts))
    return folder / "graph.pb"


def test_a_small_network_is_what_its_definition_gives_and_has_gradients(tmp_path):
    kernel, bias = (values(*size) for size in ((3, 3, 3, 4), (4,)))
    matrix = values(24, 5)
    file = write_frozen(
        tmp_path, PICTURE, constant("w", kernel), constant("b", bias), constant("m", matrix),
        frozen_window("conv", "Conv2D", ["x:0", "w"], 2, dilations=packed(1, 1, 1, 1), use_cudnn_on_gpu=field(5, 1)),
        message("add", "BiasAdd", ["conv", "b"], T=field(6, FLOAT)),
        message("relu", "Relu", ["add"], T=field(6, FLOAT)),
        constant("flat", [-1, 24], kind=INTEGER),
        message("reshape", "Reshape", ["relu", "flat"], T=field(6, FLOAT), Tshape=field(6, INTEGER)),
        message("out", "MatMul", ["reshape", "m"], transpose_a=field(5, 0), transpose_b=field(5, 0), T=field(6, FLOAT)),
    )  # fmt: skip
    pictures = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = read_tensorflow(file, "out")(pictures)
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
    ],
)
def test_numbers_come_one_by_one_or_one_for_all(tmp_path, stored, true):
    file = write_frozen(
        tmp_path,
        PICTURE,
        constant("c", sizes=(3,), content=stored),
        message("y", "Mul", ["x", "c"], T=field(6, FLOAT)),
    )
    found = read_tensorflow(file, "y")(torch.ones(1, 3, 6, 7))
    torch.testing.assert_close(found[0, 0, 0], torch.tensor(true, dtype=torch.float32))
