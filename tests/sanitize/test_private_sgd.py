import pytest
import torch
import torch.nn.functional as F

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize.private_sgd import PrivateSGD, noise_multiplier_for
from fairveil.training.loop import train
from fairveil.training.networks import build_network
from fairveil.training.schedules import Training

DATA = synthetic_images(96, classes=3, size=8)
FEW = Training(epochs=3, batch_size=32, learning_rate=0.05, channels_last=False)


def _network(norm="group"):
    return build_network("resnet-8", 3, seed=0, width=8, norm=norm)


def test_each_pictures_gradient_is_clipped():
    """Against one backward pass a picture."""
    network, batch = _network(), slice(0, 8)
    images, labels = DATA.images[batch].float() / 255, DATA.labels[batch]
    sums = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for image, label in zip(images, labels, strict=True):
        gradients = torch.autograd.grad(F.cross_entropy(network(image[None]), label[None]), list(network.parameters()))
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        for total, gradient in zip(sums, gradients, strict=True):
            total.add_(gradient * min(1.0, 0.5 / (float(norm) + 1e-6)))
    private = PrivateSGD(network, pictures=96, batch_size=8, noise_multiplier=0, clip=0.5)
    F.cross_entropy(private.network(images), labels).backward()
    private(list(private.network.parameters()), torch.Generator())
    for parameter, total in zip(private.network.parameters(), sums, strict=True):
        assert torch.allclose(parameter.grad, total / 8, atol=1e-5)


def test_private_training_learns_and_reports_what_opacus_reports():
    from opacus.accountants import RDPAccountant

    private = PrivateSGD(_network(), pictures=96, batch_size=32, noise_multiplier=1.2)
    assert private.epsilon(1e-3) == 0
    train(private.network, DATA, FEW, order=private.order, gradients=private)
    accountant = RDPAccountant()
    for _ in range(9):
        accountant.step(noise_multiplier=1.2, sample_rate=1 / 3)
    assert private.epsilon(1e-3) == pytest.approx(accountant.get_epsilon(1e-3))
    assert private.epsilon(1e-3) < private.epsilon(1e-5)
    assert private.release()(torch.rand(2, 3, 8, 8)).shape == (2, 3)


def test_a_resumed_private_run_goes_on_accounting_and_bit_for_bit(tmp_path):
    class StoppedError(Exception):
        pass

    def stop(epoch):
        raise StoppedError

    def run(path, on_epoch):
        private = PrivateSGD(_network(), pictures=96, batch_size=32, noise_multiplier=1.2)
        train(
            private.network,
            DATA,
            FEW,
            order=private.order,
            gradients=private,
            checkpoint=tmp_path / path,
            on_epoch=on_epoch,
        )
        return private

    straight = run("straight.pt", lambda epoch: None)
    with pytest.raises(StoppedError):
        run("cut.pt", stop)
    resumed = run("cut.pt", lambda epoch: None)
    assert resumed.epsilon(1e-3) == straight.epsilon(1e-3)
    theirs = straight.release().state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in resumed.release().state_dict().items())


def test_batches_have_each_picture_with_the_same_chance():
    private = PrivateSGD(_network(), pictures=1000, batch_size=100, noise_multiplier=1)
    batches = [rows for seed in range(20) for rows in private.order(1000, 100, torch.Generator().manual_seed(seed))]
    assert len(batches) == 200
    assert len({len(rows) for rows in batches}) > 10
    assert torch.cat(batches).bincount(minlength=1000).double().mean().item() == pytest.approx(20, rel=0.05)


def test_the_noise_for_a_wanted_epsilon_keeps_to_it():
    multiplier = noise_multiplier_for(3, 1e-3, pictures=96, batch_size=32, epochs=3)
    private = PrivateSGD(_network(), pictures=96, batch_size=32, noise_multiplier=multiplier)
    train(private.network, DATA, FEW, order=private.order, gradients=private)
    assert 2.5 < private.epsilon(1e-3) <= 3


def test_without_noise_nothing_is_private():
    private = PrivateSGD(_network(), pictures=96, batch_size=32, noise_multiplier=0)
    train(private.network, DATA, FEW.model_copy(update={"epochs": 1}), order=private.order, gradients=private)
    assert private.epsilon(1e-3) == float("inf")


def test_what_cannot_be_private_is_refused():
    with pytest.raises(FairveilError, match=r'cannot be trained privately .*norm="group"'):
        PrivateSGD(_network("batch"), pictures=96, batch_size=32, noise_multiplier=1)
