"""How a JPEG file is put together.

Source: ITU-T T.81, annex B.
"""

import re
import struct
from collections.abc import Iterator

START_OF_SCAN, END_OF_IMAGE, COMMENT = 0xDA, 0xD9, 0xFE
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that give a picture's size."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # the next one: neither a stuffed zero, nor padding, nor a restart
_BARE = {0x01, 0xC8, 0xD8, *range(0xF0, 0xFE)}  # markers after which decoders look for no length


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments of a JPEG's first picture, in front of its scans and between them; cameras put more behind it.

    As decoders do, it passes over what lies between segments.

    Args:
        data: the whole file.

    Yields:
        Marker, where the segment begins, with its marker, and where it ends; last the end of the image. Where the
        file is damaged or cut short, nothing more comes.
    """
    position, scanned = 2, False
    while found := _MARKER.search(data, position):
        start, marker, position = found.start(), data[found.start() + 1], found.end()
        if marker == END_OF_IMAGE and scanned:
            yield marker, start, position
            return
        if marker == END_OF_IMAGE or marker in _BARE:
            continue
        if position + 2 > len(data):
            return
        position += max(2, struct.unpack_from(">H", data, position)[0])
        yield marker, start, position
        scanned = scanned or marker == START_OF_SCAN
