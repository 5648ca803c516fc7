import struct
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage.data import astronaut

from fairveil.images import Saving, copy_photo, decoding, read_photo
from fairveil.images.exif import Entry, Exif, exif_block, parse_exif
from fairveil.images.metadata import Metadata
from fairveil.images.stripping import stripped

SECRETS = (b"BODY-SERIAL-1234", struct.pack("<6I", 48, 1, 51, 1, 29_5432, 10_000), b"XMP48", b"a comment", b"TRAILER")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><p>XMP48</p></x:xmpmeta>'
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def planted(turn: int) -> Exif:
    """The maker's name, harmless; a serial number and a place, which are not; and how the picture is to be turned."""
    return Exif(
        "<",
        {0x010F: Entry(2, 6, b"Maker\0"), 0x0112: Entry(3, 1, struct.pack("<H", turn))},
        {0xA431: Entry(2, 17, SECRETS[0] + b"\0")},
        {1: Entry(2, 2, b"N\0"), 2: Entry(5, 3, SECRETS[1])},
        {},
    )


def file_with_secrets(format: str, turn: int = 1, **options) -> bytes:
    file = BytesIO()
    block = exif_block(planted(turn))
    if format == "JPEG":
        options = {"comment": SECRETS[3], "dpi": (300, 300), **options}
        block = b"Exif\0\0" + block
    picture = Image.fromarray(astronaut()[:90, 180:300])
    picture.save(file, format, exif=block, xmp=XMP, icc_profile=PROFILE, quality=83, **options)
    return file.getvalue() + (SECRETS[4] if format == "JPEG" else b"")


def stored_pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize(("format", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})])
def test_secrets_go_and_the_coded_picture_its_profile_and_its_turn_stay(tmp_path, format, options, turn):
    path = tmp_path / "photo"
    path.write_bytes(file_with_secrets(format, turn, **options))
    photo, target = read_photo(path), tmp_path / ("copy.jpg" if format == "JPEG" else "copy.webp")
    assert copy_photo(photo, target) == ()
    data = target.read_bytes()
    assert not [secret for secret in SECRETS if secret in data]
    assert b"Maker" in data and PROFILE in data
    assert np.array_equal(stored_pixels(data), stored_pixels(path.read_bytes()))
    again = read_photo(target)
    assert np.array_equal(again.pixels, photo.pixels)
    assert again.metadata.dpi == photo.metadata.dpi


def test_a_jpeg_whose_resolution_stands_in_its_exif_keeps_it(tmp_path):
    data = file_with_secrets("JPEG")
    assert data[2:4] == b"\xff\xe0"
    path = tmp_path / "photo.jpg"
    path.write_bytes(data[:2] + data[20:])  # without the JFIF header
    asked = Metadata(dpi=(240.0, 240.0))
    assert read_photo(stripped(path.read_bytes(), asked)).metadata.dpi == asked.dpi


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_who_asks_for_metadata_keeps_it(tmp_path, format):
    path = tmp_path / "photo"
    path.write_bytes(file_with_secrets(format))
    target = tmp_path / f"copy.{format.lower()}"
    copy_photo(read_photo(path), target, Saving(keep_metadata=True))
    kept, given = read_photo(target).metadata, read_photo(path).metadata
    assert kept.exif.location == given.exif.location and kept.xmp == given.xmp and kept.texts == given.texts
    assert np.array_equal(stored_pixels(target.read_bytes()), stored_pixels(path.read_bytes()))


def test_thumbnails_and_further_pictures_are_left_out():
    header = b"\xff\xe0" + struct.pack(">H", 16 + 3 * 4) + b"JFIF\0\1\2\1\0\x48\0\x48\2\2" + b"FACEFACEFACE"
    data = file_with_secrets("JPEG")
    second = file_with_secrets("JPEG")
    clean = stripped(data[:2] + header + data[20:] + second, Metadata())
    assert b"FACE" not in clean and clean.count(b"\xff\xd8\xff") == 1 and b"EXIF" not in clean.upper()
    assert np.array_equal(stored_pixels(clean), stored_pixels(data))


def test_four_colors_and_other_formats_are_left_to_the_encoder(tmp_path):
    for format, mode, suffix in (("JPEG", "CMYK", "jpg"), ("PNG", "RGB", "png"), ("TIFF", "RGB", "tif")):
        path = tmp_path / f"photo.{suffix}"
        Image.new(mode, (30, 20), "teal").save(path, format)
        assert stripped(path.read_bytes(), Metadata()) is None
        photo = read_photo(path)
        copy_photo(photo, tmp_path / f"copy.{suffix}")
        assert abs(read_photo(tmp_path / f"copy.{suffix}").pixels.int() - photo.pixels.int()).max() < 6


def test_a_smaller_size_or_another_format_asks_for_the_encoder(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(file_with_secrets("JPEG"))
    photo = read_photo(path)
    notes = copy_photo(photo, tmp_path / "small.jpg", Saving(max_size=4_000))
    assert (tmp_path / "small.jpg").stat().st_size <= 4_000 and "saved at quality" in notes[0]
    copy_photo(photo, tmp_path / "copy.png", Saving(format="PNG"))
    with Image.open(tmp_path / "copy.png") as copy:
        assert copy.format == "PNG"


def test_a_file_that_changed_since_it_was_read_is_not_copied(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(file_with_secrets("JPEG"))
    photo = read_photo(path)
    Image.new("RGB", (120, 90), "teal").save(path)
    copy_photo(photo, tmp_path / "copy.jpg")
    assert abs(read_photo(tmp_path / "copy.jpg").pixels.int() - photo.pixels.int()).float().mean() < 3


@settings(max_examples=150)
@given(start=st.sampled_from([b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"]), data=st.binary(max_size=200))
def test_random_bytes_are_stripped_or_declined(start, data):
    assert isinstance(stripped(start + data, Metadata()), bytes | None)


@settings(max_examples=60)
@given(format=st.sampled_from(["JPEG", "WEBP"]), cut=st.floats(0.01, 0.99))
def test_truncated_files_are_stripped_or_declined(format, cut):
    data = file_with_secrets(format)
    assert isinstance(stripped(data[: int(len(data) * cut)], Metadata()), bytes | None)


def test_the_exif_written_can_be_read_back():
    clean = stripped(file_with_secrets("JPEG", 6), Metadata(exif=planted(1)))
    exif = decoding.parse_exif(Image.open(BytesIO(clean)).info["exif"])
    assert exif.number(0x0112) == 6 and parse_exif(exif_block(exif)) == exif
