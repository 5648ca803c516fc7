"""Poison bundles: what they keep, and what they refuse."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize.gradient_matching import WitchesBrew, brew
from fairveil.sanitize.plan import plan_attack
from fairveil.sanitize.poison_bundle import PoisonBundle


@pytest.fixture(scope="module")
def made():
    data, test = synthetic_images(40, classes=2, size=8), synthetic_images(6, classes=2, size=8, seed=1)
    plan = plan_attack(data, test, budget=0.1, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    settings = WitchesBrew(steps=4, restarts=1)
    brewed = brew(data, plan, [network], settings, seed=5)
    return data, brewed, PoisonBundle.of(data, plan, brewed, settings)


def test_a_bundle_that_was_saved_poisons_as_the_one_that_was_made(made, tmp_path):
    data, _, bundle = made
    bundle.save(tmp_path / "poison.safetensors")
    read = PoisonBundle.load(tmp_path / "poison.safetensors")
    assert (read.settings, read.seed, read.loss, read.made_for) == (bundle.settings, 5, bundle.loss, bundle.made_for)
    assert torch.equal(read.plan.target, bundle.plan.target)
    assert (read.plan.target_row, read.plan.adversarial_class) == (
        bundle.plan.target_row,
        bundle.plan.adversarial_class,
    )
    poisoned = read.poison(data)
    assert torch.equal(poisoned.data.images, bundle.poison(data).data.images)
    assert torch.equal(poisoned.data.labels, data.labels)


def test_the_poison_is_the_perturbation_to_the_nearest_step_within_the_bound(made):
    data, brewed, bundle = made
    poisoned = bundle.poison(data)
    moved = poisoned.data.images.int() - data.images.int()
    assert int(moved.abs().max()) <= 16
    assert float((moved[poisoned.rows] - 255 * brewed.perturbation).abs().max()) <= 0.5 + 1e-4
    rest = torch.ones(len(data), dtype=torch.bool)
    rest[poisoned.rows] = False
    assert not bool(moved[rest].any())


def test_other_data_are_refused(made):
    data, _, bundle = made
    images = data.images.clone()
    images[bundle.plan.rows[0]] ^= 1
    others = [replace(data, images=images), replace(data, classes=("x", "y")), data.take(torch.arange(3))]
    for other in others:
        with pytest.raises(FairveilError, match="made for other images"):
            bundle.poison(other)


def test_what_is_damaged_or_something_else_is_a_sentence(made, tmp_path):
    _, _, bundle = made
    file = tmp_path / "poison.safetensors"
    bundle.save(file)
    with pytest.raises(FairveilError, match="already exists"):
        bundle.save(file)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    for text, complaint in ((bytes(content), "its checksum is another"), (b"something", "no poison bundle")):
        (tmp_path / "bad").write_bytes(text)
        with pytest.raises(FairveilError, match=complaint):
            PoisonBundle.load(tmp_path / "bad")
    with pytest.raises(FairveilError, match="is not there"):
        PoisonBundle.load(tmp_path / "none")
