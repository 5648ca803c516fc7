"""What a small file may not ask of a decoder, refused before one opens it.

Pillow checks how many pixels a file claims. It does not check how often a TIFF directory has the same bytes copied, of
which Exif blocks are made too, nor how often a JPEG has all its pixels gone over.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from fairveil.base.errors import FairveilError
from fairveil.images.exif import claimed_bytes
from fairveil.images.formats import Format
from fairveil.images.jpeg import FRAMES, START_OF_SCAN, segments

_TIFF_HEADER = re.compile(rb"II[*+]\0|MM\0[*+]")
_SLACK = 64 << 20  # bytes that a directory may claim beyond twice those there are, since some are damaged
_MOST_HEADERS = 64  # of TIFF directories in an AVIF, which has one
_MOST_SCANNED = 1 << 31  # pixels of a JPEG times its scans: some ten seconds; a progressive one has about ten scans


def refuse_bombs(data: bytes, format: Format, name: str) -> None:
    """Refuse a file that would take memory or time out of all proportion to its size.

    Args:
        data: the whole file.
        format: what it is.
        name: what to call it in sentences.

    Raises:
        FairveilError: it is such a file.
    """
    directories, scanned = _looked_through(data) if format == "JPEG" else (_directories(data, format), 0)
    if any(claimed_bytes(block) > 2 * len(block) + _SLACK for block in directories):
        raise FairveilError(f"{name} claims to hold far more than there is in it, to fill the memory of who opens it.")
    if scanned > _MOST_SCANNED:
        raise FairveilError(f"{name} draws all its pixels again and again, to keep who opens it busy: save it anew.")


def _directories(data: bytes, format: Format) -> Iterator[bytes | memoryview]:
    """Blocks of TIFF directories that Pillow takes in while it opens a file, if it is no JPEG; of most, none."""
    if format == "TIFF":
        yield data
    elif format == "AVIF":  # the block lies somewhere in a container that only the decoder understands
        for header in islice(_TIFF_HEADER.finditer(data), _MOST_HEADERS):
            yield memoryview(data)[header.start() :]


def _looked_through(data: bytes) -> tuple[Iterable[bytes | memoryview], int]:
    """Of a JPEG's first picture the Exif, which is one block in however many segments, and its pixels times its scans.

    A scan goes over all pixels, or over a part of their bits.
    """
    exif: list[bytes] = []
    pixels = scans = 0
    for marker, start, end in segments(data):
        if marker == 0xE1 and data.startswith(b"Exif\0\0", start + 4):
            exif.append(data[start + 10 : end])
        elif marker in FRAMES:
            height, width = (int.from_bytes(data[at : at + 2], "big") for at in (start + 5, start + 7))
            pixels = max(pixels, height * width)
        scans += marker == START_OF_SCAN
    return [b"".join(exif)], pixels * scans
