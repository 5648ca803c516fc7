"""The TensorFlow.js reader against literal NumPy transcriptions of TensorFlow's definitions."""

import base64
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairveil.base.errors import FairveilError
from fairveil.faces.graphs import read_tfjs, read_tfjs_weights

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
    return folder / "model.json", [folder / "weights.bin"]


def run(folder, nodes, constants, x, output=None):
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


@settings(max_examples=50, deadline=None)
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


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


C = values(3)
ONE_OPERATOR = {
    "Abs": ({}, {}, np.abs),
    "Neg": ({}, {}, np.negative),
    "Relu": ({}, {}, lambda x: np.maximum(x, 0)),
    "Relu6": ({}, {}, lambda x: np.clip(x, 0, 6)),
    "LeakyRelu": ({"alpha": {"f": 0.3}}, {}, lambda x: np.where(x > 0, x, 0.3 * x)),
    "Prelu": ({}, {"c": C}, lambda x: np.where(x > 0, x, C * x)),
    "Sigmoid": ({}, {}, sigmoid),
    "Tanh": ({}, {}, np.tanh),
    "Softmax": ({}, {}, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "Square": ({}, {}, np.square),
    "Identity": ({}, {}, lambda x: x),
    "Add": ({}, {"c": C}, lambda x: x + C),
    "AddV2": ({}, {"c": np.float32(2)}, lambda x: x + 2),
    "BiasAdd": ({"data_format": text("NHWC")}, {"c": C}, lambda x: x + C),
    "Sub": ({}, {"c": C}, lambda x: x - C),
    "Mul": ({}, {"c": C}, lambda x: x * C),
    "RealDiv": ({}, {"c": C}, lambda x: x / C),
    "Maximum": ({}, {"c": np.float32(0.5)}, lambda x: np.maximum(x, 0.5)),
    "Minimum": ({}, {"c": C}, lambda x: np.minimum(x, C)),
    "Mean": ({"keep_dims": {"b": False}}, {"c": np.array([1, 2], np.int32)}, lambda x: x.mean((1, 2))),
    "Max": ({"keep_dims": {"b": True}}, {"c": np.array([3], np.int32)}, lambda x: x.max(3, keepdims=True)),
    "Sum": ({"keep_dims": {"b": False}}, {"c": np.array([-1], np.int32)}, lambda x: x.sum(3)),
    "Pad": (
        {},
        {"c": np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32)},
        lambda x: np.pad(x, [(0, 0), (1, 2), (0, 3), (0, 0)]),
    ),
    "Reshape": ({}, {"c": np.array([-1, 126], np.int32)}, lambda x: x.reshape(len(x), 126)),
    "Transpose": ({}, {"c": np.array([0, 3, 1, 2], np.int32)}, lambda x: x.transpose(0, 3, 1, 2)),
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
    found = run(tmp_path, [node("FusedBatchNormV3", "y", ["x", *constants], **attributes)], constants, x)
    np.testing.assert_allclose(found, gain * (x - mean) / np.sqrt(variance + 1e-3) + bias, rtol=1e-4, atol=1e-5)


def test_fused_operators_are_what_they_are_fused_of(tmp_path):
    x, weight, bias, slope = values(2, 6, 7, 3), values(3, 3, 3, 4), values(4), values(4)
    fused = {"list": {"s": [text("BiasAdd")["s"], text("Prelu")["s"]]}}
    head = {"list": {"s": [text("BiasAdd")["s"], text("Relu")["s"]]}}
    nodes = [
        window("_FusedConv2D", "conv", ["x", "w", "b", "s"], (2, 2), fused_ops=fused, num_args={"i": "2"}),
        node("Mean", "mean", ["conv", "axes"], keep_dims={"b": False}),
        node("_FusedMatMul", "y", ["mean", "fc", "fb"], fused_ops=head, transpose_a={"b": False}, epsilon={"f": 0}),
    ]
    constants = {"w": weight, "b": bias, "s": slope, "fc": values(4, 5), "fb": values(5)}
    constants["axes"] = np.array([1, 2], np.int32)
    y = np.einsum("brcijk,ijko->brco", windows(x, (3, 3), (2, 2), (1, 1), "SAME"), weight) + bias
    y = np.where(y > 0, y, slope * y).mean((1, 2)) @ constants["fc"] + constants["fb"]
    np.testing.assert_allclose(run(tmp_path, nodes, constants, x), np.maximum(y, 0), rtol=1e-4, atol=1e-5)


def test_inputs_may_name_their_slot_and_what_must_run_before(tmp_path):
    nodes = [node("Neg", "a", ["x:0"]), node("Add", "y", ["a:0", "a", "^a"])]
    x = values(1, 6, 7, 3)
    np.testing.assert_allclose(run(tmp_path, nodes, {}, x), -2 * x)


def test_an_output_must_be_named_where_there_are_several(tmp_path):
    files = write(tmp_path, [node("Neg", "a", ["x"]), node("Abs", "b", ["x"])], {})
    with pytest.raises(FairveilError, match="outputs a, b: name"):
        read_tfjs(*files)
    assert read_tfjs(*files, "b")(-torch.ones(1, 3, 6, 7)).mean() == 1


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("NonMaxSuppressionV5", "y", ["x"])], "TensorFlow.js operator NonMaxSuppressionV5"),
        ([window("Conv2D", "y", ["x", "w"], padding="EXPLICIT")], "padding='EXPLICIT'"),
        ([node("Relu", "y", ["x"], odd={"i": "3"})], "attribute odd=3"),
        ([node("_FusedConv2D", "y", ["x", "w"], fused_ops={"list": {"s": [text("Sinh")["s"]]}})], "Sinh"),
        ([node("Neg", "y", ["ghost"])], "'ghost'"),
        ([{"op": "Neg"}], "not a TensorFlow.js graph model"),
        ([{"op": "Const", "name": "missing"}], "not a TensorFlow.js graph model"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(nodes, message, tmp_path):
    with pytest.raises(FairveilError, match=message):
        read_tfjs(*write(tmp_path, nodes, {"w": values(3, 3, 3, 4)}), "y")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"3", b"null", b"[" * 100_000])
def test_a_file_that_is_no_model_is_a_clear_error(content, tmp_path):
    model, shards = write(tmp_path, [], {})
    model.write_bytes(content)
    with pytest.raises(FairveilError, match=r"model\.json"):
        read_tfjs(model, shards)


@pytest.mark.parametrize("change", [-1, 1, -24])
def test_weights_of_the_wrong_length_are_refused(change, tmp_path):
    model, shards = write(tmp_path, [node("Mul", "y", ["x", "c"])], {"a": C, "c": C})
    data = shards[0].read_bytes()
    shards[0].write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(FairveilError, match=r"weights\.bin"):
        read_tfjs(model, shards)


def manifest(**weight):
    return [{"paths": ["w"], "weights": [{"name": "w", "shape": [2, 3], "dtype": "float32", **weight}]}]


@pytest.mark.parametrize(
    ("dtype", "scale", "least", "tolerance"), [("uint8", 0.01, -1.2, 0.005), ("uint16", 1e-4, -1.2, 5e-5)]
)
def test_quantised_weights_are_scaled_back(dtype, scale, least, tolerance, tmp_path):
    true = values(2, 3)
    (tmp_path / "w").write_bytes(np.round((true - least) / scale).astype(dtype).tobytes())
    quantization = {"dtype": dtype, "scale": scale, "min": least}
    found = read_tfjs_weights(manifest(quantization=quantization), [tmp_path / "w"])["w"]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, true, atol=tolerance * 1.01)


def test_half_precision_weights_are_widened(tmp_path):
    true = values(2, 3).astype(np.float16)
    (tmp_path / "w").write_bytes(true.tobytes())
    found = read_tfjs_weights(manifest(quantization={"dtype": "float16"}), [tmp_path / "w"])["w"]
    np.testing.assert_array_equal(found, true.astype(np.float32))


def test_a_weight_may_lie_across_two_files(tmp_path):
    true = values(2, 3)
    for name, part in (("a", true.tobytes()[:5]), ("b", true.tobytes()[5:])):
        (tmp_path / name).write_bytes(part)
    groups = manifest()
    groups[0]["paths"] = ["a", "b"]
    np.testing.assert_array_equal(read_tfjs_weights(groups, [tmp_path / "a", tmp_path / "b"])["w"], true)
    with pytest.raises(FairveilError, match="2 weight files, not 1"):
        read_tfjs_weights(groups, [tmp_path / "a"])


@pytest.mark.parametrize(
    "weight",
    [
        {"shape": [2**40, 2**40]},
        {"shape": [-2, -3]},
        {"shape": [1] * 65 + [2, 3]},
        {"shape": [math.inf]},
        {"shape": None},
        {"dtype": "string"},
        {"dtype": 3},
        {"quantization": {"dtype": "uint8", "scale": 1}},
    ],
    ids=str,
)
def test_a_manifest_that_does_not_fit_is_refused(weight, tmp_path):
    (tmp_path / "w").write_bytes(bytes(6 if "quantization" in weight else 24))
    with pytest.raises(FairveilError):
        read_tfjs_weights(manifest(**weight), [tmp_path / "w"])


def test_a_long_chain_of_fused_operators_is_refused(tmp_path):
    fused = {"list": {"s": [text("Relu")["s"]] * 100}}
    files = write(tmp_path, [node("_FusedMatMul", "y", ["x", "w"], fused_ops=fused)], {"w": values(3, 3)})
    with pytest.raises(FairveilError, match="fuses 101 operators"):
        read_tfjs(*files)


def test_a_device_is_no_model(tmp_path):
    model, _ = write(tmp_path, [], {})
    with pytest.raises(FairveilError, match="Cannot read /dev/null: it is not an ordinary file"):
        read_tfjs("/dev/null", [])
    with pytest.raises(FairveilError, match="Cannot read the weights /dev/null: it is not an ordinary file"):
        read_tfjs(model, ["/dev/null"])
