"""From a file's bytes to pixels as a person sees them, and what else the file says that is worth keeping."""

import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms
from torch import Tensor

from fairveil.base.errors import FairveilError, UnreadableFileError
from fairveil.images.bombs import refuse_bombs
from fairveil.images.colors import ADOBE_RGB, ColorSpace, code_points_of_avif, space_of_code_points, space_of_png
from fairveil.images.exif import Exif, parse_exif
from fairveil.images.formats import SPOKEN, Format, format_of_content, other_kind
from fairveil.images.metadata import (
    Metadata,
    iptc_without_pictures,
    orientation,
    sound_dpi,
    texts_without_pictures,
    without_pictures,
    xmp_without_pictures,
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What each Exif orientation asks a viewer to do. Pillow counts angles against the clock."""

_PLAIN_MODES = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}
_COLOR_CHUNKS = {b"cHRM", b"gAMA", b"sRGB", b"cICP"}
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _IPTC, _DNG_VERSION = 254, 258, 262, 33723, 50706
_PHOTOSHOP_IPTC = 0x0404
_DEPTHS = (8, 10, 12, 14, 16)  # bits that devices give, X-ray machines often 12
_SURELY_LESS = 12  # bits: a photo whose brightest pixel is a sixteenth of white would be a black one
_INTEROPERABILITY_INDEX = 1
_SILENCE, _RAISED = Lock(), Lock()

GrayBits = int | Literal["sure"] | None
"""How 16-bit gray values are read, see `decode_photo`."""

BYTES_PER_PIXEL = 60
"""Of memory that protecting a photo takes for each of its pixels at the most, where one face fills it. With a face
that is a tenth of 200 million pixels wide it takes 18."""

# Without any handler, Python prints Pillow's remarks on damaged files to standard error; an application's own stays.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as a person sees it, with what is needed to write it back as it came.

    Attributes:
        pixels: (3, H, W) uint8 RGB, upright. A gray photo has three equal channels.
        alpha: (1, H, W) uint8 opacity, or None.
        format: "JPEG", "PNG", "WEBP", "TIFF", "HEIF" or "AVIF", by content.
        gray: whether the file held gray values only; it is then written so, by luminance.
        compression: "lossless" for such a WebP, Pillow's name of a TIFF's compression; else None.
        metadata: all that the file says, without thumbnails.
        notes: what was changed or left behind in reading, in sentences.
        gray_bits: of 16-bit gray values, how many were taken to hold the picture; None for other photos.
        source: the file it came from, if from a file; never written onto.
    """

    pixels: Tensor
    alpha: Tensor | None
    format: Format
    gray: bool = False
    compression: str | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    gray_bits: int | None = None
    source: Path | None = None

    def __post_init__(self) -> None:
        """Refuse tensors of another shape or type before they are written as something else."""
        for tensor, channels in ((self.pixels, 3), (self.alpha, 1)):
            if tensor is not None and (tensor.dtype != torch.uint8 or tensor.shape[:-2] != (channels,)):
                raise ValueError(f"expected ({channels}, H, W) uint8, not {tuple(tensor.shape)} {tensor.dtype}")
        if self.alpha is not None and self.alpha.shape[-2:] != self.pixels.shape[-2:]:
            raise ValueError("pixels and alpha differ in size")


def decode_photo(data: bytes, name: str, *, max_pixels: int, gray_bits: GrayBits = "sure") -> Photo:
    """Decode a photo.

    Args:
        data: the whole file.
        name: what to call it in sentences.
        max_pixels: how many pixels it may have; checked before any is decoded.
        gray_bits: how many bits of 16-bit gray values hold the picture, the others being 0; None for the fewest of 8,
            10, 12, 14 and 16 that hold its brightest pixel; "sure" for likewise 8, 10 or 12, and else 16.

    Raises:
        FairveilError: it is empty, damaged, too large, animated, or of a kind that would lose something unseen.
    """
    if not data:
        raise FairveilError(f"{name} is empty.")
    format = format_of_content(data)
    if format is None:
        what = other_kind(data)
        raise FairveilError(f"{name} is {what or 'not a photo'}: fairveil reads {SPOKEN}.")
    try:
        # Pillow warns of odd metadata and of sizes that are judged here; the person could do nothing about them.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _pillow_allows(max_pixels):
                return _decode(data, format, name, max_pixels, gray_bits)
    except FairveilError:
        raise
    except Image.DecompressionBombError as error:
        limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise FairveilError(_too_large(name, None, limit)) from error
    except MemoryError as error:
        raise FairveilError(f"{name} needs more memory than there is: make it smaller first.") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise UnreadableFileError(f"{name} begins like a {format} but is damaged or cut short: get it anew.") from error


def _decode(data: bytes, format: Format, name: str, max_pixels: int, gray_bits: GrayBits) -> Photo:
    if format == "WEBP" and (pixels := _pixels_of_webp(data)) > max_pixels:
        raise FairveilError(_too_large(name, pixels, max_pixels))  # its decoder takes memory for the canvas at once
    refuse_bombs(data, format, name)
    with _open(data, format, name) as image:
        if (pixels := image.width * image.height) > max_pixels:
            raise FairveilError(_too_large(name, pixels, max_pixels))
        notes = _one_picture(image, format, name)
        space = _color_space(image, data, format, name)
        bits = _bits(image, data, format, name)
        # Pillow turns a TIFF itself while it decodes.
        exif = parse_exif(data if format == "TIFF" else _bytes(image.info.get("exif")))
        turn = _TURNS.get(orientation(exif)) if format != "TIFF" else None
        info = dict(image.info)
        # Pillow would turn a TIFF, and no other kind, by what XMP says, which viewers do not.
        image.info.pop("xmp", None)
        with _library_silenced() if format == "TIFF" else nullcontext():
            image.load()
        info = image.info | info
        metadata = _metadata(data, info, format, swap_dpi=orientation(exif) >= 5)
        if space is None and format == "JPEG" and _is_adobe_rgb(exif) and image.mode == "RGB":
            space = ADOBE_RGB
        if space is not None and not space.is_srgb and not metadata.icc_profile:
            metadata = replace(metadata, icc_profile=space.profile())
        plain: Image.Image = image
        used: int | None = None
        if bits > 8:
            notes += (f"{name} had {bits} bits a channel; the protected photo has 8.",)
            if image.mode.startswith("I;16"):
                values = np.asarray(image)
                used = gray_bits if isinstance(gray_bits, int) else _depth(values, surely=gray_bits == "sure")
                plain = Image.fromarray(np.minimum(values >> (used - 8), 255).astype(np.uint8))
                if gray_bits == "sure" and used < 16:
                    notes += (f"{name} holds {used}-bit values in 16 bits: it was read as 0 to {(1 << used) - 1:,}.",)
            elif format == "PNG" and data[25] == 4:  # Pillow knows no 16-bit gray with alpha and makes it color
                plain = image.convert("LA")
            if bits == 16 and used is None and format in ("PNG", "TIFF"):
                _refuse_few_bits(plain, name)
        if image.mode == "CMYK":
            plain, with_profile = to_srgb(image, metadata.icc_profile)
            how = "through its color profile" if with_profile else "without a color profile, so colors may differ"
            notes += (f"{name} is a CMYK picture; it was converted to RGB {how}.",)
            metadata = replace(metadata, icc_profile=None)
        plain = _plain(plain, name)
    bands = plain.getbands()
    colors = [_turned(plain, band, turn) for band in range(3 if bands[0] == "R" else 1)]
    return Photo(
        pixels=_stack(colors * (3 // len(colors))),
        alpha=_stack([_turned(plain, len(bands) - 1, turn)]) if bands[-1] == "A" else None,
        format=format,
        gray=bands[0] == "L",
        compression=_compression(data, info, format),
        metadata=metadata,
        notes=notes,
        gray_bits=used,
    )


def _depth(values: NDArray[np.uint16], *, surely: bool) -> int:
    """The fewest of `_DEPTHS` bits that hold all values; all 16 where that is not sure, as a photo may be dark."""
    fewest = next(depth for depth in _DEPTHS if int(values.max()) < 1 << depth)
    return 16 if surely and fewest > _SURELY_LESS else fewest


def _refuse_few_bits(image: Image.Image, name: str) -> None:
    """Refuse 16-bit values that the upper 8 bits, which are all that is read of colors, do not hold."""
    highest = max(
        cast(tuple[int, int], image.getchannel(band).getextrema())[1] for band in image.getbands() if band != "A"
    )
    if 0 < highest < 1 << (_SURELY_LESS - 8):
        raise FairveilError(
            f"{name} has 16 bits a channel and no value above {(highest << 8) + 255:,}, as 12-bit values in a 16-bit "
            "file have, and would come out nearly black: stretch its values, or save it with 8 bits a channel."
        )


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """Convert a picture to sRGB.

    Returns:
        The picture, and whether its profile could be used.
    """
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
            )
            if converted is not None:
                return converted, True
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a damaged profile, or one for other colors
    return image.convert("RGB"), False


def _open(data: bytes, format: Format, name: str) -> Image.Image:
    if format != "HEIF":
        return Image.open(BytesIO(data), formats=[format])
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise FairveilError(f"{name} is a HEIC photo, which needs a library: pip install pillow-heif") from error
    return cast(Image.Image, HeifImageFile(BytesIO(data)))  # type: ignore[no-untyped-call]


@contextmanager
def _library_silenced() -> Iterator[None]:
    """Keep libtiff from writing to standard error, which it does by itself and once for every damaged spot.

    For the moment this takes, nobody else in the process is heard there either.
    """
    with _SILENCE:
        try:
            heard = os.dup(2)
        except OSError:  # there is no standard error
            heard = None
        if heard is None:
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(heard, 2)
            os.close(heard)
            os.close(nowhere)


def _one_picture(image: Image.Image, format: Format, name: str) -> tuple[str, ...]:
    """Refuse files that are several pictures on purpose; drop, and say so, what cameras add to one picture."""
    if format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        if _DNG_VERSION in tags or int(tags.get(_SUBFILE_TYPE, 0)) & 1:
            raise FairveilError(f"{name} is a camera's raw file: develop it into a JPEG, PNG or TIFF first.")
        if _has_second_page(image):
            raise FairveilError(f"{name} has several pages: save the one to protect as a file of its own.")
    elif format in ("PNG", "WEBP", "AVIF"):
        if getattr(image, "is_animated", False):
            raise FairveilError(f"{name} is animated, which fairveil does not protect: save one picture of it.")
    else:
        others = getattr(image, "n_frames", 1) > 1 or image.info.get("aux") or any(image.info.get("depth_images", ()))
        if others:
            return (f"{name} also held further pictures, such as a depth or brightness map; they were left out.",)
    return ()


def _color_space(image: Image.Image, data: bytes, format: Format, name: str) -> ColorSpace | None:
    """What code points say of the colors of an AVIF or HEIC; a PNG's words are kept as they are.

    Raises:
        FairveilError: the brightness range is that of HDR, or nobody knows what the code points stand for.
    """
    if format == "PNG":
        space_of_png(_color_chunks(data), name)
        return None
    if format == "AVIF":
        points = code_points_of_avif(data)
    else:
        told = image.info.get("nclx_profile") or {}
        points = (told.get("color_primaries", 2), told.get("transfer_characteristics", 2)) if told else None
    return space_of_code_points(*points, name) if points else None


def _is_adobe_rgb(exif: Exif | None) -> bool:
    """Whether a camera says so where no profile does."""
    entry = exif and exif.interoperability.get(_INTEROPERABILITY_INDEX)
    return bool(entry and entry.data.startswith(b"R03"))


def _has_second_page(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _bits(image: Image.Image, data: bytes, format: Format, name: str) -> int:
    """Bits of each value, refusing those whose meaning is not certain."""
    if format == "PNG":
        return data[24]
    if format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits = max(tags.get(_BITS, (1,)))
        certain = bits <= 8 or (bits == 16 and not (image.mode == "I;16" and tags.get(_PHOTOMETRIC) != 1))
        if not certain or image.mode in ("I", "F"):
            raise FairveilError(
                f"{name} has {bits}-bit values that are no photo's: save it with 8 or 16 bits a channel."
            )
        return int(bits)
    return int(image.info.get("bit_depth", 8))


def _plain(image: Image.Image, name: str) -> Image.Image:
    """The picture in one of the modes L, LA, RGB, RGBA."""
    if image.mode == "P":
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    mode = _PLAIN_MODES.get(image.mode, image.mode)
    if mode in ("L", "RGB") and "transparency" in image.info:  # one color that stands for nothing
        mode += "A"
    if mode not in ("L", "LA", "RGB", "RGBA"):
        raise FairveilError(f"{name} has colors of the kind {image.mode}: save it as an RGB picture.")
    return image if mode == image.mode else image.convert(mode)


def _turned(image: Image.Image, band: int, turn: Image.Transpose | None) -> Image.Image:
    channel = image.getchannel(band)
    return channel if turn is None else channel.transpose(turn)


def _stack(channels: list[Image.Image]) -> Tensor:
    stacked = torch.empty((len(channels), channels[0].height, channels[0].width), dtype=torch.uint8)
    for row, channel in zip(stacked.numpy(), channels, strict=True):
        row[:] = np.asarray(channel)
    return stacked


def _metadata(data: bytes, info: Mapping[Any, Any], format: Format, *, swap_dpi: bool) -> Metadata:
    exif = parse_exif(data if format == "TIFF" else _bytes(info.get("exif")))
    dpi = sound_dpi(info.get("dpi"))
    photoshop = info.get("photoshop")
    iptc = photoshop.get(_PHOTOSHOP_IPTC) if format == "JPEG" and isinstance(photoshop, dict) else None
    if format == "TIFF" and exif and (entry := exif.image.get(_IPTC)):
        iptc = entry.data
    texts = {key: text for key, text in info.items() if isinstance(text, str)} if format == "PNG" else {}
    if isinstance(comment := info.get("comment"), bytes):
        texts["comment"] = comment.decode("utf-8", "replace")
    return Metadata(
        exif=exif and without_pictures(exif),
        icc_profile=_bytes(info.get("icc_profile")) or None,
        dpi=dpi and (dpi[::-1] if swap_dpi else dpi),
        color_chunks=_color_chunks(data) if format == "PNG" else b"",
        xmp=xmp_without_pictures(_bytes(info["xmp"])) if info.get("xmp") else None,
        iptc=iptc_without_pictures(iptc) if isinstance(iptc, bytes) else None,
        texts=texts_without_pictures(texts),
    )


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _color_chunks(data: bytes) -> bytes:
    position, kept = 8, dict[bytes, bytes]()
    while position + 12 <= len(data) and (kind := data[position + 4 : position + 8]) != b"IDAT":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if kind in _COLOR_CHUNKS and end - position <= 64:
            kept.setdefault(kind, data[position:end])
        position = end
    return b"".join(kept.values())


def _compression(data: bytes, info: Mapping[Any, Any], format: Format) -> str | None:
    if format == "WEBP":
        return "lossless" if b"VP8L" in _chunks_of_webp(data) else None
    return str(info.get("compression", "raw")) if format == "TIFF" else None


def _chunks_of_webp(data: bytes) -> set[bytes]:
    position, kinds = 12, set()
    while position + 8 <= len(data):
        kinds.add(data[position : position + 4])
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return kinds


def _pixels_of_webp(data: bytes) -> int:
    """Width times height as an extended WebP's header gives them; the other kinds cannot be large."""
    if data[12:16] != b"VP8X":
        return 0
    return (1 + int.from_bytes(data[24:27], "little")) * (1 + int.from_bytes(data[27:30], "little"))


def _too_large(name: str, pixels: int | None, max_pixels: int) -> str:
    has = f"has more than {max_pixels / 1e6:g} million pixels, the limit here"
    if pixels is None:
        each = f"about {BYTES_PER_PIXEL} MB of memory for each million"
        return f"{name} {has}: make it smaller first, or allow more pixels, {each}."
    needed = math.ceil(pixels / 1e6)
    return (
        f"{name} {has}: it has {pixels / 1e6:.0f} million. Make it smaller first, or allow more with "
        f"`max_pixels={needed}_000_000`, which takes up to {pixels * BYTES_PER_PIXEL / 1e9:.0f} GB of memory."
    )


@contextmanager
def _pillow_allows(max_pixels: int) -> Iterator[None]:
    """Let Pillow open what is allowed here, if that is more than it takes to be a bomb by itself.

    Its limit is one for the whole process, so that others see it too for the moment this takes.
    """
    usual = Image.MAX_IMAGE_PIXELS
    if usual is None or max_pixels <= 2 * usual:
        yield
        return
    with _RAISED:
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual
