import pytest
import torch
from torch import nn

from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.protection.dispersion import generator_of, goals


def _recognizer(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 7 * 7, 8 + seed))
    return Recognizer.from_module(network, name=f"tiny-{seed}", framing=Framing(size=32))


@pytest.fixture(scope="module")
def recognizers():
    return [_recognizer(1), _recognizer(2)]


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_there_is_a_unit_vector_for_each_face_in_the_space_of_each_recognizer(recognizers):
    first, second = goals(recognizers, 3, _generator())
    assert first.shape == (3, 9) and second.shape == (3, 10)
    for found in (first, second):
        assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)


def test_faces_and_seeds_get_goals_of_their_own(recognizers):
    one, same, other = (goals(recognizers, 2, _generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=1e-2)
    assert not torch.allclose(one[0], one[1], atol=1e-2)


def test_goals_have_no_common_direction(recognizers):
    many = torch.cat([goals(recognizers, 1, _generator(seed))[0] for seed in range(200)])
    assert float(many.mean(0).norm()) < 0.5  # 1 if they were one


def test_only_the_original_photo_and_the_seed_tell_the_goal():
    photo = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=_generator())
    changed = photo.clone()
    changed[0, 0, 0] ^= 1
    states = [generator_of(*given).get_state() for given in ((photo, 0), (photo.clone(), 0), (changed, 0), (photo, 1))]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2]) and not torch.equal(states[0], states[3])
    assert not torch.equal(generator_of(photo, 0).get_state(), generator_of(photo.transpose(1, 2), 0).get_state())


def test_goals_follow_a_recognizer_to_another_device():
    recognizer = _recognizer(3)
    assert goals([recognizer], 2, _generator())[0].device.type == "cpu"
    recognizer.to("meta")
    assert goals([recognizer], 2, _generator())[0].device.type == "meta"
