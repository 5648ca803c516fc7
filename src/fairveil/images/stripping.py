"""Taking the metadata out of a photo's file without touching its pixels.

JPEG and WebP lose a little whenever they are encoded. Where the pixels are to stay as they came, the coded picture is
therefore copied as it is, and only what lies around it changes.

Source: RFC 9649, section 2.7 (WebP's extended format).
"""

import struct
from dataclasses import replace

from fairveil.images.encoding import LONGEST_SEGMENT, photoshop_segment
from fairveil.images.exif import Entry, Exif, exif_block, parse_exif, short
from fairveil.images.formats import format_of_content
from fairveil.images.jpeg import COMMENT, END_OF_IMAGE, FRAMES, START_OF_SCAN, segments
from fairveil.images.metadata import ORIENTATION, Metadata, orientation

_RESOLUTION, _RESOLUTION_UNIT = (0x011A, 0x011B), 0x0128
_PICTURE_FLAGS = 0x20 | 0x10  # a WebP's color profile and opacity
_FLAGS = {b"EXIF": 0x08, b"XMP ": 0x04}


def stripped(data: bytes, metadata: Metadata) -> bytes | None:
    """A JPEG's or WebP's file with the same coded picture and color profile, but with no more metadata than given.

    How the pixels are to be turned is kept, since they stay as they lie.

    Args:
        data: the whole file.
        metadata: what it shall say besides, but for the color profile.

    Returns:
        The new file, or None if this cannot be done: another format, four colors, or a damaged file.
    """
    take = {"JPEG": _jpeg, "WEBP": _webp}.get(format_of_content(data) or "")
    try:
        return take(data, metadata) if take else None
    except (IndexError, struct.error):
        return None


def _exif(metadata: Metadata, old: bytes, *, with_dpi: bool) -> bytes:
    """An Exif block that says what `metadata` says and, of the old block, how the pixels are to be turned."""
    exif = metadata.exif or Exif("<", {}, {}, {}, {})
    added = {}
    if (turn := orientation(parse_exif(old))) > 1 or exif.image or exif.camera or exif.location:
        added[ORIENTATION] = short(turn, exif.order)
    if metadata.dpi and with_dpi:
        for tag, value in zip(_RESOLUTION, metadata.dpi if turn < 5 else metadata.dpi[::-1], strict=True):
            added[tag] = Entry(5, 1, struct.pack(exif.order + "II", round(value * 1000), 1000))
        added[_RESOLUTION_UNIT] = short(2, exif.order)  # inches
    return exif_block(replace(exif, image={**exif.image, **added})) if added else b""


def _jpeg(data: bytes, metadata: Metadata) -> bytes | None:
    header, kept, old_exif, position, scans_at, end_at = b"", [], b"", 2, 0, 0
    for marker, start, end in segments(data):
        if marker == END_OF_IMAGE:
            end_at = end
        if scans_at:
            continue
        if data[position:start].strip(b"\xff"):  # markers may be padded, but nothing else lies between segments
            return None
        if marker == START_OF_SCAN:
            scans_at = start
            continue
        body = data[start + 4 : end]
        if marker in FRAMES and body[5] == 4:
            return None
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            old_exif = old_exif or body
        elif marker == 0xE0 and body.startswith(b"JFIF\0"):
            header = _segment(0xE0, body[:12] + b"\0\0")  # without its thumbnail
        elif _matters_to_pixels(marker, body):
            kept.append(data[start:end])
        position = end
    if not end_at:
        return None
    exif = _exif(metadata, old_exif, with_dpi=not header)
    added = [
        _segment(0xE1, exif and b"Exif\0\0" + exif),
        _segment(0xE1, metadata.xmp and b"http://ns.adobe.com/xap/1.0/\0" + metadata.xmp),
        photoshop_segment(metadata.iptc) if metadata.iptc else b"",
        _segment(COMMENT, dict(metadata.texts).get("comment", "").encode()),
    ]
    return b"\xff\xd8" + header + b"".join([*added, *kept]) + data[scans_at:end_at]


def _segment(marker: int, body: bytes | None) -> bytes:
    """A segment of a JPEG; nothing if it would be empty, or is too long to be one."""
    if not body or len(body) > LONGEST_SEGMENT:
        return b""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _matters_to_pixels(marker: int, body: bytes) -> bool:
    if 0xE0 <= marker <= 0xEF:  # the color profile, and Adobe's word on how colors are coded
        return (marker, body[:12]) == (0xE2, b"ICC_PROFILE\0") or (marker == 0xEE and body.startswith(b"Adobe"))
    return marker != COMMENT


def _webp(data: bytes, metadata: Metadata) -> bytes | None:
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= len(data):
        size = struct.unpack_from("<I", data, position + 4)[0]
        chunks.setdefault(data[position : position + 4], data[position + 8 : position + 8 + size])
        position += 8 + size + size % 2
    exif = _exif(metadata, chunks.get(b"EXIF", b""), with_dpi=False)
    kept: dict[bytes, bytes] = {kind: chunks[kind] for kind in (b"ICCP", b"ALPH", b"VP8 ", b"VP8L") if kind in chunks}
    if header := chunks.get(b"VP8X"):  # the plain kinds hold a picture and nothing else
        added = {kind: content for kind, content in ((b"EXIF", exif), (b"XMP ", metadata.xmp)) if content}
        flags = header[0] & _PICTURE_FLAGS | sum(_FLAGS[kind] for kind in added)
        kept = {b"VP8X": bytes([flags, 0, 0, 0]) + header[4:], **kept, **added}
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) for kind, content in kept.items()
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
