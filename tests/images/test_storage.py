import os
import stat
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage.data import astronaut

from fairveil.base.errors import FairveilError
from fairveil.images import (
    Photo,
    Saving,
    check_target,
    decoding,
    find_photos,
    read_photo,
    storage,
    suffix_for,
    write_photo,
)

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF")
pillow_heif = pytest.importorskip("pillow_heif")


def noise(mode: str = "RGB", size: tuple[int, int] = (23, 17), seed: int = 0) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(values.squeeze(-1) if channels == 1 else values, mode)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    file = BytesIO()
    if format == "HEIF":
        pillow_heif.from_pillow(image).save(file, **options)
    else:
        image.save(file, format, **options)
    return file.getvalue()


def saved(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def rgb(photo: Photo) -> np.ndarray:
    return photo.pixels.permute(1, 2, 0).numpy()


# -- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
@pytest.mark.parametrize(
    ("format", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})]
)
def test_lossless_formats_give_back_every_pixel(tmp_path, mode, format, options):
    image = noise(mode)
    source = saved(tmp_path, "in", encoded(image, format, **options))
    photo = read_photo(source)
    target = tmp_path / f"out{suffix_for(format)}"
    assert write_photo(photo, target) == ()
    with Image.open(target) as back:
        assert back.format == format
        expected = mode if format != "WEBP" else {"L": "RGB", "LA": "RGBA"}.get(mode, mode)
        assert back.mode == expected
        np.testing.assert_array_equal(np.asarray(back), np.asarray(image.convert(expected)))
    assert photo.gray == (expected in ("L", "LA"))
    again = read_photo(target)
    assert torch.equal(again.pixels, photo.pixels)
    assert (again.alpha is None) == (photo.alpha is None)
    assert again.compression == photo.compression


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
def test_tiff_keeps_its_lossless_compression(tmp_path, compression):
    photo = read_photo(encoded(noise(), "TIFF", compression=compression))
    write_photo(photo, tmp_path / "out.tif")
    with Image.open(tmp_path / "out.tif") as back:
        assert back.info["compression"] == compression
        np.testing.assert_array_equal(np.asarray(back), np.asarray(noise()))


def test_tiff_compressed_with_loss_becomes_lossless(tmp_path):
    photo = read_photo(encoded(noise(), "TIFF", compression="jpeg"))
    write_photo(photo, tmp_path / "out.tif")
    assert torch.equal(read_photo(tmp_path / "out.tif").pixels, photo.pixels)


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_comes_back_as_itself_and_nearly_the_same(tmp_path, format):
    portrait = Image.fromarray(astronaut()[:200, 100:301])  # an odd width
    photo = read_photo(encoded(portrait, format, quality=95))
    assert photo.format == format
    write_photo(photo, tmp_path / f"out{suffix_for(format)}")
    back = read_photo(tmp_path / f"out{suffix_for(format)}")
    assert back.format == format
    assert back.pixels.shape == photo.pixels.shape == (3, 200, 201)
    assert (back.pixels.float() - photo.pixels.float()).abs().mean() < 3


def test_jpeg_keeps_full_color_resolution_and_high_quality(tmp_path):
    write_photo(read_photo(encoded(noise(), "JPEG")), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as back:
        assert [layer[1:3] for layer in back.layer] == [(1, 1)] * 3
        reference = Image.open(BytesIO(encoded(noise(), "JPEG", quality=95)))
        assert back.quantization == reference.quantization


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_a_gray_photo_stays_gray_after_a_colored_change(tmp_path, format):
    photo = read_photo(encoded(noise("L"), format))
    assert photo.gray
    assert torch.equal(photo.pixels[0], photo.pixels[2])
    changed = photo.pixels.clone()
    changed[0] = 255 - changed[0]
    write_photo(replace(photo, pixels=changed), tmp_path / f"out{suffix_for(format)}")
    with Image.open(tmp_path / f"out{suffix_for(format)}") as back:
        assert back.mode == "L"
        if format != "JPEG":
            luminance = Image.fromarray(changed.permute(1, 2, 0).numpy()).convert("L")
            np.testing.assert_array_equal(np.asarray(back), np.asarray(luminance))


def test_palette_pictures_become_full_color_with_their_transparency(tmp_path):
    palette = noise().quantize(7)
    source = encoded(palette, "PNG", transparency=3)
    photo = read_photo(source)
    np.testing.assert_array_equal(rgb(photo), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(photo.alpha[0].numpy(), np.where(np.asarray(palette) == 3, 0, 255))
    write_photo(photo, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as back:
        assert back.mode == "RGBA"


@pytest.mark.parametrize(("mode", "key"), [("RGB", (1, 2, 3)), ("L", 7)])
def test_a_color_that_stands_for_transparency_becomes_alpha(mode, key):
    image = noise(mode)
    image.putpixel((4, 5), key)
    photo = read_photo(encoded(image, "PNG", transparency=key))
    assert photo.alpha[0, 5, 4] == 0
    assert photo.gray == (mode == "L")


def test_black_and_white_is_read_as_gray():
    photo = read_photo(encoded(noise("L").convert("1"), "TIFF", compression="group4"))
    assert photo.gray
    assert set(photo.pixels.unique().tolist()) <= {0, 255}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_16_bit_png_is_read_with_its_upper_8_bits_and_says_so(mode):
    import struct
    import zlib

    color = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}[mode]
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, len(mode)), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    png = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 7, 5, 16, color, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        png += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    photo = read_photo(png)
    assert "16 bits" in photo.notes[0]
    top = (values >> 8).astype(np.uint8)
    colors = top[..., :3] if mode.startswith("RGB") else top[..., :1].repeat(3, -1)
    np.testing.assert_array_equal(rgb(photo), colors)
    assert photo.gray == mode.startswith("L")
    if mode.endswith("A"):
        np.testing.assert_array_equal(photo.alpha[0].numpy(), top[..., -1])


def test_16_bit_gray_tiff_is_read_with_its_upper_8_bits_and_says_so():
    values = np.random.default_rng(1).integers(0, 65536, (5, 7), dtype=np.uint16)
    photo = read_photo(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(photo.pixels[1].numpy(), values >> 8)
    assert "16 bits" in photo.notes[0]


def test_cmyk_is_converted_plainly_and_said_so(tmp_path):
    image = noise("CMYK")
    photo = read_photo(encoded(image, "TIFF"))
    np.testing.assert_array_equal(rgb(photo), np.asarray(image.convert("RGB")))
    assert "CMYK" in photo.notes[0]
    assert "without a color profile" in photo.notes[0]
    write_photo(read_photo(encoded(image, "JPEG")), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as back:
        assert back.mode == "RGB"


def test_cmyk_with_a_damaged_profile_is_converted_plainly():
    photo = read_photo(encoded(noise("CMYK"), "TIFF", icc_profile=b"no profile at all" * 20))
    assert "without a color profile" in photo.notes[0]
    assert photo.metadata.icc_profile is None


def test_pictures_with_a_brightness_range_that_would_be_lost_are_refused(monkeypatch):
    data = encoded(noise(), "HEIF")
    opened = decoding._open

    def with_hdr(*args):
        image = opened(*args)
        image.info["nclx_profile"] = {"transfer_characteristics": 16}
        return image

    monkeypatch.setattr(decoding, "_open", with_hdr)
    refusal(data, "HDR")


# -- orientation -----------------------------------------------------------------------------------------------------

# Where a pixel of the upright picture lies in the stored one, from the Exif standard's table of rows and columns.
STORED_AT = {
    1: lambda y, x, h, w: (y, x),
    2: lambda y, x, h, w: (y, w - 1 - x),
    3: lambda y, x, h, w: (h - 1 - y, w - 1 - x),
    4: lambda y, x, h, w: (h - 1 - y, x),
    5: lambda y, x, h, w: (x, y),
    6: lambda y, x, h, w: (h - 1 - x, y),
    7: lambda y, x, h, w: (h - 1 - x, w - 1 - y),
    8: lambda y, x, h, w: (x, w - 1 - y),
}


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("number", range(1, 9))
def test_orientation_is_applied_once_and_written_as_upright(tmp_path, number, format):
    stored = noise("RGB", (6, 4))
    exif = Image.Exif()
    exif[0x0112] = number
    exif[0x010F] = "Maker"
    data = encoded(stored, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    if format == "JPEG":
        stored = Image.open(BytesIO(data))
    values = np.asarray(stored)
    height, width = values.shape[:2]
    photo = read_photo(data)
    upright = rgb(photo)
    assert upright.shape[:2] == ((width, height) if number >= 5 else (height, width))
    expected = np.empty_like(upright)
    for y, x in np.ndindex(upright.shape[:2]):
        expected[y, x] = values[STORED_AT[number](y, x, height, width)]
    np.testing.assert_array_equal(upright, expected)

    target = tmp_path / f"out{suffix_for(format)}"
    write_photo(photo, target)
    with Image.open(target) as back:
        assert back.getexif().get(0x0112, 1) == 1
        if format != "TIFF":  # Pillow takes the tags of a TIFF's structure for Exif
            assert back.getexif().get_ifd(0x8769)[0xA002] == upright.shape[1]
    assert read_photo(target).pixels.shape == photo.pixels.shape


@pytest.mark.parametrize("format", ["TIFF", "PNG", "JPEG"])
def test_xmp_does_not_turn_a_photo(format):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    options = {"tiffinfo": {700: packet}} if format == "TIFF" else {"xmp": packet}
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", packet.decode())
    photo = read_photo(encoded(noise(size=(6, 4)), format, **options))
    assert photo.pixels.shape == (3, 4, 6)
    assert photo.metadata.xmp is not None


def test_alpha_turns_with_the_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = noise("RGBA", (6, 4))
    photo = read_photo(encoded(image, "PNG", exif=exif))
    np.testing.assert_array_equal(photo.alpha[0].numpy(), np.rot90(np.asarray(image)[..., 3], -1))


# -- sizes and targets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "HEIF"])
def test_max_size_is_kept_with_the_best_quality_that_fits(tmp_path, format):
    photo = read_photo(encoded(Image.fromarray(astronaut()[:96, 180:276]), "PNG"))
    full, target = tmp_path / f"full{suffix_for(format)}", tmp_path / f"small{suffix_for(format)}"
    write_photo(photo, full, Saving(format=format))
    limit = int(full.stat().st_size * 0.8)
    (note,) = write_photo(photo, target, Saving(format=format, max_size=limit))
    assert target.stat().st_size <= limit
    quality = int(note.split("quality ")[1].split()[0])
    assert 60 <= quality < 95
    better = tmp_path / f"better{suffix_for(format)}"
    write_photo(photo, better, Saving(format=format, quality=quality + 1))
    assert better.stat().st_size > limit


def test_a_photo_that_fits_anyway_keeps_its_quality(tmp_path):
    photo = read_photo(encoded(noise(), "JPEG"))
    assert write_photo(photo, tmp_path / "out.jpg", Saving(max_size=1_000_000)) == ()


@pytest.mark.parametrize(("format", "words"), [("JPEG", "even at quality 60"), ("PNG", "choose JPEG")])
def test_an_impossible_max_size_is_refused(tmp_path, format, words):
    photo = read_photo(encoded(noise(), format))
    with pytest.raises(FairveilError, match=words):
        write_photo(photo, tmp_path / f"out{suffix_for(format)}", Saving(max_size=100))
    assert not list(tmp_path.iterdir())


def test_transparent_parts_are_not_lost_in_a_jpeg(tmp_path):
    photo = read_photo(encoded(noise("RGBA"), "PNG"))
    with pytest.raises(FairveilError, match="transparent"):
        write_photo(photo, tmp_path / "out.jpg", Saving(format="JPEG"))
    opaque = replace(photo, alpha=torch.full_like(photo.alpha, 255))
    write_photo(opaque, tmp_path / "out.jpg", Saving(format="jpg"))
    assert read_photo(tmp_path / "out.jpg").pixels.shape == photo.pixels.shape


def test_a_name_that_contradicts_the_format_is_refused(tmp_path):
    photo = read_photo(saved(tmp_path, "wrong.jpg", encoded(noise(), "PNG")))
    assert photo.format == "PNG"
    with pytest.raises(FairveilError, match=r"would hold a PNG: call it out\.png, or ask for the format JPEG"):
        write_photo(photo, tmp_path / "out.jpg")
    with pytest.raises(FairveilError, match=r"call it out\.png\."):
        write_photo(photo, tmp_path / "out")
    write_photo(photo, tmp_path / "out.PNG")


def test_a_side_too_long_for_the_format_is_refused(tmp_path):
    photo = read_photo(encoded(Image.new("L", (16384, 1)), "PNG"))
    with pytest.raises(FairveilError, match="at most 16383"):
        write_photo(photo, tmp_path / "out.webp", Saving(format="WEBP"))


def test_what_an_encoder_refuses_is_refused_in_a_sentence(tmp_path):
    photo = read_photo(encoded(Image.new("L", (16383, 2)), "PNG"))  # too thin for the HEVC encoder
    with pytest.raises(FairveilError, match="HEIF refuses this picture of 16383 by 2 pixels"):
        write_photo(photo, tmp_path / "out.heic", Saving(format="heic"))
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_refused(tmp_path):
    photo = read_photo(encoded(noise(), "PNG"))
    with pytest.raises(FairveilError, match="'BMP' is no format"):
        write_photo(photo, tmp_path / "out.bmp", Saving(format="BMP"))


def test_tensors_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        Photo(torch.zeros(3, 4, 4), None, "PNG")
    with pytest.raises(ValueError, match="size"):
        Photo(torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(1, 4, 5, dtype=torch.uint8), "PNG")


# -- the original is safe --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_original_is_never_written_onto(tmp_path, overwrite, monkeypatch):
    source = saved(tmp_path, "photo.png", encoded(noise(), "PNG"))
    os.utime(source, (1_000_000_000, 1_000_000_000))
    before = source.read_bytes()
    (tmp_path / "link.png").symlink_to(source)
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "link.png"):
        photo = read_photo(Path(name))
        for target in ("photo.png", "link.png", "hard.png", "folder/photo.png", f"../{tmp_path.name}/photo.png"):
            with pytest.raises(FairveilError, match="is the original"):
                write_photo(photo, Path(target), Saving(overwrite=overwrite))
    write_photo(photo, tmp_path / "other.png", Saving(overwrite=overwrite))
    assert source.read_bytes() == before
    assert source.stat().st_mtime == 1_000_000_000
    assert (tmp_path / "link.png").is_symlink()


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    photo = read_photo(encoded(noise(), "PNG"))
    target = saved(tmp_path, "out.png", b"precious")
    with pytest.raises(FairveilError, match="already exists"):
        check_target(photo, target, Saving())
    with pytest.raises(FairveilError, match="already exists"):
        write_photo(photo, target)
    assert target.read_bytes() == b"precious"
    write_photo(photo, target, Saving(overwrite=True))
    assert torch.equal(read_photo(target).pixels, photo.pixels)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(FairveilError, match="already exists"):
        write_photo(photo, tmp_path / "dangling.png")


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    photo = read_photo(encoded(noise(), "PNG"))
    target = saved(tmp_path, "out.png", b"precious")

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as half, Path("/dev/full").open("wb", buffering=0) as disk:
            half.write(data[: len(data) // 2])
            return disk.write(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FairveilError, match=r"out\.png cannot be written: no space left"):
        write_photo(photo, target, Saving(overwrite=True))
    assert target.read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    photo = read_photo(encoded(noise(), "PNG"))

    def interrupted(path: Path, data: bytes) -> int:
        with path.open("wb") as half:
            half.write(data[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_photo(photo, tmp_path / "out.png")
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_named(tmp_path):
    photo = read_photo(encoded(noise(), "PNG"))
    (tmp_path / "folder.png").mkdir()
    for target, words in {
        tmp_path / "absent" / "out.png": "no folder",
        tmp_path / "folder.png": "is a folder",
        Path(): "is a folder",
        Path("/"): "is a folder",
        tmp_path / ("x" * 300 + ".png"): "name too long",
        tmp_path / "nul\0.png": "null",
    }.items():
        with pytest.raises(FairveilError, match=words):
            write_photo(photo, target, Saving(overwrite=True))


def test_a_long_name_in_wide_letters_can_be_written(tmp_path):
    photo = read_photo(encoded(noise(), "PNG"))
    target = tmp_path / ("写" * 80 + ".png")  # 244 bytes, of the 255 a file system allows
    write_photo(photo, target)
    assert target.exists()


def test_a_new_photo_has_ordinary_permissions(tmp_path):
    write_photo(read_photo(encoded(noise(), "PNG")), tmp_path / "out.png")
    plain = saved(tmp_path, "plain", b"")
    assert (tmp_path / "out.png").stat().st_mode == plain.stat().st_mode


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that cannot be written")
def test_a_read_only_place_is_named(tmp_path):
    photo = read_photo(encoded(noise(), "PNG"))
    with pytest.raises(FairveilError, match=r"/proc/out\.png cannot be written"):
        write_photo(photo, Path("/proc/out.png"))


# -- refusals --------------------------------------------------------------------------------------------------------


def refusal(source, words: str, **options) -> None:
    with pytest.raises(FairveilError, match=words) as caught:
        read_photo(source, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "pillow-heif"))


def test_what_is_no_photo_file_is_refused_at_once(tmp_path):
    refusal(tmp_path / "absent.jpg", "is not there")
    refusal(tmp_path, "is a folder")
    refusal(saved(tmp_path, "empty.jpg", b""), r"empty\.jpg is empty")
    refusal(saved(tmp_path, "text.jpg", b"Dear diary"), r"text\.jpg is not a photo")
    refusal(Path("nul\0.jpg"), "cannot be read")
    refusal(tmp_path / ("x" * 300), "name too long")
    refusal(tmp_path / "new\nline.jpg", "new.*nline")
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    refusal(loop, "cannot be read")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names")
def test_pipes_and_devices_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    refusal(tmp_path / "pipe.jpg", "not an ordinary file")
    refusal(Path("/dev/zero"), "not an ordinary file")


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path, "secret.jpg", encoded(noise(), "JPEG"))

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)  # the tests may run as one who may read everything
    refusal(path, r"secret\.jpg cannot be read: permission denied")


def test_other_kinds_of_pictures_are_named():
    refusal(encoded(noise().quantize(8), "GIF"), "is a GIF")
    refusal(encoded(noise(), "BMP"), "is a BMP")


@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF"])
def test_animations_are_refused(format):
    frames = [noise(seed=seed) for seed in range(3)]
    refusal(encoded(frames[0], format, save_all=True, append_images=frames[1:]), "is animated")


def test_tiffs_of_several_pages_are_refused():
    refusal(encoded(noise(), "TIFF", save_all=True, append_images=[noise(seed=1)]), "several pages")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_tiffs_of_numbers_that_are_no_shades_are_refused(mode):
    refusal(encoded(noise("L").convert(mode), "TIFF"), "32-bit")


def test_raw_files_of_cameras_are_refused():
    refusal(encoded(noise(), "TIFF", tiffinfo={50706: b"\1\4\0\0"}), "raw file")
    refusal(encoded(noise(), "TIFF", tiffinfo={254: 1}), "raw file")


def test_heic_without_its_library_says_what_to_install(monkeypatch, tmp_path):
    data = encoded(noise(), "HEIF")
    photo = read_photo(encoded(noise(), "PNG"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    refusal(data, "pip install pillow-heif")
    with pytest.raises(FairveilError, match="pip install pillow-heif"):
        write_photo(photo, tmp_path / "out.heic", Saving(format="heic"))


@pytest.mark.parametrize("format", FORMATS)
def test_a_photo_over_the_limit_is_refused_before_it_is_decoded(format, monkeypatch):
    data = encoded(noise(size=(64, 64)), format)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    refusal(data, "more than 0.004 million pixels", max_pixels=4000)


def test_the_refusal_of_a_large_photo_says_how_to_go_on():
    with pytest.raises(
        FairveilError, match=r"limit here: it has 6 million.* `max_pixels=6_000_000`, which .* 0 GB of memory"
    ):
        read_photo(encoded(Image.new("L", (3000, 2000)), "PNG"), max_pixels=5_999_999)


def test_what_is_allowed_is_opened_though_pillow_would_take_it_for_a_bomb(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_photo(encoded(noise(), "PNG"), max_pixels=400).pixels.shape == (3, 17, 23)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_decompression_bomb_is_refused_by_its_header():
    huge = bytearray(encoded(noise("L"), "PNG"))
    import zlib

    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    refusal(bytes(huge), "more than 120 million pixels")
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\xff\xff\x0f" * 2 + bytes(8)
    refusal(webp, "more than 120 million pixels")


def test_a_file_too_large_for_a_photo_is_not_read_whole(tmp_path):
    path = saved(tmp_path, "film.jpg", b"\xff\xd8\xff")
    os.truncate(path, 1 << 40)  # takes no room on the disk
    refusal(path, "larger than 268.4 MB", max_pixels=1000)


def test_memory_that_runs_out_is_said(monkeypatch):
    def exhausted(self):
        raise MemoryError

    data = encoded(noise(), "PNG")
    monkeypatch.setattr(Image.Image, "getchannel", lambda *_: exhausted(None))
    monkeypatch.setattr(decoding, "_turned", lambda *_: exhausted(None))
    refusal(data, "more memory")


def test_streams_are_read_and_named():
    assert read_photo(BytesIO(encoded(noise(), "PNG"))).source is None
    refusal(BytesIO(b""), "The picture is empty")


# -- damage ----------------------------------------------------------------------------------------------------------


def sample(format: str) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8298] = "Maker", 6, "©"
    exif.get_ifd(0x8769)[0x9003] = "2020:02:02 02:02:02"
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return encoded(noise("RGB", (16, 12)), format, exif=exif.tobytes(), icc_profile=profile, xmp=b"<x/>", dpi=(72, 72))


SAMPLES = {format: sample(format) for format in FORMATS}


def photo_or_refusal(data: bytes, folder: Path) -> None:
    try:
        photo = read_photo(data, max_pixels=1_000_000)
    except FairveilError as error:
        assert str(error)
        return
    target = folder / f"out{suffix_for(photo.format)}"
    keeping = Saving(keep_metadata=True, overwrite=True)
    try:
        if photo.pixels[0].numel() < 10_000:
            write_photo(photo, target, keeping)
    except FairveilError as error:
        assert "damaged" not in str(error)
        return


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([data[:20] for data in SAMPLES.values()] + [b""]), st.binary(max_size=300))
def test_random_bytes_are_read_or_refused(tmp_path, start, data):
    photo_or_refusal(start + data, tmp_path)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_read_or_refused(tmp_path, format, cut):
    data = SAMPLES[format]
    photo_or_refusal(data[: int(cut * len(data))], tmp_path)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_files_with_flipped_bits_are_read_or_refused(tmp_path, format, flips):
    data = bytearray(SAMPLES[format])
    for where, what in flips:
        data[int(where * len(data))] ^= what
    photo_or_refusal(bytes(data), tmp_path)


@pytest.mark.parametrize("format", FORMATS)
def test_a_photo_cut_in_half_is_refused(format):
    data = encoded(noise("RGB", (200, 200)), format)
    refusal(data[: len(data) // 2], "damaged or cut short")


def test_damaged_tiffs_print_nothing_of_their_own(capfd):
    data = encoded(noise("RGB", (60, 60)), "TIFF", compression="tiff_lzw")
    for at in range(20, len(data), 400):
        broken = data[:at] + b"\xff" * 8 + data[at + 8 :]
        try:
            read_photo(broken, max_pixels=1_000_000)
        except FairveilError:
            continue
    assert capfd.readouterr() == ("", "")


# -- finding ---------------------------------------------------------------------------------------------------------


def test_photos_are_found_in_folders_in_order_and_once(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", ".b.jpg.1234.part", "deep/er/c.heic", ".git/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.jpg").mkdir()
    expected = [tmp_path / "a.PNG", tmp_path / "b.jpg", tmp_path / "deep/er/c.heic"]
    assert find_photos([tmp_path]) == expected
    assert find_photos([tmp_path / "notes.txt", tmp_path, tmp_path / "b.jpg"]) == [tmp_path / "notes.txt", *expected]
    assert find_photos(tmp_path) == expected
    assert find_photos([]) == []


def test_a_link_to_an_impossible_name_does_not_stop_the_search(tmp_path):
    (tmp_path / "long.jpg").symlink_to("x" * 300)
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "z.jpg").touch()
    assert find_photos(tmp_path) == [tmp_path / "z.jpg"]


def test_a_photo_that_may_not_be_looked_at_is_found_so_that_reading_it_can_say_so(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").touch()

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", denied)  # as in a folder that may be listed but not entered
    assert find_photos(tmp_path) == [tmp_path / "a.jpg"]


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FairveilError, match="absent is not there"):
        find_photos([tmp_path / "absent"])


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def denied(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(storage.os, "scandir", denied)
    with pytest.raises(FairveilError, match="cannot be listed: permission denied"):
        find_photos([tmp_path])


def test_reading_leaves_the_files_mode_alone(tmp_path):
    source = saved(tmp_path, "in.jpg", encoded(noise(), "JPEG"))
    source.chmod(0o444)
    read_photo(source)
    assert stat.S_IMODE(source.stat().st_mode) == 0o444


def test_what_a_folder_search_passes_over_is_said_with_the_reason(tmp_path):
    for name in ("a.jpg", "notes.txt", ".hidden.jpg", ".thumbs/b.jpg", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round").symlink_to(tmp_path)
    told = {}
    found = find_photos(tmp_path, on_skip=lambda path, reason: told.update({path.name: reason}))
    assert [path.name for path in found] == ["a.jpg", "c.png"]
    assert told == {
        "notes.txt": "not a photo by its name",
        ".hidden.jpg": "hidden",
        ".thumbs": "hidden",
        "pipe.jpg": "not an ordinary file",
        "lost.jpg": "a link to a folder, or to nowhere",
        "round": "a link to a folder, or to nowhere",
    }


def test_a_pipe_at_the_targets_place_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FairveilError, match="not an ordinary file"):
        write_photo(read_photo(encoded(noise(), "PNG")), tmp_path / "pipe.png", Saving(overwrite=True))
    assert stat.S_ISFIFO((tmp_path / "pipe.png").stat().st_mode)
