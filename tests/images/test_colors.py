"""Colors that no ICC profile tells of come out as they were meant, in every format, or the photo is refused."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from fairveil.base.errors import FairveilError
from fairveil.images import Saving, read_photo, write_photo
from fairveil.images.colors import ColorSpace, space_of_code_points

pillow_heif = pytest.importorskip("pillow_heif")
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF")
COLOR = (200, 80, 40)


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def picture(color=COLOR) -> Image.Image:
    return Image.new("RGB" if isinstance(color, tuple) else "L", (64, 64), color)


def avif(primaries: int, transfer: int) -> bytes:
    file = BytesIO()
    picture().save(file, "AVIF", quality=95, subsampling="4:4:4")
    data = bytearray(file.getvalue())
    place = data.index(b"colrnclx") + 8
    data[place : place + 4] = primaries.to_bytes(2, "big") + transfer.to_bytes(2, "big")
    return bytes(data)


def heif(primaries: int, transfer: int) -> bytes:
    file = BytesIO()
    pillow_heif.from_pillow(picture()).save(
        file, quality=95, chroma=444, color_primaries=primaries, transfer_characteristics=transfer,
        matrix_coefficients=6, full_range_flag=1,
    )  # fmt: skip
    return file.getvalue()


def png(*chunks: tuple[bytes, bytes], color=COLOR, profile=None) -> bytes:
    file = BytesIO()
    picture(color).save(file, "PNG", icc_profile=profile)
    data = file.getvalue()
    return data[:33] + b"".join(chunk(*one) for one in chunks) + data[33:]


def cicp(primaries: int, transfer: int) -> bytes:
    return png((b"cICP", bytes([primaries, transfer, 0, 1])))


P3 = np.array([[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0.0, 0.0451134, 1.0439444]])
BT2020 = np.array([[0.6369580, 0.1446169, 0.1688810], [0.2627002, 0.6779981, 0.0593017], [0.0, 0.0280727, 1.0609851]])
SRGB = np.array([[3.2409699, -1.5373832, -0.4986108], [-0.9692436, 1.8759675, 0.0415551],
                 [0.0556301, -0.2039770, 1.0569715]])  # fmt: skip


def linear(x):
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def camera(x):
    return np.where(x < 0.081, x / 4.5, ((x + 0.099) / 1.099) ** (1 / 0.45))


def seen(to_xyz, curve, color=COLOR):
    """What sRGB values show the same: matrices as published for D65, written out."""
    light = SRGB @ to_xyz @ curve(np.array(color) / 255)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055).clip(
        0, 1
    )


BT709 = np.linalg.inv(SRGB)
SOURCES = {
    "P3 in AVIF": (avif(12, 13), seen(P3, linear)),
    "P3 in HEIC": (heif(12, 13), seen(P3, linear)),
    "P3 in PNG": (cicp(12, 13), seen(P3, linear)),
    "BT.2020 in AVIF": (avif(9, 1), seen(BT2020, camera)),
    "linear in HEIC": (heif(1, 8), seen(BT709, lambda x: x)),
    "gamma of a PNG": (png((b"gAMA", (100000).to_bytes(4, "big"))), seen(BT709, lambda x: x)),
    "gamma and primaries of a PNG": (
        png(
            (b"gAMA", (45455).to_bytes(4, "big")),
            (b"cHRM", np.array([31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000], ">u4").tobytes()),
        ),
        seen(P3, lambda x: x**2.2),
    ),
    "sRGB in AVIF": (avif(1, 13), np.array(COLOR)),
    "nothing said in HEIC": (heif(2, 2), np.array(COLOR)),
    "sRGB in PNG": (png((b"sRGB", b"\0"), (b"gAMA", (45455).to_bytes(4, "big"))), np.array(COLOR)),
    "gamma of sRGB in PNG": (png((b"gAMA", (45455).to_bytes(4, "big"))), np.array(COLOR)),
}  # fmt: skip


def shown(data: bytes) -> np.ndarray:
    """The color a viewer shows that knows ICC profiles, and code points and gamma of PNG through our own reader."""
    photo = read_photo(data)
    image = Image.fromarray(photo.pixels.permute(1, 2, 0).numpy())
    if not photo.metadata.icc_profile:
        return np.asarray(image)[32, 32].astype(float)
    profile = ImageCms.ImageCmsProfile(BytesIO(photo.metadata.icc_profile))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), intent)
    return np.asarray(converted)[32, 32].astype(float)


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "PNG"])
@pytest.mark.parametrize("source", SOURCES)
def test_colors_stay_what_they_were_in_every_format(source, format, tmp_path):
    data, meant = SOURCES[source]
    path = tmp_path / f"photo.{format.lower()}"
    write_photo(read_photo(data), path, Saving(format=format))
    assert np.abs(shown(path.read_bytes()) - meant).max() <= 4  # lossy formats


@pytest.mark.parametrize("source", ["P3 in AVIF", "P3 in HEIC"])
def test_colors_of_other_formats_are_told_in_a_png(source, tmp_path):
    data, meant = SOURCES[source]
    write_photo(read_photo(data), tmp_path / "photo.png", Saving(format="PNG"))
    assert np.abs(shown((tmp_path / "photo.png").read_bytes()) - meant).max() <= 4


def test_a_png_keeps_its_code_points_beside_a_profile_that_says_otherwise(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = png((b"cICP", bytes([12, 13, 0, 1])), profile=profile)
    write_photo(read_photo(data), tmp_path / "photo.png")
    assert b"cICP\x0c\x0d\x00\x01" in (tmp_path / "photo.png").read_bytes()
    write_photo(read_photo(data), tmp_path / "photo.tif", Saving(format="TIFF"))
    assert np.abs(shown((tmp_path / "photo.tif").read_bytes()) - seen(P3, linear)).max() <= 2


def test_the_gamma_of_a_gray_png_is_told_elsewhere(tmp_path):
    data = png((b"gAMA", (100000).to_bytes(4, "big")), color=90)
    meant = seen(BT709, lambda x: x, (90, 90, 90))[0]
    for format in ("TIFF", "WEBP"):
        write_photo(read_photo(data), tmp_path / f"photo.{format.lower()}", Saving(format=format))
        image = Image.open(tmp_path / f"photo.{format.lower()}")
        if image.mode == "L":
            profile = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
            image = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert abs(float(np.asarray(image)[32, 32, 0]) - meant) <= 3


@pytest.mark.parametrize("make", [avif, heif, cicp])
@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused_in_every_format(make, transfer):
    with pytest.raises(FairveilError, match="brightness range"):
        read_photo(make(9, transfer))


@pytest.mark.parametrize("make", [avif, heif, cicp])
def test_code_points_nobody_knows_are_refused(make):
    with pytest.raises(FairveilError, match=r"fairveil does not know \(primaries 1, transfer 17"):
        read_photo(make(1, 17))


@pytest.mark.parametrize("primaries", [1, 4, 5, 6, 8, 9, 11, 12, 22])
def test_white_is_white_in_every_space(primaries):
    profile = ImageCms.ImageCmsProfile(BytesIO(space_of_code_points(primaries, 13, "x").profile()))
    white = ImageCms.profileToProfile(picture((255, 255, 255)), profile, ImageCms.createProfile("sRGB"))
    assert np.asarray(white).min() >= 254


def test_damaged_words_of_a_png_are_taken_for_none():
    for body in (bytes(4), b"\xff" * 4):
        assert read_photo(png((b"gAMA", body))).pixels[0, 0, 0] == COLOR[0]
    photo = read_photo(png((b"cHRM", b"\0\0\0\1" * 8)))
    assert photo.metadata.icc_profile is None
    assert ColorSpace().is_srgb


@pytest.mark.parametrize(("matrix", "full_range"), [(0, 0), (1, 1)])
def test_a_png_with_values_of_video_is_refused(matrix, full_range):
    with pytest.raises(FairveilError, match="values are those of video"):
        read_photo(png((b"cICP", bytes([1, 13, matrix, full_range]))))


@pytest.mark.parametrize("format", FORMATS)
def test_adobe_rgb_that_only_exif_tells_is_told_by_a_profile(tmp_path, format):
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 65535, 0xA005: {1: "R03"}}
    file = BytesIO()
    picture().save(file, "JPEG", quality=98, subsampling=0, exif=exif.tobytes())
    path = tmp_path / f"photo.{format.lower().replace('jpeg', 'jpg').replace('heif', 'heic')}"
    write_photo(read_photo(file.getvalue()), path, Saving(format=format, quality=98))
    pillow_heif.register_heif_opener()
    image = Image.open(path)
    source = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
    shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    adobe = np.array([[0.5767309, 0.1855540, 0.1881852], [0.2973769, 0.6273491, 0.0752741],
                      [0.0270343, 0.0706872, 0.9911085]])  # fmt: skip
    assert np.abs(np.asarray(shown)[32, 32] - seen(adobe, lambda x: x**2.19921875)).max() <= 4


def deep_png(values, kind):
    """A PNG of 16 bits a channel."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = len(values[0]).to_bytes(4, "big") + len(values).to_bytes(4, "big") + bytes([16, kind, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RAMP = np.linspace(0, 4095, 64).round().astype(np.uint16).reshape(8, 8)


def test_a_gray_photo_of_12_bits_in_16_is_read_in_its_range_and_that_is_said():
    photo = read_photo(deep_png(RAMP, 0))
    assert np.abs(photo.pixels[0].numpy() - np.floor(RAMP / 16)).max() <= 1
    assert any("12-bit values in 16 bits: it was read as 0 to 4,095" in note for note in photo.notes)
    dark = read_photo(deep_png(RAMP * 4, 0))  # a quarter of white may be a dark photo
    assert dark.pixels.max() == 63


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_a_photo_of_12_bits_in_16_whose_lower_bits_are_lost_in_reading_is_refused(kind, channels):
    values = np.stack([RAMP] * channels, -1)
    if kind != 2:
        values[..., -1] = 65535
    with pytest.raises(FairveilError, match="no value above 4,095"):
        read_photo(deep_png(values, kind))
    values[..., 0] *= 16
    assert read_photo(deep_png(values, kind)).pixels.max() == 255
    assert read_photo(deep_png(np.zeros((8, 8, 3), np.uint16), 2)).pixels.max() == 0
