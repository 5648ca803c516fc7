import pytest
import torch
from torch import nn

from fairveil.faces.alignment import TEMPLATE
from fairveil.faces.recognizers import Framing, Recognizer


class _Pixels(nn.Module):
    """A network whose features are what it was shown."""

    def forward(self, crops):
        return crops.flatten(1)


def test_the_framing_of_112_pixels_is_the_template():
    assert torch.allclose(Framing().landmarks, TEMPLATE)


def test_a_framing_twice_the_size_puts_pixel_centres_right():
    # Pixel k of a picture enlarged twofold around pixel edges lies at 2k + 1/2.
    assert torch.allclose(Framing(size=224).landmarks, TEMPLATE * 2 + 0.5)


def test_zoom_and_drop_move_the_face_as_said():
    plain, changed = Framing(size=100), Framing(size=100, zoom=0.5, drop=0.1)
    eyes, eyes_changed = plain.landmarks[1] - plain.landmarks[0], changed.landmarks[1] - changed.landmarks[0]
    assert torch.allclose(eyes_changed, eyes / 2, atol=1e-4)
    centre = (plain.landmarks - 49.5) / 2 + 49.5
    assert torch.allclose(changed.landmarks, centre + torch.tensor([0.0, 10.0]), atol=1e-4)


def test_the_network_sees_the_stated_numbers_and_channel_order():
    framing = Framing(size=2, channels="BGR", mean=(1.0, 2.0, 3.0), scale=4.0)
    red = torch.zeros(1, 3, 2, 2)
    red[:, 0] = 1.0
    assert framing.normalize(red)[0, :, 0, 0].tolist() == [-0.25, -0.5, 63.0]


def test_embeddings_are_unit_vectors_of_the_framed_face():
    photo = torch.rand(1, 3, 150, 150)
    recognizer = Recognizer("pixels", _Pixels())
    embeddings = recognizer.embed(photo, torch.stack([TEMPLATE + 10, TEMPLATE + 20]))
    assert embeddings.shape == (2, 3 * 112 * 112)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2))
    direct = recognizer.embed_crops(photo[:, :, 10:122, 10:122])
    assert torch.allclose(embeddings[:1], direct, atol=1e-4)


def test_the_mirrored_embedding_does_not_change_when_the_crop_is_mirrored():
    recognizer = Recognizer("pixels", _Pixels())
    crops = torch.rand(2, 3, 112, 112)
    assert torch.allclose(
        recognizer.embed_crops(crops, mirror=True).view(2, 3, 112, 112),
        recognizer.embed_crops(crops.flip(-1), mirror=True).view(2, 3, 112, 112),
        atol=1e-6,
    )


def test_embedding_is_differentiable_to_the_pixels():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).double()
    recognizer = Recognizer.from_module(network, name="small", framing=Framing(size=8))
    photo = torch.rand(1, 3, 12, 12, dtype=torch.float64, requires_grad=True)
    landmarks = (TEMPLATE / 10)[None].double()
    assert torch.autograd.gradcheck(lambda x: recognizer.embed(x, landmarks), photo)


def test_a_module_is_frozen_and_put_into_evaluation_mode():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(3 * 8 * 8, 4))
    recognizer = Recognizer.from_module(network, name="small", framing=Framing(size=8), threshold=0.3)
    assert not any(parameter.requires_grad for parameter in recognizer.parameters())
    crops = torch.rand(1, 3, 8, 8)
    assert torch.equal(recognizer.embed_crops(crops), recognizer.embed_crops(crops))
    assert recognizer.threshold.similarity == pytest.approx(0.3)
