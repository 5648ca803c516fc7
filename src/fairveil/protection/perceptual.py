"""How different two pictures look: LPIPS, which the attack pays for, and ΔE, SSIM and PSNR, which reports add."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import kornia.color
import kornia.metrics
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fairveil import assets

Backbone = Literal["alexnet", "vgg16"]

# Numbers are the output channels of a convolution and the ReLU behind it, "pool" halves the picture, "tap" marks
# the activations that are compared.
_ALEXNET = (64, "tap", "pool", 192, "tap", "pool", 384, "tap", 256, "tap", 256, "tap")
_VGG16 = (64, 64, "tap", "pool", 128, 128, "tap", "pool", 256, 256, 256, "tap", "pool",
          512, 512, 512, "tap", "pool", 512, 512, 512, "tap")  # fmt: skip


class LPIPS(nn.Module):
    """Learned Perceptual Image Patch Similarity, version 0.1 (Zhang et al. 2018): 0 for equal pictures.

    Unit-normalised activations of an ImageNet network are compared at five depths; squared differences are weighted
    per channel by weights learned from human judgments, averaged over the picture and summed over the depths.

    Args:
        backbone: "alexnet", which the dissertation's attack pays for, or "vgg16".
        parameters: kernels and biases by name, as NumPy arrays with kernels laid out HWIO.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone, parameters: Mapping[str, NDArray[np.float32]]) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        self.plan = _ALEXNET if backbone == "alexnet" else _VGG16
        self.pool = 3 if backbone == "alexnet" else 2
        convolutions: list[nn.Conv2d] = []
        heads: list[Tensor] = []
        while (name := f"conv{len(convolutions)}.kernel") in parameters:
            kernel, bias = parameters[name], parameters[f"conv{len(convolutions)}.bias"]
            weight = torch.from_numpy(kernel).permute(3, 2, 0, 1)
            convolution = _BlockConvolution(weight) if len(weight[0, 0]) == 11 else _convolution(weight)
            convolution.bias.data = torch.from_numpy(bias)  # type: ignore[union-attr]
            convolutions.append(convolution)
        for depth in range(5):
            heads.append(torch.from_numpy(parameters[f"head{depth}.kernel"]).permute(3, 2, 0, 1).contiguous())
        self.convolutions = nn.ModuleList(convolutions)
        self.heads = nn.ParameterList(heads)
        self.eval().requires_grad_(False)

    @classmethod
    @lru_cache(maxsize=8)
    def pretrained(cls, backbone: Backbone = "alexnet", device: torch.device | str = "cpu") -> "LPIPS":
        """The published weights on a device, fetched on first use; shared by all who ask for the same."""
        checkpoint = assets.read_numpy_pickle(assets.path(f"lpips-{backbone}"))
        layers = checkpoint["AlexNet_0" if backbone == "alexnet" else "VGG16_0"]
        parameters = {
            f"conv{i}.{part}": array for i in range(len(layers)) for part, array in layers[f"Conv_{i}"].items()
        }
        for depth in range(5):
            parameters[f"head{depth}.kernel"] = checkpoint[f"NetLinLayer_{depth}"]["Conv_0"]["kernel"]
        return cls(backbone, parameters).to(device)

    def features(self, images: Tensor) -> list[Tensor]:
        """The activations that are compared, of unit length across channels, for RGB images (B, 3, H, W) in [0, 1]."""
        x = (images * 2 - 1 - self.shift) / self.scale
        taps = []
        convolutions = iter(self.convolutions)
        for step in self.plan:
            if step == "tap":
                length = (x.square().sum(1, keepdim=True) + 1e-20).sqrt()  # a root of 0 would have no gradient
                taps.append(x / (length + 1e-10))
            elif step == "pool":
                x = F.max_pool2d(x, self.pool, 2)
            else:
                x = F.relu(next(convolutions)(x))
        return taps

    def distance(self, features: list[Tensor], others: list[Tensor]) -> Tensor:
        """LPIPS from the `features` of two batches of pictures: shape (B,)."""
        layers = [
            F.conv2d((a - b).square(), head).mean((1, 2, 3))
            for a, b, head in zip(features, others, self.heads, strict=True)
        ]
        return torch.stack(layers).sum(0)

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """LPIPS between two batches of RGB images (B, 3, H, W) in [0, 1]: shape (B,)."""
        return self.distance(self.features(images), self.features(others))


def _convolution(weight: Tensor) -> nn.Conv2d:
    """A convolution of a kernel (O, I, K, K) that keeps the size of a picture; its bias is still to be set."""
    outputs, inputs, size = weight.shape[:3]
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    convolution.weight.data = weight.contiguous(memory_format=torch.channels_last)
    return convolution


class _BlockConvolution(nn.Conv2d):
    """AlexNet's first convolution, 11 by 11 with stride 4 and padding 2, as one of 3 by 3 over blocks of 4 by 4 pixels.

    It gives the same as `torch.nn.functional.conv2d(pictures, weight, bias, stride=4, padding=2)`, whose gradient
    with respect to the pictures is slower on processors.

    Args:
        weight: the kernel, (64, 3, 11, 11); the bias is still to be set.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__(48, len(weight), 3)
        blocks = F.pad(weight, (0, 1, 0, 1)).view(-1, 3, 3, 4, 3, 4)  # outputs, color, row, y, column, x
        blocks = blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)  # channels in the order of `pixel_unshuffle`
        self.weight.data = blocks.contiguous(memory_format=torch.channels_last)

    def forward(self, pictures: Tensor) -> Tensor:
        below, right = (4 * ((side - 7) // 4 + 3) - side - 2 for side in pictures.shape[2:])
        return super().forward(F.pixel_unshuffle(F.pad(pictures, (2, right, 2, below)), 4))


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images (B, 3, H, W) in [0, 1]: shape (B,), infinite for equal images.

    >>> psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1)).item()
    20.0
    """
    return -10 * (images - others).square().mean((1, 2, 3)).log10()


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Mean structural similarity (Wang et al. 2004; Gaussian window of 11 pixels, σ 1.5) of images (B, 3, H, W): (B,).

    As published, only windows that lie wholly within the picture count, so it has to be 11 pixels or more each way.

    >>> round(ssim(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)).item(), 4)
    1.0
    """
    return kornia.metrics.ssim(images, others, window_size=11, padding="valid").mean((1, 2, 3))


def delta_e(images: Tensor, others: Tensor) -> Tensor:
    """Mean color difference ΔE*ab (CIE 1976) of sRGB images (B, 3, H, W) in [0, 1]: shape (B,).

    It is the mean over pixels of the Euclidean distance in CIE L*a*b* (white D65). 1 is about what an eye can just
    tell between two plain patches side by side.

    >>> round(delta_e(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)).item(), 2)
    100.0
    """
    distance: Tensor = torch.linalg.vector_norm(_lab_difference(images, others), dim=1)
    return distance.mean((1, 2))


def delta_chroma(images: Tensor, others: Tensor) -> Tensor:
    """The part of `delta_e` that is color and not lightness: the mean distance in a* and b* alone; shape (B,).

    >>> round(delta_chroma(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)).item(), 1)
    0.0
    """
    distance: Tensor = torch.linalg.vector_norm(_lab_difference(images, others)[:, 1:], dim=1)
    return distance.mean((1, 2))


def _lab_difference(images: Tensor, others: Tensor) -> Tensor:
    difference: Tensor = kornia.color.rgb_to_lab(others) - kornia.color.rgb_to_lab(images)
    return difference
