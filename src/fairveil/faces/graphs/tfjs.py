"""Reading TensorFlow.js graph models: a JSON file beside its weights."""

import base64
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError, clipped, listed
from fairveil.base.files import file_state, read_ordinary_file
from fairveil.faces.graphs import builders
from fairveil.faces.graphs import operators as ops
from fairveil.faces.graphs.assembly import Builders, ForeignGraph, Operation, Step, assemble, entries, tensor_from_bytes
from fairveil.faces.graphs.builders import plain
from fairveil.faces.graphs.guarding import LARGEST, reading
from fairveil.faces.graphs.module import GraphModule

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
}
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What JSON of another shape than expected leads to."""


def read_tfjs(model: Path | str, shards: Sequence[Path | str], output: str | None = None) -> GraphModule:
    """Read a TensorFlow.js graph model into a differentiable module.

    Args:
        model: the JSON file. Its graph takes pictures (B, H, W, 3); the module takes them as (B, 3, H, W).
        shards: the weight files, in the manifest's order.
        output: name of the node to return, such as "global_pooling/Mean"; it may be left out where there is one.

    Raises:
        FairveilError: a file is broken, or the graph uses an operator, or an attribute of one, that fairveil does
            not implement (it is named).
    """
    model = Path(model)
    document = _json(model)
    states = [file_state(Path(file)) for file in (model, *shards)]
    with reading(model.name, sum(state[0] for state in states if state)):
        try:
            graph = foreign_graph(document, read_tfjs_weights(document["weightsManifest"], shards), model.name)
        except MALFORMED as error:
            reason = f"{type(error).__name__}: {clipped(str(error), 300)}"
            raise FairveilError(f"{model} is not a TensorFlow.js graph model ({reason}).") from error
        return assemble(graph, BUILDERS, output or only_end(graph))


def only_end(graph: ForeignGraph) -> str:
    """What no operation reads, if it is one."""
    read = {name for operation in graph.operations for name in operation.inputs}
    ends = [operation.output for operation in graph.operations if operation.output not in read]
    if len(ends) != 1:
        raise FairveilError(f"{graph.source} has the outputs {listed(ends)}: name the one you want.")
    return ends[0]


def read_tfjs_weights(manifest: Sequence[Mapping[str, Any]], shards: Sequence[Path | str]) -> dict[str, Tensor]:
    """Read the weight files of a TensorFlow.js or face-api.js model.

    Args:
        manifest: the "weightsManifest" of a model's JSON, or face-api.js's manifest: groups of weights, each with
            name, shape, dtype and perhaps quantization (value = stored · scale + min).
        shards: the weight files, in the manifest's order; in each group they are one stretch of bytes.

    Returns:
        Tensors by name; floating-point ones as float32, integer ones as int64.

    Raises:
        FairveilError: a file cannot be read, or their lengths do not fit the manifest.
    """
    paths = [Path(shard) for shard in shards]
    try:
        counts = [len(group["paths"]) for group in manifest]
        if sum(counts) != len(paths):
            raise FairveilError(f"The manifest asks for {sum(counts)} weight files, not {len(paths)}.")
        weights: dict[str, Tensor] = {}
        for group, count in zip(manifest, counts, strict=True):
            files, paths = paths[:count], paths[count:]
            weights |= _read_group(group["weights"], files)
    except MALFORMED as error:
        reason = f"{type(error).__name__}: {clipped(str(error), 300)}"
        raise FairveilError(f"The manifest of the weights is broken ({reason}).") from error
    return weights


def _read_group(specifications: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> dict[str, Tensor]:
    try:
        data = memoryview(b"".join(read_ordinary_file(file, LARGEST) for file in files))
    except OSError as error:
        raise FairveilError(f"Cannot read the weights {error.filename}: {error.strerror}.") from error
    where = ", ".join(file.name for file in files)
    weights: dict[str, Tensor] = {}
    offset = 0
    for specification in specifications:
        name, shape = str(specification["name"]), [int(size) for size in specification["shape"]]
        quantization = specification.get("quantization", {})
        stored = quantization.get("dtype", specification["dtype"])
        if stored not in _DTYPES:
            raise FairveilError(
                f"{where}: {clipped(name)} is stored as {clipped(str(stored))}; fairveil reads {', '.join(_DTYPES)}."
            )
        what = f"{where}: {clipped(name)}"
        end = offset + entries(shape, what) * _DTYPES[stored].itemsize
        values = tensor_from_bytes(data[offset:end], _DTYPES[stored], shape, what)
        offset = end
        if "scale" in quantization:
            values = values.float() * float(quantization["scale"]) + float(quantization["min"])
        weights[name] = values.float() if specification["dtype"].startswith("float") else values.long()
    if offset != len(data):
        raise FairveilError(f"{where} holds {len(data)} bytes where the manifest asks for {clipped(str(offset))}.")
    return weights


def _json(path: Path) -> Any:
    try:
        return json.loads(read_ordinary_file(path, LARGEST))
    except OSError as error:
        raise FairveilError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise FairveilError(f"{path} is not JSON, or is cut short.") from error


def foreign_graph(
    document: Any, weights: dict[str, Tensor], source: str, format: str = "TensorFlow.js"
) -> ForeignGraph:
    """A graph in TensorFlow.js's JSON, its constants given apart, before any operator is understood."""
    nodes = document["modelTopology"]["node"]
    placeholders = [node for node in nodes if node["op"] == "Placeholder"]
    if len(placeholders) != 1:
        raise FairveilError(f"{source} takes {len(placeholders)} inputs; a recogniser takes one, the picture.")
    shape = _attribute(placeholders[0].get("attr", {}).get("shape", {"shape": {}}))
    if shape and len(shape) != 4:
        raise FairveilError(f"{source} takes a tensor of {len(shape)} dimensions; pictures in batches have 4.")
    batch, height, width, _ = shape or (None, None, None, None)
    graph = ForeignGraph(
        source,
        format,
        {str(node["name"]): weights[str(node["name"])] for node in nodes if node["op"] == "Const"},
        str(placeholders[0]["name"]),
        batch=batch or 1,
        picture=(height, width),
        entry=partial(ops.permute, order=(0, 2, 3, 1)),
    )
    for node in nodes:
        kind, name = str(node["op"]), str(node["name"])
        if kind not in ("Placeholder", "Const"):
            attributes = {name: _attribute(value) for name, value in node.get("attr", {}).items()}
            # "^name" only says what must have run before.
            inputs = [read.removesuffix(":0") for read in node.get("input", ()) if not read.startswith("^")]
            graph.operations += _unfused(graph, kind, name, inputs, attributes)
    return graph


# What says nothing about the arithmetic: element types, which are floats here, and hints to other engines.
_IDLE = {"T", "Tidx", "Tpaddings", "Tperm", "Tshape", "Tdim", "TArgs", "squeeze_type", "use_cudnn_on_gpu", "num_args"}
_IDLE |= {"_output_shapes", "_class", "N"}


def _attribute(value: Mapping[str, Any]) -> Any:
    """One attribute in protobuf's JSON: its key is its type."""
    ((kind, content),) = value.items()
    match kind:
        case "s":
            return base64.b64decode(content).decode("utf-8", "replace")
        case "i":
            return int(content)
        case "f":
            return float(content)
        case "shape":
            sizes = [int(size["size"]) for size in content.get("dim", ())]
            return tuple(None if size < 0 else size for size in sizes)
        case "list":
            return tuple(_attribute({key: entry}) for key, entries in content.items() for entry in entries)
        case _:
            return content


_FUSED = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative", "_FusedMatMul": "MatMul"}
_LONGEST_CHAIN = 8


def _unfused(
    graph: ForeignGraph, kind: str, name: str, inputs: list[str], attributes: dict[str, Any]
) -> list[Operation]:
    """A fused operator as the operators it stands for: the first takes two inputs, BiasAdd and Prelu one more each."""
    attributes = {key: value for key, value in attributes.items() if key not in _IDLE}
    if kind not in _FUSED:
        return [Operation(graph, kind, name, tuple(inputs), name, attributes)]
    chain = [_FUSED[kind], *attributes.pop("fused_ops", ())]
    if len(chain) > _LONGEST_CHAIN:  # each takes a name as long as the node's
        raise ValueError(f"{clipped(name)} fuses {len(chain)} operators")
    attributes.pop("epsilon", None)  # for a fused batch normalisation, which is an unknown operator here
    alpha = attributes.pop("leakyrelu_alpha", 0.2)
    more, current = list(inputs[2:]), inputs[:2]
    operations = []
    for index, step in enumerate(chain):
        result = name if index == len(chain) - 1 else f"{name}/{step}"
        if step in ("BiasAdd", "Prelu"):
            current.append(more.pop(0) if more else "")
        if index > 0:
            attributes = {"alpha": alpha} if step == "LeakyRelu" else {}
        operations.append(Operation(graph, step, name, tuple(current), result, attributes))
        current = [result]
    return operations


# Builders. `o` is the operation being built.


def _pair(o: Operation, name: str) -> tuple[int, int]:
    batch, rows, columns, channels = o.attribute(name, (1, 1, 1, 1))
    if (batch, channels) != (1, 1):
        raise o.error(f"has {name} over pictures or channels, which fairveil does not implement")
    return rows, columns


def _padding(o: Operation) -> ops.Padding:
    o.expect("explicit_paddings", (), default=())
    return "SAME" if o.expect("padding", "SAME", "VALID") == "SAME" else ops.VALID


def _conv(o: Operation) -> Step:
    o.expect("data_format", "NHWC", default="NHWC")
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
    o.expect("data_format", "NHWC", default="NHWC")
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
    o.expect("transpose_a", False, default=False)
    weight = o.constant(1)
    return ops.Linear(weight if o.attribute("transpose_b", False) else weight.T, None), o.inputs[:1]


def _bias_add(o: Operation) -> Step:
    o.expect("data_format", "NHWC", default="NHWC")
    return torch.add, o.inputs


def _leaky_relu(o: Operation) -> Step:
    return ops.PRelu(torch.tensor(o.attribute("alpha", 0.2))), o.inputs


def _batch_norm(o: Operation) -> Step:
    o.expect("data_format", "NHWC", default="NHWC")
    o.expect("is_training", False, default=True)
    o.attribute("exponential_avg_factor", 1.0)  # for training only
    o.attribute("U", None)
    gain, bias, mean, variance = (o.constant(i).double() for i in range(1, 5))
    scale = gain / torch.sqrt(variance + o.attribute("epsilon", 1e-4))
    return ops.Affine(scale.float(), (bias - mean * scale).float(), dimension=-1), o.inputs[:1]


def _reduce(o: Operation) -> Step:
    reduction = {"Mean": "mean", "Sum": "sum", "Max": "max"}[o.kind]
    return builders.reduce(o, reduction, keep=o.attribute("keep_dims", False))


def _reshape(o: Operation) -> Step:
    return builders.reshape(o, o.integers(1))


def _squeeze(o: Operation) -> Step:
    return partial(ops.squeeze, axes=o.attribute("squeeze_dims", ())), o.inputs


def _concat(o: Operation) -> Step:
    (axis,) = o.integers(len(o.inputs) - 1)
    return partial(ops.concatenate, axis=axis), o.inputs[:-1]


BUILDERS: Builders = {
    "Abs": plain(torch.abs),
    "Add": plain(torch.add, inputs=2),
    "AddV2": plain(torch.add, inputs=2),
    "AvgPool": _pool,
    "BiasAdd": _bias_add,
    "ConcatV2": _concat,
    "Conv2D": _conv,
    "DepthwiseConv2dNative": _conv,
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "Identity": plain(ops.same),
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "Max": _reduce,
    "MaxPool": _pool,
    "Maximum": lambda o: builders.bound(o, "max"),
    "Mean": _reduce,
    "Minimum": lambda o: builders.bound(o, "min"),
    "Mul": plain(torch.mul, inputs=2),
    "Neg": plain(torch.neg),
    "Pad": builders.pad,
    "PadV2": builders.pad,
    "Prelu": builders.prelu,
    "RealDiv": plain(torch.div, inputs=2),
    "Relu": plain(ops.Clamp(0)),
    "Relu6": plain(ops.Clamp(0, 6)),
    "Reshape": _reshape,
    "Rsqrt": plain(torch.rsqrt),
    "Sigmoid": plain(torch.sigmoid),
    "Softmax": plain(partial(F.softmax, dim=-1)),
    "Sqrt": plain(torch.sqrt),
    "Square": plain(torch.square),
    "Squeeze": _squeeze,
    "Sub": plain(torch.sub, inputs=2),
    "Sum": _reduce,
    "Tanh": plain(torch.tanh),
    "Transpose": builders.transpose,
}
"""Builders of TensorFlow's operators by their names."""
