"""What of a photo's metadata a protected copy keeps, and what it leaves out.

Kept always: the color profile, the resolution, when the photo was taken, with what make and model and which settings,
and whose it is (artist, photographer, copyright).

Left out unless the person asks for it: location, serial numbers, names of owners and computers, unique numbers,
captions and comments, the offset from universal time (it tells the region), the weather around the camera, and
everything in XMP and IPTC, which repeat all of these in any number of ways.

Left out always: thumbnails, previews, depth maps and maker notes. They show, or can hide, the unprotected face.
"""

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace

from fairveil.images.exif import Directory, Exif, long, short

ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0xA002, 0xA003

# Exif is kept by a list of what is harmless, so that a tag nobody thought of is left out.
_HARMLESS_IN_IMAGE = frozenset(
    {
        0x010F,  # make
        0x0110,  # model
        0x0131,  # software
        0x0132,  # date and time of change
        0x013B,  # artist
        0x8298,  # copyright
    }
)
_HARMLESS_IN_CAMERA = frozenset(
    {
        *(0x829A, 0x829D, 0x8822, 0x8827),  # exposure time, aperture, program, sensitivity
        *range(0x8830, 0x8836),  # kinds of sensitivity
        *(0x9000, 0x9003, 0x9004, 0x9290, 0x9291, 0x9292),  # version, when taken and digitised, fractions of seconds
        *range(0x9201, 0x920B),  # shutter, aperture, brightness, bias, distance, metering, light, flash, focal length
        *(0xA000, 0xA001, 0xA217, 0xA300, 0xA301),  # versions, color space, sensor, source, scene
        *range(0xA401, 0xA40B),  # rendering, exposure mode, white balance, zoom, contrast, saturation, sharpness
        *(0xA40C, 0xA432, 0xA433, 0xA434, 0xA437, 0xA500),  # distance, lens (not its serial number), photographer
    }
)
_ON_REQUEST_IN_IMAGE = _HARMLESS_IN_IMAGE | {
    *(0x010D, 0x010E, 0x013C, 0x4746, 0x4749),  # name, description, computer, ratings
    *(0xC614, 0xC62F),  # unique camera model, camera serial number
    *range(0x9C9B, 0x9CA0),  # the same in Windows' own tags: title, comment, author, keywords, subject
}
_NEVER_IN_CAMERA = frozenset({0x927C, _WIDTH, _HEIGHT})  # maker note; the size is written anew

_LONGEST_VALUE = 4096
"""Bytes of a value that is kept on request. Nobody types more; a picture, even a tiny one, has more."""
_LONGEST_IPTC = 32768
_LONGEST_XMP = 1 << 20

_PICTURES_IN_XMP = (
    "http://ns.adobe.com/xap/1.0/g/img/",
    "http://ns.google.com/photos/1.0/",  # image, depth map, camera, container, audio: all begin so
    "http://ns.google.com/photos/dd/1.0/",
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.adobe.com/xmp/note/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
)
_OUTDATED_IN_XMP = (
    "{http://ns.adobe.com/tiff/1.0/}Orientation",
    "{http://ns.adobe.com/xap/1.0/}Thumbnails",
)

ET.register_namespace("x", "adobe:ns:meta/")
ET.register_namespace("rdf", "http://www.w3.org/1999/02/22-rdf-syntax-ns#")


@dataclass(frozen=True)
class Metadata:
    """What a photo's file says besides its pixels; pictures in it are gone already.

    Attributes:
        exif: camera, settings, dates, authorship, location.
        icc_profile: what its colors mean, byte for byte.
        dpi: pixels an inch, along x and y.
        color_chunks: what its colors mean, in PNG's own words (whole chunks).
        xmp: an XMP packet.
        iptc: an IPTC record.
        texts: comments and PNG texts, by keyword.
    """

    exif: Exif | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    color_chunks: bytes = b""
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()

    def harmless(self) -> "Metadata":
        """Only what is kept without asking."""
        exif = self.exif and replace(
            self.exif,
            image=_only(self.exif.image, _HARMLESS_IN_IMAGE),
            camera=_only(self.exif.camera, _HARMLESS_IN_CAMERA),
            location={},
        )
        return replace(self, exif=exif, xmp=None, iptc=None, texts=())


def without_pictures(exif: Exif) -> Exif:
    """Leave out what can hold a picture, or says what the pixels say better (sizes, orientation)."""
    image = {tag: entry for tag, entry in exif.image.items() if tag in _ON_REQUEST_IN_IMAGE}
    camera = {tag: entry for tag, entry in exif.camera.items() if tag not in _NEVER_IN_CAMERA}
    return replace(
        exif,
        image=_without_long(image),
        camera=_without_long(camera),
        location=_without_long(exif.location),
        interoperability=_only(exif.interoperability, frozenset({1, 2})),
    )


def upright(exif: Exif, width: int, height: int) -> Exif | None:
    """The same Exif for a picture that needs no turning and has this size; None if it has nothing to say."""
    if not (exif.image or exif.camera or exif.location):
        return None
    size = {_WIDTH: long(width, exif.order), _HEIGHT: long(height, exif.order)}
    return replace(
        exif,
        image={**exif.image, ORIENTATION: short(1, exif.order)},
        camera={**exif.camera, **size},
    )


def orientation(exif: Exif | None) -> int:
    """How the pixels are to be turned, 1 to 8, as numbered by Exif."""
    number = (exif.number(ORIENTATION) if exif else None) or 1
    return number if number <= 8 else 1


def xmp_without_pictures(packet: bytes) -> bytes | None:
    """An XMP packet without thumbnails, depth maps and orientation; None if it cannot be read, or is too long."""
    if len(packet) > _LONGEST_XMP or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return None
    try:
        root = ET.fromstring(packet.strip(b"\0 \r\n\t"))
    except (ET.ParseError, ValueError, LookupError, RecursionError):
        return None
    for element in list(root.iter()):
        for name, value in list(element.attrib.items()):
            if _is_picture_in_xmp(name, value):
                del element.attrib[name]
        for child in list(element):
            if _is_picture_in_xmp(child.tag, child.text or ""):
                element.remove(child)
    body: bytes = ET.tostring(root, encoding="utf-8")
    return b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>' + body + b'<?xpacket end="w"?>'


def iptc_without_pictures(record: bytes) -> bytes | None:
    """An IPTC record, unless it may hold a preview."""
    return record if len(record) <= _LONGEST_IPTC and not _looks_like_picture(record) else None


def texts_without_pictures(texts: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Texts that a person or a camera wrote: neither other metadata in disguise nor pictures."""
    return tuple(
        (keyword, text)
        for keyword, text in texts.items()
        if len(text) <= _LONGEST_VALUE and not keyword.startswith(("Raw profile type", "XML:com.adobe.xmp"))
    )


def sound_dpi(dpi: object) -> tuple[float, float] | None:
    """A resolution as files can hold it; None for what is none."""
    if not (isinstance(dpi, tuple) and len(dpi) == 2):
        return None
    try:
        across, down = (float(number) for number in dpi)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (across, down) if all(math.isfinite(n) and 1 <= n <= 65535 for n in (across, down)) else None


def _only(entries: Directory, tags: frozenset[int]) -> Directory:
    return {tag: entry for tag, entry in entries.items() if tag in tags and len(entry.data) <= _LONGEST_VALUE}


def _without_long(entries: Directory) -> Directory:
    return {
        tag: entry
        for tag, entry in entries.items()
        if len(entry.data) <= _LONGEST_VALUE and not _looks_like_picture(entry.data)
    }


def _looks_like_picture(data: bytes) -> bool:
    return b"\xff\xd8\xff" in data or b"\x89PNG" in data


def _is_picture_in_xmp(name: str, value: str) -> bool:
    return (
        name in _OUTDATED_IN_XMP or name.removeprefix("{").startswith(_PICTURES_IN_XMP) or len(value) > _LONGEST_VALUE
    )
