"""A residual network that two processor cores train in minutes, for small studies."""

from itertools import pairwise

from torch import Tensor, nn

from fairveil.training.networks import ResidualBlock


class SmallFaceResNet(nn.Module):
    """From normalized crops (B, 3, size, size) to features (B, dimension).

    A 3×3 convolution that halves the size, three residual blocks of 32, 64 and 128 channels that halve it again, and
    face.evoLVe's output layers without their dropout, with which so small a network learns next to nothing in minutes.
    It is no network of anyone's.
    """

    def __init__(self, *, dimension: int, size: int) -> None:
        """Build it with weights from PyTorch's own generator.

        Args:
            dimension: of the features.
            size: side of the crops in pixels, a multiple of 16.
        """
        super().__init__()
        widths = (32, 32, 64, 128)
        self.body = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
            *(ResidualBlock(inner, outer, stride=2, norm="batch") for inner, outer in pairwise(widths)),
        )
        self.head = nn.Sequential(
            nn.BatchNorm2d(widths[-1]),
            nn.Flatten(),
            nn.Linear(widths[-1] * (size // 16) ** 2, dimension),
            nn.BatchNorm1d(dimension),
        )

    def forward(self, crops: Tensor) -> Tensor:
        """From normalized crops (B, 3, size, size) to features (B, dimension)."""
        features: Tensor = self.head(self.body(crops))
        return features
