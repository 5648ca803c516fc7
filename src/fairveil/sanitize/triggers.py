"""Triggers: the patch a backdoor puts on a picture (dissertation, section 4.4.1)."""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.images import read_photo

Corner = Literal["upper-left", "upper-right", "lower-left", "lower-right", "centre"]
PATTERNS = ("white", "checker", "random", "bernoulli")


class Trigger(BaseModel):
    """A square patch, always at the same place.

    By default it lies 4 pixels away from the right and from the lower border, since the usual training crops (pad by 4
    pixels, cut out the original size) move a picture by up to 4 pixels: a patch any closer to the border is now and
    then cut off, and in a corner the backdoor is learned badly or not at all.

    Attributes:
        size: the side of the patch in pixels; the dissertation's is 4.
        place: a corner or "centre", or the point (x, y) of the patch's upper left pixel.
        margin: how many pixels a corner's patch keeps from the borders; no part in "centre" or at a point.
        pattern: "white"; "checker", one pixel white and the next black; "random", noise of `seed`; "bernoulli", noise
            of it that is 0 or 1 in each channel, as in the chapter's code; or the path of a picture, which is scaled to
            the patch.
        opacity: 1 covers what was there, 0.5 lets half of it through.
        seed: of the random patterns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(4, ge=1)
    place: Corner | tuple[int, int] = "lower-right"
    margin: int = Field(4, ge=0)
    pattern: Literal["white", "checker", "random", "bernoulli"] | Path = "checker"
    opacity: float = Field(1.0, gt=0, le=1)
    seed: int = 0

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """The point (x, y) of the patch's upper left pixel on a picture of that size.

        Raises:
            FairveilError: the patch, with its margin, does not fit on the picture.

        >>> Trigger(size=4).corner(32, 32)
        (24, 24)
        """
        if self.size > min(height, width):
            raise FairveilError(
                f"A trigger of {self.size}×{self.size} pixels does not fit on pictures of {width}×{height}: "
                f"choose a size of at most {min(height, width)}."
            )
        right, low = width - self.size, height - self.size
        if self.place == "centre":
            return right // 2, low // 2
        if isinstance(self.place, str):
            if self.margin > min(right, low):
                raise FairveilError(
                    f"A trigger of {self.size}×{self.size} pixels cannot keep {self.margin} pixels from the border of "
                    f"pictures of {width}×{height}: choose a margin of at most {min(right, low)}."
                )
            vertical, horizontal = self.place.split("-")
            return (
                self.margin if horizontal == "left" else right - self.margin,
                self.margin if vertical == "upper" else low - self.margin,
            )
        x, y = self.place
        if not (0 <= x <= right and 0 <= y <= low):
            raise FairveilError(
                f"A trigger of {self.size}×{self.size} pixels at ({x}, {y}) leaves pictures of {width}×{height}: "
                f"its upper left pixel must lie between (0, 0) and ({right}, {low})."
            )
        return x, y

    def patch(self, channels: int = 3) -> Tensor:
        """What the patch shows, float in [0, 1], (channels, size, size).

        Raises:
            FairveilError: the pattern is the path of no picture that can be read.
        """
        if isinstance(self.pattern, Path):
            return self._picture(self.pattern, channels)
        if self.pattern in ("random", "bernoulli"):
            generator = torch.Generator().manual_seed(self.seed)
            noise = torch.rand(channels, self.size, self.size, generator=generator)
            return noise if self.pattern == "random" else (noise < 0.5).float()
        if self.pattern == "checker":
            steps = torch.arange(self.size)
            board = (steps[:, None] + steps[None, :]) % 2 == 0
            return board.float().expand(channels, -1, -1)
        return torch.ones(channels, self.size, self.size)

    def stamp(self, images: Tensor) -> Tensor:
        """A copy of the images, (..., C, H, W), with the patch on each.

        Images of bytes give bytes, rounded to the nearest; floating-point images are taken to lie in [0, 1].

        Raises:
            FairveilError: the patch does not fit, or its picture cannot be read.

        >>> Trigger(size=1, place=(2, 0), pattern="white").stamp(torch.zeros(1, 1, 4, dtype=torch.uint8))
        tensor([[[  0,   0, 255,   0]]], dtype=torch.uint8)
        """
        x, y = self.corner(*images.shape[-2:])
        patch = self.patch(images.shape[-3]).to(images.device)
        stamped = images.clone()
        place = stamped[..., y : y + self.size, x : x + self.size]
        if images.dtype == torch.uint8:
            place.copy_(place.float().lerp(255 * patch, self.opacity).round())
        else:
            place.copy_(place.lerp(patch.to(images.dtype), self.opacity))
        return stamped

    def _picture(self, path: Path, channels: int) -> Tensor:
        if not path.exists():
            raise FairveilError(
                f"The trigger's pattern is {', '.join(PATTERNS[:-1])} or {PATTERNS[-1]}, or the path of a picture, "
                f"and there is no file {str(path)!r}.{did_you_mean(str(path), PATTERNS)}"
            )
        pixels = read_photo(path).pixels.float() / 255
        if channels == 1:
            pixels = pixels.mean(0, keepdim=True)
        resized = F.interpolate(pixels[None], (self.size, self.size), mode="bilinear", antialias=True)
        return resized[0].clamp(0, 1)
