"""A chest as an X-ray shows it, drawn from soft shapes: for many pictures at once, without a loop over them.

Coordinates: x to the right of the picture, y down, both from −1 to 1. As usual one looks at the patient from the front:
the left of the body, with the heart's tip and the aortic knob, is on the right of the picture. A picture is a map of
how much is in the beam's way, by which film stays bright.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

WAVES = 6
"""How many plane waves the unevenness of a patient's lungs is made of."""

_EXTREME = 2.2  # standard deviations beyond which nobody is from the middle
_SOFT = 0.03  # how wide the edges of large shapes are

Parameters = TypeVar("Parameters", bound="Anatomy | Exposure")


@dataclass(frozen=True)
class Anatomy:
    """What pictures of one patient have in common, each of shape (B, 1, 1), waves (B, WAVES, 3).

    Attributes:
        width: half that of the rib cage.
        base: how low the diaphragm is.
        dome: how arched it is.
        apex: how high the lungs reach.
        heart: its size.
        heart_tilt: how far its tip lies outwards.
        knob: how far the aortic knob stands out.
        mediastinum: half the width of what lies between the lungs.
        ribs: how many there are over the height.
        rib_phase: where the first is.
        rib_contrast: how dense they are.
        clavicles: how high they lie.
        slope: how steep they are.
        vessels: how dense those of the lungs are.
        flesh: how much of it there is.
        chest: size of the soft-tissue shadows over the lower lungs.
        side: the sign says which lung one-sided findings are in.
        place: how high findings lie in it.
        waves: two frequencies and a phase each.
    """

    width: Tensor
    base: Tensor
    dome: Tensor
    apex: Tensor
    heart: Tensor
    heart_tilt: Tensor
    knob: Tensor
    mediastinum: Tensor
    ribs: Tensor
    rib_phase: Tensor
    rib_contrast: Tensor
    clavicles: Tensor
    slope: Tensor
    vessels: Tensor
    flesh: Tensor
    chest: Tensor
    side: Tensor
    place: Tensor
    waves: Tensor


@dataclass(frozen=True)
class Exposure:
    """What differs between pictures of one patient, each of shape (B, 1, 1).

    Attributes:
        turn: in radians, clockwise.
        right: shift of the body.
        down: the same downwards.
        nearness: logarithm of its size over the usual.
        breath: how deep it was: moves the diaphragm down.
        rotation: of the body about its own axis: moves heart and spine sideways.
        brightness: logarithm of the exposure.
        contrast: logarithm of the film's.
        noise: the logarithm of its standard deviation over the usual.
        haze: scattered rays, brighter towards one side.
        wander: by how much findings lie elsewhere than usual in this patient.
    """

    turn: Tensor
    right: Tensor
    down: Tensor
    nearness: Tensor
    breath: Tensor
    rotation: Tensor
    brightness: Tensor
    contrast: Tensor
    noise: Tensor
    haze: Tensor
    wander: Tensor


_SPREAD: Mapping[str, tuple[float, float]] = {
    **{"width": (0.76, 0.035), "base": (0.5, 0.06), "dome": (0.9, 0.2), "apex": (-0.86, 0.03)},
    **{"heart": (1, 0.05), "heart_tilt": (0.15, 0.025), "knob": (0.1, 0.025), "mediastinum": (0.15, 0.018)},
    **{"ribs": (6.4, 0.35), "rib_phase": (0, 0.4), "rib_contrast": (0.075, 0.018), "clavicles": (-0.62, 0.05)},
    **{"slope": (0.14, 0.05), "vessels": (0.1, 0.03), "flesh": (0.42, 0.05), "chest": (0, 1), "side": (0, 1)},
    **{"place": (0, 1), "waves": (0, 1), "turn": (0, 0.035), "right": (0, 0.035), "down": (0, 0.035)},
    **{"nearness": (0, 0.04), "breath": (0, 0.03), "rotation": (0, 0.025), "brightness": (0, 0.09)},
    **{"contrast": (0, 0.08), "noise": (0, 0.25), "haze": (0, 0.05), "wander": (0, 1)},
}
"""Mean and standard deviation of everything that is drawn."""


@dataclass(frozen=True)
class Severities:
    """How strong each finding is in each picture, 0 for none and 1 for severe, (B, 1, 1) each."""

    cardiomegaly: Tensor
    edema: Tensor
    consolidation: Tensor
    atelectasis: Tensor
    effusion: Tensor


def numbers(kind: type[Parameters]) -> int:
    """How many standard normal deviates `from_deviates` takes for one picture."""
    return sum(3 * WAVES if field.name == "waves" else 1 for field in fields(kind))


def from_deviates(kind: type[Parameters], deviates: Tensor) -> Parameters:
    """Give parameters their values, from standard normal deviates (B, `numbers(kind)`)."""
    values: dict[str, Tensor] = {}
    start = 0
    for field in fields(kind):
        middle, spread = _SPREAD[field.name]
        count = 3 * WAVES if field.name == "waves" else 1
        part = middle + spread * deviates[:, start : start + count].clamp(-_EXTREME, _EXTREME)
        values[field.name] = part.view(len(part), -1, 3 if field.name == "waves" else 1)
        start += count
    return kind(**values)


def draw_chest(
    body: Anatomy, exposure: Exposure, findings: Severities, female: Tensor, old: Tensor, size: int
) -> Tensor:
    """Draw chests without noise.

    Args:
        body: of the patient of each picture.
        exposure: of each picture.
        findings: in each picture.
        female: 1 for women's soft tissue and 0 for men's, (B, 1, 1).
        old: 1 for the fainter ribs and larger aortic knob of age, else 0, (B, 1, 1).
        size: side of the pictures in pixels, S.

    Returns:
        Pictures in [0, 1], (B, S, S).
    """
    x, y = _places(exposure, size)
    side = torch.where(body.side < 0, -1.0, 1.0)
    loss = findings.atelectasis  # of volume: a collapsed part draws its surroundings towards it
    x_middle = x - exposure.rotation - 0.045 * side * loss
    outward = x_middle.abs()
    left = torch.sigmoid(x_middle / _SOFT)  # the body's left
    own = torch.sigmoid(side * x_middle / _SOFT)  # the lung of one-sided findings

    # From outside inwards: flesh, rib cage, lungs above the diaphragm.
    trunk = _within(_oval(x, (y - 1) / 1.88, 1.06 - 0.04 * female, 1, exponent=2.7))
    neck = _within((x.abs() - 0.3 - 0.5 * (y + 0.9).clamp(min=0)) / 0.3) * _within(y + 0.6)
    cage = _oval(x_middle, (y - 0.14) / (0.14 - body.apex), body.width, 1, exponent=2.3)
    lift = 0.06 * (1 - left) + 0.14 * loss * own  # the right dome is higher
    floor = body.base + exposure.breath - lift + body.dome * (outward - 0.36).square()
    inner = body.mediastinum + 0.05 * torch.exp(-(((y + 0.02) / 0.22).square()))
    lungs = _within(cage, 0.05) * _within(y - floor) * _within(inner - outward)
    flesh = body.flesh * (trunk + neck - trunk * neck)
    density = flesh * (1 + 0.22 * _within(floor - y)) - 0.38 * lungs

    # What lies between the lungs. The heart hides in what is dense already.
    spine = torch.exp(-((x_middle / 0.085).square())) * (0.85 + 0.15 * torch.cos(2 * math.pi * 6.5 * y))
    between = _within(outward - body.mediastinum, 0.04)
    airway = torch.exp(-((x_middle / 0.045).square())) * _within(y + 0.25, 0.08)
    swelling = body.heart * (1 + 0.4 * findings.cardiomegaly)
    across = x_middle - body.heart_tilt - 0.09 * findings.cardiomegaly
    slanted = y - 0.3 - 0.4 * across
    heart = _within(_oval(across + 0.12 * slanted, slanted, 0.37 * swelling, 0.29 * swelling), 0.08)
    heart = heart * (1 - 0.7 * _within(floor - y))
    reach = body.knob + 0.035 * old
    knob = _within(_oval(x_middle - 0.11 - 0.4 * reach, y + 0.34, reach, 0.12), 0.12)
    shadow = 0.28 * heart + 0.13 * between * (1 - heart) + (0.13 + 0.05 * old) * knob * (1 - between)
    density = density + shadow + 0.08 * spine * (1 - 0.6 * heart) - 0.08 * airway

    # What lies over the lungs: bones, breasts, vessels that spread from the hila.
    density = density + _bones(body, old, outward, y, cage)
    breast = _within(_oval(outward - 0.46, y - 0.3, 0.3 + 0.03 * body.chest, 0.33 + 0.03 * body.chest), 0.09)
    density = density + (0.02 + 0.08 * female) * breast
    hilum = torch.exp(-((outward - 0.24) / 0.13).square() - ((y + 0.02) / 0.2).square())
    ripple = _ripple(body.waves, x_middle, y)
    spread = torch.exp(-((outward - 0.2) / 0.3).square() - ((y - 0.05) / 0.4).square())
    density = density + lungs * body.vessels * (0.9 * hilum + 0.4 * spread * ripple)
    stomach = torch.exp(-((x_middle - 0.42) / 0.15).square() - ((y - floor - 0.15) / 0.06).square())
    density = density - 0.12 * stomach

    density = density + _opacities(findings, body, exposure, (outward, y), (cage, floor, lungs, own), ripple)
    film = 1 - torch.exp(-1.75 * exposure.brightness.exp() * (density + 0.06 + exposure.haze * x).clamp(min=0))
    return (0.5 + (film - 0.5) * 1.35 * exposure.contrast.exp()).clamp(0, 1)


def _places(exposure: Exposure, size: int) -> tuple[Tensor, Tensor]:
    """Which place of the body each pixel shows, x and y (B, S, S)."""
    pixel = (torch.arange(size) + 0.5) / size * 2 - 1
    x, y = pixel[None, None, :] - exposure.right, pixel[None, :, None] - exposure.down
    cosine, sine = exposure.turn.cos() / exposure.nearness.exp(), exposure.turn.sin() / exposure.nearness.exp()
    return cosine * x + sine * y, cosine * y - sine * x


def _bones(body: Anatomy, old: Tensor, outward: Tensor, y: Tensor, cage: Tensor) -> Tensor:
    """Ribs, which arch from the spine down to the sides and come back in front fainter, and clavicles."""
    inside = _within(cage, 0.05)
    behind = _stripes(body.ribs * (y - 0.45 * (outward - 0.3).square() - 0.12 * outward) + body.rib_phase)
    front = _stripes(body.ribs * (y + 0.75 * outward - 0.35 * outward.square()) + body.rib_phase)
    ribs = inside * (1 - 0.35 * old) * body.rib_contrast * (behind + 0.45 * front * _within(0.2 - outward, 0.1))
    middle = body.clavicles - body.slope * (outward - 0.1) + 0.05 * torch.sin(5 * outward)
    clavicles = torch.exp(-((y - middle) / 0.035).square()) * _within(0.1 - outward) * _within(outward - 0.78)
    rim = torch.exp(-((cage + 0.02) / 0.05).square()) * _within(y - 0.6, 0.1)  # ribs seen along their length
    return ribs + (0.13 - 0.03 * old) * clavicles + 0.06 * rim


def _opacities(
    findings: Severities,
    body: Anatomy,
    exposure: Exposure,
    places: tuple[Tensor, Tensor],
    parts: tuple[Tensor, Tensor, Tensor, Tensor],
    ripple: Tensor,
) -> Tensor:
    """What the four findings of the lungs add: all but the larger heart and the higher diaphragm."""
    (outward, y), (cage, floor, lungs, own) = places, parts
    inside = _within(cage, 0.05)
    uneven = (1 + 0.3 * ripple).clamp(min=0)
    # Oedema: a haze about both hila that spares the periphery, with blurred vessels in it.
    wings = torch.exp(-((outward - 0.26) / 0.24).square() - ((y - 0.02) / 0.36).square())
    opacity = 0.21 * findings.edema * lungs * wings * uneven
    # Consolidation: a patch with uneven edges.
    height = -0.1 + 0.22 * body.place + 0.05 * exposure.wander
    patch = torch.exp(-((outward - 0.42) / 0.2).square() - ((y - height) / 0.18).square())
    opacity = opacity + 0.46 * findings.consolidation * own * lungs * patch * uneven
    # Atelectasis: a plate-like band above the diaphragm; the loss of volume shows elsewhere.
    band = (y - floor + 0.2 + 0.04 * exposure.wander + 0.25 * (outward - 0.4)) / 0.05
    opacity = opacity + 0.4 * findings.atelectasis * own * lungs * torch.exp(-band.square()) * _within(0.2 - outward)
    # Effusion: fluid that stands at the base and climbs along the rib cage.
    level = floor - 0.2 * findings.effusion - 0.32 * findings.effusion * _within(0.08 + cage, 0.06)
    fluid = inside * _within(level - y) * _within(y - floor) * _within(body.mediastinum - outward)
    return opacity + 0.26 * findings.effusion.clamp(max=0.5).mul(2).sqrt() * own * fluid


def _within(distance: Tensor, soft: float = _SOFT) -> Tensor:
    """1 where a distance to an edge is below 0 and 0 where it is above, with a soft step."""
    return torch.sigmoid(-distance / (soft / 2))


def _oval(x: Tensor, y: Tensor, half_width: Tensor | float, half_height: Tensor | float, exponent: float = 2) -> Tensor:
    """About how far beyond a superellipse places are, over its size: below 0 inside."""
    if exponent == 2:
        return torch.hypot(x / half_width, y / half_height) - 1
    across, along = (x / half_width).abs(), (y / half_height).abs()
    return (across.pow(exponent) + along.pow(exponent) + 1e-12).pow(1 / exponent) - 1


def _stripes(phase: Tensor) -> Tensor:
    """1 in the middle of each stripe, which takes up two fifths of a period, and 0 between."""
    return torch.sigmoid((torch.cos(2 * math.pi * phase) - 0.3) / 0.2)


def _ripple(waves: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Unevenness about 0 with a standard deviation of about 1, (B, S, S)."""
    total = torch.zeros_like(x)
    for wave in waves.unbind(1):
        across, along, phase = (part[:, None, None] for part in wave.unbind(1))
        total = total + torch.sin((6 + 5 * across) * x + 7 * along * y + 3 * phase)
    return total * math.sqrt(2 / waves.shape[1])
