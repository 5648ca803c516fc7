"""The three networks of MTCNN (Zhang et al. 2016), in the shapes of the published weights.

All take RGB pixels as (x - 127.5) / 128. They were trained in an environment that stores pictures column by column, so
the dense layers read the features in the order width, height, channel.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def _faceness(logits: Tensor) -> Tensor:
    """The probability of "face" from the logits of "no face" and "face": (N, 2, …) to (N, …)."""
    return (logits[:, 1] - logits[:, 0]).sigmoid()


def _columns_first(features: Tensor) -> Tensor:
    """Flatten in the order the dense layers were trained on: (N, C, H, W) to (N, W·H·C)."""
    return features.permute(0, 3, 2, 1).flatten(1)


class ProposalNet(nn.Module):
    """P-net: slides a window of `CELL` pixels in steps of `STRIDE` over a picture and says where a face may be."""

    CELL = 12
    STRIDE = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, H, W), each side at least `CELL`, to scores (N, h, w) and box offsets (N, 4, h, w)."""
        features = F.max_pool2d(self.prelu1(self.conv1(pictures)), 2, ceil_mode=True)
        features = self.prelu2(self.conv2(features))
        features = self.prelu3(self.conv3(features))
        return _faceness(self.conv4_1(features)), self.conv4_2(features)


class RefinementNet(nn.Module):
    """R-net: looks at crops of `SIZE` pixels again, rejects most of them and moves the boxes of the others."""

    SIZE = 24

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.dense4 = nn.Linear(576, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Crops (N, 3, 24, 24) to scores (N,) and box offsets (N, 4)."""
        features = F.max_pool2d(self.prelu1(self.conv1(crops)), 3, 2, ceil_mode=True)
        features = F.max_pool2d(self.prelu2(self.conv2(features)), 3, 2, ceil_mode=True)
        features = _columns_first(self.prelu3(self.conv3(features)))
        features = self.prelu4(self.dense4(features))
        return _faceness(self.dense5_1(features)), self.dense5_2(features)


class OutputNet(nn.Module):
    """O-net: the last judgment on crops of `SIZE` pixels, with the box and the five landmarks."""

    SIZE = 48

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.dense5 = nn.Linear(1152, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crops (N, 3, 48, 48) to scores (N,), box offsets (N, 4) and landmarks (N, 5, 2).

        Landmarks are (x, y) as shares of the crop's side.
        """
        features = F.max_pool2d(self.prelu1(self.conv1(crops)), 3, 2, ceil_mode=True)
        features = F.max_pool2d(self.prelu2(self.conv2(features)), 3, 2, ceil_mode=True)
        features = F.max_pool2d(self.prelu3(self.conv3(features)), 2, 2, ceil_mode=True)
        features = _columns_first(self.prelu4(self.conv4(features)))
        features = self.prelu5(self.dense5(features))
        landmarks = self.dense6_3(features).unflatten(1, (2, 5)).mT  # (N, 10): five x, then five y, to (N, 5, 2)
        return _faceness(self.dense6_1(features)), self.dense6_2(features), landmarks
