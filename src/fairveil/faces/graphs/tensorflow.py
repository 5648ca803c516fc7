"""The zoo's TensorFlow graphs: one in protobuf (a `GraphDef`), three in TensorFlow.js's JSON beside their weights.

They are known files, whose SHA-256 `assets` has checked. So only the operators that they need are here, and no file is
expected to be broken. ONNX is the format for models of one's own.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory  # type: ignore[import-untyped]
from torch import Tensor

from fairveil.faces.graphs import builders
from fairveil.faces.graphs import operators as ops
from fairveil.faces.graphs.assembly import Builders, ForeignGraph, Operation, Step, assemble, from_numpy
from fairveil.faces.graphs.builders import plain
from fairveil.faces.graphs.module import GraphModule

_TYPES = {1: ("float_val", "<f4"), 3: ("int_val", "<i4")}
"""Kinds of numbers by TensorFlow's `DataType`: where a tensor has them one by one, and how they are packed."""

_SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64")},
    "Shape": {"dim": (2, "Dim*")},
    "TensorOf": {
        "dtype": (1, "int32"), "tensor_shape": (2, "Shape"), "tensor_content": (4, "bytes"), "float_val": (5, "float*"),
        "int_val": (7, "int32*"),
    },
    "List": {"i": (3, "int64*")},
    "Value": {
        "list": (1, "List"), "s": (2, "bytes"), "i": (3, "int64"), "f": (4, "float"), "b": (5, "bool"),
        "shape": (7, "Shape"), "tensor": (8, "TensorOf"),
    },
    "Attribute": {"key": (1, "string"), "value": (2, "Value")},
    "Node": {"name": (1, "string"), "op": (2, "string"), "input": (3, "string*"), "attr": (5, "Attribute*")},
    "Graph": {"node": (1, "Node*")},
}  # fmt: skip
"""The part of TensorFlow's `graph.proto` that the file uses: by message the fields with their numbers."""

_IDLE = {"use_cudnn_on_gpu", "N"}  # hints to other engines, and how many inputs there are


def read_tensorflow(path: Path, output: str) -> GraphModule:
    """Read a frozen graph, whose weights are constants inside, into a differentiable module.

    Args:
        path: the file. Its graph takes pictures (B, H, W, 3); the module takes them as (B, 3, H, W).
        output: name of the node to return.

    Raises:
        FairveilError: the graph uses an operator, or an attribute of one, that is not implemented (it is named).
    """
    nodes, weights = nodes_and_weights(path.read_bytes())
    return _assembled(nodes, weights, path.name, output)


def read_tfjs(path: Path, weights: Path, output: str) -> GraphModule:
    """Read a TensorFlow.js graph model into a differentiable module.

    Args:
        path: the JSON file. Its graph takes pictures (B, H, W, 3); the module takes them as (B, 3, H, W).
        weights: the file of its weights.
        output: name of the node to return, such as "global_pooling/Mean".

    Raises:
        FairveilError: as `read_tensorflow`.
    """
    document = json.loads(path.read_text())
    constants = read_tfjs_weights(document["weightsManifest"][0]["weights"], weights)
    return _assembled(document["modelTopology"]["node"], constants, path.name, output)


def read_tfjs_weights(manifest: Sequence[Mapping[str, Any]], path: Path) -> dict[str, Tensor]:
    """Read the weights of a TensorFlow.js or face-api.js model.

    Args:
        manifest: name, shape and dtype of each, and perhaps its quantization (value = stored · scale + min).
        path: the file in which they follow each other.

    Returns:
        Tensors by name; floating-point ones as float32, integer ones as int64.
    """
    data = path.read_bytes()
    weights: dict[str, Tensor] = {}
    offset = 0
    for entry in manifest:
        quantization = entry.get("quantization", {})
        stored = np.dtype(quantization.get("dtype", entry["dtype"])).newbyteorder("<")
        values = from_numpy(np.frombuffer(data, stored, int(np.prod(entry["shape"])), offset).reshape(entry["shape"]))
        offset += values.numel() * stored.itemsize
        if "scale" in quantization:
            values = values.float() * quantization["scale"] + quantization["min"]
        weights[entry["name"]] = values.float() if entry["dtype"].startswith("float") else values
    return weights


def nodes_and_weights(content: bytes) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The nodes of a `GraphDef` as TensorFlow.js writes them, in protobuf's own JSON, and its constants by name."""
    graph = _graph_type()()
    graph.ParseFromString(content)
    nodes: list[dict[str, Any]] = []
    weights: dict[str, Tensor] = {}
    for node in graph.node:
        attributes = {}
        for entry in node.attr:
            if entry.value.HasField("tensor"):
                weights[node.name] = _constant(entry.value.tensor)
            elif entry.value.ListFields():
                attributes[entry.key] = json_format.MessageToDict(entry.value, preserving_proto_field_name=True)
        nodes.append({"name": node.name, "op": node.op, "input": list(node.input), "attr": attributes})
    return nodes, weights


def _constant(stored: Any) -> Tensor:
    """The value of a constant, (…), floats or int64: packed bytes, or one number for all its places."""
    field, kind = _TYPES[stored.dtype]
    shape = [size.size for size in stored.tensor_shape.dim]
    if stored.tensor_content:
        return from_numpy(np.frombuffer(stored.tensor_content, kind).reshape(shape))
    return from_numpy(np.resize(np.array(getattr(stored, field), kind), shape))


@cache
def _graph_type() -> Any:
    """The class of `_SCHEMA`'s outermost message."""
    file = descriptor_pb2.FileDescriptorProto(name="fairveil_graph.proto", package="fairveil", syntax="proto2")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            one = message.field.add(name=field, number=number, json_name=field)
            one.label = one.LABEL_REPEATED if kind.endswith("*") else one.LABEL_OPTIONAL
            if kind.rstrip("*") in _SCHEMA:
                one.type, one.type_name = one.TYPE_MESSAGE, f".fairveil.{kind.rstrip('*')}"
            else:
                one.type = one.Type.Value(f"TYPE_{kind.rstrip('*').upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fairveil.Graph"))


def _assembled(nodes: Sequence[Mapping[str, Any]], weights: dict[str, Tensor], source: str, output: str) -> GraphModule:
    """The module of a graph in protobuf's JSON."""
    (entry,) = (node for node in nodes if node["op"] == "Placeholder")
    graph = ForeignGraph(
        source,
        "TensorFlow",
        weights,
        entry["name"],
        picture=_picture(entry.get("attr", {})),
        entry=partial(ops.permute, order=(0, 2, 3, 1)),
    )
    for node in nodes:
        if node["op"] not in ("Placeholder", "Const"):
            attributes = {
                name: _attribute(value)
                for name, value in node["attr"].items()
                if name not in _IDLE and "type" not in value  # numbers are floats here
            }
            # "^name" only says what must have run before.
            inputs = tuple(name.removesuffix(":0") for name in node["input"] if not name.startswith("^"))
            graph.operations.append(Operation(graph, node["op"], node["name"], inputs, node["name"], attributes))
    return assemble(graph, _BUILDERS, output)


def _picture(attributes: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Height and width of the pictures (B, H, W, 3), where they are said."""
    sizes = [int(size["size"]) for size in attributes.get("shape", {}).get("shape", {}).get("dim", ())]
    height, width = (size if size > 0 else None for size in sizes[1:3]) if sizes else (None, None)
    return height, width


def _attribute(value: Mapping[str, Any]) -> Any:
    """One attribute in protobuf's JSON: its key is its type."""
    ((kind, content),) = value.items()
    if kind == "s":
        return base64.b64decode(content).decode()
    return tuple(int(entry) for entry in content.get("i", ())) if kind == "list" else content


# Builders. `o` is the operation being built.


def _pair(o: Operation, name: str) -> tuple[int, int]:
    _, rows, columns, _ = o.attribute(name)
    return rows, columns


def _padding(o: Operation) -> ops.Padding:
    o.expect("explicit_paddings", (), default=())
    return "SAME" if o.expect("padding", "SAME", "VALID") == "SAME" else ops.VALID


def _conv(o: Operation) -> Step:
    o.expect("data_format", "NHWC")
    weight, groups = o.constant(1), 1  # (rows, columns, in, out)
    if o.kind == "Conv2D":
        weight = weight.permute(3, 2, 0, 1)
    else:  # out is the number of outputs for each input
        groups = weight.shape[2]
        weight = weight.permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(1)
    operator = ops.Convolution(
        weight,
        None,
        stride=_pair(o, "strides"),
        padding=_padding(o),
        dilation=_pair(o, "dilations"),
        groups=groups,
        nhwc=True,
    )
    return operator, o.inputs[:1]


def _pool(o: Operation) -> Step:
    o.expect("data_format", "NHWC")
    operator = partial(
        ops.pool,
        reduction="max" if o.kind == "MaxPool" else "mean",
        kernel=_pair(o, "ksize"),
        stride=_pair(o, "strides"),
        padding=_padding(o),
        nhwc=True,
    )
    return operator, o.inputs


def _matmul(o: Operation) -> Step:
    o.expect("transpose_a", False)
    o.expect("transpose_b", False)
    return ops.Linear(o.constant(1).T, None), o.inputs[:1]


def _bias_add(o: Operation) -> Step:
    o.expect("data_format", "NHWC", default="NHWC")
    return torch.add, o.inputs


def _batch_norm(o: Operation) -> Step:
    o.expect("data_format", "NHWC")
    o.expect("is_training", False)
    gain, bias, mean, variance = (o.constant(i).double() for i in range(1, 5))
    scale = gain / torch.sqrt(variance + o.attribute("epsilon"))
    return ops.Affine(scale.float(), (bias - mean * scale).float(), dimension=-1), o.inputs[:1]


def _reduce(o: Operation) -> Step:
    reduction, keep = {"Mean": "mean", "Sum": "sum"}[o.kind], o.attribute("keep_dims")
    return partial(ops.reduce, reduction=reduction, axes=o.integers(1), keep=keep), o.inputs[:1]


def _pad(o: Operation) -> Step:
    sides = o.integers(1)  # a row (before, after) for each dimension
    return ops.Pad(tuple(zip(sides[::2], sides[1::2], strict=True))), o.inputs[:1]


def _concat(o: Operation) -> Step:
    (axis,) = o.integers(len(o.inputs) - 1)
    return partial(ops.concatenate, axis=axis), o.inputs[:-1]


_BUILDERS: Builders = {
    "Add": plain(torch.add, inputs=2),
    "AddV2": plain(torch.add, inputs=2),
    "AvgPool": _pool,
    "BiasAdd": _bias_add,
    "ConcatV2": _concat,
    "Conv2D": _conv,
    "DepthwiseConv2dNative": _conv,
    "FusedBatchNorm": _batch_norm,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Maximum": lambda o: builders.bound(o, "max"),
    "Mean": _reduce,
    "Minimum": lambda o: builders.bound(o, "min"),
    "Mul": plain(torch.mul, inputs=2),
    "Pad": _pad,
    "Relu": plain(ops.Clamp(0)),
    "Reshape": builders.reshape,
    "Rsqrt": plain(torch.rsqrt),
    "Square": plain(torch.square),
    "Sub": plain(torch.sub, inputs=2),
    "Sum": _reduce,
}
"""Builders of TensorFlow's operators by their names."""
