import pytest
import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.training.networks import NETWORKS, build_network


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_network_gives_logits(name, norm):
    assert build_network(name, 7, seed=0, norm=norm, width=8)(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "parameters"),
    # resnet-18 as counted by the widely used CIFAR variant with 1×1 shortcuts; resnet-20 by the paper's 0.27 M and the
    # 2,752 weights of its two projections
    [("resnet-18", 11_173_962), ("resnet-20", 272_474), ("resnet-8", 78_042)],
)
def test_networks_have_the_published_number_of_parameters(name, parameters):
    assert sum(parameter.numel() for parameter in build_network(name, 10, seed=0).parameters()) == parameters


def test_the_seed_alone_says_the_weights():
    first, again, other = (build_network("resnet-8", 10, seed=seed) for seed in (1, 1, 2))
    state = first.state_dict()
    assert all(torch.equal(state[name], value) for name, value in again.state_dict().items())
    assert not torch.equal(first.head.weight, other.head.weight)


def test_the_callers_generator_is_left_alone():
    before = torch.get_rng_state()
    build_network("resnet-8", 10, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_pixels_are_normalized_inside():
    seen = []
    network = build_network("resnet-8", 10, seed=0)
    convolution = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    convolution.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)]))
    assert [float(image.mean()) for image in seen[0]] == [-2, 2]


def test_without_batch_norm_pictures_do_not_touch_each_other():
    network = build_network("resnet-8", 10, seed=0, norm="group")
    images = torch.rand(4, 3, 16, 16)
    assert torch.allclose(network(images)[:1], network(images[:1]), atol=1e-5)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(FairveilError, match=r"no network 'resnet-81'.*Did you mean"):
        build_network("resnet-81", 10, seed=0)
    with pytest.raises(FairveilError, match="at least 2"):
        build_network("resnet-8", 1, seed=0)
