"""Defenses by name."""

import pytest
import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.experiment.overrides import override
from fairveil.sanitize.augmentations import Mixup
from fairveil.sanitize.defenses import DEFENSES, PUBLISHED_DEFENSES, DefenseEntry, defense
from fairveil.sanitize.paper.backdoors import BACKDOOR_DEFENSES
from fairveil.training import Classification
from fairveil.training.batches import Batch


@pytest.mark.parametrize("name", (*DEFENSES, *PUBLISHED_DEFENSES))
def test_every_defense_gives_a_loss_that_can_be_lowered(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    images = torch.rand(8, 3, 16, 16)
    batch = Batch(images, torch.arange(8) % 3, torch.arange(8), 3)
    under = defense(name, size=16, padding=2)
    loss = under.objective(network, batch, torch.Generator().manual_seed(0))
    loss.backward()
    if under.gradients is not None:
        under.gradients(list(network.parameters()), torch.Generator().manual_seed(0))
    assert loss.ndim == 0 and bool(network[1].weight.grad.abs().sum() > 0)


def test_a_name_that_is_none_is_a_sentence():
    with pytest.raises(FairveilError, match=r"no defense 'cutmixx'\. Did you mean CutMix"):
        defense("cutmixx", size=32)
    assert defense("cutmix", size=32).name == "CutMix"


def test_an_entry_is_all_it_takes_to_add_a_defense(monkeypatch):
    def three_way(usual, size, width):
        return Classification(Mixup(width=width)), None

    entry = DefenseEntry("3-way", "mixes three pictures", "nowhere", three_way, three_way, {"width": 3})
    monkeypatch.setitem(DEFENSES, entry.name, entry)
    assert defense("3-WAY", size=32).augmentation == Mixup(width=3)
    settings = override(BACKDOOR_DEFENSES.small, ["defenses=['Baseline', '3-way']"])
    assert {trial.defense for trial in BACKDOOR_DEFENSES.trials(settings)} == {"Baseline", "3-way"}
