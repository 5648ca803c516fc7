import struct
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from fairveil.images import Saving, read_photo, suffix_for, write_photo
from fairveil.images.exif import Entry, Exif, add_to_tiff, exif_block, parse_exif
from fairveil.images.metadata import sound_dpi, xmp_without_pictures

pillow_heif = pytest.importorskip("pillow_heif")
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF")

SERIALS = {
    0xA431: b"BODY-SERIAL-1234",
    0xA435: b"LENS-SERIAL-5678",
    0xA430: b"Olga Owner",
    0xA420: b"0123456789abcdef0123456789abcdef",
    0x9011: b"+05:45",
    0x9286: b"ASCII\0\0\0my secret comment",
}
HARMLESS = {0x9003: b"2021:03:04 05:06:07", 0xA434: b"Lens 50mm", 0xA437: b"Ann Photographer"}
PREVIEW = b"\xff\xd8\xff\xe0 a small picture of the bare face"
GPS_DEGREES = struct.pack("<6I", 48, 1, 51, 1, 29_5432, 10_000)


def text(value: bytes, kind: int = 2) -> Entry:
    return Entry(kind, len(value) + (kind == 2), value + (b"\0" if kind == 2 else b""))


def planted() -> Exif:
    image = {
        0x010E: text(b"Caption of the day"),
        0x010F: text(b"Maker"),
        0x0110: text(b"Model 7"),
        0x013C: text(b"olgas-computer"),
        0x013B: text("Zoë".encode()),
        0x8298: text("© Zoë".encode()),
        0x501B: text(PREVIEW, 7),
    }
    camera = {tag: text(value) for tag, value in (SERIALS | HARMLESS).items()}
    camera[0x829A] = Entry(5, 1, struct.pack("<2I", 1, 125))
    camera[0x927C] = text(b"MAKERNOTE with serial 99" + PREVIEW, 7)
    location = {1: text(b"N"), 2: Entry(5, 3, GPS_DEGREES), 29: text(b"2021:03:04 GPSDATE")}
    return Exif("<", image, camera, location, {1: text(b"R98")})


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="XMP48,51N"'
    b' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:g="http://ns.adobe.com/xap/1.0/g/img/"'
    b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"'
    b' xmlns:GImage="http://ns.google.com/photos/1.0/image/" GImage:Data="BARE-FACE-BASE64">'
    b"<xmp:Thumbnails><rdf:Alt><rdf:li><g:image>THUMB-BASE64</g:image></rdf:li></rdf:Alt></xmp:Thumbnails>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)
IPTC = b"\x1c\x02\x5a\x00\x0aIPTC-Paris"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
REMOVED = (
    *(value for tag, value in SERIALS.items() if tag != 0x9011),
    *(b"+05:45", b"Caption", b"olgas-computer", b"GPSDATE", GPS_DEGREES, b"XMP48", b"IPTC-Paris", b"TYPED"),
)
PICTURES = (PREVIEW, b"MAKERNOTE", b"THUMB-BASE64", b"BARE-FACE-BASE64")


def with_thumbnail(exif: Exif) -> bytes:
    """An Exif block with a second directory that holds a thumbnail."""
    block = exif_block(exif)
    entries = struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, len(block) + 30)
    entries += struct.pack("<HHII", 0x0202, 4, 1, len(PREVIEW)) + bytes(4)
    (count,) = struct.unpack_from("<H", block, 8)
    at = 10 + 12 * count
    return block[:at] + struct.pack("<I", len(block)) + block[at + 4 :] + entries + PREVIEW


def laden(format: str) -> bytes:
    """A photo that carries everything that is planted."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    block = with_thumbnail(planted())
    options = {"icc_profile": PROFILE, "xmp": XMP, "exif": b"Exif\0\0" + block}
    file = BytesIO()
    if format == "HEIF":
        pillow_heif.from_pillow(image).save(file, **options)
    elif format == "TIFF":
        image.save(file, format, icc_profile=PROFILE)
        extra = {700: text(XMP, 7), 33723: text(IPTC, 7)}
        exif = planted()
        return add_to_tiff(file.getvalue(), replace(exif, image={**exif.image, **extra}))
    elif format == "JPEG":
        segment = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
        segment += b"8BIM\x04\x0c\0\0" + struct.pack(">I", 28 + len(PREVIEW)) + bytes(28) + PREVIEW
        extra = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
        image.save(file, format, extra=extra, comment=b"TYPED comment", **options)
    elif format == "PNG":
        texts = PngInfo()
        texts.add_text("Comment", "TYPED comment")
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        texts.add_text("Raw profile type exif", PREVIEW.decode("latin1"))
        image.save(file, format, pnginfo=texts, exif=block, icc_profile=PROFILE)
    else:
        image.save(file, format, **options)
    data = file.getvalue()
    if format != "PNG":  # which compresses its profile
        assert PROFILE in data
    for value in (b"BODY-SERIAL-1234", GPS_DEGREES, PREVIEW, b"XMP48"):
        assert value in data, "the file must carry what is looked for"
    return data


def protected(data: bytes, folder, *, keep: bool) -> bytes:
    photo = read_photo(data)
    target = folder / f"out{suffix_for(photo.format)}"
    write_photo(photo, target, Saving(keep_metadata=keep))
    return target.read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_location_serial_numbers_and_thumbnails_are_gone_by_default(tmp_path, format):
    written = protected(laden(format), tmp_path, keep=False)
    for value in (*REMOVED, *PICTURES):
        assert value not in written
    if format in ("JPEG", "PNG", "WEBP", "AVIF"):
        with Image.open(BytesIO(written)) as image:
            assert not image.getexif().get_ifd(0x8825)
            assert "xmp" not in image.info
            assert "comment" not in image.info
            assert not any(isinstance(value, str) for value in image.info.values())


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_date_camera_settings_and_authorship_stay_byte_for_byte(tmp_path, format, keep):
    written = protected(laden(format), tmp_path, keep=keep)
    for value in (b"Maker", b"Model 7", "Zoë".encode(), "© Zoë".encode(), *HARMLESS.values()):
        assert value in written
    if format in ("JPEG", "PNG", "WEBP", "TIFF"):
        with Image.open(BytesIO(written)) as image:  # Pillow as the independent reader
            exif = image.getexif()
            assert exif[0x0110] == "Model 7"
            assert exif.get(0x0112, 1) == 1
            camera = exif.get_ifd(0x8769)
            assert camera[0x9003] == "2021:03:04 05:06:07"
            assert camera[0x829A] == pytest.approx(1 / 125)
            assert (camera[0xA002], camera[0xA003]) == (24, 16)


@pytest.mark.parametrize("format", FORMATS)
def test_all_but_pictures_is_kept_on_request(tmp_path, format):
    written = protected(laden(format), tmp_path, keep=True)
    for value in PICTURES:
        assert value not in written
    for value in (*SERIALS.values(), b"Caption", b"olgas-computer", GPS_DEGREES, b"GPSDATE", b"XMP48"):
        assert value in written
    assert b'Orientation="6"' not in written
    if format in ("JPEG", "TIFF"):
        assert IPTC in written
    if format in ("JPEG", "PNG"):
        assert b"TYPED comment" in written


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_the_color_profile_is_kept_byte_for_byte(tmp_path, format, keep):
    photo = read_photo(protected(laden(format), tmp_path, keep=keep))
    assert photo.metadata.icc_profile == PROFILE


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_the_resolution_is_kept_and_turns_with_the_photo(tmp_path, format):
    exif = Image.Exif()
    exif[0x0112] = 8
    file = BytesIO()
    Image.new("RGB", (8, 6)).save(file, format, dpi=(300, 150), exif=exif.tobytes())
    with Image.open(BytesIO(protected(file.getvalue(), tmp_path, keep=False))) as image:
        assert [round(value) for value in image.info["dpi"]] == [150, 300]


def test_what_png_says_of_colors_in_its_own_words_is_kept(tmp_path):
    file = BytesIO()
    Image.new("RGB", (8, 6)).save(file, "PNG")
    png = file.getvalue()
    gamma = bytes.fromhex("0000000467414d410000b18f0bfc6105")
    assert gamma in protected(png[:33] + gamma + png[33:], tmp_path, keep=False)


def test_further_pictures_in_a_jpeg_are_left_out_and_said_so(tmp_path):
    first, second = (
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)) for seed in (0, 1)
    )
    file = BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    photo = read_photo(file.getvalue())
    assert photo.format == "JPEG"
    assert "further pictures" in photo.notes[0]
    write_photo(photo, tmp_path / "out.jpg", Saving(keep_metadata=True))
    written = (tmp_path / "out.jpg").read_bytes()
    assert written.count(b"\xff\xd8\xff") == 1
    assert b"MPF\0" not in written


def test_what_follows_a_jpeg_such_as_a_film_is_left_out(tmp_path):
    file = BytesIO()
    Image.new("RGB", (8, 6)).save(file, "JPEG")
    assert b"moving face" not in protected(file.getvalue() + b"....ftypmp42 moving face", tmp_path, keep=True)


def test_heic_thumbnails_and_further_pictures_are_left_out(tmp_path):
    heif = pillow_heif.from_pillow(Image.new("RGB", (128, 96), "red"))
    heif.add_from_pillow(Image.new("RGB", (128, 96), "blue"))
    file = BytesIO()
    heif.save(file, quality=80, primary_index=0)
    photo = read_photo(file.getvalue())
    assert "further pictures" in photo.notes[0]
    assert photo.pixels[0].float().mean() > 200
    write_photo(photo, tmp_path / "out.heic")
    assert len(pillow_heif.open_heif(tmp_path / "out.heic")) == 1


def test_metadata_go_along_into_another_format(tmp_path):
    photo = read_photo(laden("JPEG"))
    for format in FORMATS:
        target = tmp_path / f"out{suffix_for(format)}"
        write_photo(photo, target, Saving(format=format))
        back = read_photo(target)
        assert back.metadata.icc_profile == PROFILE
        assert back.metadata.exif.with_order("<").camera[0x9003].data == b"2021:03:04 05:06:07\0"


def test_a_profile_for_gray_does_not_stay_in_a_format_without_gray(tmp_path):
    gray = bytearray(PROFILE)
    gray[16:20] = b"GRAY"
    file = BytesIO()
    Image.new("L", (8, 6), 100).save(file, "PNG", icc_profile=bytes(gray))
    photo = read_photo(file.getvalue())
    write_photo(photo, tmp_path / "out.png")
    assert read_photo(tmp_path / "out.png").metadata.icc_profile == bytes(gray)
    write_photo(photo, tmp_path / "out.webp", Saving(format="webp"))
    assert read_photo(tmp_path / "out.webp").metadata.icc_profile is None


def test_cmyk_goes_through_its_color_profile(monkeypatch):
    from fairveil.images import decoding

    asked = []

    def convert(image, source, target, intent, mode):
        asked.append((image.mode, source, mode))
        return image.convert("RGB")

    monkeypatch.setattr(decoding.ImageCms, "profileToProfile", convert)
    file = BytesIO()
    Image.new("CMYK", (8, 6)).save(file, "JPEG", icc_profile=PROFILE)
    photo = read_photo(file.getvalue())
    assert asked[0][0] == "CMYK"
    assert "through its color profile" in photo.notes[0]
    assert photo.metadata.icc_profile is None


# -- Exif ------------------------------------------------------------------------------------------------------------

ENTRIES = st.dictionaries(
    st.integers(1, 0x8000),
    st.binary(min_size=1, max_size=12).map(lambda data: Entry(7, len(data), data))
    | st.lists(st.integers(0, 65535), min_size=1, max_size=4).map(
        lambda values: Entry(3, len(values), struct.pack(f"<{len(values)}H", *values))
    ),
    max_size=6,
)


@given(ENTRIES, ENTRIES, ENTRIES, ENTRIES, st.sampled_from("<>"))
def test_exif_blocks_are_read_as_they_were_written(image, camera, location, interoperability, order):
    camera = camera if camera or not interoperability else {1: Entry(3, 1, b"\1\0")}
    exif = Exif("<", image, camera, location, interoperability).with_order(order)
    assert parse_exif(exif_block(exif)) == exif
    assert exif.with_order("<").with_order(order) == exif


@given(st.binary(max_size=200))
def test_damaged_exif_is_read_as_far_as_it_goes(data):
    assert parse_exif(b"II*\0\x08\0\0\0" + data) is not None
    assert parse_exif(data) is None or data[:2] in (b"II", b"MM")


def test_exif_that_points_at_itself_does_not_fill_the_memory():
    count = 60_000
    filler = bytes(500_000)
    entries = b"".join(struct.pack("<HHII", tag, 7, len(filler), 8) for tag in range(1, count))
    exif = parse_exif(b"II*\0" + struct.pack("<I", 8 + len(filler)) + filler + struct.pack("<H", count - 1) + entries)
    assert sum(len(entry.data) for entry in exif.image.values()) <= 1 << 20


def test_big_endian_exif_is_understood(tmp_path):
    block = exif_block(replace(planted(), image={**planted().image, 0x0112: Entry(3, 1, b"\x06\0")}).with_order(">"))
    assert block[:2] == b"MM"
    file = BytesIO()
    Image.new("RGB", (8, 6)).save(file, "JPEG", exif=b"Exif\0\0" + block)
    photo = read_photo(file.getvalue())
    assert photo.pixels.shape == (3, 8, 6)
    write_photo(photo, tmp_path / "out.tif", Saving(format="TIFF", keep_metadata=True))
    with Image.open(tmp_path / "out.tif") as image:
        assert image.getexif().get_ifd(0x8769)[0x829A] == pytest.approx(1 / 125)
        assert image.getexif().get_ifd(0x8825)[2] == pytest.approx((48, 51, 29.5432))


# -- XMP, resolution -------------------------------------------------------------------------------------------------


def test_xmp_that_cannot_be_read_or_unfolds_is_dropped():
    assert xmp_without_pictures(b"<x") is None
    assert xmp_without_pictures(b'<!DOCTYPE x [<!ENTITY a "aa">]><x>&a;</x>') is None
    assert xmp_without_pictures(b"<x>" + bytes(2_000_000) + b"</x>") is None


def test_a_long_text_in_xmp_is_taken_for_a_picture():
    packet = xmp_without_pictures(b"<x><new>" + b"QUJD" * 2000 + b"</new><short>yes</short></x>")
    assert b"QUJD" not in packet
    assert b"<short>yes</short>" in packet


@pytest.mark.parametrize("dpi", [None, (0, 0), (72,), (float("nan"), 72), (float("inf"), 1), (1e9, 1), ("a", "b")])
def test_a_resolution_that_is_none_is_dropped(dpi):
    assert sound_dpi(dpi) is None
