"""Fitting heads: the minimum that another solver finds too."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize.augmentations import Compose, Cutout, FlipAndCrop, Mixup
from fairveil.sanitize.head_fitting import fit_head
from fairveil.sanitize.head_matching import TransferNetwork
from fairveil.sanitize.maxup import MaxUp
from fairveil.training import Classification, evaluate

CLASSES = 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return TransferNetwork(layers, nn.Linear(32, CLASSES))


def test_the_head_is_the_minimum_found_by_another_solver(network):
    data = synthetic_images(60, classes=CLASSES, size=12)
    fitted = fit_head(network, data, Classification(), generator=seeded(), views=1, weight_decay=1e-2)
    features = network.features(data.images.float() / 255).double().numpy()
    labels = data.labels.numpy()

    def loss(flat):
        logits = features @ flat[:96].reshape(3, 32).T + flat[96:]
        log_total = np.log(np.exp(logits).sum(1))
        return (log_total - logits[np.arange(60), labels]).mean() + 1e-2 / 2 * (flat**2).sum()

    best = minimize(loss, np.zeros(99), tol=1e-10)
    ours = torch.cat([fitted.head.weight.flatten(), fitted.head.bias]).detach().double().numpy()
    assert loss(ours) == pytest.approx(best.fun, abs=1e-5)
    np.testing.assert_allclose(ours, best.x, atol=0.02)


def test_it_learns_from_mixed_pictures_and_leaves_the_network_as_it_was(network):
    data, test = synthetic_images(300, classes=CLASSES, size=12), synthetic_images(90, classes=CLASSES, size=12, seed=1)
    before = network.head.weight.clone()
    augment = Compose((FlipAndCrop(1, flip=False), Mixup()))
    one, same, other = (
        fit_head(network, data, Classification(augment), generator=seeded(seed), weight_decay=1e-4)
        for seed in (0, 0, 1)
    )
    assert evaluate(one, test) > 0.5
    assert torch.equal(one.head.weight, same.head.weight) and not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(network.head.weight, before) and one.features is network.features


def test_nothing_to_fit_is_a_sentence(network):
    data = synthetic_images(6, classes=CLASSES, size=12)
    with pytest.raises(FairveilError, match="6 pictures seen 0 times"):
        fit_head(network, data, Classification(), generator=seeded(), views=0)
    with pytest.raises(FairveilError, match="0 pictures"):
        fit_head(network, data.take([]), Classification(), generator=seeded())


def test_under_maxup_the_worst_copy_is_what_counts(network):
    data = synthetic_images(40, classes=CLASSES, size=12)

    def copies(seed):
        """The features of the four copies, drawn as `fit_head` draws them."""
        generator = seeded(seed)
        rows = torch.randperm(40, generator=generator)
        images, soft = data.images[rows].float() / 255, torch.eye(CLASSES)[data.labels[rows]]
        return [network.features(Cutout(6)(images, soft, generator)[0]) for _ in range(4)], data.labels[rows]

    fitted = fit_head(
        network, data, MaxUp(Cutout(6), m=4), generator=seeded(), views=1, weight_decay=1e-2, batch_size=40
    )
    features, labels = copies(0)

    @torch.no_grad()
    def worst(head):
        losses = [nn.functional.cross_entropy(head(one), labels, reduction="none") for one in features]
        decay = sum(float(parameter.detach().square().sum()) for parameter in head.parameters())
        return float(torch.stack(losses).amax(0).mean()) + 1e-2 / 2 * decay

    for seed in range(20):  # a convex loss: no neighbor is better
        torch.manual_seed(seed)
        moved = nn.Linear(32, CLASSES)
        for parameter, best in zip(moved.parameters(), fitted.head.parameters(), strict=True):
            parameter.data = best.detach() + 0.1 * torch.randn_like(best)
        assert worst(moved) > worst(fitted.head)
    mean_only = fit_head(network, data, Classification(Cutout(6)), generator=seeded(), views=4, weight_decay=1e-2)
    assert worst(fitted.head) < worst(mean_only.head)
