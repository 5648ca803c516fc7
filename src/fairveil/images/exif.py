"""Exif blocks, entry by entry.

Pillow decodes each value and encodes it again, which turns a photographer's name in UTF-8 into question marks. Here an
entry keeps the bytes it came with: only what is left out, and where things lie, changes. A TIFF file is built of the
same directories, so that the metadata of both are read and written by the same few functions.

Source: TIFF 6.0, section 2; Exif 3.0 (CIPA DC-008-2023), sections 4.5 and 4.6.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

CAMERA_DIRECTORY, LOCATION_DIRECTORY, INTEROPERABILITY_DIRECTORY = 0x8769, 0x8825, 0xA005

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of one value, by type; types that are not here do not exist."""
_SIZE_OF_TYPE = np.array([_SIZES.get(type, 8 if type in (16, 17, 18) else 0) for type in range(20)])
_SWAPPED = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
"""Bytes that change places together when the byte order changes."""


@dataclass(frozen=True)
class Entry:
    """One tag's value: TIFF type, number of values, and their bytes in the byte order of the block."""

    type: int
    count: int
    data: bytes


Directory = Mapping[int, Entry]


@dataclass(frozen=True)
class Exif:
    """What an Exif block says, without its thumbnail, which is never read.

    Attributes:
        order: "<" for little endian, ">" for big endian.
        image: entries of the first directory (IFD0), without pointers.
        camera: entries of the Exif directory.
        location: entries of the GPS directory.
        interoperability: entries that name the color space of the interoperability rules.
    """

    order: Literal["<", ">"]
    image: Directory
    camera: Directory
    location: Directory
    interoperability: Directory

    def with_order(self, order: Literal["<", ">"]) -> "Exif":
        """The same in another byte order."""
        if order == self.order:
            return self
        directories = (self.image, self.camera, self.location, self.interoperability)
        return Exif(order, *({tag: _swap(entry) for tag, entry in entries.items()} for entries in directories))

    def number(self, tag: int) -> int | None:
        """The first whole number under a tag of the first directory, if it is there and is one."""
        entry = self.image.get(tag)
        if entry is None or entry.type not in (1, 3, 4) or not entry.count:
            return None
        return int.from_bytes(entry.data[: _SIZES[entry.type]], "little" if self.order == "<" else "big")


def short(value: int, order: str) -> Entry:
    """An entry that holds one 16-bit number."""
    return Entry(3, 1, struct.pack(order + "H", value))


def long(value: int, order: str) -> Entry:
    """An entry that holds one 32-bit number."""
    return Entry(4, 1, struct.pack(order + "I", value))


def parse_exif(block: bytes, *, budget: int = 1 << 20) -> Exif | None:
    """Read an Exif block, or the first page of a TIFF file.

    Damaged entries are left out, whatever the damage: metadata are never a reason to refuse a photo.

    Args:
        block: bytes from the "II" or "MM" on, with or without the "Exif" in front.
        budget: bytes of values read at the most: a small file could claim terabytes by pointing at itself.

    Returns:
        None if this is no such block.
    """
    block = block.removeprefix(b"Exif\0\0")
    orders: dict[bytes, Literal["<", ">"]] = {b"II*\0": "<", b"MM\0*": ">"}
    order = orders.get(block[:4])
    if order is None or len(block) < 8:
        return None
    found: dict[int, dict[int, Entry]] = {}
    offsets = {0: struct.unpack_from(order + "I", block, 4)[0]}
    for name in (0, CAMERA_DIRECTORY, LOCATION_DIRECTORY, INTEROPERABILITY_DIRECTORY):
        entries = found[name] = _parse_directory(block, offsets.get(name, 0), order, budget)
        budget -= sum(len(entry.data) for entry in entries.values())
        for pointer in (CAMERA_DIRECTORY, LOCATION_DIRECTORY, INTEROPERABILITY_DIRECTORY):
            if (entry := entries.pop(pointer, None)) and entry.type in (4, 13) and entry.count:
                offsets.setdefault(pointer, struct.unpack_from(order + "I", entry.data)[0])
    return Exif(order, *found.values())


def claimed_bytes(block: bytes | memoryview) -> int:
    """How many bytes the values of an Exif block, or of a TIFF file's first two pages, have when all are copied.

    In an honest one each value has a place of its own, so that there are no more than the block has.

    Args:
        block: bytes from the "II" or "MM" on; what is nothing of the kind claims nothing. BigTIFF is understood too.
    """
    orders: dict[bytes, Literal["<", ">"]] = {b"II": "<", b"MM": ">"}
    order = orders.get(bytes(block[:2]))
    if order is None or len(block) < 16:
        return 0
    big = bytes(block[2:4]) in (b"+\0", b"\0+")
    entry = np.dtype([("tag", "u2"), ("type", "u2"), ("count", "u8" if big else "u4"), ("at", "u8" if big else "u4")])
    entry = entry.newbyteorder(order)
    number, pointer = (order + "Q",) * 2 if big else (order + "H", order + "I")
    claimed, seen = 0, set()
    waiting = [(struct.unpack_from(pointer, block, 8 if big else 4)[0], 1)]  # where, and how many pages come after it
    while waiting:
        offset, pages = waiting.pop()
        begin = offset + struct.calcsize(number)
        if not offset or offset in seen or begin > len(block):
            continue
        seen.add(offset)
        count = min(struct.unpack_from(number, block, offset)[0], (len(block) - begin) // entry.itemsize)
        entries = np.frombuffer(block, entry, count, begin)
        sizes = _SIZE_OF_TYPE[np.minimum(entries["type"], len(_SIZE_OF_TYPE) - 1)] * entries["count"].astype(float)
        claimed += int(np.minimum(sizes, len(block)).sum())
        for tag in (CAMERA_DIRECTORY, LOCATION_DIRECTORY, INTEROPERABILITY_DIRECTORY):
            waiting += [(int(at), 0) for at in entries["at"][entries["tag"] == tag][:1]]
        after = begin + count * entry.itemsize
        if pages and after + struct.calcsize(pointer) <= len(block):
            waiting.append((struct.unpack_from(pointer, block, after)[0], pages - 1))
    return claimed


def serialize_exif(exif: Exif, *, start: int = 8) -> bytes:
    """Lay the directories of an Exif block out, the first one first, each with its values behind it.

    Args:
        exif: what to write.
        start: how many bytes lie in front of the result, which positions in it are counted from; even.
    """
    camera, image = dict(exif.camera), dict(exif.image)
    # The size of a directory does not depend on what its pointers hold, so they can be put in beforehand as zeros.
    if exif.interoperability:
        camera[INTEROPERABILITY_DIRECTORY] = long(0, exif.order)
    if camera:
        image[CAMERA_DIRECTORY] = long(0, exif.order)
    if exif.location:
        image[LOCATION_DIRECTORY] = long(0, exif.order)
    camera_at = start + _size(image)
    interoperability_at = camera_at + (_size(camera) if camera else 0)
    location_at = interoperability_at + (_size(exif.interoperability) if exif.interoperability else 0)
    if exif.interoperability:
        camera[INTEROPERABILITY_DIRECTORY] = long(interoperability_at, exif.order)
    if camera:
        image[CAMERA_DIRECTORY] = long(camera_at, exif.order)
    if exif.location:
        image[LOCATION_DIRECTORY] = long(location_at, exif.order)
    parts = [_serialize_directory(image, start, exif.order)]
    for entries, position in (
        (camera, camera_at),
        (exif.interoperability, interoperability_at),
        (exif.location, location_at),
    ):
        if entries:
            parts.append(_serialize_directory(entries, position, exif.order))
    return b"".join(parts)


def exif_block(exif: Exif) -> bytes:
    """An Exif block as JPEG, PNG, WebP and HEIF hold it, from the "II" or "MM" on."""
    return (b"II*\0" if exif.order == "<" else b"MM\0*") + struct.pack(exif.order + "I", 8) + serialize_exif(exif)


def add_to_tiff(file: bytes, exif: Exif) -> bytes:
    """Add entries to the one page of a TIFF file, in front of those of the same tag that were there.

    The page's directory is written anew at the end of the file, as editors of TIFF metadata do; pixels stay in place.
    """
    page = parse_exif(file, budget=len(file))
    if page is None:
        raise ValueError("not a TIFF file")
    exif = exif.with_order(page.order)
    padded = file + bytes(len(file) % 2)
    whole = Exif(page.order, {**page.image, **exif.image}, exif.camera, exif.location, exif.interoperability)
    start = struct.pack(page.order + "I", len(padded))
    return padded[:4] + start + padded[8:] + serialize_exif(whole, start=len(padded))


def _parse_directory(block: bytes, offset: int, order: str, budget: int) -> dict[int, Entry]:
    if not 8 <= offset <= len(block) - 2:
        return {}
    entries: dict[int, Entry] = {}
    (count,) = struct.unpack_from(order + "H", block, offset)
    for position in range(offset + 2, min(offset + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", block, position)
        size = _SIZES.get(kind, 0) * number
        if not 0 < size <= budget:
            continue
        at = position + 8 if size <= 4 else struct.unpack_from(order + "I", block, position + 8)[0]
        if at + size > len(block) or tag in entries:
            continue
        entries[tag] = Entry(kind, number, block[at : at + size])
        budget -= size
    return entries


def _serialize_directory(entries: Directory, start: int, order: str) -> bytes:
    head = struct.pack(order + "H", len(entries))
    values = b""
    values_at = start + 6 + 12 * len(entries)
    for tag, entry in sorted(entries.items()):
        if len(entry.data) <= 4:
            field = entry.data.ljust(4, b"\0")
        else:
            field = struct.pack(order + "I", values_at + len(values))
            values += entry.data + bytes(len(entry.data) % 2)
        head += struct.pack(order + "HHI", tag, entry.type, entry.count) + field
    return head + bytes(4) + values  # no further directory: that is where a thumbnail would be


def _size(entries: Directory) -> int:
    outside = (len(entry.data) for entry in entries.values() if len(entry.data) > 4)
    return 6 + 12 * len(entries) + sum(size + size % 2 for size in outside)


def _swap(entry: Entry) -> Entry:
    if not (unit := _SWAPPED.get(entry.type)):
        return entry
    return Entry(entry.type, entry.count, np.frombuffer(entry.data, f"u{unit}").byteswap().tobytes())
