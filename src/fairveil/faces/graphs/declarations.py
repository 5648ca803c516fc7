"""What a foreign graph says of the pictures it takes: by the kind of its input, and by what it does with them first.

Exporters often put the normalization inside. The nodes before the first that looks at more than one pixel are then
`gain · x + offset` for each channel, whatever operators they are spelled in. So they are run on a black picture and on
one of each primary color, and the two numbers are read off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from fairveil.faces.graphs import operators as ops
from fairveil.faces.graphs.guarding import MISFITS
from fairveil.faces.graphs.module import GraphModule, Node

Numbers = Literal["bytes", "unit", "signed"]
"""Kinds of numbers a network takes for a pixel: 0 to 255, 0 to 1, -1 to 1."""

ChannelOrder = Literal["RGB", "BGR"]
"""Which color comes first."""

_SAID: dict[Numbers, str] = {"bytes": "0 to 255", "unit": "0 to 1", "signed": "-1 to 1"}

# What Windows' tools write into the properties of a model of pictures.
_RANGES: dict[str, Numbers] = {
    "NominalRange_0_255": "bytes", "Normalized_0_1": "unit", "Normalized_1_1": "signed",
}  # fmt: skip
_FORMATS: dict[str, ChannelOrder] = {"Rgb8": "RGB", "Bgr8": "BGR", "Rgba8": "RGB", "Bgra8": "BGR"}


@dataclass(frozen=True)
class Declarations:
    """What a graph says of the pictures it takes.

    Attributes:
        numbers: the kind of numbers; None where the graph says nothing of them.
        whole: whether they are whole numbers, so that they can only be 0 to 255.
        channels: the order it takes them in; None where it says nothing.
        swapped: whether it swaps red and blue before anything else.
        reason: how it says so, "takes whole numbers"; "" where it does not.
        question: what has to be asked, a sentence without its subject; None where nothing has to.
    """

    numbers: Numbers | None = None
    whole: bool = False
    channels: ChannelOrder | None = None
    swapped: bool = False
    reason: str = ""
    question: str | None = None


def declarations(network: GraphModule) -> Declarations:
    """What a graph says of the pictures it takes.

    Raises:
        FairveilError: it would take too much memory or arithmetic to see.
    """
    properties = network.properties
    try:
        found = _first_arithmetic(network)
    except MISFITS:  # what does not fit together is told when the graph is run
        found = None
    swapped = found is not None and found.swapped
    channels = _FORMATS.get(properties.get("Image.BitmapPixelFormat", "")) or (found.channels if found else None)
    by_property = _RANGES.get(properties.get("Image.NominalPixelRange", ""))
    by_arithmetic = found.numbers if found else None
    if network.whole:
        return Declarations("bytes", True, channels, swapped, "takes whole numbers")
    if by_property is not None:
        reason = f"says that it takes {_SAID[by_property]}"
        if by_arithmetic not in (None, "nothing", by_property):
            question = _question(found, f", which is not what it says of itself ({_SAID[by_property]})")
            return Declarations(None, False, channels, swapped, reason, question)
        return Declarations(by_property, False, channels, swapped, reason)
    if found is None or by_arithmetic == "nothing":
        return Declarations(channels=channels, swapped=swapped)
    if by_arithmetic is None:
        return Declarations(None, False, channels, swapped, question=_question(found, ""))
    return Declarations(by_arithmetic, False, channels, swapped, f"normalizes {_SAID[by_arithmetic]} itself")


def _question(found: "_Arithmetic | None", but: str) -> str:
    what = f"({found})" if found else ""
    return (
        f"does arithmetic with the pixels first {what}{but}, so it is open whether it takes numbers of 0 to 255, 0 to "
        "1, or -1 to 1: say so with `mean=0` `scale=1`, with `mean=0` `scale=255`, or with `mean=127.5` "
        "`scale=127.5`."
    )


@dataclass(frozen=True, eq=False)
class _Arithmetic:
    """What happens to each channel before the network looks at more than a pixel: `gain · x + offset`.

    Attributes:
        gain: (3,), by the channels as they come out.
        offset: (3,).
        swapped: whether the first that comes out is the last that went in.
        statistics: mean and standard deviation of the pixels as they go in, (3,) each, where a batch norm comes first.
        limits: what the pixels are limited to as they go in, where they are.
    """

    gain: Tensor
    offset: Tensor
    swapped: bool
    statistics: tuple[Tensor, Tensor] | None
    limits: tuple[float, float] | None

    def __str__(self) -> str:
        """The arithmetic, of the first channel that comes out."""
        return f"x · {float(self.gain[0]):.3g} {'+' if self.offset[0] >= 0 else '-'} {abs(float(self.offset[0])):.3g}"

    @property
    def center(self) -> Tensor:
        """The pixel that becomes 0, or the mean of the batch norm, (3,)."""
        return self.statistics[0] if self.statistics else -self.offset / self.gain

    @property
    def numbers(self) -> Literal["nothing"] | Numbers | None:
        """The kind of numbers that are made into what networks compute with; None where several might be."""
        if self.limits is not None:
            return next((kind for kind, ends in _ENDS.items() if _near(self.limits, ends)), None)
        center = self.center
        kinds = {_kind(float(self.gain[i]), float(center[i]), self.spread(i)) for i in range(3)}
        return kinds.pop() if len(kinds) == 1 else None

    def spread(self, channel: int) -> float | None:
        """The standard deviation of a channel by a batch norm, if that comes first."""
        return float(self.statistics[1][channel]) if self.statistics else None

    @property
    def channels(self) -> ChannelOrder | None:
        """The order the pixels go in, where each channel has a mean of its own: red is brightest on photos."""
        if self.numbers in (None, "nothing"):
            return None
        first, middle, last = self.center.tolist()
        apart = {"bytes": 2.0, "unit": 0.008, "signed": 0.016}[self.numbers or "bytes"]
        if abs(first - last) < apart or not min(first, last) <= middle <= max(first, last):
            return None
        return "RGB" if (first > last) != self.swapped else "BGR"


_ENDS: dict[Numbers, tuple[float, float]] = {"bytes": (0, 255), "unit": (0, 1), "signed": (-1, 1)}


def _near(found: tuple[float, float], ends: tuple[float, float]) -> bool:
    slack = 0.01 * (ends[1] - ends[0])
    return abs(found[0] - ends[0]) <= slack and abs(found[1] - ends[1]) <= slack


def _kind(gain: float, center: float, spread: float | None) -> Literal["nothing"] | Numbers | None:
    """What `gain · (x - center)` takes, by what networks compute with and what faces look like."""
    if spread is not None:
        return _kind_by_statistics(center, spread)
    if gain <= 0:
        return None
    if abs(center) < 1e-3:
        return _kind_by_factor(gain)
    if 60 <= center <= 200 or 0.2 <= center <= 0.8:
        return "bytes" if center >= 60 else "unit"
    brought_above_0 = abs(center + 1) < 0.02
    return "signed" if brought_above_0 or (abs(center) <= 0.35 and (1.5 <= gain <= 5 or 100 <= gain <= 140)) else None


def _kind_by_factor(gain: float) -> Literal["nothing"] | Numbers | None:
    if abs(gain - 1) < 0.02:
        return "nothing"
    return "bytes" if gain <= 1 / 50 else "unit" if 200 <= gain <= 300 else None


def _kind_by_statistics(mean: float, deviation: float) -> Numbers | None:
    if 60 <= mean <= 200 and 15 <= deviation <= 160:
        return "bytes"
    if 0.2 <= mean <= 0.8 and (0.05 <= deviation < 0.4 or abs(mean - 0.5) < 0.02):
        return "unit"
    return "signed" if abs(mean) <= 0.6 and 0.3 <= deviation <= 1.2 else None


_POINTWISE: tuple[Callable[..., Any], ...] = (
    ops.same, ops.to_float, ops.to_integer, ops.permute, ops.gather, ops.take_slices, ops.take_piece, ops.concatenate,
    ops.resize, ops.squeeze, ops.unsqueeze, ops.sizes, torch.neg, torch.add, torch.sub, torch.mul, ops.divide,
)  # fmt: skip
"""Operators that leave a picture of one color one of one color, and are affine, products by constants among them."""


def _first_arithmetic(network: GraphModule) -> _Arithmetic | None:
    """What the graph does to each channel first; None where it cannot be seen, such as in a graph of one matrix."""
    height, width = (side or 112 for side in network.picture)
    pictures = torch.zeros(4, 3, height, width)
    pictures[[1, 2, 3], [0, 1, 2]] = 1  # black, red, green, blue
    constants = network.constants()
    values: dict[str, Tensor] = {network.input: pictures}
    statistics: tuple[Tensor, Tensor] | None = None
    limits: tuple[float, float] | None = None
    read: set[str] = set()
    with network.guard(4):
        for node in network.nodes:
            known = {**constants, **values}
            moving = [name for name in node.inputs if name in values]
            if not moving:
                continue
            if len(moving) + sum(name in constants for name in node.inputs) < len(node.inputs):
                read.update(moving)
                continue
            if isinstance(node.operator, ops.Clamp) and node.operator.is_finite and len(values[moving[0]]) == 4:
                limits = _limits_before(node.operator, values[moving[0]]) or limits
                values[node.output] = values[moving[0]]
            elif isinstance(node.operator, ops.Affine) and node.operator.statistics is not None:
                statistics = _statistics_before(node.operator, values[moving[0]]) or statistics
                read.update(moving)
            elif _is_pointwise(node, values, constants):
                values[node.output] = node.operator(*[known[name] for name in node.inputs])
            else:
                read.update(moving)
        read.update({network.output} & values.keys())
        seen = [found for name in read if (found := _by_channel(values[name])) is not None]
    if not seen or any(not torch.allclose(torch.stack(other), torch.stack(seen[0])) for other in seen[1:]):
        return None
    offset, matrix = seen[0][0], torch.stack(seen[0][1:], dim=1)
    sources = matrix.abs().argmax(1)
    gain = matrix[torch.arange(3), sources]
    if bool((matrix.abs().sum(1) - gain.abs() > 1e-4 * gain.abs()).any()) or not bool((gain != 0).all()):
        return None  # colors are mixed
    if sources.tolist() not in ([0, 1, 2], [2, 1, 0]):
        return None
    return _Arithmetic(gain, offset, sources.tolist() == [2, 1, 0], statistics, limits)


def _is_pointwise(node: Node, values: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> bool:
    operator: Any = node.operator
    if isinstance(operator, ops.Affine):
        return True
    if isinstance(operator, ops.Convolution):  # an exporter's way to scale and to swap channels
        shape, used = tuple(operator.weight.shape), int((operator.weight != 0).sum())
        return used == 3 and (shape, operator.groups) in (((3, 3, 1, 1), 1), ((3, 1, 1, 1), 3))
    operator = operator.func if isinstance(operator, partial) else operator
    if operator not in _POINTWISE:
        return False
    if operator in (torch.mul, ops.divide):
        pictures = [name for name in node.inputs if name in values and values[name].is_floating_point()]
        return len(pictures) < 2 and (operator is torch.mul or node.inputs[1] not in pictures)
    return True


def _by_channel(x: Tensor) -> list[Tensor] | None:
    """What became of black, red, green and blue, (3,) each; None for what is no picture."""
    if x.ndim != 4 or len(x) != 4 or not x.is_floating_point():
        return None
    if x.shape[1] != 3:
        x = x.movedim(3, 1)
    if x.shape[1] != 3:
        return None
    black, *colors = x.flatten(2).mean(2)
    return [black, *(color - black for color in colors)]


def _before(x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Gain and offset of each channel so far, (3,) each."""
    found = _by_channel(x)
    if found is None:
        return None
    gain = torch.stack(found[1:]).sum(0)  # of each channel, from whichever it came
    return (gain, found[0]) if bool((gain != 0).all()) else None


def _limits_before(clamp: ops.Clamp, x: Tensor) -> tuple[float, float] | None:
    if (before := _before(x)) is None:
        return None
    gain, offset = before
    return float(((clamp.low - offset) / gain).mean()), float(((clamp.high - offset) / gain).mean())


def _statistics_before(norm: ops.Affine, x: Tensor) -> tuple[Tensor, Tensor] | None:
    if (before := _before(x)) is None or norm.statistics is None:
        return None
    gain, offset = before
    mean, deviation = norm.statistics
    return ((mean - offset) / gain, deviation / gain.abs()) if len(mean) == 3 else None
