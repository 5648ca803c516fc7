"""Reading TensorFlow Lite models whose numbers are floats."""

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import tflite
import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError, clipped, listed
from fairveil.base.files import read_ordinary_file
from fairveil.faces.graphs import builders
from fairveil.faces.graphs import operators as ops
from fairveil.faces.graphs.assembly import Builders, ForeignGraph, Operation, Step, assemble, tensor_from_bytes
from fairveil.faces.graphs.builders import plain
from fairveil.faces.graphs.guarding import LARGEST, reading
from fairveil.faces.graphs.module import GraphModule

_DTYPES = {
    tflite.TensorType.FLOAT32: torch.float32,
    tflite.TensorType.FLOAT16: torch.float16,
    tflite.TensorType.INT32: torch.int32,
    tflite.TensorType.INT64: torch.int64,
}
_TYPE_NAMES = {value: name for name, value in vars(tflite.TensorType).items() if isinstance(value, int)}
_OPERATOR_NAMES = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
# What the generated readers raise when offsets of a broken file lead astray.
_BROKEN = (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError, AssertionError)


def read_tflite(path: Path | str, output: str | None = None) -> GraphModule:
    """Read a TensorFlow Lite model into a differentiable module.

    Args:
        path: the file. Its graph takes pictures (B, H, W, 3); the module takes them as (B, 3, H, W). Weights are
            float32, or float16 brought to float32 by DEQUANTIZE.
        output: name of the tensor to return, which may be an inner one; by default the graph's only output.

    Raises:
        FairveilError: the file is no TensorFlow Lite model, is quantised, or uses an operator, or an option of one,
            that fairveil does not implement (it is named).
    """
    path = Path(path)
    try:
        data = read_ordinary_file(path, LARGEST)
    except OSError as error:
        raise FairveilError(f"Cannot read {path}: {error.strerror}.") from error
    if data[4:8] != b"TFL3":
        raise FairveilError(f"{path} is not a TensorFlow Lite model.")
    with reading(path.name, len(data)):
        try:
            graph, outputs = _foreign_graph(data, path.name)
        except _BROKEN as error:
            raise FairveilError(f"{path} is broken or cut short ({type(error).__name__}: {error}).") from error
        if output is None and len(outputs) != 1:
            raise FairveilError(f"{path.name} has the outputs {listed(outputs)}: name the one you want.")
        return assemble(graph, _BUILDERS, output or outputs[0])


def _foreign_graph(data: bytes, source: str) -> tuple[ForeignGraph, list[str]]:
    model = tflite.Model.GetRootAs(data, 0)
    # Every entry of a vector takes four bytes at least: a count beyond that is a lie, not a model.
    if model.SubgraphsLength() != 1:
        raise FairveilError(f"{source} holds {model.SubgraphsLength()} graphs; fairveil reads one.")
    subgraph = model.Subgraphs(0)
    if max(subgraph.TensorsLength(), subgraph.OperatorsLength(), model.BuffersLength()) > len(data) // 4:
        raise ValueError("it counts more entries than it has bytes")
    operators = [subgraph.Operators(index) for index in range(subgraph.OperatorsLength())]
    if sum(operator.InputsLength() for operator in operators) > len(data) // 4:
        raise ValueError("its operators share what they read")
    texts = _Texts(len(data))
    names = _tensor_names(subgraph, texts)
    constants: dict[str, Tensor] = {}
    for index, name in enumerate(names):
        value = _constant(model, subgraph.Tensors(index), name, source)
        if value is not None:
            constants[name] = value
    if subgraph.InputsLength() != 1:
        raise FairveilError(f"{source} takes {subgraph.InputsLength()} inputs; a recogniser takes one, the picture.")
    entry = subgraph.Tensors(subgraph.Inputs(0))
    shape = [int(size) for size in entry.ShapeAsNumpy()] if entry.ShapeLength() else []
    if len(shape) != 4:
        raise FairveilError(f"{source} takes a tensor of {len(shape)} dimensions; pictures in batches have 4.")
    graph = ForeignGraph(
        source,
        "TensorFlow Lite",
        constants,
        names[subgraph.Inputs(0)],
        batch=shape[0],
        picture=(shape[1], shape[2]),
        entry=partial(ops.permute, order=(0, 2, 3, 1)),
    )
    kinds = [_kind(model.OperatorCodes(index), texts) for index in range(model.OperatorCodesLength())]
    for index, operator in enumerate(operators):
        graph.operations += _operations(graph, kinds[operator.OpcodeIndex()], operator, names, f"#{index}")
    return graph, [names[subgraph.Outputs(i)] for i in range(subgraph.OutputsLength())]


class _Texts:
    """Decodes the texts of a file, which may lie upon each other, but not so often that they fill the memory.

    Args:
        size: bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._left = size

    def __call__(self, text: bytes | None) -> str:
        """A text of the file; an empty one where there is none."""
        text = text or b""
        self._left -= len(text)
        if self._left < 0:
            raise ValueError("its names are longer than itself")
        return text.decode("utf-8", "replace")


def _tensor_names(subgraph: Any, texts: _Texts) -> list[str]:
    """Names of the tensors by index; the format does not make them unique, so twins get their index behind."""
    names: list[str] = []
    taken: set[str] = set()
    for index in range(subgraph.TensorsLength()):
        name = texts(subgraph.Tensors(index).Name())
        names.append(f"{name}#{index}" if name in taken or not name else name)
        taken.add(names[-1])
    return names


def _constant(model: Any, tensor: Any, name: str, source: str) -> Tensor | None:
    """The tensor's value, if the file has one."""
    if tensor.Buffer() == 0 or not (length := model.Buffers(tensor.Buffer()).DataLength()):
        return None
    if tensor.Type() not in _DTYPES:
        kind = _TYPE_NAMES.get(tensor.Type(), "unknown")
        raise FairveilError(
            f"{source} is quantised or odd: its tensor {clipped(name)} holds {kind}. Export it with floats."
        )
    if tensor.Sparsity() is not None:
        raise FairveilError(
            f"{source}: the tensor {clipped(name)} is stored as a sparse one, which fairveil cannot read."
        )
    buffer = model.Buffers(tensor.Buffer()).DataAsNumpy()
    shape = tensor.ShapeAsNumpy().tolist() if tensor.ShapeLength() else []
    assert length == len(buffer)
    values = tensor_from_bytes(buffer.data, _DTYPES[tensor.Type()], shape, f"{source}: {clipped(name)}")
    return values.float() if values.is_floating_point() else values.long()


_WINDOW = ("Padding", "StrideH", "StrideW")
_DILATION = ("DilationHFactor", "DilationWFactor")
_FUSED = "FusedActivationFunction"
_OPTIONS = {
    "ADD": (tflite.AddOptions, (_FUSED,)),
    "AVERAGE_POOL_2D": (tflite.Pool2DOptions, (*_WINDOW, "FilterHeight", "FilterWidth", _FUSED)),
    "CONCATENATION": (tflite.ConcatenationOptions, ("Axis", _FUSED)),
    "CONV_2D": (tflite.Conv2DOptions, (*_WINDOW, *_DILATION, _FUSED)),
    "DEPTHWISE_CONV_2D": (tflite.DepthwiseConv2DOptions, (*_WINDOW, *_DILATION, "DepthMultiplier", _FUSED)),
    "DIV": (tflite.DivOptions, (_FUSED,)),
    "FULLY_CONNECTED": (tflite.FullyConnectedOptions, ("WeightsFormat", "KeepNumDims", _FUSED)),
    "L2_NORMALIZATION": (tflite.L2NormOptions, (_FUSED,)),
    "LEAKY_RELU": (tflite.LeakyReluOptions, ("Alpha",)),
    "MAX_POOL_2D": (tflite.Pool2DOptions, (*_WINDOW, "FilterHeight", "FilterWidth", _FUSED)),
    "MEAN": (tflite.ReducerOptions, ("KeepDims",)),
    "MUL": (tflite.MulOptions, (_FUSED,)),
    "REDUCE_MAX": (tflite.ReducerOptions, ("KeepDims",)),
    "RESHAPE": (tflite.ReshapeOptions, ("NewShapeAsNumpy",)),
    "SOFTMAX": (tflite.SoftmaxOptions, ("Beta",)),
    "SQUEEZE": (tflite.SqueezeOptions, ("SqueezeDimsAsNumpy",)),
    "SUB": (tflite.SubOptions, (_FUSED,)),
    "SUM": (tflite.ReducerOptions, ("KeepDims",)),
}
_ACTIVATIONS = {
    tflite.ActivationFunctionType.RELU: "RELU",
    tflite.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1",
    tflite.ActivationFunctionType.RELU6: "RELU6",
    tflite.ActivationFunctionType.TANH: "TANH",
}


def _kind(code: Any, texts: _Texts) -> str:
    """What an operator is called."""
    # Codes above 127 are only in the newer field; for the others older files have only the older one.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == tflite.BuiltinOperator.CUSTOM:
        return f"CUSTOM {texts(code.CustomCode())}"
    return str(_OPERATOR_NAMES.get(number, number))


def _operations(graph: ForeignGraph, kind: str, operator: Any, names: list[str], inner: str) -> Iterator[Operation]:
    """A foreign operator, and behind it the activation fused to it; `inner` names what goes from one to the other."""
    inputs = tuple(names[i] if i >= 0 else "" for i in map(operator.Inputs, range(operator.InputsLength())))
    result = names[operator.Outputs(0)]
    attributes = _attributes(kind, operator)
    activation = attributes.pop(_FUSED, tflite.ActivationFunctionType.NONE)
    if activation == tflite.ActivationFunctionType.NONE:
        yield Operation(graph, kind, result, inputs, result, attributes)
    else:
        yield Operation(graph, kind, result, inputs, inner, attributes)
        after = _ACTIVATIONS.get(activation, f"activation {activation}")
        yield Operation(graph, after, result, (inner,), result, {})


def _attributes(kind: str, operator: Any) -> dict[str, Any]:
    if kind not in _OPTIONS or operator.BuiltinOptions() is None:
        return {}
    options, fields = _OPTIONS[kind][0](), _OPTIONS[kind][1]
    table = operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return {field: getattr(options, field)() for field in fields}


# Builders. `o` is the operation being built.


def _padding(o: Operation) -> ops.Padding:
    padding = o.expect("Padding", tflite.Padding.SAME, tflite.Padding.VALID)
    return "SAME" if padding == tflite.Padding.SAME else ops.VALID


def _conv(o: Operation) -> Step:
    weight, groups = o.constant(1), 1
    if o.kind == "CONV_2D":  # (out, rows, columns, in)
        weight = weight.permute(0, 3, 1, 2)
    else:  # (1, rows, columns, out)
        weight = weight.permute(3, 0, 1, 2)
        groups = weight.shape[0] // max(o.attribute("DepthMultiplier", 1), 1)
    operator = ops.Convolution(
        weight,
        o.optional(2),
        stride=(o.attribute("StrideH"), o.attribute("StrideW")),
        padding=_padding(o),
        dilation=(o.attribute("DilationHFactor"), o.attribute("DilationWFactor")),
        groups=groups,
        nhwc=True,
    )
    return operator, o.inputs[:1]


def _pool(o: Operation) -> Step:
    operator = partial(
        ops.pool,
        reduction="max" if o.kind == "MAX_POOL_2D" else "mean",
        kernel=(o.attribute("FilterHeight"), o.attribute("FilterWidth")),
        stride=(o.attribute("StrideH"), o.attribute("StrideW")),
        padding=_padding(o),
        nhwc=True,
    )
    return operator, o.inputs


def _fully_connected(o: Operation) -> Step:
    o.expect("WeightsFormat", tflite.FullyConnectedOptionsWeightsFormat.DEFAULT, default=0)
    return ops.Linear(o.constant(1), o.optional(2), matrix=not o.attribute("KeepNumDims", False)), o.inputs[:1]


def _leaky_relu(o: Operation) -> Step:
    return ops.PRelu(torch.tensor(o.attribute("Alpha", 0.0))), o.inputs


def _reduce(o: Operation) -> Step:
    reduction = {"MEAN": "mean", "SUM": "sum", "REDUCE_MAX": "max"}[o.kind]
    return builders.reduce(o, reduction, keep=o.attribute("KeepDims", False))


def _softmax(o: Operation) -> Step:
    o.expect("Beta", 1.0, default=1.0)
    return partial(F.softmax, dim=-1), o.inputs


def _reshape(o: Operation) -> Step:
    wanted = o.attribute("NewShapeAsNumpy", ())
    target = o.integers(1) if o.has(1) else tuple(int(size) for size in wanted)
    return builders.reshape(o, target)


def _squeeze(o: Operation) -> Step:
    return partial(ops.squeeze, axes=tuple(int(axis) for axis in o.attribute("SqueezeDimsAsNumpy", ()))), o.inputs


def _concat(o: Operation) -> Step:
    return partial(ops.concatenate, axis=o.attribute("Axis", 0)), o.inputs


def _dequantize(o: Operation) -> Step:
    o.constant(0)  # half-precision weights, brought to single precision when they were read
    return ops.same, o.inputs


_BUILDERS: Builders = {
    "ABS": plain(torch.abs),
    "ADD": plain(torch.add, inputs=2),
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _concat,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "DEQUANTIZE": _dequantize,
    "DIV": plain(torch.div, inputs=2),
    "FULLY_CONNECTED": _fully_connected,
    "HARD_SWISH": plain(F.hardswish),
    "L2_NORMALIZATION": plain(ops.normalize),
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": plain(torch.sigmoid),
    "MAXIMUM": lambda o: builders.bound(o, "max"),
    "MAX_POOL_2D": _pool,
    "MEAN": _reduce,
    "MINIMUM": lambda o: builders.bound(o, "min"),
    "MUL": plain(torch.mul, inputs=2),
    "NEG": plain(torch.neg),
    "PAD": builders.pad,
    "PADV2": builders.pad,
    "PRELU": builders.prelu,
    "REDUCE_MAX": _reduce,
    "RELU": plain(ops.Clamp(0)),
    "RELU6": plain(ops.Clamp(0, 6)),
    "RELU_N1_TO_1": plain(ops.Clamp(-1, 1)),
    "RESHAPE": _reshape,
    "RSQRT": plain(torch.rsqrt),
    "SOFTMAX": _softmax,
    "SQRT": plain(torch.sqrt),
    "SQUARE": plain(torch.square),
    "SQUEEZE": _squeeze,
    "SUB": plain(torch.sub, inputs=2),
    "SUM": _reduce,
    "TANH": plain(torch.tanh),
    "TRANSPOSE": builders.transpose,
}
