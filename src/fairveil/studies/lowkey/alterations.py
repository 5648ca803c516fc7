"""What happens to photos between their owner and a recogniser: how they are saved, and what a defender does to them."""

from collections.abc import Callable, Mapping
from functools import partial

import torch.nn.functional as F
from kornia.filters import gaussian_blur2d, median_blur
from torch import Tensor

from fairveil.photos import resaved

Alteration = Callable[[Tensor], Tensor]
"""From a photo to another of the same size: uint8, (3, H, W)."""


def blurred(photo: Tensor, *, sigma: float) -> Tensor:
    """Gaussian smoothing over three σ to each side: section 3.8.6 gives the defender's σ, 2, and no window."""
    side = 2 * round(3 * sigma) + 1
    return _bytes(gaussian_blur2d(_floats(photo), (side, side), (sigma, sigma)))


def median_filtered(photo: Tensor, *, side: int) -> Tensor:
    """The median of each pixel's neighbourhood, channel by channel."""
    return _bytes(median_blur(_floats(photo), (side, side)))


def resized_and_back(photo: Tensor, *, factor: float) -> Tensor:
    """A photo shrunk and enlarged again, which takes its finest detail away."""
    height, width = photo.shape[1:]
    smaller = (max(1, round(height * factor)), max(1, round(width * factor)))
    small = F.interpolate(_floats(photo), smaller, mode="bilinear", antialias=True)
    return _bytes(F.interpolate(small, (height, width), mode="bicubic"))


def _floats(photo: Tensor) -> Tensor:
    return photo[None].float() / 255


def _bytes(photo: Tensor) -> Tensor:
    return (photo[0] * 255).round().clamp(0, 255).byte()


ALTERATIONS: Mapping[str, Alteration] = {
    "none": lambda photo: photo,
    "JPEG 95": partial(resaved, format="JPEG", quality=95),
    "JPEG 90": partial(resaved, format="JPEG", quality=90),
    "JPEG 75": partial(resaved, format="JPEG", quality=75),
    "JPEG 50": partial(resaved, format="JPEG", quality=50),
    "WebP 80": partial(resaved, format="WEBP", quality=80),
    "blur σ 2": partial(blurred, sigma=2.0),
    "median 5": partial(median_filtered, side=5),
    "half size and back": partial(resized_and_back, factor=0.5),
    "quarter size and back": partial(resized_and_back, factor=0.25),
}
"""Alterations by name."""
