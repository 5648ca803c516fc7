"""The picture formats fairveil reads and writes, by content and by name."""

from pathlib import Path
from typing import Literal

from fairveil.base.errors import FairveilError

Format = Literal["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"]

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
}
"""What files of each format are called; the first is what new ones are called."""

LONGEST_SIDE: dict[Format, int] = {"JPEG": 65500, "WEBP": 16383, "AVIF": 32768}
"""Pixels a side can have in formats that have a limit."""

SPOKEN = "JPEG, PNG, WebP, TIFF, HEIC and AVIF"

_STARTS: dict[bytes, Format] = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_OTHERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"8BPS": "a Photoshop document",
    b"%PDF": "a PDF",
    b"<svg": "an SVG drawing",
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\0\x0cJXL ": "a JPEG XL",
    b"\0\0\0\x0cjP  ": "a JPEG 2000",
    b"FUJIFILMCCD-RAW": "a camera's raw file",
}


def format_of_content(data: bytes) -> Format | None:
    """The format a file's first bytes announce; None for one that fairveil does not read."""
    for start, known in _STARTS.items():
        if data.startswith(start):
            return known
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        size = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIC_BRANDS:
            return "HEIF"
    return None


def other_kind(data: bytes) -> str | None:
    """What a file is that fairveil does not read, in words, if it is well known."""
    return next((words for start, words in _OTHERS.items() if data.startswith(start)), None)


def format_named(name: str) -> Format:
    """The format a person names, by its name or a suffix of it, in any case.

    Raises:
        FairveilError: no format is called so.

    >>> format_named("jpg"), format_named("WebP")
    ('JPEG', 'WEBP')
    """
    plain = name.lower().lstrip(".")
    for known, suffixes in SUFFIXES.items():
        if plain == known.lower() or f".{plain}" in suffixes:
            return known
    raise FairveilError(f"{name!r} is no format that photos can be written in: choose {SPOKEN}.")


def format_of_name(path: Path) -> Format | None:
    """The format a file's suffix promises; None if it promises none.

    >>> format_of_name(Path("holiday.JPG"))
    'JPEG'
    """
    suffix = path.suffix.lower()
    return next((known for known, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def suffix_for(format: str) -> str:
    """The suffix, with its dot, of new files in a format.

    Raises:
        FairveilError: no format is called so.

    >>> suffix_for("JPEG")
    '.jpg'
    """
    return SUFFIXES[format_named(format)][0]


def suffix_fits(path: Path, format: Format) -> bool:
    """Whether a file of this format may be called so."""
    return path.suffix.lower() in SUFFIXES[format]
