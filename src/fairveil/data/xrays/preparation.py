"""What is done to X-rays before a network sees them, and how they are varied (section 6.9.1)."""

from math import ceil
from typing import Literal

import torch
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import get_rotation_matrix2d, warp_affine
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.errors import FairveilError

GRAY = 128 / 255
"""What fills the places that an augmentation brings in from outside the X-ray."""

_PUBLISHED_SIZE = 256


class Preparation(BaseModel):
    """Blurs X-rays and brings them about to mean 0 and deviation 1: (255 · blurred x − mean) / deviation.

    Augmentations come before it. It is differentiable with respect to the pixels.

    The text's blur has σ = 3. The code it refers to (jfhealthcare/Chexpert) passes 3 to OpenCV as the *width* of the
    kernel, whose σ is 0.8: `Preparation(sigma=0.8)`. That code also equalizes histograms and keeps the aspect of
    images, which the text does not mention and this does not do.

    Attributes:
        sigma: of the Gaussian blur in pixels of a picture of 256×256; in others it is as large in proportion. 0 for
            none.
        mean: what becomes 0, on the scale of bytes.
        deviation: what becomes 1 from there, on that scale.
        channels: 3 repeats the gray values for networks that were trained on colors.

    >>> Preparation(channels=3)(torch.full((2, 1, 64, 64), 128 / 255)).abs().max() < 1e-5
    tensor(True)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sigma: float = Field(default=3, ge=0, le=64)
    mean: float = Field(default=128, ge=0, le=255)
    deviation: float = Field(default=64, gt=0)
    channels: Literal[1, 3] = 1

    def __call__(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1], float (B, 1, S, S), to values of about mean 0 and deviation 1, (B, channels, S, S).

        Raises:
            FairveilError: they are of another shape or type.
        """
        _check(images)
        size = images.shape[-1]
        sigma = self.sigma * size / _PUBLISHED_SIZE
        # beyond three deviations next to nothing is left of the bell, and no mirror image is wider than the picture
        reach = min(ceil(3 * sigma), size - 1)
        if reach:
            images = gaussian_blur2d(images, 2 * reach + 1, (sigma, sigma), border_type="reflect")
        return ((255 * images - self.mean) / self.deviation).expand(-1, self.channels, -1, -1)


def random_affine(
    images: Tensor,
    generator: torch.Generator,
    *,
    degrees: float = 15,
    shift: float = 0.05,
    scale: tuple[float, float] = (0.95, 1.05),
    fill: float = GRAY,
) -> Tensor:
    """Turn, enlarge and shift each X-ray at random about its middle, with linear interpolation (section 6.9.1).

    Of a pixel at p from the middle of the old picture the place in the new one is scale · R(angle) p + shift.
    Differentiable with respect to the pixels.

    Args:
        images: pixels in [0, 1], float (B, 1, S, S).
        generator: of all that is drawn, on any device: an angle, a scale, and two shifts for each picture, uniform.
        degrees: the largest angle, in both directions.
        shift: the largest shift in each of the four directions, over the side of the pictures.
        scale: the smallest and the largest scale.
        fill: the value outside the picture.

    Returns:
        Pictures of the same shape and type.

    Raises:
        FairveilError: the images are of another shape or type, or a range is out of order.

    >>> random_affine(torch.rand(4, 1, 64, 64), torch.Generator().manual_seed(0)).shape
    torch.Size([4, 1, 64, 64])
    """
    _check(images)
    if degrees < 0 or shift < 0 or not 0 < scale[0] <= scale[1]:
        raise FairveilError(
            f"X-rays cannot be turned by up to {degrees:g} degrees, shifted by up to {shift:g} and scaled by "
            f"{scale[0]:g} to {scale[1]:g}: give 0 or more, 0 or more, and two scales above 0, the smaller first."
        )
    count, size = len(images), images.shape[-1]
    drawn = torch.rand(4, count, generator=generator, device=generator.device).to(images)
    angle, right, down = 2 * drawn[0] - 1, 2 * drawn[1] - 1, 2 * drawn[2] - 1
    zoom = scale[0] + (scale[1] - scale[0]) * drawn[3]
    center = images.new_full((count, 2), (size - 1) / 2)
    matrix = get_rotation_matrix2d(center, degrees * angle, zoom[:, None].expand(-1, 2))  # (B, 2, 3)
    offset = torch.stack([right, down], dim=1)[:, :, None] * shift * size
    matrix = torch.cat([matrix[:, :, :2], matrix[:, :, 2:] + offset], dim=2)
    # Zeros outside are `fill` where that is taken for zero; kornia's own filling wants three channels.
    warped: Tensor = warp_affine(images - fill, matrix, (size, size), padding_mode="zeros", align_corners=True)
    return warped + fill


def _check(images: Tensor) -> None:
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != 1 or images.shape[2] != images.shape[3]:
        kind = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
        raise FairveilError(f"X-rays of {kind} cannot be prepared: give floats in [0, 1] of shape (B, 1, S, S).")
