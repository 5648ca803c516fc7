"""Models of frbench, with a stand-in for the package: its weights come from a page that tests cannot reach."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.faces.alignment import TEMPLATE
from fairveil.faces.zoo import load_recognizer

MEAN, STD = torch.tensor([0.3, 0.4, 0.5]), torch.tensor([0.2, 0.25, 0.5])


class FRBenchError(Exception):
    pass


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 7, 4), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 27 * 27, 16)).eval()


@pytest.fixture
def frbench(monkeypatch, backbone):
    """The parts of frbench that are used, as its version 1.1 has them."""
    wanted = SimpleNamespace(channel="rgb", template=TEMPLATE.clone(), size=(112, 112))

    class FR(nn.Module):
        def __init__(self, backbone_type, loss_type, dataset_type, detector="retinaface_mobilenetv1", *, eager_load):
            super().__init__()
            if backbone_type != "irse-100":
                raise FRBenchError(f"Model '{backbone_type}_{loss_type}_{dataset_type}' not in manifest.")
            assert eager_load
            self.backbone, self.input_size = backbone, wanted.size
            self.preprocessor = SimpleNamespace(
                mean=MEAN.view(1, 3, 1, 1), std=STD.view(1, 3, 1, 1), channel=wanted.channel, template=wanted.template
            )

    module = ModuleType("frbench")
    module.FR, module.FRBenchError = FR, FRBenchError
    monkeypatch.setitem(sys.modules, "frbench", module)
    load_recognizer.cache_clear()
    yield wanted
    load_recognizer.cache_clear()


@pytest.mark.parametrize("channel", ["rgb", "bgr"])
def test_crops_reach_the_backbone_in_its_own_numbers_and_order(frbench, backbone, channel):
    frbench.channel = channel
    recognizer = load_recognizer("frbench:irse-100/arcface/ms1m")
    crops = torch.rand(2, 3, 112, 112)
    ordered = crops.flip(1) if channel == "bgr" else crops
    features = backbone((ordered - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1))
    assert torch.allclose(recognizer.embed_crops(crops), nn.functional.normalize(features, dim=1), atol=1e-5)
    assert recognizer.threshold is None
    crops.requires_grad_(True)
    recognizer.embed_crops(crops).sum().backward()
    assert crops.grad.abs().sum() > 0


def test_what_cannot_be_had_is_a_sentence(frbench, monkeypatch):
    for name, complaint in (
        ("frbench:irse-100", "write it like frbench:irse-100/arcface/ms1m"),
        ("frbench:nothing/arcface/ms1m", "not in manifest"),
    ):
        with pytest.raises(FairveilError, match=complaint):
            load_recognizer(name)
    frbench.template = TEMPLATE + 20
    with pytest.raises(FairveilError, match="a crop of its own"):
        load_recognizer("frbench:irse-100/arcface/ms1m")
    monkeypatch.setitem(sys.modules, "frbench", None)
    with pytest.raises(FairveilError, match=r"pip install .\.\[zoo\]"):
        load_recognizer("frbench:irse-100/cosface/ms1m")
