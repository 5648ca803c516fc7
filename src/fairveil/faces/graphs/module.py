"""A foreign inference graph as a torch module."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor, nn

from fairveil.base.errors import FairveilError, clipped
from fairveil.faces.graphs.guarding import MISFITS, ResourceBudget

MEMORY = 1 << 30
"""Bytes that all the tensors computed for each picture of a batch may take together. IR-152 takes a quarter of it."""

WORK = 1 << 39
"""Multiplications for each picture of a batch. ResNet-152 at 224 pixels takes a fiftieth of it."""


@dataclass(frozen=True)
class Node:
    """One step: `output = operator(*inputs)`, its inputs and output given by name.

    Attributes:
        operator: takes as many tensors as there are inputs; an `nn.Module` where it has weights.
        inputs: names of earlier outputs, of constants, or of the graph's input.
        output: name of the result.
    """

    operator: Callable[..., Tensor]
    inputs: tuple[str, ...]
    output: str


class GraphModule(nn.Module):
    """A graph of named tensors with one input and one output, differentiable and frozen.

    Floating-point constants are buffers, so that `.to(device)` and `.double()` do what they do everywhere. Integer
    constants describe shapes and stay where they are. A tensor is let go as soon as its last reader has run. The first
    time that so many pictures of a size are seen, every operator is kept to `MEMORY` and `WORK`, whatever the file asks
    for. What is computed later takes the same, as no operator makes a shape out of pixels.

    Args:
        nodes: in an order in which every input is known before it is read.
        constants: tensors by name, for the inputs of nodes that no node computes.
        input: name by which the nodes read the pictures.
        output: name of the tensor to return.
        source: what error messages call the graph, such as its file's name.
        picture: the (height, width) the graph was made for; None where it leaves them open.
        channels: of the pictures, where the file says how many.
        whole: whether its input is declared as whole numbers.
        properties: what the file says of the model beside the graph.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        constants: Mapping[str, Tensor],
        *,
        input: str,
        output: str,
        source: str,
        picture: tuple[int | None, int | None] = (None, None),
        channels: int | None = None,
        whole: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.nodes = list(nodes)
        self.input, self.output, self.source, self.picture = input, output, source, picture
        self.channels = channels
        self.whole, self.properties = whole, dict(properties or {})
        # Only what is registered follows `.to`; the nodes point to the same objects.
        self.operators = nn.ModuleList(node.operator for node in nodes if isinstance(node.operator, nn.Module))
        self._buffer_of: dict[str, str] = {}
        self._integers: dict[str, Tensor] = {}
        for name in dict.fromkeys(name for node in nodes for name in node.inputs if name in constants):
            if constants[name].is_floating_point():
                self._buffer_of[name] = f"constant_{len(self._buffer_of)}"  # names may hold dots, buffers' may not
                self.register_buffer(self._buffer_of[name], constants[name])
            else:
                self._integers[name] = constants[name]
        self._finished = _last_readings(self.nodes, keep=output)
        self._afforded: set[tuple[int, ...]] = set()
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Run the graph.

        Args:
            pictures: shape (B, 3, H, W), in the numbers and channel order the network was trained on.

        Returns:
            The selected output; its first dimension is B, the others are laid out as the graph's maker did.

        Raises:
            FairveilError: the pictures have another size than the graph takes, the graph mixes the pictures of a
                batch, its operators do not fit each other, or it would take too much memory or arithmetic.
        """
        for wanted, got in zip(self.picture, pictures.shape[2:], strict=True):
            if wanted not in (None, got):
                raise FairveilError(
                    f"{self.source} takes pictures of {self.picture[0]}×{self.picture[1]} (height × width), not "
                    f"{pictures.shape[2]}×{pictures.shape[3]}: give its framing the size it was trained on."
                )
        try:
            with nullcontext() if tuple(pictures.shape) in self._afforded else self.guard(len(pictures)):
                result = self._run(pictures)
        except MISFITS as error:
            raise FairveilError(
                f"{self.source} cannot be run on pictures of {pictures.shape[2]}×{pictures.shape[3]}, "
                f"{pictures.shape[0]} at a time: its operators do not fit each other, this size or this number "
                f"({clipped(str(error), 300)})."
            ) from error
        if result.shape[:1] != pictures.shape[:1]:
            raise FairveilError(
                f"{self.source} gives {tuple(result.shape)} for a batch of {pictures.shape[0]}: its output "
                f"{self.output!r} is not one row per picture, so choose another output."
            )
        self._afforded.add(tuple(pictures.shape))
        return result

    def constants(self) -> dict[str, Tensor]:
        """The tensors that nodes read and none computes, by name."""
        return {name: self.get_buffer(buffer) for name, buffer in self._buffer_of.items()} | self._integers

    def guard(self, batch: int) -> ResourceBudget:
        """Keeps to its budget a graph whose file may have lied."""

        def refusal(what: str) -> FairveilError:
            return FairveilError(f"{self.source} {what} for a picture, so it was not run: is it a face recognizer?")

        return ResourceBudget(MEMORY * max(batch, 1), WORK * max(batch, 1), refusal)

    def _run(self, pictures: Tensor) -> Tensor:
        values = self.constants() | {self.input: pictures}
        for node, finished in zip(self.nodes, self._finished, strict=True):
            values[node.output] = node.operator(*[values[name] for name in node.inputs])
            for name in finished:
                del values[name]
        return values[self.output]


def _last_readings(nodes: Sequence[Node], keep: str) -> list[list[str]]:
    """For each node the names that nobody reads after it."""
    finished: list[list[str]] = [[] for _ in nodes]
    seen = {keep}
    for index in range(len(nodes) - 1, -1, -1):
        for name in dict.fromkeys((*nodes[index].inputs, nodes[index].output)):
            if name not in seen:
                seen.add(name)
                finished[index].append(name)
    return finished
