"""MobileFaceNet (Chen et al., "MobileFaceNets: efficient CNNs for accurate real-time face verification", 2018)."""

from typing import NamedTuple

from torch import Tensor, nn


class Stage(NamedTuple):
    """A row of bottlenecks in the paper's table 1.

    Attributes:
        expansion: how many times more channels a bottleneck has inside than it is given.
        channels: what each of them gives.
        blocks: how many there are.
        stride: of the first one; the others keep the size.
    """

    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (Stage(2, 64, 5, 2), Stage(4, 128, 1, 2), Stage(2, 128, 6, 1), Stage(4, 128, 1, 2), Stage(2, 128, 2, 1))
"""The bottlenecks of the paper's table 1, in order."""

_STEM = 64
_SUMMARY = 512


class MobileFaceNet(nn.Module):
    """From normalized crops (B, 3, size, size) to features (B, dimension).

    A face has its eyes and mouth in fixed places, so the last picture of features is not averaged but weighted place by
    place: the global depth-wise convolution. Weights start as PyTorch's layers start them, as in face.evoLVe's port.
    """

    def __init__(self, *, dimension: int, size: int) -> None:
        """Build it for crops whose side is a multiple of 16, with weights from PyTorch's own generator."""
        super().__init__()
        layers: list[nn.Module] = [
            *_convolution(3, _STEM, 3, stride=2),
            nn.PReLU(_STEM),
            *_convolution(_STEM, _STEM, 3, groups=_STEM),
            nn.PReLU(_STEM),
        ]
        inner = _STEM
        for stage in STAGES:
            for block in range(stage.blocks):
                stride = 1 if block else stage.stride
                layers.append(Bottleneck(inner, stage.channels, expansion=stage.expansion, stride=stride))
                inner = stage.channels
        self.body = nn.Sequential(*layers, *_convolution(inner, _SUMMARY, 1), nn.PReLU(_SUMMARY))
        self.head = nn.Sequential(
            nn.Conv2d(_SUMMARY, _SUMMARY, size // 16, groups=_SUMMARY, bias=False),
            nn.BatchNorm2d(_SUMMARY),
            nn.Flatten(),
            nn.Linear(_SUMMARY, dimension, bias=False),
            nn.BatchNorm1d(dimension),
        )

    def forward(self, crops: Tensor) -> Tensor:
        """From normalized crops (B, 3, size, size) to features (B, dimension)."""
        features: Tensor = self.head(self.body(crops))
        return features


class Bottleneck(nn.Module):
    """Widens, filters each channel by itself and narrows again, linearly; added to its input where the shape stays."""

    def __init__(self, inner: int, outer: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.residual = nn.Sequential(
            *_convolution(inner, wide, 1),
            nn.PReLU(wide),
            *_convolution(wide, wide, 3, stride=stride, groups=wide),
            nn.PReLU(wide),
            *_convolution(wide, outer, 1),
        )
        self.shortcut = stride == 1 and inner == outer

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) to others, halved in size where the stride is 2."""
        changed: Tensor = self.residual(features)
        return features + changed if self.shortcut else changed


def _convolution(inner: int, outer: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inner, outer, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outer),
    ]
