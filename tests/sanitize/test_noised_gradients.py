"""Clipped and noised gradients: what they do to gradients, and that networks still learn."""

import pytest
import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize.noised_gradients import ClipAndNoise
from fairveil.training.loop import train
from fairveil.training.networks import build_network
from fairveil.training.objectives import Classification
from fairveil.training.schedules import Training


def _with_gradients(*gradients):
    parameters = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros_like(gradient))
        parameter.grad = gradient.clone()
        parameters.append(parameter)
    return parameters


def test_clipping_shortens_all_gradients_together_and_leaves_short_ones():
    long = _with_gradients(torch.tensor([3.0]), torch.tensor([[4.0]]))
    ClipAndNoise(noise=0)(long, torch.Generator())
    assert [float(parameter.grad) for parameter in long] == pytest.approx([0.6, 0.8], abs=1e-5)
    short = _with_gradients(torch.tensor([0.3]), torch.tensor([[0.4]]))
    ClipAndNoise(noise=0)(short, torch.Generator())
    assert [float(parameter.grad) for parameter in short] == pytest.approx([0.3, 0.4])


def test_noise_has_the_deviation_asked_for_and_comes_from_the_generator():
    drawn = []
    for seed in (0, 0, 1):
        (parameter,) = _with_gradients(torch.zeros(100_000))
        ClipAndNoise(noise=0.05)([parameter], torch.Generator().manual_seed(seed))
        drawn.append(parameter.grad)
    assert drawn[0].mean().item() == pytest.approx(0, abs=1e-3)
    assert drawn[0].std().item() == pytest.approx(0.05, rel=0.02)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_clip_of_nothing_is_refused():
    with pytest.raises(FairveilError, match="clip must be above 0"):
        ClipAndNoise(clip=0)


def test_the_plain_variant_trains_networks_with_batch_norm():
    data = synthetic_images(96, classes=3, size=8)
    network = build_network("resnet-8", 3, seed=0, width=8)
    settings = Training(epochs=3, batch_size=32, learning_rate=0.05, channels_last=False)
    history = train(network, data, settings, objective=Classification(), gradients=ClipAndNoise(noise=0.01))
    assert history.epochs[-1].loss < history.epochs[0].loss
