"""The TensorFlow Lite reader against LiteRT, on models built with LiteRT's own schema."""

import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from fairveil.base.errors import FairveilError
from fairveil.faces.graphs import read_tflite
from targets import shared_tables

RANDOM = np.random.default_rng(0)
BATCH, SIZE = 2, (6, 7)
TYPES = {"float32": schema.TensorType.FLOAT32, "float16": schema.TensorType.FLOAT16, "int32": schema.TensorType.INT32}
TYPES["int8"] = schema.TensorType.INT8


def values(*shape, low=-1.0, high=1.0):
    return RANDOM.uniform(low, high, shape).astype(np.float32)


class Options:
    """Options of an operator by their class's name and fields."""

    def __init__(self, kind, **fields):
        self.kind, self.fields = kind, fields

    def __repr__(self):
        return f"{self.kind}({self.fields})"


def build(operators, constants=(), *, size=SIZE):
    """A model from "x" (BATCH, *size, 3) to "y". An operator is (name, inputs, output, options or None)."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    graph.tensors, graph.operators = [], []
    index = {}

    def tensor(name, shape, kind, data=None):
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type, entry.buffer = name, list(shape), kind, 0
        if data is not None:
            entry.buffer = len(model.buffers)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            model.buffers.append(buffer)
        index[name] = len(graph.tensors)
        graph.tensors.append(entry)

    tensor("x", (BATCH, *size, 3), schema.TensorType.FLOAT32)
    for name, value in dict(constants).items():
        tensor(name, value.shape, TYPES[str(value.dtype)], value.tobytes())
    for kind, inputs, output, options in operators:
        tensor(output, (), schema.TensorType.FLOAT32)
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs, operator.outputs = [index.get(name, -1) for name in inputs], [index[output]]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options.kind)
            operator.builtinOptions = getattr(schema, f"{options.kind}T")()
            for field, value in options.fields.items():
                assert hasattr(operator.builtinOptions, field)
                setattr(operator.builtinOptions, field, value)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [index["x"]], [index["y"]]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def read(content, folder, output=None):
    path = folder / "model.tflite"
    path.write_bytes(content)
    return read_tflite(path, output)


def litert(content, x):
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()


def check(content, folder, size=SIZE, low=-1.0):
    """Ours and LiteRT's result agree, for the batch the model was exported for."""
    x = values(BATCH, *size, 3, low=low)
    expected = litert(content, x)
    found = read(content, folder)(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU6 = schema.ActivationFunctionType.RELU6


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.sampled_from([SAME, VALID]),
    activation=st.sampled_from(["NONE", "RELU", "RELU6", "RELU_N1_TO_1"]),
    depthwise=st.booleans(),
    bias=st.booleans(),
)
def test_any_convolution_gives_what_litert_gives(
    tmp_path_factory, *, size, kernel, stride, dilation, padding, activation, depthwise, bias
):
    fields = {
        "padding": padding,
        "strideH": stride,
        "strideW": stride,
        "dilationHFactor": dilation,
        "dilationWFactor": dilation,
        "fusedActivationFunction": getattr(schema.ActivationFunctionType, activation),
    }
    if depthwise:
        weight, kind = values(1, *kernel, 6), "DEPTHWISE_CONV_2D"
        options = Options("DepthwiseConv2DOptions", depthMultiplier=2, **fields)
    else:
        weight, kind, options = values(6, *kernel, 3), "CONV_2D", Options("Conv2DOptions", **fields)
    b = values(6) if bias else np.zeros(6, np.float32)  # LiteRT wants one
    content = build([(kind, ["x", "w", "b"], "y", options)], {"w": 3 * weight, "b": b}, size=size)
    check(content, tmp_path_factory.mktemp("tflite"), size)


def ints(*entries):
    return np.array(entries, np.int32)


POOL = {"strideH": 2, "strideW": 3, "filterHeight": 3, "filterWidth": 2}
ONE_OPERATOR = {
    "abs": ("ABS", {}, None),
    "add": ("ADD", {"c": values(3)}, Options("AddOptions")),
    "add, fused": ("ADD", {"c": values(3)}, Options("AddOptions", fusedActivationFunction=RELU6)),
    "sub": ("SUB", {"c": values(3)}, Options("SubOptions")),
    "mul": ("MUL", {"c": values(3)}, Options("MulOptions")),
    "div": ("DIV", {"c": values(3, low=1, high=2)}, Options("DivOptions")),
    "maximum": ("MAXIMUM", {"c": np.float32([0.1])}, Options("MaximumMinimumOptions")),
    "minimum": ("MINIMUM", {"c": values(3)}, Options("MaximumMinimumOptions")),
    "neg": ("NEG", {}, Options("NegOptions")),
    "square": ("SQUARE", {}, Options("SquareOptions")),
    "relu": ("RELU", {}, None),
    "relu6": ("RELU6", {}, None),
    "relu1": ("RELU_N1_TO_1", {}, None),
    "leaky relu": ("LEAKY_RELU", {}, Options("LeakyReluOptions", alpha=0.3)),
    "prelu": ("PRELU", {"c": values(1, 1, 3)}, None),
    "logistic": ("LOGISTIC", {}, None),
    "tanh": ("TANH", {}, None),
    "hard swish": ("HARD_SWISH", {}, Options("HardSwishOptions")),
    "softmax": ("SOFTMAX", {}, Options("SoftmaxOptions", beta=1.0)),
    "l2": ("L2_NORMALIZATION", {}, Options("L2NormOptions")),
    "mean": ("MEAN", {"c": ints(1, 2)}, Options("ReducerOptions", keepDims=False)),
    "sum": ("SUM", {"c": ints(3)}, Options("ReducerOptions", keepDims=True)),
    "max": ("REDUCE_MAX", {"c": ints(1, 2)}, Options("ReducerOptions", keepDims=True)),
    "pad": ("PAD", {"c": np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32)}, Options("PadOptions")),
    "reshape": ("RESHAPE", {"c": ints(BATCH, -1)}, Options("ReshapeOptions", newShape=[BATCH, -1])),
    "transpose": ("TRANSPOSE", {"c": ints(0, 3, 1, 2)}, Options("TransposeOptions")),
    "max pool": ("MAX_POOL_2D", {}, Options("Pool2DOptions", padding=SAME, **POOL)),
    "mean pool": ("AVERAGE_POOL_2D", {}, Options("Pool2DOptions", padding=SAME, **POOL)),
    "mean pool, valid": ("AVERAGE_POOL_2D", {}, Options("Pool2DOptions", padding=VALID, **POOL)),
}


@pytest.mark.parametrize("name", ONE_OPERATOR)
def test_an_operator_gives_what_litert_gives(name, tmp_path):
    kind, constants, options = ONE_OPERATOR[name]
    check(build([(kind, ["x", *constants], "y", options)], constants), tmp_path)


@pytest.mark.parametrize("kind", ["RSQRT", "SQRT"])
def test_roots_of_positive_numbers(kind, tmp_path):
    check(build([(kind, ["x"], "y", None)]), tmp_path, low=0.1)


def test_concatenation_joins_channels(tmp_path):
    check(build([("CONCATENATION", ["x", "x"], "y", Options("ConcatenationOptions", axis=3))]), tmp_path)


def network(batch=BATCH):
    """Mean, linear layer with a fused activation, and a reshape fixed to the batch."""
    return build(
        [
            ("MEAN", ["x", "axes"], "m", Options("ReducerOptions", keepDims=True)),
            ("SQUEEZE", ["m"], "s", Options("SqueezeOptions", squeezeDims=[1, 2])),
            ("FULLY_CONNECTED", ["s", "w", "b"], "f", Options("FullyConnectedOptions", fusedActivationFunction=RELU6)),
            ("RESHAPE", ["f", "shape"], "y", Options("ReshapeOptions", newShape=[batch, 5])),
        ],
        {"axes": ints(1, 2), "w": values(5, 3), "b": values(5), "shape": ints(batch, 5)},
    )


def test_a_linear_layer_gives_what_litert_gives(tmp_path):
    check(network(), tmp_path)


def test_a_batch_fixed_at_export_does_not_bind(tmp_path):
    content = network()
    x = values(6, *SIZE, 3)
    expected = np.concatenate([litert(content, x[i : i + BATCH]) for i in range(0, 6, BATCH)])
    graph = read(content, tmp_path)
    pictures = torch.from_numpy(x).permute(0, 3, 1, 2)
    np.testing.assert_allclose(graph(pictures), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(graph(pictures[:1]), expected[:1], rtol=1e-4, atol=1e-5)


def test_half_precision_weights_are_widened(tmp_path):
    c = values(3).astype(np.float16)
    operators = [("DEQUANTIZE", ["c"], "d", None), ("MUL", ["x", "d"], "y", Options("MulOptions"))]
    x = values(1, *SIZE, 3)
    found = read(build(operators, {"c": c}), tmp_path)(torch.from_numpy(x).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found, x * c.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize(
    ("operator", "constants", "message"),
    [
        (("COS", ["x"], "y", None), {}, r"TensorFlow Lite operator COS.*It reads ABS"),
        (("CUSTOM", ["x"], "y", None), {}, "CUSTOM"),
        (("MUL", ["x", "c"], "y", Options("MulOptions")), {"c": np.zeros(3, np.int8)}, "quantised.*INT8"),
        (("SOFTMAX", ["x"], "y", Options("SoftmaxOptions", beta=2.0)), {}, "Beta=2.0"),
        (("ADD", ["x", "c"], "y", Options("AddOptions", fusedActivationFunction=5)), {"c": values(3)}, "activation 5"),
        (("PRELU", ["x", "x"], "y", None), {}, "must be constant"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_what_is_not_implemented_is_refused_by_name(operator, constants, message, tmp_path):
    with pytest.raises(FairveilError, match=message):
        read(build([operator], constants), tmp_path)


def test_a_tensor_that_is_not_as_long_as_its_shape_is_refused(tmp_path):
    content = build([("MUL", ["x", "c"], "y", Options("MulOptions"))], {"c": values(3, 5)})
    shape = np.array([3, 5], np.int32).tobytes()
    assert content.count(shape) == 1
    with pytest.raises(FairveilError, match=r"c holds 60 bytes"):
        read(content.replace(shape, np.array([3, 2**30], np.int32).tobytes()), tmp_path)


def test_tensors_that_share_bytes_cannot_fill_the_memory(tmp_path):
    model = schema.ModelT.InitFromPackedBuf(network())
    buffer = schema.BufferT()
    buffer.data = np.zeros(100_000, np.uint8)
    model.buffers.append(buffer)
    for index in range(1000):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"t{index}", [25_000], len(model.buffers) - 1
        model.subgraphs[0].tensors.append(tensor)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(FairveilError, match="more memory than is proportionate to its"):
        read(bytes(builder.Output()), tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_broken_file_is_a_clear_error(tmp_path_factory, data):
    whole = network()
    broken = data.draw(
        st.one_of(
            st.binary(max_size=100),
            st.binary(max_size=100).map(lambda tail: whole[:8] + tail),
            st.integers(0, len(whole) - 1).map(lambda n: whole[:n]),
            st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)).map(
                lambda at: whole[: at[0]] + bytes([at[1]]) + whole[at[0] + 1 :]
            ),
        )
    )
    try:
        read(broken, tmp_path_factory.mktemp("tflite"))  # one changed byte may well leave a sound model
    except FairveilError as error:
        assert "model.tflite" in str(error)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(FairveilError, match="Cannot read"):
        read_tflite(tmp_path / "none.tflite")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"name": "n" * 1000, "tensors": 1000}, "its names are longer than itself"),
        ({"operators": 500, "inputs": 500}, "its operators share what they read"),
    ],
    ids=["names", "inputs"],
)
def test_what_lies_upon_each_other_is_counted_each_time(counts, message, tmp_path):
    read(shared_tables(), tmp_path)  # nothing is wrong with one of each
    with pytest.raises(FairveilError, match=message):
        read(shared_tables(**counts), tmp_path)


def test_a_device_is_no_model():
    with pytest.raises(FairveilError, match="Cannot read /dev/null: it is not an ordinary file"):
        read_tflite("/dev/null")
