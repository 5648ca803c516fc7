"""Residual networks for small pictures, by name; they take pixels in [0, 1] and normalize them themselves."""

from dataclasses import dataclass, replace
from math import gcd
from typing import Literal

import torch
from torch import Tensor, nn

from fairveil.base.errors import FairveilError, did_you_mean

Norm = Literal["batch", "group"]


@dataclass(frozen=True)
class Shape:
    """How a residual network is built (He et al., "Deep residual learning for image recognition", 2016).

    Attributes:
        blocks: how many blocks of two convolutions each stage has; every stage but the first halves the size.
        width: channels of the first stage; each later one has twice as many.
        stem_stride: 2 lets the first convolution halve the size already, a quarter of the work for some accuracy.
    """

    blocks: tuple[int, ...]
    width: int
    stem_stride: int = 1


NETWORKS: dict[str, Shape] = {
    "resnet-18": Shape((2, 2, 2, 2), 64),
    "resnet-20": Shape((3, 3, 3), 16),
    "resnet-8": Shape((1, 1, 1), 16),
    "resnet-8-fast": Shape((1, 1, 1), 32, stem_stride=2),
}
"""ResNet-18 with the 3×3 stem for 32 × 32 pixels, the narrow ones of the ResNet paper's section 4.2, and one that two
processor cores train on 50,000 pictures in well under a minute an epoch."""


def build_network(
    name: str, classes: int, *, seed: int, channels: int = 3, width: int | None = None, norm: Norm = "batch"
) -> "ResidualNetwork":
    """Build an untrained network.

    Args:
        name: one of `NETWORKS`.
        classes: how many logits it gives.
        seed: of its initial weights; PyTorch's own generator is left as it was.
        channels: of the pictures.
        width: channels of the first stage, if not as usual; at least 8, since the strided 1×1 convolutions of
            narrower ones corrupt memory on processors without AVX-512 (oneDNN issue 6035).
        norm: "batch", or "group" where what one picture gives must not depend on the others (private SGD).

    Raises:
        FairveilError: there is no network of this name, or it would have no logits to choose from.

    >>> build_network("resnet-8", 10, seed=0)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    if name not in NETWORKS:
        raise FairveilError(
            f"There is no network {name!r}: choose from {', '.join(NETWORKS)}.{did_you_mean(name, NETWORKS)}"
        )
    if classes < 2 or (width is not None and width < 8):
        raise FairveilError(f"A network of {classes} classes and width {width} cannot be built: give at least 2 and 8.")
    shape = NETWORKS[name] if width is None else replace(NETWORKS[name], width=width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualNetwork(shape, classes, channels=channels, norm=norm)


class ResidualNetwork(nn.Module):
    """A residual network from pixels in [0, 1], float (B, C, H, W), to logits (B, K).

    Attributes:
        features: from pixels to one vector a picture, (B, D).
        head: the linear layer from features to logits.
    """

    def __init__(self, shape: Shape, classes: int, *, channels: int = 3, norm: Norm = "batch") -> None:
        """Build it with initial weights from PyTorch's own generator; `build_network` takes a seed."""
        super().__init__()
        layers: list[nn.Module] = [
            Normalization(),
            nn.Conv2d(channels, shape.width, 3, shape.stem_stride, padding=1, bias=False),
            _norm(norm, shape.width),
            nn.ReLU(),
        ]
        inner = shape.width
        for stage, blocks in enumerate(shape.blocks):
            outer = shape.width << stage
            for block in range(blocks):
                layers.append(ResidualBlock(inner, outer, stride=2 if stage and not block else 1, norm=norm))
                inner = outer
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(inner, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1] to logits (B, K)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, added to their input or, where the shape changes, to a 1×1 convolution of it."""

    def __init__(self, inner: int, outer: int, *, stride: int, norm: Norm) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False),
            _norm(norm, outer),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, padding=1, bias=False),
            _norm(norm, outer),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inner != outer:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), _norm(norm, outer))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) to others, halved in size where the stride is 2."""
        return torch.relu(self.residual(features) + self.shortcut(features))


class Normalization(nn.Module):
    """Brings pixels in [0, 1] about to mean 0 and deviation 1.

    The same constants serve any data (those of CIFAR-10 are within 0.07 of them), so a network depends on no statistics
    of the data it was trained on, and attacks and triggers live in pixel space.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1] to values in [-2, 2]."""
        return (images - 0.5) * 4


def _norm(norm: Norm, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(gcd(8, channels), channels)
