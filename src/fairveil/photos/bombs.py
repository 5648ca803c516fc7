"""What a small file may not ask of a decoder, refused before one opens it.

Pillow checks how many pixels a file claims. It does not check how often a TIFF directory has the same bytes copied, of
which Exif blocks are made too, nor how often a JPEG has all its pixels gone over.
"""

import re
from collections.abc import Iterator
from itertools import islice

from fairveil.errors import FairveilError
from fairveil.photos.exif import claimed_bytes
from fairveil.photos.formats import Format
from fairveil.photos.jpeg import FRAMES, START_OF_SCAN, segments

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
    if any(claimed_bytes(block) > 2 * len(block) + _SLACK for block in _directories(data, format)):
        raise FairveilError(f"{name} claims to hold far more than there is in it, to fill the memory of who opens it.")
    if format == "JPEG" and _scanned(data) > _MOST_SCANNED:
        raise FairveilError(f"{name} draws all its pixels again and again, to keep who opens it busy: save it anew.")


def _directories(data: bytes, format: Format) -> Iterator[bytes | memoryview]:
    """Blocks of TIFF directories that Pillow takes in while it opens a file; of other formats it takes in none."""
    if format == "TIFF":
        yield data
    elif format == "JPEG":  # Exif in several segments is one block
        bodies = (data[start + 4 : end] for marker, start, end in segments(data) if marker == 0xE1)
        yield b"".join(body[6:] for body in bodies if body.startswith(b"Exif\0\0"))
    elif format == "AVIF":  # the block lies somewhere in a container that only the decoder understands
        for header in islice(_TIFF_HEADER.finditer(data), _MOST_HEADERS):
            yield memoryview(data)[header.start() :]


def _scanned(data: bytes) -> int:
    """Pixels of a JPEG's first picture, times the scans that each goes over them, or over a part of their bits."""
    pixels = scans = 0
    for marker, start, _ in segments(data):
        if marker in FRAMES:
            height, width = (int.from_bytes(data[at : at + 2], "big") for at in (start + 5, start + 7))
            pixels = max(pixels, height * width)
        scans += marker == START_OF_SCAN
    return pixels * scans
