"""Pictures of photos for the page: small enough for a browser, true enough to compare before and after."""

import io
from typing import Any

from PIL import Image
from torch import Tensor

from fairveil.faces.canvas import CONTEXT
from fairveil.images import Photo, as_image

WHOLE, CLOSE = 1600, 900
"""Longest side of the picture of a whole photo, and of a face from close by, in pixels."""


def picture_of(photo: Photo) -> bytes:
    """A whole photo as a JPEG."""
    return _jpeg(photo, ..., WHOLE)


def picture_of_face(photo: Photo, box: Tensor) -> bytes:
    """A face with what surrounds it, as a JPEG; `box` is x0, y0, x1, y1 in pixels of the photo."""
    x0, y0, x1, y1 = box.tolist()
    reach = CONTEXT * max(x1 - x0, y1 - y0) / 2
    left, top = max(0, round((x0 + x1) / 2 - reach)), max(0, round((y0 + y1) / 2 - reach))
    right, bottom = round((x0 + x1) / 2 + reach), round((y0 + y1) / 2 + reach)
    return _jpeg(photo, (..., slice(top, bottom), slice(left, right)), CLOSE)


def _jpeg(photo: Photo, part: Any, longest: int) -> bytes:
    """A part of a photo on white, without what its owner made invisible."""
    image = as_image(photo.pixels[part])
    if photo.alpha is not None:
        image.putalpha(Image.fromarray(photo.alpha[part][0].numpy()))
    image.thumbnail((longest, longest))
    if photo.alpha is not None:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    stream = io.BytesIO()
    profile = None if photo.gray else photo.metadata.icc_profile  # one for gray does not fit RGB
    image.save(stream, "JPEG", quality=95, subsampling=0, icc_profile=profile)
    return stream.getvalue()
