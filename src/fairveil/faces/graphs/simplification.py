"""Rewriting a graph into an equal one that runs faster.

Exporters spell out what torch has one kernel for: a batch normalization as a product and a sum, a leaky ramp as five
operators. Written out, each is a pass over memory forward and another backward, which is what small networks spend
their time on.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairveil.faces.graphs.module import Node
from fairveil.faces.graphs.operators import Affine, Clamp, Convolution, Linear, Pad, PRelu

_POSITIVE, _NEGATIVE = Clamp(low=0), Clamp(high=0)


@dataclass
class _Context:
    """What a rule may look at.

    Attributes:
        constants: tensors by name.
        writers: the node that writes a name, already simplified.
        readers: how many nodes read a name.
    """

    constants: Mapping[str, Tensor]
    writers: dict[str, Node]
    readers: Counter[str]

    def split(self, node: Node) -> tuple[str, Tensor] | None:
        """The inputs of a node on one tensor and one constant, whichever comes first."""
        for name, other in (node.inputs, node.inputs[::-1]):
            if other in self.constants and name not in self.constants:
                return name, self.constants[other]
        return None


def simplify(nodes: Sequence[Node], constants: Mapping[str, Tensor], output: str) -> list[Node]:
    """The nodes that compute the output, with convolutions, ramps and limits put together where they can be.

    Args:
        nodes: in an order in which every input is known before it is read.
        constants: tensors by name.
        output: what to compute.
    """
    readers = Counter(name for node in nodes for name in node.inputs)
    readers[output] += 1
    context = _Context(constants, {}, readers)
    for node in nodes:
        for rule in _RULES:
            node = rule(node, context) or node  # noqa: PLW2901
        context.writers[node.output] = node
    wanted = {output}
    kept: list[Node] = []
    for node in reversed(context.writers.values()):
        if node.output in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _merge_padding(node: Node, context: _Context) -> Node | None:
    """A convolution takes over zeros that were put around its pictures."""
    convolution = node.operator
    if not isinstance(convolution, Convolution) or convolution.padding == "SAME":
        return None
    before = context.writers.get(node.inputs[0])
    pad = before.operator if before is not None else None
    if before is None or not isinstance(pad, Pad) or pad.mode != "constant" or pad.value != 0 or len(pad.widths) != 4:
        return None
    outer, rows, columns = (
        (pad.widths[::3], pad.widths[1], pad.widths[2])
        if convolution.nhwc
        else (pad.widths[:2], pad.widths[2], pad.widths[3])
    )
    if any(map(any, outer)) or min(*rows, *columns) < 0:
        return None
    top, bottom, left, right = convolution.padding
    total = (top + rows[0], bottom + rows[1], left + columns[0], right + columns[1])
    return Node(convolution.with_padding(total), before.inputs, node.output)


def _merge_scale(node: Node, context: _Context) -> Node | None:
    """A convolution or matrix product takes over a scale and shift of its channels."""
    operator, name = node.operator, node.inputs[0]
    if not isinstance(operator, Affine):
        if operator not in (torch.mul, torch.add, torch.sub) or (inputs := context.split(node)) is None:
            return None
        name, constant = inputs
        if operator is torch.sub and name != node.inputs[0]:
            return None
    before = context.writers.get(name)
    if before is None or context.readers[name] != 1 or not isinstance(before.operator, Convolution | Linear):
        return None
    if isinstance(operator, Affine):
        if isinstance(before.operator, Convolution) and before.operator.nhwc == (operator.dimension == 1):
            return None
        scale, shift = operator.scale, operator.shift
    else:
        if (values := _by_channel(constant, before.operator)) is None:
            return None
        one, zero = torch.ones_like(values), torch.zeros_like(values)
        scale = values if operator is torch.mul else one
        shift = {torch.mul: zero, torch.add: values, torch.sub: -values}[operator]
    del context.writers[name]  # nobody reads it any more, and each step of a chain would keep its weights
    return Node(before.operator.scaled(scale, shift), before.inputs, node.output)


def _by_channel(constant: Tensor, operator: Convolution | Linear) -> Tensor | None:
    """The constant as one number for each channel the operator gives, if broadcasting takes it so."""
    channels = operator.weight.shape[0]
    in_front = isinstance(operator, Convolution) and not operator.nhwc
    if constant.ndim > (4 if isinstance(operator, Convolution) else 2) or not constant.is_floating_point():
        return None
    if constant.numel() == 1:
        return constant.reshape(1).expand(channels)
    if constant.numel() != channels or constant.ndim < (3 if in_front else 1):
        return None
    return constant.reshape(-1) if constant.shape[-3 if in_front else -1] == channels else None


def _merge_limits(node: Node, context: _Context) -> Node | None:
    """Limits of limits are limits."""
    before = context.writers.get(node.inputs[0])
    if not isinstance(node.operator, Clamp) or before is None or not isinstance(before.operator, Clamp):
        return None
    low, high = (
        min(max(end, node.operator.low), node.operator.high) for end in (before.operator.low, before.operator.high)
    )
    return Node(Clamp(low, high), before.inputs, node.output)


def _merge_ramp(node: Node, context: _Context) -> Node | None:
    """max(x, 0) + slope · min(x, 0), and max(x, 0) + half · (x - |x|), are leaky ramps."""
    if node.operator is not torch.add:
        return None
    for first, second in (node.inputs, node.inputs[::-1]):
        positive, product = context.writers.get(first), context.writers.get(second)
        if positive is None or product is None or positive.operator != _POSITIVE or product.operator is not torch.mul:
            continue
        if (inputs := context.split(product)) is None:
            continue
        x, (name, slope) = positive.inputs[0], inputs
        negative = context.writers.get(name)
        if negative is None:
            continue
        if negative.operator == _NEGATIVE and negative.inputs == (x,):
            return Node(PRelu(slope), (x,), node.output)
        if negative.operator is torch.sub and negative.inputs[0] == x:
            size = context.writers.get(negative.inputs[1])
            if size is not None and size.operator is torch.abs and size.inputs == (x,):
                return Node(PRelu(2 * slope), (x,), node.output)
    return None


_RULES: tuple[Callable[[Node, _Context], Node | None], ...] = (
    _merge_padding,
    _merge_scale,
    _merge_limits,
    _merge_ramp,
)
