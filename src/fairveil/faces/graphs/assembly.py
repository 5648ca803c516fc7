"""From a foreign graph, as its file has it, to a `GraphModule`: what the three formats have in common."""

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError, clipped, listed
from fairveil.faces.graphs.guarding import MISFITS
from fairveil.faces.graphs.module import GraphModule, Node
from fairveil.faces.graphs.operators import MOST_DIMENSIONS, same
from fairveil.faces.graphs.simplification import simplify

_MISSING: Any = object()


@dataclass
class ForeignGraph:
    """What a file says, before any operator is understood.

    Attributes:
        source: what error messages call the file.
        format: what they call its kind: "ONNX", "TensorFlow", "TensorFlow Lite".
        constants: tensors by name.
        input: name of the pictures.
        batch: number of pictures the graph was exported for; 1 where it says any.
        picture: height and width it was exported for.
        entry: brings pictures (B, 3, H, W) into the layout of the graph's input.
        channels: of the pictures, where the file says how many.
        whole: whether the input is declared as whole numbers.
        properties: what the file says of the model beside the graph.
        operations: the graph's nodes, in any order.
    """

    source: str
    format: str
    constants: dict[str, Tensor]
    input: str
    batch: int = 1
    picture: tuple[int | None, int | None] = (None, None)
    entry: Callable[[Tensor], Tensor] = same
    channels: int | None = None
    whole: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    operations: "list[Operation]" = field(default_factory=list)


@dataclass(eq=False)
class Operation:
    """One node of a foreign graph, as a builder sees it.

    A builder takes every attribute it implements; what is left over afterwards is refused, so that nothing in a file
    is silently ignored.

    Attributes:
        graph: the graph it is in.
        kind: the operator's name in its format, such as "Conv".
        name: the node's own name.
        inputs: names of the tensors it reads; "" for an optional one left out.
        output: name of the tensor it writes; of several we compute the first.
        attributes: the rest of what the file says about it.
    """

    graph: ForeignGraph
    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]

    def error(self, what: str) -> FairveilError:
        """An error about this node, to be raised."""
        name = f"{clipped(self.kind)} ({clipped(self.name or self.output)})"
        return FairveilError(f"{self.graph.source}: the operator {name} {what}.")

    def misfit(self, error: Exception) -> FairveilError:
        """An error that says what torch or Python had to say, to be raised."""
        return self.error(f"has inputs or attributes that do not fit together ({clipped(str(error), 300)})")

    def attribute(self, name: str, default: Any = _MISSING) -> Any:
        """Take an attribute; without a default the file must have it."""
        value = self.attributes.pop(name, default)
        if value is _MISSING:
            raise self.error(f"lacks its attribute {name}")
        if isinstance(value, Sized) and not isinstance(value, str) and len(value) > MOST_DIMENSIONS:
            raise self.error(f"has {len(value)} entries in {name}; more than {MOST_DIMENSIONS} dimensions is a lie")
        return value

    def expect(self, name: str, *known: Any, default: Any = _MISSING) -> Any:
        """Take an attribute of which only some values are implemented."""
        value = self.attribute(name, default)
        if value not in known:
            raise self.error(f"has {name}={clipped(repr(value))}; fairveil knows {', '.join(map(repr, known))}")
        return value

    def refuse_leftovers(self) -> None:
        """Complain of attributes that nobody took."""
        for name, value in self.attributes.items():
            raise self.error(
                f"has the attribute {clipped(name)}={clipped(repr(value))}, which fairveil does not implement"
            )

    def has(self, index: int) -> bool:
        """Whether there is an input at this place."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def is_constant(self, index: int) -> bool:
        """Whether the input at this place is known before any picture is."""
        return self.has(index) and self.inputs[index] in self.graph.constants

    def constant(self, index: int) -> Tensor:
        """The value of an input that must be known beforehand."""
        if not self.is_constant(index):
            raise self.error(f"has an input {index} that is missing or computed while running; it must be constant")
        return self.graph.constants[self.inputs[index]]

    def optional(self, index: int) -> Tensor | None:
        """The value of an input that must be known beforehand, if it is there at all."""
        return self.constant(index) if self.has(index) else None

    def integers(self, index: int) -> tuple[int, ...]:
        """The value of a constant input, as integers."""
        value = self.constant(index)
        if value.is_floating_point():
            raise self.error(f"has an input {index} of {value.dtype} where integers belong")
        if value.numel() > MOST_DIMENSIONS:
            raise self.error(f"has {value.numel()} entries in input {index}; more than {MOST_DIMENSIONS} is a lie")
        return tuple(value.reshape(-1).tolist())

    def number(self, index: int) -> float:
        """The value of a constant input, as one number."""
        value = self.constant(index)
        if value.numel() != 1:
            raise self.error(f"has an input {index} of {value.numel()} entries where one number belongs")
        return float(value)


Step = tuple[Callable[..., Tensor], tuple[str, ...]]
"""What a builder returns: an operator and the names of the tensors to call it with."""
Builders = Mapping[str, Callable[[Operation], Step]]
"""Builders by the operator's name in its format."""


def assemble(graph: ForeignGraph, builders: Builders, output: str) -> GraphModule:
    """Build what the output needs of a graph; within `guarding.reading` where the file is a stranger's.

    Raises:
        FairveilError: an operator is unknown or used in a way we do not implement, or the graph is broken.
    """
    operations = _needed(graph, output)
    unknown = sorted({operation.kind for operation in operations} - set(builders))
    if unknown:
        raise FairveilError(
            f"{graph.source} uses the {graph.format} operator{'s' if len(unknown) > 1 else ''} {listed(unknown)}, "
            f"which fairveil cannot read. It reads {', '.join(sorted(builders))}."
        )
    nodes = [Node(graph.entry, ("pictures",), graph.input)]
    for operation in operations:
        try:
            operator, inputs = builders[operation.kind](operation)
            operation.refuse_leftovers()
            if all(name in graph.constants for name in inputs):
                graph.constants[operation.output] = operator(*[graph.constants[name] for name in inputs])
            else:
                nodes.append(Node(operator, inputs, operation.output))
        except MISFITS as error:
            raise operation.misfit(error) from error
    if output in graph.constants:
        raise FairveilError(f"{graph.source}: the output {clipped(output)!r} does not depend on the picture.")
    try:
        nodes = simplify(nodes, graph.constants, output)
    except MISFITS as error:
        raise FairveilError(
            f"{graph.source}: its operators do not fit each other ({clipped(str(error), 300)})."
        ) from error
    return GraphModule(
        nodes,
        graph.constants,
        input="pictures",
        output=output,
        source=graph.source,
        picture=graph.picture,
        channels=graph.channels,
        whole=graph.whole,
        properties=graph.properties,
    )


def _needed(graph: ForeignGraph, output: str) -> list[Operation]:
    """The operations the output depends on, each after those it reads from."""
    writer = {operation.output: operation for operation in graph.operations}
    if output not in writer:
        raise FairveilError(f"{graph.source} has no output {clipped(output)!r}.")
    ordered: list[Operation] = []
    known = {"", graph.input, *graph.constants}
    opened: set[str] = set()
    pending = [output]
    while pending:
        name = pending[-1]
        if name in known:
            pending.pop()
            continue
        if name not in writer:
            raise FairveilError(
                f"{graph.source} is broken: it reads a tensor {clipped(name)!r} that fairveil cannot find."
            )
        missing = [source for source in writer[name].inputs if source not in known]
        if missing and name in opened:
            raise FairveilError(f"{graph.source} is broken: the tensor {clipped(name)!r} is needed to compute itself.")
        if missing:
            opened.add(name)
            pending += missing
        else:
            pending.pop()
            ordered.append(writer[name])
            known.add(name)
    return ordered


def entries(shape: Sequence[int], what: str) -> int:
    """How many numbers a tensor of this shape has, according to a file.

    Raises:
        FairveilError: no tensor has this shape.
    """
    if len(shape) > MOST_DIMENSIONS or min(shape, default=0) < 0:
        raise FairveilError(f"{what} has a shape that no tensor has: {clipped(str(list(shape[:MOST_DIMENSIONS])))}.")
    return math.prod(shape)


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """The same numbers in memory of their own: every float as float32 and every integer as int64."""
    values = torch.empty(array.shape, dtype=torch.int64 if array.dtype.kind in "iub" else torch.float32)
    values.numpy()[...] = array
    return values
