"""What the numbers of a photo mean where no ICC profile says it: code points of ITU-T H.273, and PNG's own words.

They are told as an ICC profile, which every format fairveil writes can hold; the numbers stay as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairveil.base.errors import FairveilError

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of red, green, blue and white."""

Curve = tuple[float, float, float, float, float]
"""g, a, b, c, d: light is (a·x + b)^g from d on and c·x below (ICC.1:2022, 10.18, function type 3)."""

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
_BT709: Chromaticities = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *_D65)
_SRGB: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BT601_525: Chromaticities = (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65)
_CAMERA: Curve = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)

_PRIMARIES: dict[int, Chromaticities] = {  # H.273, table 2
    1: _BT709,
    2: _BT709,  # not said
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_C),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: _BT601_525,
    7: _BT601_525,
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_C),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
_CURVES: dict[int, Curve] = {  # H.273, table 3
    2: _SRGB,  # not said
    4: (2.2, 1.0, 0.0, 0.0, 0.0),
    5: (2.8, 1.0, 0.0, 0.0, 0.0),
    8: (1.0, 1.0, 0.0, 0.0, 0.0),
    13: _SRGB,
    **dict.fromkeys((1, 6, 11, 14, 15), _CAMERA),
}
_HDR = {16, 18}  # PQ and HLG
_NEAR = 0.002  # chromaticities are rounded in files


@dataclass(frozen=True)
class ColorSpace:
    """What values of 0 to 1 mean.

    Attributes:
        chromaticities: of the primaries and of white.
        curve: from values to light.
    """

    chromaticities: Chromaticities = _BT709
    curve: Curve = _SRGB

    @property
    def is_srgb(self) -> bool:
        """Whether this is what everybody takes colors for that nobody says anything of."""
        apart = np.abs(np.subtract(self.chromaticities, _BT709)).max()
        return bool(apart < _NEAR) and self.curve in (_SRGB, _power(1 / 0.45455))

    def profile(self, *, gray: bool = False) -> bytes:
        """The same as an ICC profile (version 4), for RGB or for gray values."""
        curve = b"para" + bytes(4) + (3).to_bytes(2, "big") + bytes(2) + b"".join(map(_fixed, self.curve))
        tags = {
            b"desc": _text("made by fairveil from what the photo says of its colors"),
            b"cprt": _text("no copyright"),
            b"wtpt": _xyz(_D50),
        }
        if gray:
            tags[b"kTRC"] = curve
        else:
            columns = self._to_d50().T
            tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
            tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
        return _icc(tags, b"GRAY" if gray else b"RGB ")

    def _to_d50(self) -> NDArray[np.float64]:
        """From linear red, green, blue to X, Y, Z for the white of ICC profiles, (3, 3)."""
        points = np.reshape(self.chromaticities, (4, 2))
        x, y = points.T
        xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])  # columns: red, green, blue, white at Y = 1
        matrix = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
        cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ xyz[:, 3]))
        return np.asarray(np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ matrix)


ADOBE_RGB = ColorSpace((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65), (2.19921875, 1.0, 0.0, 0.0, 0.0))
"""What cameras mean by the Exif interoperability index R03 (JEITA CP-3461, Exif 2.21; Adobe RGB (1998), 4.3)."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def space_of_code_points(primaries: int, curve: int, name: str) -> ColorSpace:
    """The colors that two numbers of ITU-T H.273 stand for.

    Raises:
        FairveilError: their range of brightness is more than 8 bits can show, or nobody knows what they stand for.
    """
    if curve in _HDR:
        raise FairveilError(f"{name} has a brightness range (HDR) that would be lost: save it as a standard photo.")
    if primaries not in _PRIMARIES or curve not in _CURVES:
        raise FairveilError(
            f"{name} has colors of a kind that fairveil does not know (primaries {primaries}, transfer {curve} of "
            "ITU-T H.273), and they would come out wrong: save it as an sRGB photo."
        )
    return ColorSpace(_PRIMARIES[primaries], _CURVES[curve])


def space_of_png(chunks: bytes, name: str) -> ColorSpace | None:
    """The colors that chunks of a PNG tell of, by their precedence (PNG, third edition, 4.3); None where none does.

    Raises:
        FairveilError: as `space_of_code_points`.
    """
    found = dict(_chunks(chunks))
    if len(body := found.get(b"cICP", b"")) == 4:
        if body[2] != 0 or body[3] != 1:
            raise FairveilError(
                f"{name} says that its values are those of video (matrix {body[2]}, range {body[3]} in its cICP), and "
                "colors would come out wrong: save it as an sRGB photo."
            )
        return space_of_code_points(body[0], body[1], name)
    if b"sRGB" in found or not found:
        return None
    gamma = int.from_bytes(found.get(b"gAMA", b""), "big")
    corners = np.frombuffer(found.get(b"cHRM", b"")[:32].ljust(32, b"\0"), ">u4") / 1e5
    chromaticities = [*corners[2:].tolist(), *corners[:2].tolist()]  # white comes first there
    if not 1_000 <= gamma <= 1_000_000 and not all(chromaticities):
        return None
    return ColorSpace(
        _chromaticities(chromaticities) if all(chromaticities) else _BT709,
        _power(1e5 / gamma) if 1_000 <= gamma <= 1_000_000 else _SRGB,
    )


def tells_cicp(chunks: bytes) -> bool:
    """Whether chunks of a PNG hold code points, which go before an ICC profile."""
    return any(kind == b"cICP" for kind, _ in _chunks(chunks))


def code_points_of_avif(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of the first picture of an AVIF that tells them; None where none does.

    They stand in a box `colr` of the kind `nclx` (ISO/IEC 14496-12, 12.1.5) among the properties of the primary item.
    """
    meta = next((body for kind, body in _boxes(data) if kind == b"meta"), b"")[4:]
    inside = dict(_boxes(meta))
    properties = dict(_boxes(inside.get(b"iprp", b"")))
    told = [body if kind == b"colr" else b"" for kind, body in _boxes(properties.get(b"ipco", b""))]
    wide = properties.get(b"ipma", b"")
    chosen = _properties_of(inside.get(b"pitm", b""), wide) or range(1, len(told) + 1)
    for index in chosen:
        if 0 < index <= len(told) and told[index - 1].startswith(b"nclx") and len(told[index - 1]) >= 10:
            body = told[index - 1]
            return int.from_bytes(body[4:6], "big"), int.from_bytes(body[6:8], "big")
    return None


def _properties_of(pitm: bytes, ipma: bytes) -> list[int]:
    """Numbers, from 1 on, of the properties of the primary item."""
    if len(pitm) < 6 or len(ipma) < 8:
        return []
    primary = int.from_bytes(pitm[4 : 6 if pitm[0] == 0 else 8], "big")
    id_bytes, wide = 2 if ipma[0] < 1 else 4, ipma[3] & 1
    position = 8
    for _ in range(min(int.from_bytes(ipma[4:8], "big"), len(ipma))):
        item = int.from_bytes(ipma[position : position + id_bytes], "big")
        position += id_bytes
        count = ipma[position] if position < len(ipma) else 0
        position += 1
        width = 2 if wide else 1
        if item == primary:
            mask = 0x7FFF if wide else 0x7F
            ends = range(position, min(position + count * width, len(ipma)), width)
            return [int.from_bytes(ipma[at : at + width], "big") & mask for at in ends]
        position += count * width
    return []


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and contents of boxes of ISO/IEC 14496-12, up to the first that is damaged."""
    position = 0
    while position + 8 <= len(data):
        size, start = int.from_bytes(data[position : position + 4], "big"), position + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        end = len(data) if size == 0 else position + size
        if end < start:
            return
        yield data[position + 4 : position + 8], data[start:end]
        position = end


def _chunks(chunks: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 12 <= len(chunks):
        size = int.from_bytes(chunks[position : position + 4], "big")
        yield chunks[position + 4 : position + 8], chunks[position + 8 : position + 8 + size]
        position += 12 + size


def _chromaticities(values: list[float]) -> Chromaticities:
    """Eight values of a file; those of no triangle are taken for none said."""
    red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y = values
    triangle = np.array([[red_x, red_y, 1], [green_x, green_y, 1], [blue_x, blue_y, 1]])
    if abs(np.linalg.det(triangle)) < 1e-3 or max(values) > 1:
        return _BT709
    return red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y


def _power(exponent: float) -> Curve:
    return (round(exponent, 3), 1.0, 0.0, 0.0, 0.0)


def _fixed(value: float) -> bytes:
    return round(value * 65536).to_bytes(4, "big", signed=True)


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(float(value)) for value in values)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    sizes = b"".join(number.to_bytes(4, "big") for number in (1, 12))
    return b"mluc" + bytes(4) + sizes + b"enUS" + len(encoded).to_bytes(4, "big") + (28).to_bytes(4, "big") + encoded


def _icc(tags: dict[bytes, bytes], space: bytes) -> bytes:
    """A display's profile of these tags (ICC.1:2022, 7)."""
    table, body = len(tags).to_bytes(4, "big"), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + (start + len(body)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        body += content + bytes(-len(content) % 4)
    size = (start + len(body)).to_bytes(4, "big")
    date = b"".join(number.to_bytes(2, "big") for number in (2026, 1, 1, 0, 0, 0))
    white = b"".join(_fixed(float(value)) for value in _D50)
    head = size + bytes(4) + b"\x04\x30\0\0" + b"mntr" + space + b"XYZ " + date + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + table + body


__all__ = ["ADOBE_RGB", "ColorSpace", "code_points_of_avif", "space_of_code_points", "space_of_png", "tells_cicp"]
