"""Reading frozen TensorFlow graphs: one protobuf file that holds operators and weights, a `GraphDef`."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from torch import Tensor

from fairveil.base.errors import FairveilError, clipped
from fairveil.base.files import read_ordinary_file
from fairveil.faces.graphs.assembly import assemble, entries, tensor_from_bytes
from fairveil.faces.graphs.guarding import LARGEST, reading
from fairveil.faces.graphs.module import GraphModule
from fairveil.faces.graphs.tfjs import BUILDERS, MALFORMED, foreign_graph, only_end

_TYPES = {1: ("float_val", torch.float32), 3: ("int_val", torch.int32), 9: ("int64_val", torch.int64)}
"""Kinds of numbers by TensorFlow's `DataType`: where a tensor has them one by one, and how they are packed."""

_Fields = dict[str, tuple[int, str]]
_SCHEMA: dict[str, _Fields] = {
    "Dim": {"size": (1, "int64"), "name": (2, "string")},
    "Shape": {"dim": (2, "Dim*"), "unknown_rank": (3, "bool")},
    "TensorOf": {
        "dtype": (1, "int32"), "tensor_shape": (2, "Shape"), "tensor_content": (4, "bytes"),
        "float_val": (5, "float*"), "int_val": (7, "int32*"), "int64_val": (10, "int64*"),
    },
    "List": {
        "s": (2, "bytes*"), "i": (3, "int64*"), "f": (4, "float*"), "b": (5, "bool*"), "type": (6, "int32*"),
        "shape": (7, "Shape*"),
    },
    "Value": {
        "list": (1, "List"), "s": (2, "bytes"), "i": (3, "int64"), "f": (4, "float"), "b": (5, "bool"),
        "type": (6, "int32"), "shape": (7, "Shape"), "tensor": (8, "TensorOf"),
    },
    "Attribute": {"key": (1, "string"), "value": (2, "Value")},
    "Node": {"name": (1, "string"), "op": (2, "string"), "input": (3, "string*"), "attr": (5, "Attribute*")},
    "Graph": {"node": (1, "Node*")},
}  # fmt: skip
"""The part of TensorFlow's `graph.proto` that inference graphs use: by message the fields with their numbers."""


def read_tensorflow(path: Path | str, output: str | None = None) -> GraphModule:
    """Read a frozen TensorFlow graph into a differentiable module.

    Args:
        path: the file, with its weights inside as constants. Its graph takes pictures (B, H, W, 3); the module takes
            them as (B, 3, H, W).
        output: name of the node to return; it may be left out where there is one that no other reads.

    Raises:
        FairveilError: the file is no TensorFlow graph, or the graph uses an operator, or an attribute of one, that
            fairveil does not implement (it is named).
    """
    path = Path(path)
    try:
        data = read_ordinary_file(path, LARGEST)
    except OSError as error:
        raise FairveilError(f"Cannot read {path}: {error.strerror}.") from error
    with reading(path.name, len(data)):
        try:
            graph = graph_type()()
            graph.ParseFromString(data)
            nodes, weights = nodes_and_weights(graph, path.name)
            foreign = foreign_graph({"modelTopology": {"node": nodes}}, weights, path.name, "TensorFlow")
        except DecodeError as error:
            raise FairveilError(f"{path} is not a frozen TensorFlow graph, or is cut short.") from error
        except MALFORMED as error:
            reason = f"{type(error).__name__}: {clipped(str(error), 300)}"
            raise FairveilError(f"{path} is not a frozen TensorFlow graph ({reason}).") from error
        return assemble(foreign, BUILDERS, output or only_end(foreign))


def nodes_and_weights(graph: Any, source: str) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The nodes as TensorFlow.js writes them, which is protobuf's own JSON, and the values of constants by name."""
    nodes: list[dict[str, Any]] = []
    weights: dict[str, Tensor] = {}
    for node in graph.node:
        attributes: dict[str, Any] = {}
        for entry in node.attr:
            if entry.value.HasField("tensor"):
                if node.op == "Const":
                    weights[node.name] = _tensor(entry.value.tensor, f"{source}: {clipped(node.name)}")
            else:
                attributes[entry.key] = json_format.MessageToDict(entry.value, preserving_proto_field_name=True)
        nodes.append({"name": node.name, "op": node.op, "input": list(node.input), "attr": attributes})
    return nodes, weights


def _tensor(stored: Any, what: str) -> Tensor:
    """The value of a constant, (…), floats or int64: packed bytes, or numbers of which the last fills up the rest."""
    if stored.dtype not in _TYPES:
        raise FairveilError(f"{what} holds numbers of TensorFlow's type {stored.dtype}; fairveil reads {list(_TYPES)}.")
    field, dtype = _TYPES[stored.dtype]
    shape = [int(dimension.size) for dimension in stored.tensor_shape.dim]
    count = entries(shape, what)
    if stored.tensor_content:
        values = tensor_from_bytes(stored.tensor_content, dtype, shape, what)
    else:
        listed = torch.tensor(np.array(getattr(stored, field), dtype=np.float64 if dtype.is_floating_point else int))
        if count > LARGEST // 8 or not 0 < len(listed) <= max(count, 1):
            raise FairveilError(
                f"{what} has {len(listed)} numbers where its shape {clipped(str(shape))} asks for more."
            )
        values = torch.cat([listed, listed[-1:].expand(math.prod(shape) - len(listed))]).reshape(shape)
    return values.float() if dtype.is_floating_point else values.long()


@cache
def graph_type() -> Any:
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
