"""The 29-layer residual network of dlib's face recognizer (King 2017), whose weights face-api.js republished."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BLOCKS = (
    "conv32_1", "conv32_2", "conv32_3",
    "conv64_down", "conv64_1", "conv64_2", "conv64_3",
    "conv128_down", "conv128_1", "conv128_2",
    "conv256_down", "conv256_1", "conv256_2", "conv256_down_out",
)  # fmt: skip


class _Convolution(nn.Conv2d):
    """A convolution with dlib's affine layer behind it folded into its weights."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, *, stride: int = 1, padding: int = 0) -> None:
        filters = weights[f"{name}/conv/filters"].permute(3, 2, 0, 1)  # HWIO to OIHW
        gain = weights[f"{name}/scale/weights"]
        super().__init__(filters.shape[1], filters.shape[0], filters.shape[2], stride, padding)
        self.weight.data = (filters * gain.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
        bias = weights[f"{name}/conv/bias"] * gain + weights[f"{name}/scale/biases"]
        self.bias = nn.Parameter(bias)


class _Block(nn.Module):
    """Two convolutions beside a shortcut; a "down" block halves the picture and may double the channels."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        self.down = "down" in name
        stride, padding = (2, 0) if self.down else (1, 1)
        self.conv1 = _Convolution(weights, f"{name}/conv1", stride=stride, padding=padding)
        self.conv2 = _Convolution(weights, f"{name}/conv2", padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            x = F.avg_pool2d(x, 2)
            # dlib adds what overlaps and takes the rest of either side as zero.
            rows, columns = x.shape[2] - y.shape[2], x.shape[3] - y.shape[3]
            y = F.pad(y, (0, columns, 0, rows))
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)


class DlibResNet(nn.Module):
    """From normalized RGB crops (B, 3, 150, 150) to features (B, 128).

    Args:
        weights: arrays by face-api.js's names, such as "conv32_1/conv1/conv/filters" (HWIO).
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = _Convolution(weights, "conv32_down", stride=2)
        self.blocks = nn.Sequential(*[_Block(weights, name) for name in _BLOCKS])
        self.head = nn.Parameter(weights["fc"])  # (256, 128)
        self.eval().requires_grad_(False)

    def forward(self, crops: Tensor) -> Tensor:
        """From normalized RGB crops (B, 3, 150, 150) to features (B, 128)."""
        x = F.relu(self.stem(crops.contiguous(memory_format=torch.channels_last)))
        x = self.blocks(F.max_pool2d(x, 3, 2))
        features: Tensor = x.mean((2, 3)) @ self.head
        return features
