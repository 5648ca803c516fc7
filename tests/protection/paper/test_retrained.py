"""A defender that trains its whole network, with small random networks on made-up faces."""

import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.protection.paper import retrained as module
from fairveil.protection.paper.retrained import retrain, retrained

SIZE = 16


class Frozen(nn.Module):
    """A layer whose weights are a buffer, as in graphs read from foreign files."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.randn(8, 3 * SIZE * SIZE, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return nn.functional.linear(x.flatten(1), self.weight)


@pytest.fixture(params=["parameters", "buffers"])
def recognizer(request):
    torch.manual_seed(0)
    layer = Frozen() if request.param == "buffers" else nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 8))
    return Recognizer.from_module(layer, name="tiny", framing=Framing(size=SIZE))


def faces(people, photos, seed):
    """Photos (people · photos, 3, S, S) that are their person's pattern and noise, and whose they are."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(people, 1, 3, SIZE, SIZE, generator=generator)
    noise = 0.1 * torch.randn(people, photos, 3, SIZE, SIZE, generator=generator)
    return (patterns + noise).clamp(0, 1).flatten(0, 1), torch.arange(people).repeat_interleave(photos)


def protected_from(clean):
    """What stands in for the attack: the same strong pattern over every face."""
    pattern = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(9)) - 0.5
    return (clean + pattern).clamp(0, 1)


@torch.no_grad()
def cosines(one, other):
    return (one * other).sum(1).mean()


def test_protected_faces_of_others_are_brought_back_and_clean_ones_stay(recognizer):
    clean, people = faces(20, 3, seed=1)
    others, _ = faces(10, 2, seed=2)
    unseen = recognizer.embed_crops(others)
    before = {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}
    learner = retrain(recognizer, clean, protected_from(clean), people, clean, epochs=40)
    attacked = cosines(recognizer.embed_crops(protected_from(others)), unseen)
    assert cosines(learner.embed_crops(protected_from(others)), unseen) > attacked + 0.1
    assert cosines(learner.embed_crops(others), unseen) > 0.9
    assert all(torch.equal(tensor, before[name]) for name, tensor in recognizer.state_dict().items())
    assert not learner.embed_crops(others).requires_grad


def test_the_same_seed_gives_the_same_network_and_one_photo_of_a_person_is_enough(recognizer):
    clean, people = faces(3, 1, seed=1)
    twice = [retrain(recognizer, clean, protected_from(clean), people, clean, epochs=2) for _ in range(2)]
    other = retrain(recognizer, clean, protected_from(clean), people, clean, epochs=2, seed=1)
    states = [list(one.state_dict().values()) for one in (*twice, other)]
    assert all(map(torch.equal, states[0], states[1]))
    assert not all(map(torch.equal, states[0], states[2]))


def table(folder, crops):
    folder.mkdir()
    for number, crop in enumerate(crops):
        pixels = (crop * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
    images = [f"{number}.png" for number in range(len(crops))]
    frame = pl.DataFrame({"image": images, "identity": [str(number // 2) for number in range(len(crops))]})
    return FaceTable.of(frame, folder, name=folder.name)


def test_a_network_is_trained_once_and_again_for_other_photos(recognizer, tmp_path, monkeypatch):
    clean, _ = faces(3, 2, seed=1)
    tables = [table(tmp_path / "clean", clean), table(tmp_path / "protected", protected_from(clean))]
    held = table(tmp_path / "held", faces(2, 1, seed=2)[0])
    first = retrained(recognizer, *tables, held, "aligned", tmp_path / "cache")
    assert any(
        not torch.equal(*pair)
        for pair in zip(first.state_dict().values(), recognizer.state_dict().values(), strict=True)
    )
    monkeypatch.setattr(module, "retrain", None)
    again = retrained(recognizer, *tables, held, "aligned", tmp_path / "cache")
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    with pytest.raises(TypeError):  # there is no such network yet, and nobody to train it
        retrained(recognizer, tables[0], tables[0], held, "aligned", tmp_path / "cache")


def test_photos_without_a_face_teach_nothing(recognizer, tmp_path, needs_models):
    needs_models("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet")
    empty = table(tmp_path / "empty", torch.zeros(2, 3, 64, 64))
    with pytest.raises(FairveilError, match="in none of 2 photos is a face"):
        retrained(recognizer, empty, empty, empty, "central", tmp_path / "cache")
