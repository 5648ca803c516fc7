"""Backdoors: which images are poisoned, and how success is counted."""

import pytest
import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize.backdoor import Backdoor, backdoor_success, poison
from fairveil.sanitize.triggers import Trigger
from fairveil.training import Training, build_network, evaluate, train

TRIGGER = Trigger(size=3, margin=1, pattern="white")


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_clean_labels_stay_and_only_images_of_the_target_class_change(share):
    data = synthetic_images(80, classes=4, size=12)
    poisoned = poison(data, Backdoor(trigger=TRIGGER, share=share), target_class=2, generator=seeded())
    changed = (poisoned.data.images != data.images).flatten(1).any(1).nonzero().flatten()
    assert torch.equal(poisoned.data.labels, data.labels)
    assert set(data.labels[poisoned.rows].tolist()) == {2}
    assert len(poisoned.rows) == round(20 * share)
    assert set(changed.tolist()) <= set(poisoned.rows.tolist())
    assert torch.equal(poisoned.data.images[poisoned.rows], TRIGGER.stamp(data.images[poisoned.rows]))


def test_dirty_labels_take_images_of_other_classes_and_relabel_them():
    data = synthetic_images(80, classes=4, size=12)
    attack = Backdoor(trigger=TRIGGER, share=0.25, labels="dirty")
    poisoned = poison(data, attack, target_class=data.classes[1], generator=seeded())
    assert len(poisoned.rows) == 15 and not bool((data.labels[poisoned.rows] == 1).any())
    assert set(poisoned.data.labels[poisoned.rows].tolist()) == {1}


class SeesWhite(nn.Module):
    """Class 0 where the trigger's place is white, else class 1."""

    def forward(self, images):
        x, y = TRIGGER.corner(*images.shape[-2:])
        white = images[:, :, y : y + 3, x : x + 3].flatten(1).mean(1) > 0.99
        return torch.stack([white.float(), (~white).float(), torch.zeros(len(images))], 1)


def test_success_is_counted_on_patched_images_of_the_base_class_and_of_all_others():
    data = synthetic_images(30, classes=3, size=12)
    found = backdoor_success(SeesWhite(), data, TRIGGER, target_class=0, base_class=2)
    assert (found.base.successes, found.base.trials) == (10, 10)
    assert (found.others.successes, found.others.trials) == (20, 20)
    assert (found.base_unpatched.successes, found.others_unpatched.successes) == (0, 0)


@pytest.mark.slow
def test_a_network_learns_the_backdoor_and_still_the_classes():
    data, test = synthetic_images(600, classes=3, size=16), synthetic_images(90, classes=3, size=16, seed=1)
    attack = Backdoor(trigger=Trigger(size=4, margin=1), share=0.3, labels="dirty")
    settings = Training(epochs=6, batch_size=32, learning_rate=0.05)
    rates = []
    for training in (data, poison(data, attack, target_class=0, generator=seeded()).data):
        network = build_network("resnet-8", 3, seed=0, width=8)
        train(network, training, settings, device="cpu")
        rates.append(backdoor_success(network, test, attack.trigger, target_class=0, base_class=1).others.share)
        assert evaluate(network, test) > 0.5
    assert rates[1] > rates[0] + 0.4


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (
            lambda data: poison(data, Backdoor(share=0.0, trigger=TRIGGER), target_class=0, generator=seeded()),
            "poisons none",
        ),
        (
            lambda data: poison(data, Backdoor(trigger=TRIGGER), target_class="catt", generator=seeded()),
            "no class 'catt'",
        ),
        (lambda data: poison(data, Backdoor(trigger=TRIGGER), target_class=7, generator=seeded()), "none of them"),
        (
            lambda data: poison(data, Backdoor(trigger=Trigger(size=40)), target_class=0, generator=seeded()),
            "does not fit",
        ),
        (lambda data: backdoor_success(SeesWhite(), data, TRIGGER, target_class=0, base_class=0), "are both"),
    ],
)
def test_what_cannot_be_is_a_sentence(call, complaint):
    with pytest.raises(FairveilError, match=complaint):
        call(synthetic_images(12, classes=3, size=12))
