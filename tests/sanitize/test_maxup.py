"""MaxUp against a loop over pictures and copies."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.sanitize.augmentations import Cutout, FlipAndCrop, Mixup
from fairveil.sanitize.maxup import MaxUp, in_place_maxup
from fairveil.training.batches import Batch


def a_batch(count=6, classes=3):
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(count) % classes, torch.arange(count), classes)


def a_network(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16), nn.ReLU(), nn.Linear(16, classes))


@pytest.mark.parametrize("base", [Cutout(4), Mixup(), FlipAndCrop(2)], ids=str)
def test_it_is_the_mean_of_each_pictures_worst_copy(base):
    batch, network, m = a_batch(), a_network(), 4
    loss = MaxUp(base, m)(network, batch, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    copies = [base(batch.images, batch.soft_targets(), generator) for _ in range(m)]
    worst = []
    for picture in range(len(batch)):
        losses = []
        for images, targets in copies:
            log_probabilities = network(images[picture : picture + 1]).log_softmax(1)[0]
            losses.append(-float((targets[picture] * log_probabilities).sum().detach()))
        worst.append(max(losses))
    assert float(loss.detach()) == pytest.approx(sum(worst) / len(worst), rel=1e-5)


def test_one_copy_is_the_usual_loss_and_more_are_never_less():
    batch, network = a_batch(), a_network()
    images, targets = Cutout(4)(batch.images, batch.soft_targets(), torch.Generator().manual_seed(1))
    once = MaxUp(Cutout(4), 1)(network, batch, torch.Generator().manual_seed(1))
    assert once.item() == pytest.approx(F.cross_entropy(network(images), targets).item(), rel=1e-5)
    assert MaxUp(Cutout(4), 4)(network, batch, torch.Generator().manual_seed(1)) >= once


def test_what_comes_first_is_done_once_for_all_copies():
    batch, network, same = a_batch(), a_network(), MaxUp(lambda images, targets, generator: (images, targets), 3)
    first = FlipAndCrop(2)
    loss = MaxUp(same.base, 3, first)(network, batch, torch.Generator().manual_seed(1))
    images, _ = first(batch.images, batch.soft_targets(), torch.Generator().manual_seed(1))
    assert loss.item() == pytest.approx(F.cross_entropy(network(images), batch.targets).item(), rel=1e-5)


def test_the_chapters_code_makes_one_picture_with_several_holes():
    images = torch.ones(40, 3, 32, 32)
    generator = torch.Generator().manual_seed(0)
    holes = (in_place_maxup(Cutout(6), 4)(images, torch.eye(40), generator)[0] == 0)[:, 0].flatten(1).sum(1)
    assert bool((holes <= 4 * 36).all()) and float(holes.float().mean()) > 2 * 36


@pytest.mark.parametrize("make", [lambda: MaxUp(Cutout(4), 0), lambda: in_place_maxup(Cutout(4), 0)])
def test_no_copies_are_a_sentence(make):
    with pytest.raises(FairveilError, match="1 or more"):
        make()


def test_a_pair_of_tensors_is_no_batch():
    with pytest.raises(FairveilError, match=r"give fairveil\.training\.Batch"):
        MaxUp(Cutout(4))(a_network(), (torch.rand(4, 3, 8, 8), torch.eye(3)[[0, 1, 2, 0]]), torch.Generator())


def test_torchs_own_generator_draws_where_none_is_given():
    batch, network = a_batch(), a_network()
    torch.manual_seed(3)
    own = MaxUp(Cutout(4))(network, batch)
    assert torch.equal(own, MaxUp(Cutout(4))(network, batch, torch.Generator().manual_seed(3)))
