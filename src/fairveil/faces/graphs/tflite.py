"""The zoo's TensorFlow Lite model, a MobileFaceNet.

It is a known file, whose SHA-256 `assets` has checked. So only the operators that it needs are here, and the file is
not expected to be broken. ONNX is the format for models of one's own.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tflite
import torch
from torch import Tensor

from fairveil.faces.graphs import builders
from fairveil.faces.graphs import operators as ops
from fairveil.faces.graphs.assembly import Builders, ForeignGraph, Operation, Step, assemble, from_numpy
from fairveil.faces.graphs.builders import plain
from fairveil.faces.graphs.module import GraphModule

_DTYPES = {tflite.TensorType.FLOAT32: "<f4", tflite.TensorType.INT32: "<i4"}
_KINDS = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
_FUSED = "FusedActivationFunction"
_WINDOW = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", _FUSED)
_OPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "ADD": (tflite.AddOptions, (_FUSED,)),
    "CONV_2D": (tflite.Conv2DOptions, _WINDOW),
    "DEPTHWISE_CONV_2D": (tflite.DepthwiseConv2DOptions, (*_WINDOW, "DepthMultiplier")),
    "MUL": (tflite.MulOptions, (_FUSED,)),
    "SUB": (tflite.SubOptions, (_FUSED,)),
}
"""What is said of each operator beside its inputs: the class of its options, and their fields."""


def read_tflite(path: Path) -> GraphModule:
    """Read a model of one graph, one input and one output into a differentiable module.

    Args:
        path: the file. Its graph takes pictures (B, H, W, 3); the module takes them as (B, 3, H, W).

    Raises:
        FairveilError: the graph uses an operator, or an option of one, that is not implemented (it is named).
    """
    model = tflite.Model.GetRootAs(path.read_bytes(), 0)
    subgraph = model.Subgraphs(0)
    tensors = [subgraph.Tensors(index) for index in range(subgraph.TensorsLength())]
    names = [tensor.Name().decode() for tensor in tensors]
    entry = subgraph.Inputs(0)
    batch, height, width, _ = tensors[entry].ShapeAsNumpy().tolist()
    graph = ForeignGraph(
        path.name,
        "TensorFlow Lite",
        {names[index]: _constant(model, tensor) for index, tensor in enumerate(tensors) if _has_value(model, tensor)},
        names[entry],
        batch=batch,
        picture=(height, width),
        entry=partial(ops.permute, order=(0, 2, 3, 1)),
    )
    for operator in map(subgraph.Operators, range(subgraph.OperatorsLength())):
        kind = _KINDS[model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()]
        inputs = tuple(names[index] for index in operator.InputsAsNumpy())
        result = names[operator.Outputs(0)]
        graph.operations.append(Operation(graph, kind, result, inputs, result, _options(kind, operator)))
    return assemble(graph, _BUILDERS, names[subgraph.Outputs(0)])


def _has_value(model: Any, tensor: Any) -> bool:
    return bool(model.Buffers(tensor.Buffer()).DataLength())


def _constant(model: Any, tensor: Any) -> Tensor:
    content = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
    return from_numpy(np.frombuffer(content, _DTYPES[tensor.Type()]).reshape(tensor.ShapeAsNumpy()))


def _options(kind: str, operator: Any) -> dict[str, Any]:
    if kind not in _OPTIONS:
        return {}
    make, fields = _OPTIONS[kind]
    options, table = make(), operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    values = {field: getattr(options, field)() for field in fields}
    if values[_FUSED] == tflite.ActivationFunctionType.NONE:
        del values[_FUSED]  # any other is refused as an attribute that nobody takes
    return values


def _conv(o: Operation) -> Step:
    weight, groups = o.constant(1), 1
    if o.kind == "CONV_2D":  # (out, rows, columns, in)
        weight = weight.permute(0, 3, 1, 2)
    else:  # (1, rows, columns, out)
        weight = weight.permute(3, 0, 1, 2)
        groups = weight.shape[0] // o.attribute("DepthMultiplier")
    padding = o.expect("Padding", tflite.Padding.SAME, tflite.Padding.VALID)
    operator = ops.Convolution(
        weight,
        o.constant(2),
        stride=(o.attribute("StrideH"), o.attribute("StrideW")),
        padding="SAME" if padding == tflite.Padding.SAME else ops.VALID,
        dilation=(o.attribute("DilationHFactor"), o.attribute("DilationWFactor")),
        groups=groups,
        nhwc=True,
    )
    return operator, o.inputs[:1]


_BUILDERS: Builders = {
    "ABS": plain(torch.abs),
    "ADD": plain(torch.add, inputs=2),
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "MUL": plain(torch.mul, inputs=2),
    "RELU": plain(ops.Clamp(0)),
    "RESHAPE": builders.reshape,
    "SUB": plain(torch.sub, inputs=2),
}
"""Builders of TensorFlow Lite's operators by their names."""
