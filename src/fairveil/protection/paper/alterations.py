"""What happens to photos between their owner and a recognizer: how they are saved, and what a defender does to them."""

from collections.abc import Callable, Mapping
from functools import partial

import torch.nn.functional as F
from kornia.filters import gaussian_blur2d, median_blur
from kornia.geometry.transform import rotate
from torch import Tensor

from fairveil.images import resaved

Alteration = Callable[[Tensor], Tensor]
"""From a photo to another, uint8, (3, H, W)."""


def blurred(photo: Tensor, *, sigma: float) -> Tensor:
    """Gaussian smoothing over three σ to each side: section 3.8.6 gives the defender's σ, 2, and no window."""
    side = 2 * round(3 * sigma) + 1
    return _bytes(gaussian_blur2d(_floats(photo), (side, side), (sigma, sigma)))


def median_filtered(photo: Tensor, *, side: int) -> Tensor:
    """The median of each pixel's neighborhood, channel by channel."""
    return _bytes(median_blur(_floats(photo), (side, side)))


def resized_and_back(photo: Tensor, *, factor: float) -> Tensor:
    """A photo shrunk and enlarged again, which takes its finest detail away."""
    height, width = photo.shape[1:]
    smaller = (max(1, round(height * factor)), max(1, round(width * factor)))
    small = F.interpolate(_floats(photo), smaller, mode="bilinear", antialias=True)
    return _bytes(F.interpolate(small, (height, width), mode="bicubic"))


def resized(photo: Tensor, *, factor: float) -> Tensor:
    """A photo enlarged or shrunk, without aliasing."""
    size = [max(1, round(side * factor)) for side in photo.shape[1:]]
    return _bytes(F.interpolate(_floats(photo), size, mode="bicubic", antialias=True))


def sized(photo: Tensor, *, longer: int) -> Tensor:
    """A photo enlarged or shrunk until its longer side has so many pixels."""
    return resized(photo, factor=longer / max(photo.shape[1:]))


def rotated(photo: Tensor, *, degrees: float) -> Tensor:
    """A photo turned about its center, counter-clockwise, without a change of size; edges are repeated outside."""
    angle = _floats(photo).new_tensor([degrees])
    return _bytes(rotate(_floats(photo), angle, padding_mode="border"))


def brightened(photo: Tensor, *, factor: float) -> Tensor:
    """A photo whose values are multiplied, and cut off at white."""
    return _bytes(_floats(photo) * factor)


def cropped(photo: Tensor, *, left: float = 0.0, top: float = 0.0, right: float = 0.0, bottom: float = 0.0) -> Tensor:
    """A photo without these shares of it at its four sides."""
    height, width = photo.shape[1:]
    rows = slice(round(top * height), height - round(bottom * height))
    return photo[:, rows, round(left * width) : width - round(right * width)]


def screenshot(photo: Tensor, *, factor: float, quality: int | None) -> Tensor:
    """A photo as a screen shows it at some size, saved as a JPEG, or losslessly as a PNG where no quality is given."""
    shown = resized(photo, factor=factor)
    return shown if quality is None else resaved(shown, format="JPEG", quality=quality)


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
"""Alterations by name that keep a photo's size and the places of its faces."""

HANDLING: Mapping[str, Alteration] = {
    "JPEG 70": partial(resaved, format="JPEG", quality=70),
    "1,080 px": partial(sized, longer=1080),
    "rotated by 3°": partial(rotated, degrees=3.0),
    "rotated by -3°": partial(rotated, degrees=-3.0),
    "25 % brighter": partial(brightened, factor=1.25),
    "25 % darker": partial(brightened, factor=0.75),
    "cropped at the left and top": partial(cropped, left=0.15, top=0.15),
    "cropped at the right and bottom": partial(cropped, right=0.15, bottom=0.15),
    "screenshot, PNG": partial(screenshot, factor=1.37, quality=None),
    "screenshot, JPEG": partial(screenshot, factor=0.83, quality=80),
}
"""What people and apps do to photos every day, by name. Some of it moves faces, so they have to be found anew."""
