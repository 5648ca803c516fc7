"""The arithmetic that foreign graphs are made of, written once for all formats.

What has weights is a module; the rest is a frozen object or a function, so that `simplification` can look into it.
Pictures inside a graph are (B, C, H, W) or, in the TensorFlow family, (B, H, W, C): `nhwc=True` says the latter.
Convolutions and pools then work on a permuted view, which torch takes for its own channels-last layout, so nothing
is copied.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.base.errors import FairveilError

Pair = tuple[int, int]
Padding = Literal["SAME"] | tuple[int, int, int, int]
"""Rows and columns added around a picture: top, bottom, left, right; or what TensorFlow calls SAME."""

VALID: Padding = (0, 0, 0, 0)

MOST_DIMENSIONS = 64
"""Of a tensor, as NumPy and torch have it: a shape, an order or a list of widths that is longer is a lie."""


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> Pair:
    """Padding before and after one side so that the output has ceil(size / stride) entries, as TensorFlow defines it.

    What cannot be split evenly goes after (tensorflow.org, tf.nn, "Notes on padding").

    >>> same_padding(112, kernel=3, stride=2), same_padding(7, kernel=3, stride=1)
    ((0, 1), (1, 1))
    """
    extent = (kernel - 1) * dilation + 1
    total = max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def _padding_for(x: Tensor, padding: Padding, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[int, ...]:
    """Top, bottom, left, right for pictures (B, C, H, W)."""
    if padding != "SAME":
        return padding
    rows = same_padding(x.shape[2], kernel[0], stride[0], dilation[0])
    return rows + same_padding(x.shape[3], kernel[1], stride[1], dilation[1])


class Convolution(nn.Module):
    """A two-dimensional convolution.

    Args:
        weight: (out, in / groups, rows, columns).
        bias: (out,), or None.
        stride: rows, columns.
        padding: as `Padding`.
        dilation: rows, columns.
        groups: a depthwise convolution has as many as input channels.
        nhwc: whether pictures come and go as (B, H, W, C).
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Pair = (1, 1),
        padding: Padding = VALID,
        dilation: Pair = (1, 1),
        groups: int = 1,
        nhwc: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        self.stride, self.padding, self.dilation, self.groups, self.nhwc = stride, padding, dilation, groups, nhwc
        self._pointwise = tuple(weight.shape[2:]) == stride == (1, 1) and groups == 1

    def forward(self, x: Tensor) -> Tensor:
        """From pictures to pictures."""
        if self.nhwc:
            x = x.permute(0, 3, 1, 2)
        kernel = (self.weight.shape[2], self.weight.shape[3])
        top, bottom, left, right = _padding_for(x, self.padding, kernel, self.stride, self.dilation)
        if (top, left) != (bottom, right):
            x = F.pad(x, (left, right, top, bottom))
            top = left = 0
        if self._pointwise and top == left == 0:
            # A product of matrices is as fast, and unlike torch's convolution it keeps channels last.
            y = F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)
        else:
            y = F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        return y.permute(0, 2, 3, 1) if self.nhwc else y

    def with_padding(self, padding: tuple[int, int, int, int]) -> "Convolution":
        """The same convolution with other padding."""
        return Convolution(self.weight, self.bias, **self._settings() | {"padding": padding})

    def scaled(self, scale: Tensor, shift: Tensor) -> "Convolution":
        """The convolution that gives scale · y + shift where this one gives y; both are (out,)."""
        bias = shift if self.bias is None else self.bias * scale + shift
        return Convolution(self.weight * scale.view(-1, 1, 1, 1), bias, **self._settings())

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups", "nhwc")}


def pool(
    x: Tensor,
    *,
    reduction: Literal["max", "mean"],
    kernel: Pair,
    stride: Pair,
    padding: Padding = VALID,
    count_padding: bool = False,
    nhwc: bool = False,
) -> Tensor:
    """Maximum or mean over windows.

    Args:
        x: pictures.
        reduction: which of the two.
        kernel: rows, columns.
        stride: rows, columns.
        padding: as `Padding`.
        count_padding: whether padding counts as zeros in a mean; TensorFlow never counts it.
        nhwc: whether pictures come and go as (B, H, W, C).
    """
    if nhwc:
        x = x.permute(0, 3, 1, 2)
    top, bottom, left, right = _padding_for(x, padding, kernel, stride, (1, 1))
    sides = (left, right, top, bottom)
    if any(sides):
        inside = F.pad(x.new_ones(1, 1, *x.shape[2:]), sides)
        x = F.pad(x, sides, value=-math.inf if reduction == "max" else 0)
    if reduction == "max":
        y = F.max_pool2d(x, kernel, stride)
    else:
        y = F.avg_pool2d(x, kernel, stride)
        if any(sides) and not count_padding:
            y = y / F.avg_pool2d(inside, kernel, stride)
    return y.permute(0, 2, 3, 1) if nhwc else y


@dataclass(frozen=True)
class Pad:
    """Entries added around a tensor.

    Attributes:
        widths: (before, after) for each dimension.
        value: what is added, when `mode` is "constant".
        mode: "constant", "reflect" or "replicate"; the latter two for the last two dimensions only.
    """

    widths: tuple[Pair, ...]
    value: float = 0.0
    mode: str = "constant"

    def __call__(self, x: Tensor) -> Tensor:
        """The tensor and what is around it."""
        widths = self.widths if self.mode == "constant" else self.widths[-2:]
        sides = [side for pair in reversed(widths) for side in pair]
        return F.pad(x, sides, self.mode, self.value if self.mode == "constant" else None)


@dataclass(frozen=True)
class Clamp:
    """Values limited to [low, high]; the gradient is zero outside."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def is_finite(self) -> bool:
        """Whether there is a limit on both sides."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def __call__(self, x: Tensor) -> Tensor:
        """The tensor within its limits."""
        # On CPU these two kernels are ten times as fast as torch.clamp, forward and backward.
        if (self.low, self.high) == (0, math.inf):
            return F.relu(x)
        return F.hardtanh(x, self.low, self.high)


class _LeakyRamp(torch.autograd.Function):
    """x where positive, else slope · x, with a slope that broadcasts.

    F.prelu computes the gradient of its slope as well, and its CPU kernel is not vectorized: this takes a seventh of
    its time, forward and backward.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return torch.lerp(F.relu(x), x, slope)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        x, slope = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.lerp(torch.ops.aten.threshold_backward(gradient, x, 0), gradient, slope), None


class PRelu(nn.Module):
    """x where positive, else slope · x.

    Args:
        slope: broadcasts against the input.
    """

    slope: Tensor

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope)

    def forward(self, x: Tensor) -> Tensor:
        """The tensor with its negative entries scaled."""
        y: Tensor = _LeakyRamp.apply(x, self.slope)  # type: ignore[no-untyped-call]
        return y


class Affine(nn.Module):
    """scale · x + shift for each channel: batch normalization at inference.

    Args:
        scale: (C,).
        shift: (C,).
        dimension: where the input has its channels.
        statistics: mean and standard deviation, (C,) each, that were measured on what comes in; None where none were.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, scale: Tensor, shift: Tensor, dimension: int, statistics: tuple[Tensor, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.statistics = statistics
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.dimension = dimension

    def forward(self, x: Tensor) -> Tensor:
        """The tensor scaled and shifted."""
        spread = [1] * x.ndim
        spread[self.dimension] = -1
        return torch.addcmul(self.shift.view(spread), x, self.scale.view(spread))


class Linear(nn.Module):
    """x · weightᵀ + bias over the last dimension.

    Args:
        weight: (out, in).
        bias: (out,), or None.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """From (..., in) to (..., out)."""
        return F.linear(x, self.weight, self.bias)

    def scaled(self, scale: Tensor, shift: Tensor) -> "Linear":
        """The product that gives scale · y + shift where this one gives y; both are (out,)."""
        bias = shift if self.bias is None else self.bias * scale + shift
        return Linear(self.weight * scale.view(-1, 1), bias)


def reduce(x: Tensor, *, reduction: str, axes: Sequence[int], keep: bool) -> Tensor:
    """Mean, sum, max or (Euclidean) norm over some dimensions; over all but the first if none are named."""
    axes = tuple(axes) or tuple(range(1, x.ndim))
    _spare_batch(x, axes, f"A {reduction}")
    return _REDUCTIONS[reduction](x, axes, keep)


_REDUCTIONS: dict[str, Callable[[Tensor, tuple[int, ...], bool], Tensor]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "max": torch.amax,
    "norm": lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep),
}


def reshape(x: Tensor, target: Tensor | Sequence[int], *, batch: int | None, copy_zeros: bool = False) -> Tensor:
    """Give a tensor a new shape, for any number of pictures.

    Args:
        x: the tensor.
        target: the shape, with -1 for at most one size that follows from the others.
        batch: number of pictures the graph was exported for. A target that starts with this number was meant to
            start with however many pictures there are. None: take the target as it is.
        copy_zeros: whether a 0 in the target stands for the tensor's own size there (ONNX).
    """
    shape = _known_shape(target)
    if copy_zeros:
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    if x.ndim > 1 and shape and shape[0] == batch and math.prod(shape) != x.numel():
        shape[0] = x.shape[0]
    return x.reshape(shape)


def expand(x: Tensor, target: Tensor | Sequence[int], *, batch: int | None) -> Tensor:
    """Broadcast a tensor against a shape, for any number of pictures; `batch` is as in `reshape`."""
    shape = _known_shape(target)
    if x.ndim == len(shape) > 1 and shape[0] == batch:
        shape[0] = 1
    return x.expand(torch.broadcast_shapes(x.shape, shape))  # type: ignore[no-untyped-call]


def _known_shape(target: Tensor | Sequence[int]) -> list[int]:
    """A shape known beforehand, or computed out of sizes. Out of pixels it could be anything with every picture."""
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.numel() > MOST_DIMENSIONS:
            raise FairveilError(
                f"A shape is at most {MOST_DIMENSIONS} integers, not {target.numel()} entries of {target.dtype}."
            )
        target = target.reshape(-1).tolist()
    return list(target)


def squeeze(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    """Drop dimensions of size 1; if none are named, all of them but the first, which counts the pictures."""
    axes = tuple(axes) or tuple(i for i in range(1, x.ndim) if x.shape[i] == 1)
    _spare_batch(x, axes, "A squeeze")
    return x.squeeze(axes)


def unsqueeze(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    """Put in dimensions of size 1, at these places of the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def permute(x: Tensor, *, order: Sequence[int]) -> Tensor:
    """Put dimensions into a new order; reversed if none is given."""
    return x.permute(tuple(order) or tuple(reversed(range(x.ndim))))


def take_slices(x: Tensor, *, axes: Sequence[int], slices: Sequence[slice]) -> Tensor:
    """Slice some dimensions; those with a negative step backwards."""
    index = [slice(None)] * x.ndim
    for axis, span in zip(axes, slices, strict=True):
        if span.step is not None and span.step < 0:
            places = range(*span.indices(x.shape[axis]))
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))
        else:
            index[axis] = span
    return x[tuple(index)]


def take_piece(x: Tensor, *, axis: int, widths: Sequence[int] | int, piece: int) -> Tensor:
    """One of the pieces that a dimension is cut into: of these widths, or of so many equal ones, the last the rest."""
    size = x.shape[axis]
    cut = [math.ceil(size / widths)] * widths if isinstance(widths, int) else list(widths)
    start = sum(cut[:piece])
    return x.narrow(axis, start, min(cut[piece], size - start))


def gather(x: Tensor, indices: Tensor, *, axis: int) -> Tensor:
    """Pick entries along one dimension, which the indices' own shape replaces."""
    axis %= x.ndim
    picked = x.index_select(axis, (indices.reshape(-1) % x.shape[axis]).to(x.device))
    return picked.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def concatenate(*parts: Tensor, axis: int) -> Tensor:
    """Join tensors along one dimension."""
    return torch.cat(parts, axis)


def resize(
    x: Tensor,
    sizes: Tensor | Sequence[int] | None = None,
    *,
    scales: Sequence[float] | None = None,
    linear: bool,
    place: str,
    rounding: str,
) -> Tensor:
    """Give dimensions other sizes, by the nearest entry or by a line between two (ONNX's Resize).

    Args:
        x: the tensor.
        sizes: of every dimension; the first, which counts pictures, stays as it is.
        scales: instead of sizes, the factor of every dimension.
        linear: whether between two entries, or the nearest.
        place: where an entry of the result lies in `x`: "half_pixel", "pytorch_half_pixel", "asymmetric" or
            "align_corners".
        rounding: to the nearest: "round_prefer_floor", "round_prefer_ceil", "floor" or "ceil".
    """
    wanted = None if sizes is None else _known_shape(sizes)
    if len(wanted or scales or ()) != x.ndim:
        raise FairveilError(f"A tensor of {x.ndim} dimensions cannot be resized to {wanted or scales}.")
    for axis in range(1, x.ndim):
        before = x.shape[axis]
        after = wanted[axis] if wanted is not None else math.floor(before * scales[axis]) if scales else before
        if after != before:
            factor = scales[axis] if scales else after / before
            x = _resize_axis(x, axis, after, _places(before, after, factor, place), linear=linear, rounding=rounding)
    return x


def _places(before: int, after: int, factor: float, place: str) -> Tensor:
    """Where each of the entries after lies among those before."""
    index = torch.arange(after, dtype=torch.float64)
    if place == "align_corners":
        return index * ((before - 1) / max(after - 1, 1))
    if place == "asymmetric":
        return index / factor
    if place == "pytorch_half_pixel" and after == 1:
        return torch.zeros(1, dtype=torch.float64)
    return (index + 0.5) / factor - 0.5


def _resize_axis(x: Tensor, axis: int, after: int, places: Tensor, *, linear: bool, rounding: str) -> Tensor:
    last = x.shape[axis] - 1
    if not linear:
        nearest = _ROUNDINGS[rounding](places).clamp(0, last).long()
        return x.index_select(axis, nearest.to(x.device))
    places = places.clamp(0, last)
    low = places.floor().clamp(max=last).long()
    high = (low + 1).clamp(max=last)
    weight = (places - low).to(x).view(after, *[1] * (x.ndim - 1 - axis % x.ndim))
    return torch.lerp(x.index_select(axis, low.to(x.device)), x.index_select(axis, high.to(x.device)), weight)


_ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda places: (places - 0.5).ceil(),
    "round_prefer_ceil": lambda places: (places + 0.5).floor(),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def normalize(x: Tensor, *, p: int = 2, axis: int = -1) -> Tensor:
    """Scale to unit Euclidean (p = 2) or absolute (p = 1) length along one dimension."""
    return F.normalize(x, p, axis)


def hard_sigmoid(x: Tensor, *, slope: float, offset: float) -> Tensor:
    """Scale and shift, limited to [0, 1]."""
    return F.hardtanh(x * slope + offset, 0, 1)


def divide(x: Tensor, y: Tensor) -> Tensor:
    """Divide; integers, which are sizes, stay integers and are cut toward zero."""
    whole = not (x.is_floating_point() or y.is_floating_point())
    return torch.div(x, y, rounding_mode="trunc" if whole else None)


def sizes(x: Tensor, *, start: int, end: int | None) -> Tensor:
    """A stretch of a tensor's shape, as a vector."""
    return torch.tensor(x.shape)[start:end]


def to_float(x: Tensor) -> Tensor:
    """Integers to floats. Floats stay as they are: their precision follows the pictures."""
    return x if x.is_floating_point() else x.float()


def to_integer(x: Tensor) -> Tensor:
    """Integers, which are sizes, as they are. Floats are pixels' doing, and no shape may depend on those."""
    if x.is_floating_point():
        raise FairveilError("A cast makes integers out of what was computed from pixels: export the model without.")
    return x.long()


def same(x: Tensor) -> Tensor:
    """The same tensor: dropout at inference, and other names for nothing."""
    return x


def _spare_batch(x: Tensor, axes: Sequence[int], what: str) -> None:
    """Vectors are shapes and may be reduced at will; what has more dimensions counts pictures in its first."""
    if x.ndim > 1 and any(axis % x.ndim == 0 for axis in axes):
        raise FairveilError(f"{what} over the first dimension mixes the pictures of a batch: export the model without.")
