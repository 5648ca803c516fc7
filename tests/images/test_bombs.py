"""Small files made to fill the memory, or to take the time, of whoever opens them."""

import struct
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.images import read_photo
from fairveil.images.exif import claimed_bytes
from fairveil.images.jpeg import START_OF_SCAN, segments


def picture(size: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))


def jpeg(image: Image.Image, **options) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def directory(entries: int, payload: int, order: str = "<", *, big: bool = False) -> bytes:
    """A TIFF directory whose entries all point at the same bytes."""
    number, entry, pointer = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    head = {"<": b"II", ">": b"MM"}[order] + (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    )
    values_at = len(head) + struct.calcsize(order + number + pointer) + entries * struct.calcsize(order + entry)
    rows = b"".join(struct.pack(order + entry, 1000 + row, 7, payload, values_at) for row in range(entries))
    return head + struct.pack(order + number, entries) + rows + struct.pack(order + pointer, 0) + bytes(payload)


def with_exif(data: bytes, block: bytes) -> bytes:
    """A JPEG that holds an Exif block in as many segments as it takes."""
    pieces = [block[at : at + 65000] for at in range(0, len(block), 65000)]
    segments = [b"\xff\xe1" + struct.pack(">H", len(piece) + 8) + b"Exif\0\0" + piece for piece in pieces]
    return data[:2] + b"".join(segments) + data[2:]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_a_directory_claims_is_counted(order, big):
    assert claimed_bytes(directory(30, 1000, order, big=big)) == 30_000


def test_what_further_pages_and_inner_directories_claim_is_counted():
    one = directory(1, 1000)
    second = struct.pack("<H", 1) + struct.pack("<HHII", 7, 7, 500, 0) + bytes(504)
    page = one[:22] + struct.pack("<I", len(one)) + one[26:] + second
    assert claimed_bytes(page) == 1500
    camera = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x8769, 4, 1, 26) + bytes(4) + second
    assert claimed_bytes(camera) == 4 + 500


def test_directories_that_go_in_circles_are_counted_once():
    one = directory(1, 1000)
    assert claimed_bytes(one[:22] + struct.pack("<I", 8) + one[26:]) == 1000


@pytest.mark.parametrize("data", [b"", b"II", b"II*\0", b"MM\0*" + b"\xff" * 60, bytes(100)])
def test_what_is_no_directory_claims_nothing(data):
    assert claimed_bytes(data) == 0


def test_a_tiff_of_many_copies_is_refused():
    with pytest.raises(FairveilError, match="claims to hold far more"):
        read_photo(directory(200, 1 << 20))


def test_exif_of_many_copies_is_refused_in_a_jpeg_wherever_it_hides():
    plain, block = jpeg(picture()), directory(2000, 200_000)
    data = plain[:20] + with_exif(plain[:2], block)[2:] + plain[20:]
    for hidden_by in (b"", b"junk", b"\xff\xff", b"\xff\xd8", b"\xff\xf0", b"\xff\xd9"):
        with pytest.raises(FairveilError, match="claims to hold far more"):
            read_photo(data[:20] + hidden_by + data[20:])


def test_exif_of_many_copies_is_refused_in_an_avif():
    file = BytesIO()
    picture().save(file, "AVIF", exif=directory(2000, 200_000))
    with pytest.raises(FairveilError, match="claims to hold far more"):
        read_photo(file.getvalue())


def test_damaged_exif_is_no_reason_to_refuse():
    block = bytearray(directory(100, 5000))
    struct.pack_into("<I", block, 10 + 4, 0xFFFFFFFF)
    assert read_photo(with_exif(jpeg(picture()), bytes(block))).pixels.shape == (3, 64, 64)


def test_a_jpeg_with_scans_without_end_is_refused_at_once():
    data = jpeg(picture(2000), progressive=True)
    scans = [(start, end) for marker, start, end in segments(data) if marker == START_OF_SCAN]
    last = data[scans[-1][0] : -2]
    began = time.monotonic()
    with pytest.raises(FairveilError, match="draws all its pixels again and again"):
        read_photo(data[:-2] + last[:12] * 600 + data[-2:])
    assert time.monotonic() - began < 2


def test_a_progressive_jpeg_is_read():
    data = jpeg(picture(2000), progressive=True)
    assert sum(marker == START_OF_SCAN for marker, _, _ in segments(data)) > 5
    assert read_photo(data).pixels.shape == (3, 2000, 2000)


def test_repeated_color_chunks_of_a_png_are_kept_once():
    file = BytesIO()
    picture(8).save(file, "PNG")
    data = file.getvalue()
    gamma = b"\0\0\0\4gAMA\0\0\xb1\x8f\x0b\xfca\5"
    began = time.monotonic()
    photo = read_photo(data[:33] + gamma * 50_000 + data[33:])
    assert photo.metadata.color_chunks == gamma
    assert time.monotonic() - began < 5
