"""Gradient matching against literal transcriptions: all poisons at once, double backward, a plain loop."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize.augmentations import FlipAndCrop, Mixup
from fairveil.sanitize.gradient_matching import WitchesBrew, brew
from fairveil.sanitize.head_matching import TransferNetwork, head_gradient
from fairveil.sanitize.matching import match, network_gradient, surrogates_for
from fairveil.sanitize.plan import plan_attack

CLASSES = 3
SMALL = WitchesBrew(steps=6, restarts=2, step_size=0.01)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def a_network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES),
    )  # fmt: skip
    layers(torch.rand(64, 3, 12, 12))
    return layers.eval()


def data_and_plan(budget=0.1):
    data, test = synthetic_images(60, classes=CLASSES, size=12), synthetic_images(12, classes=CLASSES, size=12, seed=1)
    return data, plan_attack(data, test, budget=budget, generator=seeded())


def literal_loss(network, images, targets, target, adversarial):
    """1 − cosine of the gradients of all parameters, by autograd on everything at once."""
    parameters = list(network.parameters())
    wanted = torch.autograd.grad(F.cross_entropy(network(target[None]), torch.tensor([adversarial])), parameters)
    own = torch.autograd.grad(F.cross_entropy(network(images), targets), parameters, create_graph=True)
    product = sum((one * other).sum() for one, other in zip(wanted, own, strict=True))
    lengths = [sum((one**2).sum() for one in gradients).sqrt() for gradients in (wanted, own)]
    return 1 - product / (lengths[0] * lengths[1])


@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
def test_chunks_give_the_loss_and_derivative_of_all_poisons_at_once(chunk):
    network, target = a_network().double(), torch.rand(3, 12, 12, dtype=torch.float64, generator=seeded(1))
    images = torch.rand(9, 3, 12, 12, dtype=torch.float64, generator=seeded(2)).requires_grad_()
    targets = F.one_hot(torch.arange(9) % CLASSES, CLASSES).double()
    loss = literal_loss(network, images, targets, target, 2)
    (derivative,) = torch.autograd.grad(loss, images)
    (surrogate,) = surrogates_for([network], target, 2, CLASSES, network_gradient)
    ours, by_pixel = match(surrogate, images, targets, network_gradient, chunk=chunk)
    assert ours == pytest.approx(float(loss.detach()), abs=1e-12)
    assert torch.allclose(by_pixel, derivative, atol=1e-12)


def test_the_heads_gradient_in_closed_form_is_that_of_autograd():
    network = TransferNetwork.of(a_network()).fresh(3)
    images = torch.rand(5, 3, 12, 12, generator=seeded()).requires_grad_()
    targets = torch.rand(5, CLASSES, generator=seeded(1)).softmax(1)
    ours = head_gradient(network, images, targets, differentiable=True)
    literal = network_gradient(network, images, targets, differentiable=True)
    assert torch.allclose(ours, literal, atol=1e-5)
    direction = torch.rand(len(ours), generator=seeded(2))
    (one,), (other,) = (torch.autograd.grad(gradient @ direction, images) for gradient in (ours, literal))
    assert torch.allclose(one, other, atol=1e-5)


def test_features_stay_frozen_and_heads_share_them():
    network = TransferNetwork.of(a_network())
    first, second = network.fresh(1), network.fresh(2)
    assert first.features is second.features and not torch.equal(first.head.weight, second.head.weight)
    assert torch.equal(network.fresh(1).head.weight, first.head.weight)
    assert not first.train().features.training and first.head.training
    assert {name for name, parameter in first.named_parameters() if parameter.requires_grad} == {
        "head.weight",
        "head.bias",
    }


@pytest.mark.parametrize(("augment", "companions"), [(None, 0), (FlipAndCrop(1), 0), (Mixup(), 8)])
def test_brewing_lowers_the_loss_and_keeps_to_the_bounds(augment, companions):
    data, plan = data_and_plan()
    settings = SMALL.model_copy(update={"steps": 25, "companions": companions})
    brewed = brew(data, plan, [a_network(), a_network(1)], settings, seed=0, augment=augment)
    clean = data.images[plan.rows].float() / 255
    assert float(brewed.perturbation.abs().max()) <= settings.epsilon + 1e-7
    assert float((clean + brewed.perturbation).min()) >= 0 and float((clean + brewed.perturbation).max()) <= 1 + 1e-6
    assert brewed.best == int(brewed.losses[:, -1].argmin())
    if not companions:  # with others, drawn anew at every step, one step's loss says little
        assert float(brewed.losses[brewed.best, -5:].mean()) < float(brewed.losses[brewed.best, :5].mean())


def test_a_step_is_signed_adam_as_written_out():
    data, plan = data_and_plan()
    network, settings = a_network(), WitchesBrew(steps=3, restarts=1, step_size=0.01, milestones=())
    clean = data.images[plan.rows].float() / 255
    targets = F.one_hot(data.labels[plan.rows], CLASSES).float()
    first = torch.zeros_like(clean)
    brewed = brew(data, plan, [network], settings, seed=4)
    start = torch.randn(clean.shape, generator=seeded(int(np.random.SeedSequence([4, 0]).generate_state(1)[0])))
    delta = (settings.epsilon * start).clamp(-settings.epsilon, settings.epsilon).clamp(-clean, 1 - clean)
    mean, square = first.clone(), first.clone()
    for step in range(1, 4):
        leaf = delta.clone().requires_grad_()
        loss = literal_loss(network, clean + leaf, targets, plan.target.float() / 255, plan.adversarial_class)
        assert float(brewed.losses[0, step - 1]) == pytest.approx(float(loss.detach()), abs=1e-5)
        sign = torch.autograd.grad(loss, leaf)[0].sign()
        mean, square = 0.9 * mean + 0.1 * sign, 0.999 * square + 0.001 * sign**2
        unbiased = mean / (1 - 0.9**step), (square / (1 - 0.999**step)).sqrt()
        delta = delta - 0.01 * unbiased[0] / (unbiased[1] + 1e-8)
        delta = delta.clamp(-settings.epsilon, settings.epsilon).clamp(-clean, 1 - clean)
    assert float((brewed.perturbation - delta).abs().mean()) < 1e-4


def test_an_interrupted_attack_goes_on_bit_for_bit(tmp_path):
    data, plan = data_and_plan()
    attack = partial(brew, data, plan, [a_network()], SMALL, seed=0, augment=FlipAndCrop(1))
    whole = attack()

    class StoppedError(Exception):
        pass

    def stop(steps):
        if steps == 8:
            raise StoppedError

    file = tmp_path / "state.pt"
    with pytest.raises(StoppedError):
        attack(checkpoint=file, save_every=4, on_step=stop)
    done = []
    resumed = attack(checkpoint=file, save_every=4, on_step=done.append)
    assert done == [9, 10, 11, 12]
    assert torch.equal(resumed.perturbation, whole.perturbation) and torch.equal(resumed.losses, whole.losses)
    with pytest.raises(FairveilError, match="another attack"):
        brew(data, plan, [a_network()], SMALL, seed=1, augment=FlipAndCrop(1), checkpoint=file)
    file.write_bytes(b"damaged")
    with pytest.raises(FairveilError, match="no state of an attack"):
        brew(data, plan, [a_network()], SMALL, seed=0, checkpoint=file)


def test_the_noise_of_private_sgd_is_passed_straight_through():
    network, target = a_network(), torch.rand(3, 12, 12, generator=seeded(1))
    images, targets = torch.rand(4, 3, 12, 12, generator=seeded(2)), F.one_hot(torch.arange(4) % 3, 3).float()
    (surrogate,) = surrogates_for([network], target, 2, CLASSES, network_gradient)
    shift = torch.randn(len(surrogate.target_gradient), generator=seeded(3))
    seen = []

    def noisy(mean):
        seen.append(mean)
        return mean + shift

    loss, _ = match(surrogate, images, targets, network_gradient, received=noisy)
    expected = 1 - F.cosine_similarity(seen[0] + shift, surrogate.target_gradient, dim=0)
    assert loss == pytest.approx(float(expected), abs=1e-5)


def test_surrogates_that_cannot_be_matched_are_a_sentence():
    data, plan = data_and_plan()
    diverged = a_network()
    with torch.no_grad():
        diverged[-1].weight.fill_(torch.nan)
    cases = [
        ([], "at least one network"),
        ([diverged], "diverged"),
        ([a_network().requires_grad_(False)], "no parameter"),
    ]
    for networks, complaint in cases:
        with pytest.raises(FairveilError, match=complaint):
            brew(data, plan, networks, SMALL, seed=0)
    headless = nn.Sequential(a_network(), nn.Softmax(1))
    with pytest.raises(FairveilError, match="does not give its logits"):
        brew(data, plan, [headless], SMALL, seed=0, gradient=head_gradient)


def test_a_plan_poisons_images_of_the_adversarial_class_within_its_budget():
    data, test = synthetic_images(90, classes=CLASSES, size=12), synthetic_images(9, classes=CLASSES, size=12, seed=1)
    for seed in range(10):
        plan = plan_attack(data, test, budget=0.05, generator=seeded(seed))
        assert len(plan.rows) == math.ceil(0.05 * 90)
        assert set(data.labels[plan.rows].tolist()) == {plan.adversarial_class}
        assert plan.true_class != plan.adversarial_class
        assert torch.equal(plan.target, test.images[plan.target_row])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"budget": 0.0}, "allows no image"),
        ({"budget": 0.5}, "choose a budget of at most 0.333"),
        ({"target_row": 0, "adversarial_class": 0}, "already: choose another"),
        ({"target_row": 99}, "none of them"),
        ({"adversarial_class": "nothing"}, "no class 'nothing'"),
    ],
)
def test_a_plan_that_cannot_be_is_a_sentence(arguments, complaint):
    data, test = synthetic_images(30, classes=CLASSES, size=12), synthetic_images(9, classes=CLASSES, size=12, seed=1)
    with pytest.raises(FairveilError, match=complaint):
        plan_attack(data, test, generator=seeded(), **arguments)
