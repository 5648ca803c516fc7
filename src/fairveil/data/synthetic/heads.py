"""The shape of a generated head: an ellipsoid with smooth bumps, turned by its pose and met by one ray a pixel.

Head coordinates: x to the right of the picture, y down, z toward the viewer; the unit is half the width of a head.
A point is also given by ρ (1 on the bare ellipsoid) and its place on the surface: θ, the angle around the vertical
axis, and q, the sine of the latitude. Features are placed by (X, Y), the place seen from the front, so that a nose
sits at (0, 0.5) on every head, however long that is.
"""

import math
from dataclasses import dataclass, fields
from typing import Annotated, TypeVar, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_HEIGHT, HALF_DEPTH = 1.42, 1.2
REACH = 1.5, 1.9  # no part of a head is farther from its middle, to the side or up and down
_ROWS, _COLUMNS, _WIDEST_ANGLE = 112, 96, 2.2  # the map of the surface: rows along q, columns along θ
_NEAREST, _FARTHEST, _STEPS, _REFINEMENTS = 1.75, -0.65, 15, 2  # where rays look for the surface
MARKS, WAVES = 6, 5
"""How many spots a skin has, and how many waves its unevenness is made of."""

Parameters = TypeVar("Parameters", bound="Traits | Conditions")


@dataclass(frozen=True)
class _Around:
    """How a parameter is spread: mean, standard deviation, and the shape of what one face has of it."""

    middle: float
    spread: float
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Traits:
    """What makes an identity: each of shape (B,), or (B, …) where said so. Lengths are in half head widths.

    Attributes:
        marks: spots of the skin, (B, 6, 3): X, Y and darkness.
        waves: unevenness of the skin, (B, 5, 4): two frequencies, phase and strength.
    """

    length: Annotated[Tensor, _Around(1.0, 0.035)]
    depth: Annotated[Tensor, _Around(1.0, 0.04)]
    jaw: Annotated[Tensor, _Around(0.06, 0.07)]
    temples: Annotated[Tensor, _Around(-0.02, 0.04)]
    chin: Annotated[Tensor, _Around(0.09, 0.035)]
    chin_width: Annotated[Tensor, _Around(0.24, 0.05)]
    cheekbones: Annotated[Tensor, _Around(0.05, 0.03)]
    muzzle: Annotated[Tensor, _Around(0.06, 0.02)]
    eye_distance: Annotated[Tensor, _Around(0.405, 0.03)]
    eye_height: Annotated[Tensor, _Around(0.0, 0.035)]
    eye_width: Annotated[Tensor, _Around(0.2, 0.017)]
    eye_opening: Annotated[Tensor, _Around(0.1, 0.016)]
    eye_tilt: Annotated[Tensor, _Around(-0.02, 0.025)]
    socket: Annotated[Tensor, _Around(0.075, 0.02)]
    brow_ridge: Annotated[Tensor, _Around(0.045, 0.02)]
    brow_height: Annotated[Tensor, _Around(0.235, 0.03)]
    brow_thickness: Annotated[Tensor, _Around(0.042, 0.012)]
    brow_tilt: Annotated[Tensor, _Around(-0.04, 0.04)]
    brow_arch: Annotated[Tensor, _Around(0.05, 0.03)]
    brow_darkness: Annotated[Tensor, _Around(0.75, 0.15)]
    nose_length: Annotated[Tensor, _Around(0.45, 0.045)]
    nose_projection: Annotated[Tensor, _Around(0.22, 0.035)]
    nose_bridge: Annotated[Tensor, _Around(0.13, 0.02)]
    nose_width: Annotated[Tensor, _Around(0.19, 0.022)]
    nose_wings: Annotated[Tensor, _Around(0.16, 0.025)]
    mouth_height: Annotated[Tensor, _Around(0.86, 0.035)]
    mouth_width: Annotated[Tensor, _Around(0.315, 0.03)]
    upper_lip: Annotated[Tensor, _Around(0.065, 0.018)]
    lower_lip: Annotated[Tensor, _Around(0.085, 0.02)]
    lip_redness: Annotated[Tensor, _Around(0.5, 0.2)]
    folds: Annotated[Tensor, _Around(0.12, 0.1)]
    stubble: Annotated[Tensor, _Around(0.0, 0.16)]
    skin: Annotated[Tensor, _Around(0.0, 1.0)]
    skin_hue: Annotated[Tensor, _Around(0.0, 0.6)]
    hair_lightness: Annotated[Tensor, _Around(0.0, 1.0)]
    hair_redness: Annotated[Tensor, _Around(0.0, 1.0)]
    hairline: Annotated[Tensor, _Around(0.86, 0.09)]
    hairline_peak: Annotated[Tensor, _Around(0.05, 0.09)]
    hairline_part: Annotated[Tensor, _Around(0.0, 0.12)]
    hair_volume: Annotated[Tensor, _Around(0.1, 0.035)]
    hair_length: Annotated[Tensor, _Around(0.7, 0.7)]
    iris_lightness: Annotated[Tensor, _Around(0.0, 1.0)]
    iris_hue: Annotated[Tensor, _Around(0.0, 1.0)]
    marks: Annotated[Tensor, _Around(0.0, 1.0, (MARKS, 3))]
    waves: Annotated[Tensor, _Around(0.0, 1.0, (WAVES, 4))]


@dataclass(frozen=True)
class Conditions:
    """What differs between photos of one identity: each of shape (B,), or (B, …) where said so.

    Attributes:
        yaw: turn to the right of the picture, in radians.
        pitch: nod downwards, in radians.
        roll: clockwise tilt in the picture, in radians.
        right: shift of the head over the side of the picture.
        down: the same downwards.
        nearness: natural logarithm of the head's size over the usual.
        mouth_opening: none below 0, wide at 1.
        smile: lips spread and corners up at 1, down at -1.
        brow_raise: brows up at 1.
        lid_drop: eyes half shut at 1, wide at -1.
        gaze: of the irises to the right, in half eye widths.
        light_right: where the light comes from: tangent of its angle to the right.
        light_up: the same upwards.
        light_strength: of the directed light over the usual, logarithmic.
        exposure: of the whole photo, logarithmic.
        light_warmth: color of the light: yellow above 0, blue below.
        blur: of the lens, its absolute value counts, in hundredths of the head's half width.
        noise: standard deviation of a pixel on the scale of [0, 1]; its absolute value counts.
        clothes: color, (B, 3), before squashing to [0, 1].
        backdrop: colors of its corners, (B, 3, 2, 2), before squashing.
    """

    yaw: Annotated[Tensor, _Around(0.0, 0.24)]
    pitch: Annotated[Tensor, _Around(0.0, 0.11)]
    roll: Annotated[Tensor, _Around(0.0, 0.09)]
    right: Annotated[Tensor, _Around(0.0, 0.025)]
    down: Annotated[Tensor, _Around(0.0, 0.025)]
    nearness: Annotated[Tensor, _Around(0.0, 0.08)]
    mouth_opening: Annotated[Tensor, _Around(0.0, 0.3)]
    smile: Annotated[Tensor, _Around(0.15, 0.5)]
    brow_raise: Annotated[Tensor, _Around(0.0, 0.5)]
    lid_drop: Annotated[Tensor, _Around(0.0, 0.3)]
    gaze: Annotated[Tensor, _Around(0.0, 0.15)]
    light_right: Annotated[Tensor, _Around(0.0, 0.5)]
    light_up: Annotated[Tensor, _Around(0.45, 0.3)]
    light_strength: Annotated[Tensor, _Around(0.0, 0.25)]
    exposure: Annotated[Tensor, _Around(0.0, 0.15)]
    light_warmth: Annotated[Tensor, _Around(0.0, 0.05)]
    blur: Annotated[Tensor, _Around(0.0, 1.0)]
    noise: Annotated[Tensor, _Around(0.0, 0.015)]
    clothes: Annotated[Tensor, _Around(0.0, 1.2, (3,))]
    backdrop: Annotated[Tensor, _Around(0.3, 1.0, (3, 2, 2))]


def numbers(kind: type[Traits] | type[Conditions]) -> int:
    """How many normal deviates one set of parameters is made of.

    >>> numbers(Conditions)
    33
    """
    return sum(math.prod(around.shape) for around in _spreads(kind).values())


def from_deviates(kind: type[Parameters], deviates: Tensor) -> Parameters:
    """`Traits` or `Conditions` that are so many standard deviations, (B, numbers(kind)), off their means."""
    spreads = _spreads(kind)
    columns = torch.split_with_sizes(deviates, [math.prod(around.shape) for around in spreads.values()], 1)
    return kind(
        **{
            name: around.middle + around.spread * column.reshape(len(deviates), *around.shape)
            for (name, around), column in zip(spreads.items(), columns, strict=True)
        }
    )


def over_pixels(parameters: Parameters) -> Parameters:
    """The same parameters with two more axes, (B, …, 1, 1), to compute with pictures (B, H, W)."""
    return type(parameters)(
        **{each.name: getattr(parameters, each.name)[..., None, None] for each in fields(parameters)}
    )


def bump(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """A Gaussian hill of height 1 at the origin: exp(−x²/width² − y²/height²)."""
    return torch.exp(-((x / width) ** 2 + (y / height) ** 2))


def step(x: Tensor, softness: Tensor | float) -> Tensor:
    """From 0 to 1 at the origin, over about four times the softness."""
    return torch.sigmoid(x / softness)


def hairline(traits: Traits, theta: Tensor) -> Tensor:
    """Y at which the hair begins, over the angle around the head; both of the shape of a picture."""
    side = (theta.abs() / 1.25) ** 4
    peak = traits.hairline_peak * (
        torch.exp(-((theta / 0.25) ** 2)) - 0.6 * torch.exp(-(((theta.abs() - 0.55) / 0.25) ** 2))
    )
    return -traits.hairline + 0.55 * side.clamp(max=2.2) + peak + traits.hairline_part * torch.sin(theta * 1.6)


@dataclass(frozen=True)
class SurfaceHits:
    """Where the rays of a picture meet the head, each of shape (B, H, W) but for the last.

    Attributes:
        cover: 1 on the head, 0 beside it, between at its edge.
        theta: angle around the vertical axis.
        x: X of the place on the surface.
        y: Y of it.
        normal: unit vectors in coordinates of the viewer, (B, 3, H, W).
    """

    cover: Tensor
    theta: Tensor
    x: Tensor
    y: Tensor
    normal: Tensor


class Head:
    """A batch of heads in their expression and pose.

    Args:
        traits: whose.
        conditions: expression and pose.
    """

    def __init__(self, traits: Traits, conditions: Conditions) -> None:
        self.traits, self.conditions = over_pixels(traits), over_pixels(conditions)
        self.rotation = _rotation(conditions.yaw, conditions.pitch)  # head to viewer, (B, 3, 3)
        self._map = self._surface()  # ρ − 1 and the normal in head coordinates, (B, 4, rows, columns)

    def meet(self, right: Tensor, down: Tensor, pixel: Tensor) -> SurfaceHits:
        """Send a ray through each pixel.

        Args:
            right: where the rays pass, in head units from the head's middle, (B, H, W).
            down: the same downwards.
            pixel: side of a pixel in head units, (B, 1, 1).
        """
        to_right, to_down, along = self.rotation[..., None, None].unbind(1)  # the viewer's axes in head coordinates
        start = right[:, None] * to_right + down[:, None] * to_down
        steps = torch.linspace(_NEAREST, _FARTHEST, _STEPS)
        near, near_value = torch.full_like(right, _NEAREST), torch.ones_like(right)
        far, far_value = near.clone(), near_value.clone()
        nearest, place, inside = near_value, near, torch.zeros_like(right, dtype=torch.bool)
        previous, previous_value = near, near_value
        for depth in steps.tolist():
            here = torch.full_like(right, depth)
            value = self._outside(start + depth * along)
            entering = (value <= 0) & ~inside
            near, near_value = torch.where(entering, previous, near), torch.where(entering, previous_value, near_value)
            far, far_value = torch.where(entering, here, far), torch.where(entering, value, far_value)
            inside = inside | entering
            closer = value < nearest
            nearest, place = torch.where(closer, value, nearest), torch.where(closer, here, place)
            previous, previous_value = here, value
        for _ in range(_REFINEMENTS):  # false position, between a depth outside and one inside
            depth_there = near + (far - near) * near_value / (near_value - far_value).clamp(min=1e-6)
            value = self._outside(start + depth_there[:, None] * along)
            out = value > 0
            near, near_value = torch.where(out, depth_there, near), torch.where(out, value, near_value)
            far, far_value = torch.where(out, far, depth_there), torch.where(out, far_value, value)
        depth_there = near + (far - near) * near_value / (near_value - far_value).clamp(min=1e-6)
        depth_there = torch.where(inside, depth_there, place)
        theta, q, _ = self._places(start + depth_there[:, None] * along)
        normal = torch.einsum("bjk,bkhw->bjhw", self.rotation, self._look_up(theta, q, slice(1, 4)))
        x, y = _from_front(theta, q)
        return SurfaceHits(step(-nearest, 0.35 * pixel), theta, x, y, F.normalize(normal, dim=1))

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """Where places of the surface (X, Y), each (B, P), are seen: (B, P, 2) in head units from the middle."""
        q = y / HALF_HEIGHT
        theta = torch.asin((x / (1 - q * q).sqrt()).clamp(-1, 1))
        relief = self._look_up(theta[:, None], q[:, None], slice(0, 1))[:, 0]
        points = self._points(theta[:, None], q[:, None], relief)[:, :, 0]  # (B, 3, P)
        return (self.rotation @ points)[:, :2].mT

    def _width(self, v: Tensor) -> Tensor:
        """Half the width of the head over that of the ellipsoid, at the height v = y / half height."""
        return (
            1
            + self.traits.jaw * torch.exp(-(((v - 0.7) / 0.3) ** 2))
            + self.traits.temples * torch.exp(-(((v + 0.3) / 0.25) ** 2))
            + 0.12 * torch.exp(-(((v + 0.8) / 0.35) ** 2))
        )

    def _places(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points (B, 3, H, W) to θ, q and ρ."""
        x, y, z = points.unbind(1)
        v = y / (HALF_HEIGHT * self.traits.length)
        u, s = x / self._width(v), z / (HALF_DEPTH * self.traits.depth)
        rho = (u * u + v * v + s * s).sqrt().clamp(min=1e-3)
        return torch.atan2(u, s), v / rho, rho

    def _points(self, theta: Tensor, q: Tensor, relief: Tensor) -> Tensor:
        """The inverse of `_places` for ρ = 1 + relief: (B, 3, H, W)."""
        rho, ring = 1 + relief, (1 - q * q).clamp(min=0).sqrt()
        v = rho * q
        x = self._width(v) * rho * ring * torch.sin(theta)
        z = HALF_DEPTH * self.traits.depth * rho * ring * torch.cos(theta)
        return torch.stack([x, HALF_HEIGHT * self.traits.length * v, z], 1)

    def _outside(self, points: Tensor) -> Tensor:
        """How far outside the surface points are: ρ − 1 − relief, negative inside."""
        theta, q, rho = self._places(points)
        return rho - 1 - self._look_up(theta, q, slice(0, 1))[:, 0]

    def _look_up(self, theta: Tensor, q: Tensor, channels: slice) -> Tensor:
        places = torch.stack([theta / _WIDEST_ANGLE, q], -1)
        return F.grid_sample(self._map[:, channels], places, padding_mode="border", align_corners=True)

    def _surface(self) -> Tensor:
        theta = torch.linspace(-_WIDEST_ANGLE, _WIDEST_ANGLE, _COLUMNS).expand(1, _ROWS, _COLUMNS)
        q = torch.linspace(-1, 1, _ROWS)[:, None].expand(1, _ROWS, _COLUMNS)
        relief = self._relief(*_from_front(theta, q), theta)
        points = self._points(theta, q, relief)
        (down,), (right,) = torch.gradient(points, dim=2), torch.gradient(points, dim=3)
        normal = F.normalize(torch.linalg.cross(right, down, dim=1), dim=1)
        return torch.cat([relief[:, None], normal], 1)

    def _relief(self, x: Tensor, y: Tensor, theta: Tensor) -> Tensor:
        """Height of the surface over the ellipsoid, over the map (B, rows, columns)."""
        t, c = self.traits, self.conditions
        side, eye = x.abs(), y - t.eye_height
        nose, mouth, chin = y - t.nose_length - t.eye_height, y - t.mouth_height, y - 1.24
        along = ((eye + 0.1) / (t.nose_length + 0.1)).clamp(0, 1)  # 0 at the root of the nose, 1 at its tip
        ridge = (0.15 + 0.85 * along**1.3) * step(0.09 - nose, 0.038) * step(eye + 0.1, 0.04)
        width = t.nose_bridge + (t.nose_width - t.nose_bridge) * along
        lower = mouth - 0.06 - 0.1 * c.mouth_opening.clamp(min=0)
        relief = (
            t.nose_projection * ridge * torch.exp(-((x / width) ** 2))
            + 0.04 * bump(x, nose - 0.01, 0.1, 0.09)  # the ball of its tip
            + 0.08 * bump(side - t.nose_wings, nose - 0.03, 0.075, 0.075)
            - t.socket * bump(side - t.eye_distance, eye, 0.22, 0.13)
            + 0.045 * bump(side - t.eye_distance, eye, 0.13, 0.08)  # the eyeball
            + t.brow_ridge * bump(side - t.eye_distance, eye + t.brow_height, 0.28, 0.08)
            + t.cheekbones * bump(side - 0.55, y - 0.38, 0.25, 0.2)
            + 0.05 * c.smile * bump(side - 0.45, y - 0.6, 0.18, 0.18)
            + t.muzzle * bump(x, mouth, 0.34, 0.22)
            + 0.6 * t.upper_lip * bump(x, mouth + 0.05, 0.8 * t.mouth_width, 0.05)
            + 0.6 * t.lower_lip * bump(x, lower, 0.7 * t.mouth_width, 0.055)
            - 0.04 * bump(x, lower - 0.15, 0.22, 0.06)
            + t.chin * bump(x, chin, t.chin_width, 0.14)
        )
        ears = 0.15 * torch.exp(-(((theta.abs() - 1.55) / 0.13) ** 2) - ((eye - 0.2) / 0.3) ** 4)
        return relief + ears + t.hair_volume * step(hairline(t, theta) - y, 0.035)


def _from_front(theta: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """X and Y of a place; X goes on growing behind the ears, where nothing of the face may come again."""
    x = torch.sin(theta) * (1 - q * q).clamp(min=0).sqrt()
    return torch.where(theta.abs() > torch.pi / 2, 2 * theta.sign() - x, x), HALF_HEIGHT * q


def _spreads(kind: type[object]) -> dict[str, _Around]:
    return {name: hint.__metadata__[0] for name, hint in get_type_hints(kind, include_extras=True).items()}


def _rotation(yaw: Tensor, pitch: Tensor) -> Tensor:
    """From head to viewer, (B, 3, 3): first the nod, then the turn."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    sy, cy, sp, cp = yaw.sin(), yaw.cos(), pitch.sin(), pitch.cos()
    turn = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).view(-1, 3, 3)
    nod = torch.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp], -1).view(-1, 3, 3)
    return turn @ nod
