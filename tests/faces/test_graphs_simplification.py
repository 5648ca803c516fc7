"""Simplified graphs are shorter and compute the same."""

import pytest
import torch

from fairveil.faces.graphs import GraphModule
from fairveil.faces.graphs.module import Node
from fairveil.faces.graphs.operators import Affine, Clamp, Convolution, Linear, Pad, PRelu
from fairveil.faces.graphs.simplification import simplify

torch.manual_seed(0)
WEIGHT = torch.randn(4, 3, 3, 3)
CONSTANTS = {
    "scalar": torch.tensor(0.7),
    "last": torch.randn(4),
    "front": torch.randn(4, 1, 1),
    "width": torch.randn(6),
    "slope": torch.rand(3),
}
OUTER = ((0, 0), (1, 2), (0, 1), (0, 0))
INNER = ((0, 0), (0, 0), (1, 2), (0, 1))


def front(**settings):
    return Convolution(WEIGHT, torch.randn(4), **settings)


def back(**settings):
    return Convolution(WEIGHT, None, nhwc=True, **settings)


def simplified(nodes, x):
    """The operators left, after checking that the result is the same."""
    short = simplify(nodes, CONSTANTS, "y")
    graphs = [GraphModule(each, CONSTANTS, input="x", output="y", source="test") for each in (nodes, short)]
    torch.testing.assert_close(graphs[1](x), graphs[0](x), rtol=1e-4, atol=1e-5)
    return [node.operator for node in short]


def chain(*steps):
    """Nodes one behind the other; a step is an operator or (operator, name of a constant, ...)."""
    nodes, current = [], "x"
    for index, step in enumerate(steps):
        operator, *names = step if isinstance(step, tuple) else (step,)
        output = "y" if index == len(steps) - 1 else f"t{index}"
        inputs = [current if name == "_" else name for name in names] if "_" in names else [current, *names]
        nodes.append(Node(operator, tuple(inputs), output))
        current = output
    return nodes


NCHW, NHWC = torch.randn(2, 3, 8, 8), torch.randn(2, 8, 8, 3)


@pytest.mark.parametrize(
    ("nodes", "x"),
    [
        (chain(front(), Affine(torch.randn(4), torch.randn(4), 1)), NCHW),
        (chain(front(), (torch.mul, "front"), (torch.add, "scalar")), NCHW),
        (chain(front(), (torch.sub, "front")), NCHW),
        (chain(back(), (torch.mul, "last"), (torch.add, "last", "_")), NHWC),
        (chain(back(), Affine(torch.randn(4), torch.randn(4), -1)), NHWC),
        (chain(Linear(torch.randn(4, 3), None), (torch.mul, "last"), (torch.add, "last")), NHWC),
        (chain(Pad(INNER), front(padding=(1, 0, 0, 1))), NCHW),
        (chain(Pad(OUTER), back()), NHWC),
        (chain(Clamp(low=0), Clamp(high=0.5), Clamp(low=-3)), NCHW),
        (chain(Clamp(0, 1), Clamp(2, 3)), NCHW),
    ],
    ids=range(10),
)
def test_a_chain_becomes_one_operator(nodes, x):
    assert len(simplified(nodes, x)) == 1


@pytest.mark.parametrize(
    ("nodes", "x"),
    [
        (chain(front(), (torch.mul, "width")), NCHW),
        (chain(front(), (torch.sub, "front", "_")), NCHW),
        (chain(front(), (torch.mul, "_", "_")), NCHW),
        (chain(Pad(INNER, value=1.0), front()), NCHW),
        (chain(Pad(INNER, mode="reflect"), front()), NCHW),
        (chain(Pad(((0, 0), (0, 0), (-1, 0), (0, 0))), front()), NCHW),
        (chain(Pad(INNER), front(padding="SAME")), NCHW),
    ],
    ids=range(7),
)
def test_what_is_not_the_same_stays(nodes, x):
    assert len(simplified(nodes, x)) == len(nodes)


def test_a_convolution_that_others_read_is_not_scaled_for_one_of_them():
    nodes = [
        Node(front(), ("x",), "c"),
        Node(torch.mul, ("c", "front"), "m"),
        Node(torch.add, ("c", "m"), "y"),
    ]
    assert len(simplified(nodes, NCHW)) == 3


@pytest.mark.parametrize("swapped", [False, True])
def test_a_ramp_spelled_with_minimum_and_maximum(swapped):
    nodes = [
        Node(Clamp(low=0), ("x",), "p"),
        Node(Clamp(high=0), ("x",), "n"),
        Node(torch.mul, ("n", "slope") if swapped else ("slope", "n"), "m"),
        Node(torch.add, ("m", "p") if swapped else ("p", "m"), "y"),
    ]
    (ramp,) = simplified(nodes, NHWC)
    assert isinstance(ramp, PRelu)


def test_a_ramp_spelled_with_the_absolute_value():
    nodes = [
        Node(Clamp(low=0), ("x",), "p"),
        Node(torch.abs, ("x",), "a"),
        Node(torch.sub, ("x", "a"), "s"),
        Node(torch.mul, ("slope", "s"), "m"),
        Node(torch.add, ("p", "m"), "y"),
    ]
    (ramp,) = simplified(nodes, NHWC)
    assert isinstance(ramp, PRelu)


def test_what_only_looks_like_a_ramp_stays():
    nodes = [
        Node(torch.neg, ("x",), "o"),
        Node(Clamp(low=0), ("x",), "p"),
        Node(Clamp(high=0), ("o",), "n"),
        Node(torch.mul, ("slope", "n"), "m"),
        Node(torch.add, ("p", "m"), "y"),
    ]
    assert len(simplified(nodes, NHWC)) == 5
