"""Networks to be trained as face recognizers, by name."""

from functools import partial
from typing import Protocol

import torch
from torch import nn

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.faces.alignment import TEMPLATE_SIZE
from fairveil.faces.backbones.improved_residual import ImprovedResNet
from fairveil.faces.backbones.mobilefacenet import MobileFaceNet
from fairveil.faces.backbones.residual import BasicBlock, BottleneckBlock, FaceResNet
from fairveil.faces.backbones.small_residual import SmallFaceResNet


class Backbone(Protocol):
    """What makes an untrained network."""

    def __call__(self, *, dimension: int, size: int) -> nn.Module:
        """A network from normalized crops (B, 3, size, size) to features (B, dimension)."""


BACKBONES: dict[str, Backbone] = {
    "resnet-8": SmallFaceResNet,
    "mobilefacenet": MobileFaceNet,
    "resnet-18": partial(FaceResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet-50": partial(FaceResNet, BottleneckBlock, (3, 4, 6, 3)),
    "resnet-152": partial(FaceResNet, BottleneckBlock, (3, 8, 36, 3)),
    "ir-50": partial(ImprovedResNet, (3, 4, 14, 3)),
    "ir-101": partial(ImprovedResNet, (3, 13, 30, 3)),
    "ir-152": partial(ImprovedResNet, (3, 8, 36, 3)),
}
"""The networks of face.evoLVe (ZhaoJ9014/face.evoLVe), of 1.2 to 75 million parameters, a ResNet-18 in their manner,
and a ResNet-8 for what two processor cores can train in minutes."""


def build_backbone(name: str, *, seed: int, dimension: int = 512, size: int = TEMPLATE_SIZE) -> nn.Module:
    """Build an untrained network from normalized crops (B, 3, size, size) to features (B, dimension).

    The features are no unit vectors: `Recognizer` makes them so. In training mode a batch needs two faces or more, for
    the last batch norm has nothing else to average over.

    Args:
        name: one of `BACKBONES`.
        seed: of its initial weights; PyTorch's own generator is left as it was.
        dimension: of the features.
        size: side of the crops, in pixels.

    Raises:
        FairveilError: there is no network of this name, it has no features, or the crops cannot be halved four times.

    >>> build_backbone("mobilefacenet", seed=0)(torch.rand(2, 3, 112, 112)).shape
    torch.Size([2, 512])
    """
    if name not in BACKBONES:
        raise FairveilError(
            f"There is no backbone {name!r}: choose from {', '.join(BACKBONES)}.{did_you_mean(name, BACKBONES)}"
        )
    if dimension < 1:
        raise FairveilError(f"A backbone of {dimension} features says nothing of a face: give at least 1, usually 512.")
    if size < 16 or size % 16:
        raise FairveilError(
            f"A backbone halves its crops four times, which {size} pixels do not allow: give a multiple of 16, such as "
            f"64, 96 or {TEMPLATE_SIZE}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BACKBONES[name](dimension=dimension, size=size)
