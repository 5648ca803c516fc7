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
from fairveil.faces.graphs.tflite import read_tflite

RANDOM = np.random.default_rng(0)
BATCH, SIZE = 2, (6, 7)
TYPES = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}


def values(*shape):
    return RANDOM.uniform(-1, 1, shape).astype(np.float32)


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


def read(content, folder):
    path = folder / "model.tflite"
    path.write_bytes(content)
    return read_tflite(path)


def litert(content, x):
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()


def check(content, folder, size=SIZE):
    """Ours and LiteRT's result agree, for the batch the model was exported for."""
    x = values(BATCH, *size, 3)
    expected = litert(content, x)
    found = read(content, folder)(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


SAME, VALID = schema.Padding.SAME, schema.Padding.VALID


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.sampled_from([SAME, VALID]),
    depthwise=st.booleans(),
    bias=st.booleans(),
)
def test_any_convolution_gives_what_litert_gives(
    tmp_path_factory, *, size, kernel, stride, dilation, padding, depthwise, bias
):
    fields = {
        "padding": padding,
        "strideH": stride,
        "strideW": stride,
        "dilationHFactor": dilation,
        "dilationWFactor": dilation,
    }
    if depthwise:
        weight, kind = values(1, *kernel, 6), "DEPTHWISE_CONV_2D"
        options = Options("DepthwiseConv2DOptions", depthMultiplier=2, **fields)
    else:
        weight, kind, options = values(6, *kernel, 3), "CONV_2D", Options("Conv2DOptions", **fields)
    b = values(6) if bias else np.zeros(6, np.float32)  # LiteRT wants one
    content = build([(kind, ["x", "w", "b"], "y", options)], {"w": 3 * weight, "b": b}, size=size)
    check(content, tmp_path_factory.mktemp("tflite"), size)


ONE_OPERATOR = {
    "abs": ("ABS", {}, None),
    "add": ("ADD", {"c": values(3)}, Options("AddOptions")),
    "sub": ("SUB", {"c": values(3)}, Options("SubOptions")),
    "mul": ("MUL", {"c": values(3)}, Options("MulOptions")),
    "relu": ("RELU", {}, None),
    "reshape": ("RESHAPE", {"c": np.array([BATCH, -1], np.int32)}, Options("ReshapeOptions", newShape=[BATCH, -1])),
}


@pytest.mark.parametrize("name", ONE_OPERATOR)
def test_an_operator_gives_what_litert_gives(name, tmp_path):
    kind, constants, options = ONE_OPERATOR[name]
    check(build([(kind, ["x", *constants], "y", options)], constants), tmp_path)


def test_a_batch_fixed_at_export_does_not_bind(tmp_path):
    shape = np.array([BATCH, SIZE[0] * SIZE[1] * 3], np.int32)
    operators = [("ABS", ["x"], "a", None), ("RESHAPE", ["a", "to"], "y", Options("ReshapeOptions", newShape=shape))]
    content = build(operators, {"to": shape})
    x = values(6, *SIZE, 3)
    expected = np.concatenate([litert(content, x[i : i + BATCH]) for i in range(0, 6, BATCH)])
    graph = read(content, tmp_path)
    pictures = torch.from_numpy(x).permute(0, 3, 1, 2)
    np.testing.assert_allclose(graph(pictures), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(graph(pictures[:1]), expected[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("operator", "constants", "message"),
    [
        (("COS", ["x"], "y", None), {}, r"TensorFlow Lite operator COS.*It reads ABS"),
        (
            (
                "ADD",
                ["x", "c"],
                "y",
                Options("AddOptions", fusedActivationFunction=schema.ActivationFunctionType.RELU6),
            ),
            {"c": values(3)},
            "FusedActivationFunction=3, which fairveil does not implement",
        ),
    ],
    ids=["operator", "activation"],
)
def test_what_is_not_implemented_is_refused_by_name(operator, constants, message, tmp_path):
    with pytest.raises(FairveilError, match=message):
        read(build([operator], constants), tmp_path)
