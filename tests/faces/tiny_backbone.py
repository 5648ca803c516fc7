"""A backbone that trains in a second, for tests of what is around it, and generated crops to train it on."""

from functools import cache

import torch
from torch import nn

from fairveil.data.face_crops import FaceCrops
from fairveil.data.synthetic import SyntheticFaces
from fairveil.faces.backbones import BACKBONES

SIZE = 64


class Tiny(nn.Sequential):
    """Three convolutions and a linear layer, about as real ones are built."""

    def __init__(self, *, dimension, size):
        layers, channels = [nn.AvgPool2d(2)], 3
        for width in (16, 32, 64):
            layers += [nn.Conv2d(channels, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)]
            channels = width
        side = -(-size // 16)
        super().__init__(
            *layers, nn.Flatten(), nn.Linear(64 * side**2, dimension, bias=False), nn.BatchNorm1d(dimension)
        )


def add_tiny(monkeypatch):
    """Let "tiny" be a backbone for the length of a test."""
    monkeypatch.setitem(BACKBONES, "tiny", Tiny)


@cache
def drawn_crops(identities=6, per_identity=4):
    """Crops of generated people."""
    faces = SyntheticFaces(identities=identities, per_identity=per_identity, size=SIZE, framing="crop")
    labels = faces.labels
    return FaceCrops(
        faces.render(range(len(faces))),
        torch.arange(len(faces)) // per_identity,
        tuple(labels["identity"].unique(maintain_order=True)),
        "synthetic faces",
        tuple(labels["image"]),
        {"tone": tuple(labels["tone"]), "shape": tuple(labels["shape"])},
    )
