"""Reading ONNX models, such as PyTorch and insightface export their recognizers."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from torch import Tensor

from fairveil.base.errors import FairveilError, clipped, listed
from fairveil.base.files import read_ordinary_file
from fairveil.faces.graphs import builders
from fairveil.faces.graphs import operators as ops
from fairveil.faces.graphs.assembly import Builders, ForeignGraph, Operation, Step, assemble, entries, from_numpy
from fairveil.faces.graphs.builders import plain
from fairveil.faces.graphs.guarding import LARGEST, reading
from fairveil.faces.graphs.module import GraphModule

_STANDARD = ("", "ai.onnx")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_SMALL_INTEGERS = (onnx.TensorProto.BOOL, onnx.TensorProto.UINT8)
_WHOLE = (onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.INT16, *_INTEGERS)
_BEFORE_LAYOUT = {"Add", "BatchNormalization", "Cast", "Clip", "Div", "Identity", "Mul", "Resize", "Sub"}
_MOST_OUTPUTS = 8  # that are looked at to find the vector among them
_PIECE = "which piece of how many"  # no attribute of a file is called so
_TYPE_NAMES = {number: name for name, number in onnx.TensorProto.DataType.items()}


def read_onnx(path: Path | str, output: str | None = None) -> GraphModule:
    """Read an ONNX model into a differentiable module.

    Args:
        path: the file, with its weights inside. Its graph takes pictures (B, 3, H, W), or (B, H, W, 3).
        output: name of the tensor to return, which may be an inner one; by default the graph's output, and of several
            the only one that gives a vector of two numbers or more for each picture.

    Raises:
        FairveilError: the file is no ONNX model, keeps weights elsewhere, or uses an operator, or an attribute of
            one, that fairveil does not implement (it is named); or none or several of its outputs are vectors.
    """
    path = Path(path)
    try:
        model = onnx.load_model_from_string(read_ordinary_file(path, LARGEST))
    except OSError as error:
        raise FairveilError(f"Cannot read {path}: {error.strerror}.") from error
    except DecodeError as error:
        raise FairveilError(f"{path} is not an ONNX model, or is cut short.") from error
    if not model.graph.node or not model.graph.output:
        raise FairveilError(f"{path} is not an ONNX model: it holds no graph.")
    if output is not None or len(model.graph.output) == 1:
        return _read_output(model, path.name, output or model.graph.output[0].name)
    return _read_vector(model, path.name)


def _read_output(model: onnx.ModelProto, source: str, output: str) -> GraphModule:
    opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), 0)
    softmax = _softmax if opset >= 13 else _softmax_until_12
    with reading(source, model.ByteSize()):
        graph = _foreign_graph(model, source)
        return assemble(graph, {**_BUILDERS, "Softmax": softmax}, output)


def _read_vector(model: onnx.ModelProto, source: str) -> GraphModule:
    """The output of several that is a vector for each picture, by what is declared or else by what comes out."""
    names = [entry.name for entry in model.graph.output]
    if len(names) > _MOST_OUTPUTS:
        raise FairveilError(
            f"{source} has {len(names)} outputs, such as {listed(names[:3])}: say which is the vector with "
            "`output=NAME`."
        )
    found: dict[str, tuple[int, GraphModule]] = {}
    unusable: list[FairveilError] = []
    for entry in model.graph.output:
        declared = [size.dim_value for size in entry.type.tensor_type.shape.dim]
        if declared and _length((1, *declared[1:])) == 1:  # sizes left open count as 0
            continue
        try:
            network = _read_output(model, source, entry.name)
            with torch.no_grad():
                length = _length(network(torch.zeros(1, 3, *(side or 112 for side in network.picture))).shape)
        except FairveilError as error:  # such as for masks, or made by what fairveil does not know
            unusable.append(error)
        else:
            if length > 1:
                found[entry.name] = length, network
    if not found and unusable:
        raise unusable[0]
    if len(found) != 1:
        vectors = listed(f"{name} ({length} numbers)" for name, (length, _) in found.items())
        which = f"several are vectors, {vectors}" if found else "none is a vector for each picture"
        raise FairveilError(
            f"{source} has the outputs {listed(names)}, of which {which}: say which is the embedding with "
            "`output=NAME`."
        )
    return next(iter(found.values()))[1]


def _length(shape: Sequence[int]) -> int:
    """How many numbers an output gives for a picture, if that is a vector; 1 if it is none."""
    if len(shape) < 2 or any(size > 1 for size in shape[2:]):
        return 1
    return shape[1] if shape[1] != 0 else 2  # a size that is left open may be anything


def _foreign_graph(model: onnx.ModelProto, source: str) -> ForeignGraph:
    constants = {entry.name: _tensor(entry, source) for entry in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    if len(inputs) != 1:
        raise FairveilError(f"{source} takes {len(inputs)} inputs; a recognizer takes one, the picture.")
    kind = inputs[0].type.tensor_type.elem_type
    if kind not in (onnx.TensorProto.UNDEFINED, *_FLOATS, *_WHOLE):
        raise FairveilError(
            f"{source} takes {_TYPE_NAMES.get(kind, 'unknown')} values, and fairveil does not know how to make those "
            "of pixels: export it for float or uint8."
        )
    sizes = [size.dim_value or None for size in inputs[0].type.tensor_type.shape.dim]
    if sizes and len(sizes) != 4:
        raise FairveilError(f"{source} takes a tensor of {len(sizes)} dimensions; pictures in batches have 4.")
    batch, *picture = sizes or [None] * 4
    nhwc = _is_channels_last(model, inputs[0].name, picture)
    channels, *sides = (picture[2], picture[0], picture[1]) if nhwc else picture
    graph = ForeignGraph(
        source,
        "ONNX",
        constants,
        inputs[0].name,
        batch=batch or 1,
        picture=(sides[0], sides[1]),
        entry=partial(ops.permute, order=(0, 2, 3, 1)) if nhwc else ops.same,
        channels=channels,
        whole=kind in _WHOLE,
        properties={entry.key: entry.value for entry in model.metadata_props},
    )
    for node in model.graph.node:
        # protobuf hands over bytes where a broken file has no text
        kind = str(node.op_type) if node.domain in _STANDARD else f"{node.domain}.{node.op_type}"
        if not node.output:
            raise FairveilError(f"{source} is broken: its operator {kind} ({node.name}) has no output.")
        attributes = {entry.name: _attribute(entry, source) for entry in node.attribute}
        if kind == "Constant" and len(attributes) == 1:
            constants[node.output[0]] = _constant(*attributes.popitem(), source)
        elif kind == "Split":
            for piece, output in enumerate(node.output):
                about = attributes | {_PIECE: (piece, len(node.output))}
                graph.operations.append(Operation(graph, kind, node.name, tuple(node.input), output, about))
        else:
            operation = Operation(graph, kind, node.name, tuple(node.input), node.output[0], attributes)
            graph.operations.append(operation)
    return graph


def _is_channels_last(model: onnx.ModelProto, name: str, picture: Sequence[int | None]) -> bool:
    """Whether a graph takes (B, H, W, 3): by the sizes it declares, or else by how it turns pictures round first."""
    first, middle, last = picture
    if 3 in (first, last) and first != last:
        return last == 3
    if None in (first, last):
        if None not in (first, middle) and first == middle:
            return True
        if None not in (middle, last) and middle == last:
            return False
    followed = {name}
    for node in model.graph.node:
        if not followed & {*node.input}:
            continue
        if node.op_type == "Transpose":
            order = next((tuple(entry.ints) for entry in node.attribute if entry.name == "perm"), ())
            return order == (0, 3, 1, 2)
        if node.op_type not in _BEFORE_LAYOUT:
            return False
        followed.update(node.output)
    return False


def _tensor(proto: onnx.TensorProto, source: str) -> Tensor:
    if proto.data_location == onnx.TensorProto.EXTERNAL or proto.external_data:
        raise FairveilError(
            f"{source} keeps its weights ({clipped(proto.name)}) in another file: save it as one file, with "
            "onnx.save_model(onnx.load_model(path), new_path)."
        )
    what = f"{source}: the tensor {clipped(proto.name)!r}"
    entries(proto.dims, what)
    if proto.data_type not in (*_FLOATS, *_INTEGERS, *_SMALL_INTEGERS):
        kind = _TYPE_NAMES.get(proto.data_type, "unknown")
        raise FairveilError(f"{what} holds {kind} values, which fairveil cannot compute with.")
    try:
        array = onnx.numpy_helper.to_array(proto)
    except (ValueError, TypeError, KeyError) as error:
        raise FairveilError(
            f"{source} is broken: its tensor {clipped(proto.name)!r} cannot be read ({clipped(str(error), 300)})."
        ) from error
    return from_numpy(array)


def _attribute(proto: onnx.AttributeProto, source: str) -> Any:
    if proto.type == onnx.AttributeProto.TENSOR:
        return _tensor(proto.t, source)
    try:
        value = onnx.helper.get_attribute_value(proto)
    except ValueError as error:  # such as an argument of a function that it is no part of
        raise FairveilError(f"{source} is broken: its attribute {clipped(proto.name)!r} has no value.") from error
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return tuple(value) if proto.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def _constant(name: str, value: Any, source: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if name in ("value_int", "value_ints", "value_float", "value_floats"):
        return from_numpy(np.asarray(value))
    raise FairveilError(f"{source}: the operator Constant has the attribute {name}, which fairveil does not implement.")


# Builders. `o` is the operation being built.


def _padding(o: Operation) -> ops.Padding:
    """Two-dimensional padding from `auto_pad` and `pads` (top, left, bottom, right)."""
    automatic = o.expect("auto_pad", "NOTSET", "VALID", "SAME_UPPER", default="NOTSET")
    top, left, bottom, right = o.attribute("pads", (0, 0, 0, 0))
    if automatic == "SAME_UPPER":
        return "SAME"
    return ops.VALID if automatic == "VALID" else (top, bottom, left, right)


def _conv(o: Operation) -> Step:
    weight = o.constant(1)
    if weight.ndim != 4:
        raise o.error(f"has a weight of {weight.ndim} dimensions; fairveil knows convolutions of pictures only")
    o.expect("kernel_shape", tuple(weight.shape[2:]), default=tuple(weight.shape[2:]))
    operator = ops.Convolution(
        weight,
        o.optional(2),
        stride=o.attribute("strides", (1, 1)),
        padding=_padding(o),
        dilation=o.attribute("dilations", (1, 1)),
        groups=o.attribute("group", 1),
    )
    return operator, o.inputs[:1]


def _pool(o: Operation) -> Step:
    o.expect("ceil_mode", 0, default=0)
    o.expect("dilations", (1, 1), default=(1, 1))
    o.expect("storage_order", 0, default=0)
    operator = partial(
        ops.pool,
        reduction="max" if o.kind == "MaxPool" else "mean",
        kernel=o.attribute("kernel_shape"),
        stride=o.attribute("strides", (1, 1)),
        padding=_padding(o),
        count_padding=bool(o.attribute("count_include_pad", 0)),
    )
    return operator, o.inputs


def _global_pool(o: Operation) -> Step:
    reduction = "max" if o.kind == "GlobalMaxPool" else "mean"
    return partial(ops.reduce, reduction=reduction, axes=(2, 3), keep=True), o.inputs


def _batch_norm(o: Operation) -> Step:
    o.expect("training_mode", 0, default=0)
    o.attribute("momentum", 0.9)  # for training only
    o.attribute("spatial", 1)  # opset 8 and before; the shapes of the statistics say the same
    gain, bias, mean, variance = (o.constant(i).double() for i in range(1, 5))
    scale = gain / torch.sqrt(variance + o.attribute("epsilon", 1e-5))
    deviation = torch.sqrt(variance)
    measured = bool((mean.abs() > 1e-6).any() or ((deviation - 1).abs() > 1e-6).any())  # not as a new network has it
    statistics = (mean.float(), deviation.float()) if measured else None
    return ops.Affine(scale.float(), (bias - mean * scale).float(), 1, statistics), o.inputs[:1]


def _gemm(o: Operation) -> Step:
    o.expect("transA", 0, default=0)
    weight = o.constant(1) * o.attribute("alpha", 1.0)
    bias = o.optional(2)
    beta = o.attribute("beta", 1.0)
    transposed = o.attribute("transB", 0)
    return ops.Linear(weight if transposed else weight.T, None if bias is None else bias * beta), o.inputs[:1]


def _leaky_relu(o: Operation) -> Step:
    return ops.PRelu(torch.tensor(o.attribute("alpha", 0.01))), o.inputs


def _prelu(o: Operation) -> Step:
    return ops.PRelu(o.constant(1)), o.inputs[:1]


def _clip(o: Operation) -> Step:
    low = o.number(1) if o.has(1) else o.attribute("min", -math.inf)
    high = o.number(2) if o.has(2) else o.attribute("max", math.inf)
    if low > high:
        raise o.error(f"limits values to at least {low} and at most {high}")
    return ops.Clamp(low, high), o.inputs[:1]


def _hard_sigmoid(o: Operation) -> Step:
    return partial(ops.hard_sigmoid, slope=o.attribute("alpha", 0.2), offset=o.attribute("beta", 0.5)), o.inputs


def _softmax(o: Operation) -> Step:
    return partial(F.softmax, dim=o.attribute("axis", -1)), o.inputs


def _softmax_until_12(o: Operation) -> Step:
    # Before opset 13 the axis and all dimensions behind it were taken together.
    axis = o.expect("axis", 1, -1, default=1)
    return (partial(F.softmax, dim=-1) if axis == -1 else _flat_softmax), o.inputs


def _flat_softmax(x: Tensor) -> Tensor:
    return x.flatten(1).softmax(1).reshape(x.shape)


def _axes(o: Operation) -> tuple[int, ...]:
    """Axes, an attribute in older models and an input in newer ones."""
    return o.integers(1) if o.has(1) else tuple(o.attribute("axes", ()))


def _reduce(o: Operation) -> Step:
    o.expect("noop_with_empty_axes", 0, default=0)
    reduction = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceL2": "norm"}[o.kind]
    keep = bool(o.attribute("keepdims", 1))
    return partial(ops.reduce, reduction=reduction, axes=_axes(o), keep=keep), o.inputs[:1]


def _lp_normalization(o: Operation) -> Step:
    return partial(ops.normalize, axis=o.attribute("axis", -1), p=o.expect("p", 1, 2, default=2)), o.inputs


def _bound(o: Operation) -> Step:
    if len(o.inputs) != 2:
        raise o.error(f"compares {len(o.inputs)} tensors; fairveil knows two")
    return builders.bound(o, "max" if o.kind == "Max" else "min")


def _reshape(o: Operation) -> Step:
    o.expect("allowzero", 0, default=0)
    return _to_shape(o, partial(ops.reshape, copy_zeros=True))


def _expand(o: Operation) -> Step:
    return _to_shape(o, ops.expand)


def _to_shape(o: Operation, function: Callable[..., Tensor]) -> Step:
    """An operator whose second input is a shape, known beforehand or computed from the pictures' own."""
    operator = partial(function, batch=None if o.is_constant(0) else o.graph.batch)
    return (partial(operator, target=o.integers(1)), o.inputs[:1]) if o.is_constant(1) else (operator, o.inputs)


def _flatten(o: Operation) -> Step:
    o.expect("axis", 1, default=1)
    return partial(torch.flatten, start_dim=1), o.inputs


def _transpose(o: Operation) -> Step:
    return partial(ops.permute, order=o.attribute("perm", ())), o.inputs


def _squeeze(o: Operation) -> Step:
    return partial(ops.squeeze, axes=_axes(o)), o.inputs[:1]


def _unsqueeze(o: Operation) -> Step:
    return partial(ops.unsqueeze, axes=_axes(o)), o.inputs[:1]


def _concat(o: Operation) -> Step:
    return partial(ops.concatenate, axis=o.attribute("axis")), o.inputs


def _slice(o: Operation) -> Step:
    if o.has(1):
        starts, ends = o.integers(1), o.integers(2)
        axes = o.integers(3) if o.has(3) else tuple(range(len(starts)))
        steps = o.integers(4) if o.has(4) else (1,) * len(starts)
    else:  # opset 9 and before
        starts, ends = o.attribute("starts"), o.attribute("ends")
        axes, steps = o.attribute("axes", tuple(range(len(starts)))), (1,) * len(starts)
    if 0 in steps:
        raise o.error("has a step of 0, which leads nowhere")
    spans = tuple(slice(*span) for span in zip(starts, ends, steps, strict=True))
    return partial(ops.take_slices, axes=axes, slices=spans), o.inputs[:1]


def _split(o: Operation) -> Step:
    piece, pieces = o.attribute(_PIECE)
    o.attribute("num_outputs", pieces)
    widths = o.integers(1) if o.has(1) else tuple(o.attribute("split", ()))
    if widths and len(widths) != pieces:
        raise o.error(f"has {len(widths)} widths for {pieces} pieces")
    axis = o.attribute("axis", 0)
    return partial(ops.take_piece, axis=axis, widths=widths or pieces, piece=piece), o.inputs[:1]


def _resize(o: Operation) -> Step:
    """Upsample and Resize; what is done before the network starts is `nearest` or `linear`."""
    mode = o.expect("mode", "nearest", "linear", default="nearest")
    o.expect("antialias", 0, default=0)
    o.expect("keep_aspect_ratio_policy", "stretch", default="stretch")
    o.attribute("exclude_outside", 0)  # of cubic ones
    o.attribute("cubic_coeff_a", -0.75)
    o.attribute("extrapolation_value", 0.0)  # of those that crop
    modern = len(o.inputs) > 2  # from opset 11 on: x, roi, scales, sizes
    place = o.expect(
        "coordinate_transformation_mode",
        "half_pixel",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        default="half_pixel" if modern else "asymmetric",
    )
    rounding = o.expect(
        "nearest_mode",
        "round_prefer_floor",
        "round_prefer_ceil",
        "floor",
        "ceil",
        default="round_prefer_floor" if modern else "floor",
    )
    operator = partial(ops.resize, linear=mode == "linear", place=place, rounding=rounding)
    axes = o.attribute("axes", None)
    if axes is not None and tuple(axes) != (0, 1, 2, 3):
        raise o.error(f"resizes the axes {clipped(str(axes))} only, which fairveil does not implement")
    if o.has(3) and not (o.is_constant(2) and o.constant(2).numel()):
        return (partial(operator, sizes=o.integers(3)), o.inputs[:1]) if o.is_constant(3) else (
            operator, (o.inputs[0], o.inputs[3])
        )  # fmt: skip
    scales = tuple(o.attribute("scales")) if len(o.inputs) == 1 else o.constant(2 if modern else 1).tolist()
    if not isinstance(scales, list | tuple) or not all(0 < scale < math.inf for scale in scales):
        raise o.error(f"has the scales {clipped(str(scales))}, which are none")
    return partial(operator, scales=tuple(scales)), o.inputs[:1]


def _pad(o: Operation) -> Step:
    mode = o.expect("mode", "constant", "reflect", "edge", default="constant")
    sides = o.integers(1) if o.has(1) else tuple(o.attribute("pads"))
    value = o.number(2) if o.has(2) else o.attribute("value", 0.0)
    half = len(sides) // 2
    widths = tuple(zip(sides[:half], sides[half:], strict=True))
    if o.has(3):
        chosen = dict(zip(o.integers(3), widths, strict=True))
        if min(chosen) < 0:
            raise o.error("counts its axes from the end, which fairveil does not implement")
        widths = tuple(chosen.get(axis, (0, 0)) for axis in range(4))
    if mode != "constant" and any(any(pair) for pair in widths[:-2]):
        raise o.error(f"pads other dimensions than height and width in mode {mode}, which fairveil does not implement")
    return ops.Pad(widths, value, "replicate" if mode == "edge" else mode), o.inputs[:1]


def _shape(o: Operation) -> Step:
    return partial(ops.sizes, start=o.attribute("start", 0), end=o.attribute("end", None)), o.inputs


def _gather(o: Operation) -> Step:
    return partial(ops.gather, axis=o.attribute("axis", 0)), o.inputs


def _cast(o: Operation) -> Step:
    kind = o.expect("to", *_FLOATS, *_INTEGERS)
    o.attribute("saturate", 1)  # for 8-bit floats, which are refused
    to_integer = torch.Tensor.long if o.is_constant(0) else ops.to_integer
    return to_integer if kind in _INTEGERS else ops.to_float, o.inputs


def _dropout(o: Operation) -> Step:
    # At inference it passes everything on, whatever its ratio and seed; its third input would switch it on.
    if o.has(2) and o.number(2):
        raise o.error("is in training mode: export the model for inference")
    o.attribute("ratio", 0.5)
    o.attribute("seed", 0)
    return ops.same, o.inputs[:1]


_BUILDERS: Builders = {
    "Abs": plain(torch.abs),
    "Add": plain(torch.add, inputs=2),
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": plain(ops.divide, inputs=2),
    "Dropout": _dropout,
    "Exp": plain(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": plain(F.hardswish),
    "Identity": plain(ops.same),
    "LeakyRelu": _leaky_relu,
    "LpNormalization": _lp_normalization,
    "MatMul": plain(torch.matmul, inputs=2),
    "Max": _bound,
    "MaxPool": _pool,
    "Min": _bound,
    "Mul": plain(torch.mul, inputs=2),
    "Neg": plain(torch.neg),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": plain(torch.pow, inputs=2),
    "ReduceL2": _reduce,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Relu": plain(ops.Clamp(low=0)),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": plain(torch.sub, inputs=2),
    "Tanh": plain(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
