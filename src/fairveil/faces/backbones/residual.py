"""Residual networks for faces: ImageNet's (He et al. 2016) with the output layers of face.evoLVe."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FaceResNet(nn.Module):
    """From normalized crops (B, 3, size, size) to features (B, dimension).

    The body is ImageNet's: a 7×7 convolution and a max-pool, each halving the size, then four stages of 64, 128, 256
    and 512 channels or, with bottlenecks, four times as many. As in face.evoLVe, features keep their places in the face
    instead of being averaged, and convolutions start from He's normal distribution by fan-out.
    """

    def __init__(
        self, block: "type[BasicBlock | BottleneckBlock]", blocks: Sequence[int], *, dimension: int, size: int
    ) -> None:
        """Build it with weights from PyTorch's own generator.

        Args:
            block: the kind of block.
            blocks: how many of them each of the four stages has; every stage but the first halves the size.
            dimension: of the features.
            size: side of the crops in pixels, a multiple of 16.
        """
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        inner = 64
        for stage, count in enumerate(blocks):
            for index in range(count):
                layers.append(block(inner, 64 << stage, stride=2 if stage and not index else 1))
                inner = block.expansion * (64 << stage)
        self.body = nn.Sequential(*layers)
        # Five halvings, each of which rounds up: 4 of 112 pixels.
        self.head = feature_layers(inner, -(-size // 32), dimension)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, crops: Tensor) -> Tensor:
        """From normalized crops (B, 3, size, size) to features (B, dimension)."""
        features: Tensor = self.head(self.body(crops))
        return features


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inner: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inner, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = _shortcut(inner, width, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) to others, halved in size where the stride is 2."""
        return torch.relu(self.residual(features) + self.shortcut(features))


class BottleneckBlock(nn.Module):
    """A 3×3 convolution between two of 1×1, the last of which has four times the channels, beside a shortcut."""

    expansion = 4

    def __init__(self, inner: int, width: int, *, stride: int) -> None:
        super().__init__()
        outer = self.expansion * width
        self.residual = nn.Sequential(
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, outer, 1, bias=False),
            nn.BatchNorm2d(outer),
        )
        self.shortcut = _shortcut(inner, outer, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) to others, halved in size where the stride is 2."""
        return torch.relu(self.residual(features) + self.shortcut(features))


def feature_layers(channels: int, side: int, dimension: int) -> nn.Sequential:
    """face.evoLVe's output layers: (B, channels, side, side) to features (B, dimension)."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(channels * side * side, dimension),
        nn.BatchNorm1d(dimension),
    )


def _shortcut(inner: int, outer: int, stride: int) -> nn.Module:
    if stride == 1 and inner == outer:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
