"""Pictures of generated heads: paint, light and what surrounds the head, for a whole batch at once.

Colors are tensors (B, 3, H, W) in [0, 1] and covers are (B, H, W) in [0, 1], either with axes of length 1 where
nothing changes. Inside this file traits and conditions have two more axes, (B, 1, 1), for the pixels.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

from fairveil.data.synthetic.heads import (
    HALF_HEIGHT,
    REACH,
    Conditions,
    Head,
    SurfaceHits,
    Traits,
    bump,
    hairline,
    step,
)

_SKIN_DARK, _SKIN_LIGHT, _BLUSH = (0.40, 0.27, 0.20), (0.94, 0.76, 0.65), (0.85, 0.42, 0.38)
_HAIR_DARK, _HAIR_LIGHT, _HAIR_RED = (0.08, 0.065, 0.06), (0.74, 0.60, 0.38), (0.44, 0.18, 0.08)
_IRIS_DARK, _IRIS_LIGHT, _IRIS_GREEN = (0.18, 0.11, 0.07), (0.40, 0.52, 0.64), (0.34, 0.42, 0.24)
_LIPS, _MOUTH, _TEETH, _SCLERA, _BLACK = (
    (0.70, 0.24, 0.24),
    (0.15, 0.05, 0.05),
    (0.88, 0.85, 0.8),
    (0.9, 0.88, 0.87),
    (0.03,) * 3,
)
_HEAD_IN_PHOTO, _MIDDLE_IN_PHOTO = (
    0.2,
    0.45,
)  # half the head's width and the height of its middle, over the picture's side
_EYES_IN_CROP, _MOUTH_IN_CROP = 0.465, 0.828  # heights of eyes and mouth in an aligned crop, over its side


@dataclass(frozen=True)
class Placement:
    """Where heads are in their pictures: how to get from head units to pixels.

    Attributes:
        scale: pixels of a head unit, (B,).
        roll: clockwise turn in radians, (B,).
        middle: x and y of the head's middle in pixels, (B, 2).
    """

    scale: Tensor
    roll: Tensor
    middle: Tensor

    @classmethod
    def in_photo(cls, conditions: Conditions, size: int) -> "Placement":
        """A head that takes 40 % of the picture's width, as in a portrait."""
        shift = torch.stack([0.5 + conditions.right, _MIDDLE_IN_PHOTO + conditions.down], -1)
        return cls(_HEAD_IN_PHOTO * size * conditions.nearness.exp(), conditions.roll, shift * size - 0.5)

    @classmethod
    def in_crop(cls, landmarks: Tensor, conditions: Conditions, size: int) -> "Placement":
        """A head cut out so that the middle of its eyes and that of its mouth are where aligned crops have them.

        Roll, shift and nearness remain at a quarter: no alignment is perfect.

        Args:
            landmarks: (B, 5, 2) in head units.
            conditions: of the photos.
            size: side of the crop in pixels.
        """
        eyes, mouth = landmarks[:, :2].mean(1), landmarks[:, 3:].mean(1)
        face = mouth - eyes
        scale = (_MOUTH_IN_CROP - _EYES_IN_CROP) * size / face.norm(dim=1) * (conditions.nearness / 4).exp()
        roll = torch.atan2(face[:, 0], face[:, 1]) + conditions.roll / 4
        shift = torch.stack([0.5 + conditions.right / 4, _EYES_IN_CROP + conditions.down / 4], -1)
        middle = shift * size - 0.5 - scale[:, None] * _turn(eyes[:, None], roll)[:, 0]
        return cls(scale, roll, middle)

    def to_picture(self, points: Tensor) -> Tensor:
        """Points (B, P, 2) in head units, in pixels."""
        return self.middle[:, None] + self.scale[:, None, None] * _turn(points, self.roll)

    def to_head(self, size: int, uprightness: float = 0.0) -> tuple[Tensor, Tensor]:
        """Where pixels are in head units: to the right and downwards, each (B, size, size).

        Args:
            size: side of the picture.
            uprightness: 1 to leave out the roll, as for shoulders.
        """
        axis = torch.arange(size, dtype=torch.float32)
        roll = (self.roll * (1 - uprightness))[:, None, None]
        x = (axis[None, None, :] - self.middle[:, 0, None, None]) / self.scale[:, None, None]
        y = (axis[None, :, None] - self.middle[:, 1, None, None]) / self.scale[:, None, None]
        return roll.cos() * x + roll.sin() * y, roll.cos() * y - roll.sin() * x


def landmarks_of(head: Head) -> Tensor:
    """Left and right eye, nose, left and right corner of the mouth, as seen: (B, 5, 2) in head units."""
    t, c = head.traits, head.conditions
    width, rise = _mouth(t, c)
    x = [-t.eye_distance, t.eye_distance, torch.zeros_like(width), -width, width]
    # An eye is open farther above the level of its corners than below; a nose points a little upwards.
    eye, nose, mouth = t.eye_height - 0.02, t.eye_height + t.nose_length - 0.04, t.mouth_height - rise
    y = [eye, eye, nose, mouth, mouth]
    return head.project(torch.cat(x, 1)[..., 0], torch.cat(y, 1)[..., 0])


def draw(head: Head, placement: Placement, size: int) -> Tensor:
    """Render heads without noise.

    Args:
        head: B heads.
        placement: where in their pictures.
        size: side of the pictures in pixels.

    Returns:
        Colors in [0, 1], (B, 3, size, size).
    """
    scene = _Scene(head, placement, size)
    picture = scene.backdrop()
    for color, cover in (scene.hair_behind(), scene.neck(), scene.clothes(), scene.face()):
        picture = torch.lerp(picture, color.expand_as(picture), cover[:, None])
    c = head.conditions
    tint = torch.stack([1 + c.light_warmth, torch.ones_like(c.light_warmth), 1 - c.light_warmth], 1)
    picture = picture * tint * c.exposure.exp()[:, None]
    picture = 1 - F.softplus(1 - picture, beta=12)  # highlights saturate softly, as on film
    sigma = (0.01 * c.blur.abs()[:, 0] * placement.scale[:, None]).clamp(min=0.05).expand(-1, 2)
    return gaussian_blur2d(picture.clamp(0, 1), 2 * math.ceil(0.01 * size) + 3, sigma)


class _Scene:
    """What is in the pictures, from back to front."""

    def __init__(self, head: Head, placement: Placement, size: int) -> None:
        self.t, self.c, self.size, self._head = head.traits, head.conditions, size, head
        self.pixel = 1 / placement.scale[:, None, None]
        self.soft = 0.35 * self.pixel.clamp(min=0.012)
        self.right, self.down = placement.to_head(size)
        self._upright = placement.to_head(size, uprightness=0.7)
        light = torch.stack([self.c.light_right, -self.c.light_up, torch.ones_like(self.c.yaw)], 1)
        self.light = F.normalize(light, dim=1)  # (B, 3, 1, 1), toward the light
        self.skin = _skin(self.t)
        light_hair = _mix(_color(_HAIR_DARK), _color(_HAIR_LIGHT), torch.sigmoid(1.6 * self.t.hair_lightness - 1.2))
        self.hair = _mix(light_hair, _color(_HAIR_RED), torch.sigmoid(2 * self.t.hair_redness - 3))

    def backdrop(self) -> Tensor:
        own = self.c.backdrop[..., 0, 0]
        corners = torch.sigmoid(0.4 * own + 0.6 * own.mean(1, keepdim=True))
        return F.interpolate(corners, (self.size, self.size), mode="bilinear", align_corners=True)

    def hair_behind(self) -> tuple[Tensor, Tensor]:
        t = self.t
        bottom = t.hair_length.clamp(min=-0.5) + 0.15 * torch.cos(4 * self.right)
        width = 1.0 + t.hair_volume + 0.12 * (self.down / bottom.clamp(min=0.3)).clamp(0, 1) * (t.hair_length > 0.5)
        across = (self.right + 0.4 * torch.sin(self.c.yaw)) / width
        above = self.down.clamp(max=0) / (HALF_HEIGHT * t.length * (1 + t.hair_volume))
        cover = step(1 - (across**2 + above**2).sqrt(), self.soft) * step(bottom - self.down, self.soft + 0.02)
        strands = 1 + 0.12 * torch.sin(23 * across + 2 * torch.sin(3 * self.down))
        return self.hair * (0.5 * strands)[:, None], cover

    def neck(self) -> tuple[Tensor, Tensor]:
        right, down = self._upright
        across = (right + 0.25 * torch.sin(self.c.yaw)) / (
            0.56 + 0.5 * self.t.jaw + 0.1 * (down - 1.2).clamp(min=0) ** 2
        )
        cover = step(1 - across.abs(), self.soft) * step(down - 0.4, 0.05)
        facing = (1 - across.clamp(-1, 1) ** 2).sqrt()
        lit = 0.5 + 0.4 * (self.light[:, 0] * across + self.light[:, 2] * facing).clamp(min=0)
        under_chin = 1 - 0.45 * torch.exp(-(((down - 1.25) / 0.35).clamp(min=0) ** 2))
        return self.skin * (lit * under_chin)[:, None], cover

    def clothes(self) -> tuple[Tensor, Tensor]:
        right, down = self._upright
        top = 1.72 + 0.16 * right**2 + 0.5 * torch.exp(-((right / 0.35) ** 2)) * torch.sigmoid(self.c.clothes[:, 0])
        cover = step(down - top, 0.02 + self.soft) * step(2.5 - right.abs(), 0.05)
        folds = 0.8 + 0.05 * torch.sin(5 * right + 2 * down) + 0.2 * self.light[:, 0] * right / 2.5
        return torch.sigmoid(self.c.clothes) * folds[:, None], cover

    def face(self) -> tuple[Tensor, Tensor]:
        rows, columns, near = self._window()
        hits = self._head.meet(self.right[:, rows, columns], self.down[:, rows, columns], self.pixel)
        paint = _Paint(self.t, self.c, hits, self.soft)
        skin = paint.skin(self.skin)
        for color, cover in (
            *paint.lips(),
            paint.nostrils(),
            *paint.eyes(),
            paint.brows(self.hair),
        ):
            skin = torch.lerp(skin, color.expand_as(skin), cover[:, None])
        in_hair = paint.hair()
        strands = 1 + 0.15 * torch.sin(60 * hits.theta + 3 * torch.sin(5 * hits.y)) * torch.exp(
            -((25 * self.pixel) ** 2)
        )
        surface = torch.lerp(skin, self.hair * strands[:, None], in_hair[:, None])
        color, cover = torch.zeros(len(near), 3, *near.shape[1:]), torch.zeros_like(self.right)
        color[:, :, rows, columns] = self._lit(surface, hits, in_hair)
        cover[:, rows, columns] = hits.cover
        return color, cover * near

    def _window(self) -> tuple[slice, slice, Tensor]:
        """The rows and columns in which some head is, as others need not be computed, and where each may be."""
        near = (self.right.abs() < REACH[0]) & (self.down.abs() < REACH[1])
        rows, columns = (near.any(0).any(axis).nonzero() for axis in (1, 0))
        return _span(rows), _span(columns), near

    def _lit(self, surface: Tensor, hits: SurfaceHits, in_hair: Tensor) -> Tensor:
        """Lambert's law with some light from all around, more from above, and a gloss (Blinn 1977)."""
        facing = (hits.normal * self.light).sum(1)
        strength = 0.72 * self.c.light_strength.exp()
        diffuse = strength * ((facing + 0.15) / 1.15).clamp(min=0)
        around = 0.38 - 0.1 * hits.normal[:, 1]
        halfway = F.normalize(self.light + torch.tensor([0.0, 0.0, 1.0])[:, None, None], dim=1)
        gloss = 0.16 * strength * (hits.normal * halfway).sum(1).clamp(min=0) ** 24 * (1 - 0.6 * in_hair)
        return surface * (around + diffuse)[:, None] + gloss[:, None]


class _Paint:
    """What is painted on the surface of heads: colors and where they cover."""

    def __init__(self, traits: Traits, conditions: Conditions, hits: SurfaceHits, soft: Tensor) -> None:
        self.t, self.c, self.hits, self.soft = traits, conditions, hits, soft
        self.x, self.y, self.side = hits.x, hits.y, hits.x.abs()

    def skin(self, color: Tensor) -> Tensor:
        t, x, y, side = self.t, self.x, self.y, self.side
        uneven, spots = torch.ones_like(x), torch.zeros_like(x)
        for across, down, phase, strength in (wave.unbind(1) for wave in t.waves.unbind(1)):
            uneven = uneven + 0.035 * strength * torch.sin(4 * (across * x + down * y) + 3 * phase)
        for right, low, darkness in (mark.unbind(1) for mark in t.marks.unbind(1)):
            spots = spots + 0.4 * darkness.clamp(0, 2) * bump(x - 0.3 * right, y - 0.5 - 0.5 * low, 0.028, 0.028)
        fold = torch.exp(-(((side - t.nose_wings - 0.07 - 0.5 * (y - t.nose_length)) / 0.035) ** 2))
        folds = (t.folds + 0.1 * self.c.smile).clamp(0, 0.5) * fold * bump(y - 0.7, y, 0.2, 1e3)
        hollow = 0.2 * bump(side - t.eye_distance, y - t.eye_height, 0.24, 0.14)
        beard = t.stubble.clamp(0, 0.6) * step(y - 0.62 - 0.25 * torch.exp(-((side / 0.45) ** 2)), 0.05)
        beard = beard * step(side + y - 0.85, 0.06)
        dark = (1 - spots.clamp(0, 0.7)) * (1 - folds) * (1 - hollow) * uneven.clamp(0.7, 1.3) * (1 - 0.7 * beard)
        blush = 0.22 * bump(side - 0.52, y - 0.45, 0.25, 0.2) + 0.12 * bump(x, y - t.nose_length, 0.15, 0.12)
        return torch.lerp(color.expand(-1, -1, *x.shape[1:]), _color(_BLUSH) * color, blush[:, None]) * dark[:, None]

    def lips(self) -> list[tuple[Tensor, Tensor]]:
        t, c = self.t, self.c
        width, rise = _mouth(t, c)
        across = self.x / width
        arch = (1 - across**2).clamp(min=0)
        middle = t.mouth_height - rise * across**2
        opening = 0.2 * c.mouth_opening.clamp(0, 1.2) * arch
        upper, lower = middle - 0.2 * opening, middle + 0.8 * opening
        bow = 1 - 0.3 * torch.exp(-((self.x / 0.05) ** 2))
        top, bottom = upper - t.upper_lip.clamp(min=0.02) * arch * bow, lower + t.lower_lip.clamp(min=0.02) * arch**0.8
        within = step(1 - across.abs(), self.soft / width)
        lips = self._between(top, bottom) * within * 0.85
        mouth = self._between(upper, lower) * within * (opening > 0.008)
        teeth = mouth * self._between(upper - 0.1, upper + 0.55 * opening) * step(c.smile + 0.3, 0.2)
        line = 0.75 * torch.exp(-(((self.y - upper) / 0.016) ** 2)) * within * (1 - mouth)
        color = _mix(_color(_LIPS) * _skin(t), _color(_LIPS), torch.sigmoid(4 * t.lip_redness - 3))
        color = torch.lerp(_skin(t), color, 0.85)
        return [(color, lips), (_color(_MOUTH), mouth), (_color(_TEETH), teeth), (_color(_MOUTH), line)]

    def nostrils(self) -> tuple[Tensor, Tensor]:
        below = self.y - self.t.nose_length - self.t.eye_height - 0.065
        cover = bump(self.side - 0.55 * self.t.nose_wings, below, 0.045, 0.026)
        return _color(_MOUTH), 0.75 * cover

    def eyes(self) -> list[tuple[Tensor, Tensor]]:
        t, c = self.t, self.c
        across = (self.side - t.eye_distance) / t.eye_width
        arch = (1 - across**2).clamp(min=0)
        level = t.eye_height + t.eye_tilt * across
        upper = level - t.eye_opening * (1 - 0.6 * c.lid_drop).clamp(0.1, 1.4) * arch**0.7
        lower = level + 0.55 * t.eye_opening * arch
        within = step(1 - across.abs(), self.soft / t.eye_width)
        eye = self._between(upper, lower) * within
        # From the middle of the iris; the left eye looks where the right one does.
        right = self.x - self.x.sign() * t.eye_distance - c.gaze * t.eye_width
        down = self.y - t.eye_height + 0.15 * t.eye_opening
        away = (right**2 + down**2).sqrt()
        iris, pupil = step(0.078 - away, self.soft), step(0.034 - away, self.soft)
        glint = 0.9 * bump(right + 0.025, down + 0.028, 0.022, 0.022)
        near = step(1.12 - across.abs(), 0.04)
        lashes = 0.85 * torch.exp(-(((self.y - upper) / 0.02) ** 2)) * near
        below = 0.35 * torch.exp(-(((self.y - lower) / 0.014) ** 2)) * near
        crease = 0.3 * torch.exp(-(((self.y - upper + 0.055) / 0.02) ** 2)) * near
        color = _mix(_color(_IRIS_DARK), _color(_IRIS_LIGHT), torch.sigmoid(2 * t.iris_lightness - 0.5))
        color = _mix(color, _color(_IRIS_GREEN), torch.sigmoid(2 * t.iris_hue - 1.5))
        return [
            (_color(_SCLERA) * 0.92, eye),
            (color, eye * iris),
            (_color(_BLACK), eye * pupil),
            (_color((1.0, 1.0, 1.0)), eye * glint),
            (_color(_BLACK), lashes),
            (_color(_MOUTH), torch.maximum(below, crease)),
        ]

    def brows(self, hair: Tensor) -> tuple[Tensor, Tensor]:
        t = self.t
        across = (self.side - t.eye_distance - 0.03) / 0.25
        middle = t.eye_height - t.brow_height - 0.05 * self.c.brow_raise + t.brow_tilt * across
        middle = middle - t.brow_arch * (1 - across**2)
        half = t.brow_thickness.clamp(min=0.015) * (1 - 0.45 * across).clamp(min=0.2)
        cover = self._between(middle - half, middle + half, 0.012) * step(1 - across.abs(), 0.07)
        return hair * 0.7, cover * t.brow_darkness.clamp(0.2, 1)

    def hair(self) -> Tensor:
        jag = 0.02 * torch.sin(37 * self.hits.theta) + 0.015 * torch.sin(61 * self.hits.theta + 1)
        return step(hairline(self.t, self.hits.theta) + jag - self.y, self.soft + 0.012)

    def _between(self, top: Tensor, bottom: Tensor, extra: float = 0.0) -> Tensor:
        return step(self.y - top, self.soft + extra) * step(bottom - self.y, self.soft + extra)


def _mouth(traits: Traits, conditions: Conditions) -> tuple[Tensor, Tensor]:
    """Half the width of the mouth, and how far its corners lie above its middle."""
    smile = conditions.smile.clamp(-1.2, 1.6)
    return traits.mouth_width * (1 + 0.14 * smile), 0.07 * smile


def _span(positions: Tensor) -> slice:
    """From the first to the last of these positions; one that does not matter, if there are none."""
    return slice(int(positions[0]), int(positions[-1]) + 1) if len(positions) else slice(0, 1)


def _skin(traits: Traits) -> Tensor:
    color = _mix(_color(_SKIN_DARK), _color(_SKIN_LIGHT), torch.sigmoid(1.1 * traits.skin + 0.5))
    hue = traits.skin_hue
    return color * torch.stack([1 + 0.015 * hue, 1 + 0.015 * hue, 1 - 0.05 * hue], 1)


def _color(rgb: tuple[float, ...]) -> Tensor:
    return torch.tensor(rgb)[None, :, None, None]


def _mix(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """From `one` to `other` by a share of shape (B, 1, 1)."""
    return one + (other - one) * share[:, None]


def _turn(points: Tensor, angle: Tensor) -> Tensor:
    """Turn points (B, P, 2) clockwise in the picture by angles (B,)."""
    x, y = points.unbind(-1)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
