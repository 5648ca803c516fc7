"""Running a graph, and the operators with arithmetic of their own."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.faces.graphs import GraphModule
from fairveil.faces.graphs.module import Node
from fairveil.faces.graphs.operators import Affine, Clamp, Convolution, Linear, PRelu, pool, reduce, reshape, squeeze


def small_network():
    """Strided convolution, batch norm, ramp, depthwise convolution, pool, linear layer: (B, 3, 7, 6) to (B, 4)."""
    torch.manual_seed(0)
    nodes = [
        Node(Convolution(torch.randn(8, 3, 3, 3), torch.randn(8), stride=(2, 2), padding="SAME"), ("x",), "a"),
        Node(Affine(torch.rand(8) + 0.5, torch.randn(8), 1), ("a",), "b"),
        Node(PRelu(torch.rand(8, 1, 1)), ("b",), "c"),
        Node(Convolution(torch.randn(8, 1, 3, 3), None, groups=8, padding=(1, 1, 1, 1)), ("c",), "d"),
        Node(torch.add, ("c", "d"), "e"),
        Node(lambda x: pool(x, reduction="mean", kernel=(2, 2), stride=(1, 1), padding="SAME"), ("e",), "f"),
        Node(lambda x: reduce(x, reduction="mean", axes=(2, 3), keep=False), ("f",), "g"),
        Node(Linear(torch.randn(4, 8), torch.randn(4)), ("g",), "h"),
        Node(torch.mul, ("h", "k"), "y"),
    ]
    constants = {"k": torch.randn(4), "unused": torch.zeros(2)}
    return GraphModule(nodes, constants, input="x", output="y", source="test", picture=(7, 6))


def test_gradients_reach_the_pixels_exactly():
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64, requires_grad=True)
    graph = small_network().double()
    assert torch.autograd.gradcheck(graph, x)
    assert torch.autograd.gradgradcheck(graph, x, fast_mode=True)


def test_the_whole_graph_follows_to_another_precision_and_is_frozen():
    graph = small_network()
    assert not list(graph.parameters())
    assert graph.double()(torch.randn(1, 3, 7, 6).double()).dtype == torch.float64
    assert all(buffer.dtype == torch.float64 for buffer in graph.buffers())


def test_a_copy_computes_the_same_with_weights_of_its_own():
    graph, x = small_network(), torch.randn(2, 3, 7, 6)
    twin = copy.deepcopy(graph)
    before = graph(x)
    torch.testing.assert_close(twin(x), before)
    for buffer in twin.buffers():
        buffer.zero_()
    torch.testing.assert_close(graph(x), before)


def test_tensors_are_let_go_after_their_last_reader():
    alive: list[weakref.ref] = []

    def step(x):
        gc.collect()
        counts.append(sum(reference() is not None for reference in alive))
        y = x + 1
        alive.append(weakref.ref(y))
        return y

    counts: list[int] = []
    nodes = [Node(step, (str(i),), str(i + 1)) for i in range(6)]
    graph = GraphModule(nodes, {}, input="0", output="6", source="test")
    with torch.no_grad():
        graph(torch.zeros(1, 3, 2, 2))
    assert max(counts) == 1


def test_pictures_of_the_wrong_size_are_refused():
    with pytest.raises(FairveilError, match=r"test takes pictures of 7×6 .* not 8×6"):
        small_network()(torch.zeros(1, 3, 8, 6))


def test_an_output_that_is_not_one_row_per_picture_is_refused():
    graph = GraphModule([Node(torch.sum, ("x",), "y")], {}, input="x", output="y", source="test")
    with pytest.raises(FairveilError, match="not one row per picture"):
        graph(torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize("mixing", [lambda x: reduce(x, reduction="sum", axes=(0,), keep=True)])
def test_operators_that_mix_the_batch_are_refused(mixing):
    with pytest.raises(FairveilError, match="mixes the pictures"):
        mixing(torch.zeros(2, 3))
    with pytest.raises(FairveilError, match="mixes the pictures"):
        squeeze(torch.zeros(1, 3), axes=(0,))


@pytest.mark.parametrize("slope", [torch.tensor(0.25), torch.tensor([-0.5, 0.0, 1.5]).view(3, 1, 1)])
def test_a_ramp_is_torchs_prelu_with_its_gradient(slope):
    x = torch.randn(2, 3, 4, 5)
    x[0, 0, 0, 0] = 0
    x.requires_grad_()
    found, expected = PRelu(slope)(x), F.prelu(x, slope.flatten())
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    torch.testing.assert_close(torch.autograd.grad(found, x, weight), torch.autograd.grad(expected, x, weight))


@pytest.mark.parametrize("limits", [(0, float("inf")), (0, 6), (-1, 1), (float("-inf"), 0), (0.5, float("inf"))])
def test_limits_are_torchs_clamp(limits):
    x = 4 * torch.randn(50)
    torch.testing.assert_close(Clamp(*limits)(x), x.clamp(*limits))


def test_layouts_agree():
    weight, x = torch.randn(6, 3, 3, 2), torch.randn(2, 3, 7, 8)
    front = Convolution(weight, None, stride=(2, 1), padding=(1, 0, 2, 1))(x)
    back = Convolution(weight, None, stride=(2, 1), padding=(1, 0, 2, 1), nhwc=True)(x.permute(0, 2, 3, 1))
    torch.testing.assert_close(back.permute(0, 3, 1, 2), front)


@pytest.mark.parametrize(
    ("shape", "target", "batch", "expected"),
    [
        ((8, 512, 1, 1), [1, -1], 1, (8, 512)),
        ((8, 512, 1, 1), [1, 512], 1, (8, 512)),
        ((8, 512, 1, 1), [-1, 512], 1, (8, 512)),
        ((8, 16, 4), [2, 4, 16], 2, (8, 4, 16)),
        ((2, 16, 4), [2, 4, 16], 2, (2, 4, 16)),
        ((1, 16, 4), [2, 64], 2, (1, 64)),
        ((6,), [1, -1], 1, (1, 6)),
        ((8, 4), [1, 32], None, (1, 32)),
    ],
)
def test_a_reshape_fixed_to_a_batch_takes_any(shape, target, batch, expected):
    assert reshape(torch.zeros(shape), target, batch=batch).shape == expected


def test_a_module_without_weights_is_still_a_module():
    graph = GraphModule([Node(torch.neg, ("x",), "y")], {}, input="x", output="y", source="test")
    assert isinstance(graph, nn.Module)
    assert not graph.training
    assert graph(torch.ones(1, 3, 2, 2)).mean() == -1
