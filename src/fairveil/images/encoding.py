"""From pixels to a file's bytes, as near as can be to the file the photo came in."""

from dataclasses import replace
from io import BytesIO
from typing import Any
from zlib import Z_RLE

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.images.colors import space_of_png, tells_cicp
from fairveil.images.decoding import Photo, to_srgb
from fairveil.images.exif import Entry, Exif, add_to_tiff, exif_block
from fairveil.images.formats import LONGEST_SIDE, Format, format_named
from fairveil.images.metadata import ORIENTATION, Metadata, upright

LOWEST_QUALITY = 60
"""Below this, blocks and smeared colors are plain to see, and the protection is partly gone with them."""

_LOSSLESS_TIFF = {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "zstd", "lzma"}
LONGEST_SEGMENT = 65000
"""Bytes a JPEG can hold of Exif, XMP and the like in one piece, less what goes in front of them."""
_XMP_TAG, _IPTC_TAG, _PREDICTOR = 700, 33723, 317


class Saving(BaseModel):
    """How photos are written.

    Attributes:
        format: "JPEG", "PNG", "WEBP", "TIFF", "HEIF" or "AVIF"; None for the format the photo came in.
        quality: of formats that lose something, 1 to 100.
        max_size: bytes a file may have at the most; the quality is lowered to keep to it.
        keep_metadata: keep location, serial numbers and the like; thumbnails are left out all the same.
        overwrite: replace files that already exist (never the photo itself).
    """

    model_config = ConfigDict(frozen=True)

    format: str | None = None
    quality: int = Field(default=95, ge=1, le=100)
    max_size: int | None = Field(default=None, gt=0)
    keep_metadata: bool = False
    overwrite: bool = False


def format_for(photo: Photo, saving: Saving) -> Format:
    """The format a photo is written in."""
    return format_named(saving.format) if saving.format else photo.format


def check_encodable(photo: Photo, format: Format, name: str) -> None:
    """Find out before the work whether a format can hold a photo.

    Raises:
        FairveilError: it has transparent parts or more pixels than the format allows, or a library is absent.
    """
    if format == "JPEG" and photo.alpha is not None and int(photo.alpha.min()) < 255:
        raise FairveilError(f"{name} would lose its transparent parts, which JPEG cannot hold: choose PNG or WebP.")
    longest = max(photo.pixels.shape[-2:])
    if longest > (limit := LONGEST_SIDE.get(format, longest)):
        raise FairveilError(f"{name} is {longest} pixels long, but {format} holds at most {limit}: choose PNG or TIFF.")
    if format == "HEIF":
        try:
            import pillow_heif  # noqa: F401 - an optional library
        except ImportError as error:
            raise FairveilError(f"{name} needs a library to be written as HEIC: pip install pillow-heif") from error


def encode_photo(photo: Photo, saving: Saving, name: str) -> tuple[bytes, tuple[str, ...]]:
    """Encode a photo.

    Args:
        photo: what to write.
        saving: how; `overwrite` does not matter here.
        name: what to call the file in sentences.

    Returns:
        The file's bytes, and what there is to say of them, in sentences.

    Raises:
        FairveilError: it cannot be written so, or not within `saving.max_size`.
    """
    format = format_for(photo, saving)
    check_encodable(photo, format, name)
    metadata = photo.metadata if saving.keep_metadata else photo.metadata.harmless()
    image, profile = _image(photo, format)
    metadata = replace(metadata, icc_profile=profile)
    lossless = format in ("PNG", "TIFF") or (format == photo.format == "WEBP" and photo.compression == "lossless")
    compression = photo.compression if format == photo.format else None

    def at(quality: int) -> bytes:
        return _encode(image, format, metadata, compression, quality)

    data = at(saving.quality)
    if saving.max_size is None or len(data) <= saving.max_size:
        return data, ()
    if lossless:
        raise FairveilError(
            f"{name} takes {_size(len(data))}, more than {_size(saving.max_size)}: "
            "choose JPEG, which can be made smaller."
        )
    low = min(LOWEST_QUALITY, saving.quality)
    best = at(low)
    if len(best) > saving.max_size:
        raise FairveilError(
            f"{name} takes {_size(len(best))} even at quality {low}, more than {_size(saving.max_size)}: "
            "allow more, or make the photo smaller."
        )
    high = saving.quality
    while high - low > 1:
        middle = (low + high) // 2
        if len(data := at(middle)) <= saving.max_size:
            low, best = middle, data
        else:
            high = middle
    return best, (f"{name} was saved at quality {low} to stay within {_size(saving.max_size)}.",)


def _image(photo: Photo, format: Format) -> tuple[Image.Image, bytes | None]:
    """The picture for Pillow, and the color profile that fits it."""
    profile = _profile(photo, format)
    channels = [Image.fromarray(channel) for channel in _arrays(photo.pixels)]
    image = Image.merge("RGB", channels)
    if photo.gray:
        image = image.convert("L")
        if format in ("WEBP", "AVIF", "HEIF"):  # which have no gray: a profile for gray would be wrong
            gray_profile = profile is not None and profile[16:20] == b"GRAY"
            image = to_srgb(image, profile)[0] if gray_profile else image.convert("RGB")
            profile = None if gray_profile else profile
    if photo.alpha is not None and format != "JPEG":
        image.putalpha(Image.fromarray(next(iter(_arrays(photo.alpha)))))
    return image, profile


def _profile(photo: Photo, format: Format) -> bytes | None:
    """What the numbers mean: the profile the photo came with, or what the words of a PNG amount to elsewhere."""
    metadata = photo.metadata
    if format == "PNG" or (metadata.icc_profile and not tells_cicp(metadata.color_chunks)):
        return metadata.icc_profile
    space = space_of_png(metadata.color_chunks, "The photo")
    return space.profile(gray=photo.gray) if space is not None and not space.is_srgb else None


def as_image(pixels: Tensor) -> Image.Image:
    """Pixels of a photo, RGB, uint8, (3, H, W), as Pillow has them."""
    return Image.fromarray(_arrays(pixels.movedim(0, -1)))


def resaved(pixels: Tensor, *, format: str, quality: int) -> Tensor:
    """What is left of pixels, RGB, uint8, (3, H, W), once Pillow has saved them in a lossy format and read them."""
    stream = BytesIO()
    as_image(pixels).save(stream, format, quality=quality)
    return torch.from_numpy(np.array(Image.open(stream).convert("RGB"))).movedim(-1, 0)


def _arrays(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().numpy()


def _encode(image: Image.Image, format: Format, metadata: Metadata, compression: str | None, quality: int) -> bytes:
    exif = metadata.exif and upright(metadata.exif, *image.size)
    if format == "TIFF":
        return _tiff(image, metadata, exif, compression)
    if exif and format == "AVIF":  # which turns by other means; Pillow would rewrite the block to take the tag out
        exif = replace(exif, image={tag: entry for tag, entry in exif.image.items() if tag != ORIENTATION})
    file = BytesIO()
    options = _common_options(metadata, exif, format)
    if format == "JPEG":
        image.save(file, "JPEG", quality=quality, subsampling=0, **options)
    elif format == "PNG":
        # Run lengths of filtered rows: for photos as small as zlib's level 6, in a fifth of the time.
        image.save(file, "PNG", compress_level=1, compress_type=Z_RLE, pnginfo=_png_texts(metadata), **options)
        return _with_color_chunks(file.getvalue(), metadata)
    elif format == "WEBP" and compression == "lossless":
        image.save(file, "WEBP", lossless=True, exact=True, quality=50, method=2, **options)
    elif format == "WEBP":
        image.save(file, "WEBP", quality=quality, alpha_quality=100, exact=True, method=4, **options)
    elif format == "AVIF":
        image.save(file, "AVIF", quality=quality, subsampling="4:4:4", speed=8, **options)
    else:
        from pillow_heif import from_pillow

        from_pillow(image).save(file, quality=quality, chroma=444, **options)
    return file.getvalue()


def _common_options(metadata: Metadata, exif: Exif | None, format: Format) -> dict[str, Any]:
    longest = LONGEST_SEGMENT if format == "JPEG" else 1 << 31
    block = exif_block(exif) if exif else b""
    comment = dict(metadata.texts).get("comment", "").encode()
    options: dict[str, Any] = {
        "icc_profile": metadata.icc_profile,
        "dpi": metadata.dpi if format in ("JPEG", "PNG") else None,
        "exif": (b"" if format in ("PNG", "WEBP") else b"Exif\0\0") + block if block else None,
        "xmp": metadata.xmp if format != "PNG" else None,
        "comment": comment if format == "JPEG" else None,
        "extra": photoshop_segment(metadata.iptc) if metadata.iptc and format == "JPEG" else None,
    }
    return {key: value for key, value in options.items() if value and (key == "icc_profile" or len(value) <= longest)}


def _tiff(image: Image.Image, metadata: Metadata, exif: Exif | None, compression: str | None) -> bytes:
    file = BytesIO()
    options: dict[str, Any] = {"icc_profile": metadata.icc_profile} if metadata.icc_profile else {}
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    kept = compression if compression in _LOSSLESS_TIFF else "tiff_lzw"
    if kept in ("tiff_lzw", "tiff_adobe_deflate", "zstd"):
        options["tiffinfo"] = {_PREDICTOR: 2}
    image.save(file, "TIFF", compression=kept, **options)
    exif = (exif or Exif("<", {}, {}, {}, {})).with_order("<")
    texts = {_XMP_TAG: metadata.xmp, _IPTC_TAG: metadata.iptc}
    added = {tag: Entry(7, len(data), data) for tag, data in texts.items() if data}
    return add_to_tiff(file.getvalue(), replace(exif, image={**exif.image, **added}))


def _png_texts(metadata: Metadata) -> PngInfo:
    texts = PngInfo()
    for keyword, text in metadata.texts:
        texts.add_itxt(keyword, text)
    if metadata.xmp:
        texts.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode())
    return texts


def _with_color_chunks(png: bytes, metadata: Metadata) -> bytes:
    header = 33  # signature and IHDR; what colors mean comes right after
    # An embedded profile says it better than anything but code points, which go before it.
    silent = metadata.icc_profile and not tells_cicp(metadata.color_chunks)
    return png if silent else png[:header] + metadata.color_chunks + png[header:]


def photoshop_segment(iptc: bytes) -> bytes:
    """The segment of a JPEG that holds an IPTC record, as Photoshop laid it down."""
    resource = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + bytes(len(iptc) % 2)
    body = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + (2 + len(body)).to_bytes(2, "big") + body


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
