"""The LowKey attack (dissertation, section 3.3.2): move a face away from itself in feature space, quietly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from kornia.filters import gaussian_blur2d
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.threads import apply_side_by_side, side_by_side
from fairveil.faces.recognizers import Recognizer
from fairveil.protection.ascent import (
    StepRule,
    direction,
    normal_noise,
    shaped,
    uniform_noise,
    within_budget,
    within_range,
)
from fairveil.protection.dispersion import goals
from fairveil.protection.perceptual import LPIPS, delta_e

FEATURE_DIMENSIONS = 512
"""Over how many dimensions LowKey's released code averages squared feature differences."""

FULL_CANVAS = 224
"""Side of a face's canvas at full size, in pixels: recognizers see no face larger than that."""


class LowKey(BaseModel):
    """The settings of the attack.

    The defaults are the dissertation's (sections 3.3.2, 3.8.1 and 3.8.6), but for the canvas: there it is the photo.

    Attributes:
        steps: of gradient ascent.
        step_size: how far a step moves the pixels, on the scale 0 to 1: each pixel with the step rule "sign", the root
            mean square over the canvas with "unit RMS".
        step_rule: "sign", the dissertation's signed ascent, or "unit RMS", the gradient scaled to unit root mean
            square over its canvas (see `ascent.direction`), which needs the canvas "face".
        chroma: how much of a step's color is kept, 0 to 1, while its lightness stays (see `ascent.shaped`).
        gradient_sigma: of the Gaussian smoothing of each step, in pixels of a canvas of 224 pixels, and in proportion
            on smaller ones; 0 for none.
        landmark_jitter: standard deviation of the noise that moves every landmark anew at each step, in pixels of a
            canvas of 224 pixels, and in proportion on smaller ones: recognizers align faces a little differently.
        alpha: the weight α of LPIPS in equation 3.1, against *averaged* squared differences (see `objective`).
        smoothing: whether the objective sees the picture with and without Gaussian smoothing at each step ("both", the
            equation), in turns from step to step ("alternate", half the work), or only without ("none").
        sigma: of the Gaussian smoothing G, in pixels.
        window: side of its kernel, in pixels; odd.
        mirror: whether features are those of the crop and its mirror image, summed.
        antialias: whether the crops that recognizers see in the attack average over all pixels of the picture, or take
            single samples of it, as the dissertation's code does (see `faces.alignment.warp`).
        noise: half-width of the uniform noise the perturbation starts from (at x' = x the gradient of LPIPS is zero).
        canvas: "face", a square around each face, or "photo", the whole photo at full resolution.
        canvas_size: side of the face canvas in pixels, at the most.
        margin: side of the face canvas over the side of the standard aligned crop.
        max_lpips: the quality budget: LPIPS (AlexNet) between a canvas before and after stays at or below it. What is
            bounded is the perturbation on its canvas, in floating point: not yet enlarged to the photo's scale, rounded
            to 8 bits, or compressed, each of which can move the figure a little. On a photo's canvas the average runs
            over the whole photo, so the same figure allows a small face far more than on its own canvas.
        max_change: the visibility budget: the mean color difference ΔE of a canvas (see `perceptual.delta_e`) stays at
            or below it, with the reservations made for `max_lpips`. 1 is about what an eye can just tell between two
            plain patches.
        apart: how strongly each face is also drawn to a goal of its own in feature space (see `dispersion`), as a
            share of what pushes it away from itself: protected photos of one person then match each other less.
        stop_below: stop working on a face once its similarity to itself, on its canvas, is below every recognizer's
            match threshold by this margin.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(50, ge=1)
    step_size: float = Field(0.0025, gt=0, le=1)
    alpha: float = Field(0.05, ge=0)
    smoothing: Literal["both", "alternate", "none"] = "both"
    sigma: float = Field(3.0, gt=0)
    window: int = Field(7, ge=3, le=63)
    mirror: bool = True
    # It came later, and is written only where it is not the default: older records of settings stay valid.
    antialias: bool = Field(True, exclude_if=lambda antialias: antialias)
    noise: float = Field(0.005, ge=0, le=1)
    # So did these.
    step_rule: StepRule = Field("sign", exclude_if=lambda rule: rule == "sign")
    chroma: float = Field(1.0, ge=0, le=1, exclude_if=lambda share: share == 1)
    gradient_sigma: float = Field(0.0, ge=0, le=16, exclude_if=lambda sigma: sigma == 0)
    landmark_jitter: float = Field(0.0, ge=0, le=32, exclude_if=lambda jitter: jitter == 0)
    max_change: float | None = Field(None, gt=0, exclude_if=lambda budget: budget is None)
    apart: float = Field(0.0, ge=0, le=10, exclude_if=lambda weight: weight == 0)
    canvas: Literal["face", "photo"] = "face"
    canvas_size: int = Field(FULL_CANVAS, ge=112, le=4096)
    margin: float = Field(1.5, ge=1, le=8)
    max_lpips: float | None = Field(None, gt=0)
    stop_below: float | None = Field(None, ge=0)

    @field_validator("window")
    @classmethod
    def _has_a_middle(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("the side of the smoothing kernel is odd, so that it has a middle pixel")
        return window

    @model_validator(mode="after")
    def _has_a_canvas_for_each_face(self) -> "LowKey":
        if self.canvas == "photo" and self.step_rule != "sign":
            raise ValueError(
                f'the step rule "{self.step_rule}" needs canvas="face": over a whole photo, the smaller its faces are, '
                "the more they would change"
            )
        return self


_SHARED: dict[str, Any] = {
    "steps": 25,
    "alpha": 0.03,
    "smoothing": "alternate",
    "mirror": False,
    "step_rule": "unit RMS",
    "landmark_jitter": 3.0,
}
"""What the strengths share: found on the frontier of protection against what people see (study `lowkey-frontier`)."""

PRESETS: dict[str, LowKey] = {
    "low": LowKey(step_size=0.00065, chroma=0.3, gradient_sigma=1.0, **_SHARED),
    "medium": LowKey(step_size=0.0011, chroma=0.1, gradient_sigma=1.5, **_SHARED),
    "high": LowKey(step_size=0.0022, chroma=0.1, gradient_sigma=1.5, **_SHARED),
    "lowkey": LowKey(canvas="photo"),
    "small": LowKey(canvas="photo", alpha=0.08),
}
"""Settings by the name of their strength; `lowkey` and `small` are the dissertation's, on the whole photo."""


APART = 1.0
"""The weight of `LowKey.apart` where photos of a run are to be kept apart; study `lowkey-apart` measures it."""


def preset(name: str) -> LowKey:
    """The settings of a named strength.

    Raises:
        FairveilError: there is no such strength.
    """
    if name not in PRESETS:
        raise FairveilError(f"There is no strength {name!r}: choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened to each of F faces while it was being protected.

    Attributes:
        perturbation: what was added to each canvas, (F, C, H, W), on the scale 0 to 1.
        lpips: LPIPS (AlexNet) between each canvas and its protected version, (F,).
        change: mean ΔE between the two (see `perceptual.delta_e`), (F,).
        similarity: for each recognizer, the cosine between each clean and protected face, one row per look, (S, F).
        steps: how many steps each face took, (F,).
    """

    perturbation: Tensor
    lpips: Tensor
    change: Tensor
    similarity: dict[str, list[Tensor]]
    steps: Tensor


def feature_distance(clean: Tensor, moved: Tensor) -> Tensor:
    """‖f(A(x)) - f(A(x'))‖² / ‖f(A(x))‖: one summand of equation 3.1, for features (F, D); shape (F,)."""
    distance: Tensor = (clean - moved).square().sum(-1) / clean.norm(dim=-1)
    return distance


def objective(distances: Sequence[Tensor], perceptual: Tensor, alpha: float) -> Tensor:
    """Equation 3.1, to be maximized: the mean feature distance less α times LPIPS.

    The equation sums squared differences over the features, but the code the dissertation released averages them
    over their 512 dimensions, and its α of 0.05 belongs to that form: with sums, the perceptual term would be as
    good as absent. So we average, over 512 whatever the recognizer's own dimension, since its vectors have length 1.

    Where the text is silent, `attack` follows the code: it starts from uniform noise of ±`noise`, since at x' = x the
    gradient of LPIPS is zero; smoothing mirrors the picture at its borders, where zeros would darken them; and with
    `mirror` the features are those of the crop plus those of its mirror image, made unit length, so that the division
    by ‖f(A(x))‖ does nothing. It departs from the code in this, whatever the settings:

    - Every step ends with pixels within [0, 1]; the code clamps once, at the end.
    - LPIPS is that of the canvas; the code takes half of it from there and half from the aligned face crop.
    - The ensemble is whatever recognizers are given; the code's are four of its own, of which two of a kind share
      their weights.
    - Every face is protected, not the first one only.

    Unless `antialias` is off, crops that shrink the photo average over all its pixels; the code samples single points.
    The presets `low`, `medium` and `high` depart further: in where they work, how they step and what they weigh.

    Args:
        distances: `feature_distance` of every recognizer, with and without smoothing: 2n tensors of shape (F,).
        perceptual: LPIPS(x, x'), shape (F,).
        alpha: its weight α.

    Returns:
        One value per face, shape (F,).

    >>> objective([torch.tensor([2.0]), torch.tensor([1.0])], torch.tensor([0.01]), alpha=0.05)
    tensor([0.0024])
    """
    return torch.stack(list(distances)).mean(0) / FEATURE_DIMENSIONS - alpha * perceptual


def attack(
    images: Tensor,
    landmarks: Tensor,
    recognizers: Sequence[Recognizer],
    settings: LowKey,
    *,
    window: Tensor | None = None,
    gray: bool = False,
    generator: torch.Generator | None = None,
    apart: torch.Generator | None = None,
    cores: int = 1,
    on_step: Callable[[int], None] = lambda steps: None,
) -> Trace:
    """Maximize equation 3.1 by gradient ascent, for several faces at once.

    Args:
        images: canvases, RGB in [0, 1], shape (F, 3, H, W), one per face; or (1, 3, H, W) that shows all the faces.
        landmarks: of each face on its canvas, shape (F, 5, 2).
        recognizers: the ensemble f_1 … f_n.
        settings: steps, weights and budgets.
        window: how much of the perturbation each pixel takes, (F, 1, H, W) in [0, 1]; all of it by default.
        gray: give all three channels the same perturbation.
        generator: where the starting noise and the jitter of landmarks come from.
        apart: draws the goals of `LowKey.apart`; the default generator of torch if none is given.
        cores: how many networks run side by side on a processor, which changes no result; see `fairveil.base.threads`.
        on_step: called after every step with the number of steps done.

    Returns:
        The perturbation and how it came about.

    Raises:
        FairveilError: `stop_below` is asked for with a recognizer whose match threshold is not known.
    """
    thresholds = None
    if settings.stop_below is not None:
        thresholds = _thresholds(recognizers).to(images.device) - settings.stop_below
    window = torch.ones_like(images[:, :1]) if window is None else window
    with torch.no_grad():
        clean = _embed(recognizers, images, landmarks, settings)
        lpips = _lpips_to(images)
    own = goals(recognizers, len(landmarks), apart) if settings.apart else []

    pixel = min(images.shape[2:]) / FULL_CANVAS  # a pixel of a canvas of full size, in pixels of this one
    shape = partial(shaped, chroma=settings.chroma, sigma=settings.gradient_sigma * pixel)
    delta = shape(uniform_noise(images, 1 if gray else 3, settings.noise, generator))
    active = torch.ones(len(landmarks), dtype=torch.bool, device=images.device)
    steps, looks = active.long() * 0, []
    with side_by_side(cores if images.device.type == "cpu" else 1) as together:
        for step in range(settings.steps):
            delta.requires_grad_(True)
            moved = images + window * delta
            branches = _branches(settings.smoothing, step)
            networks: list[tuple[Callable[[Tensor], Tensor], Tensor]] = [(lpips, moved)]  # first, as it takes long
            for smooth in branches:
                view = _smooth(moved, settings) if smooth else moved
                points = landmarks + normal_noise(landmarks, settings.landmark_jitter * pixel, generator)
                networks += _to_embed(recognizers, view, points, settings)
            price, *seen = apply_side_by_side(together, networks)
            distances = [feature_distance(f, g) for f, g in zip(clean * len(branches), seen, strict=True)]
            if not branches[0]:  # the unsmoothed look comes first
                looks.append(similarity_to_itself(clean, seen[: len(recognizers)]))
                if thresholds is not None:
                    active = active & (looks[-1] >= thresholds).any(1)
            if not active.any():
                break
            value = objective(distances, price, settings.alpha)
            if own:
                to_own = [feature_distance(f, g) for f, g in zip(own * len(branches), seen, strict=True)]
                value = value - settings.apart * objective(to_own, price, alpha=0)
            if settings.max_lpips is not None:  # a face over its budget only pays back
                value = torch.where(price > settings.max_lpips, -price, value)
            (gradient,) = torch.autograd.grad(value.sum(), delta)
            working = active if len(images) == len(active) else active.any()[None]
            with torch.no_grad():
                move = settings.step_size * direction(shape(gradient), settings.step_rule)
                delta = within_range(images, delta + move * working.view(-1, 1, 1, 1))
                if settings.max_change is not None:
                    change = delta_e(images, images + window * delta).view(-1, 1, 1, 1)
                    delta = delta * (settings.max_change / change).clamp(max=1)
            steps = steps + active
            on_step(step + 1)

    with torch.no_grad():
        delta = _within_budgets(images, delta.detach() * window, lpips, settings)
        looks.append(similarity_to_itself(clean, _embed(recognizers, images + delta, landmarks, settings)))
        return Trace(
            perturbation=delta,
            lpips=lpips(images + delta).expand(len(landmarks)),
            change=delta_e(images, images + delta).expand(len(landmarks)),
            similarity={r.name: [look[:, column] for look in looks] for column, r in enumerate(recognizers)},
            steps=steps,
        )


def _lpips_to(images: Tensor) -> Callable[[Tensor], Tensor]:
    """LPIPS (AlexNet) of other pictures to these, whose features are computed once: (F, 3, H, W) to (F,)."""
    perceptual = LPIPS.pretrained("alexnet", images.device)
    reference = perceptual.features(images)
    return lambda others: perceptual.distance(reference, perceptual.features(others))


def _within_budgets(images: Tensor, delta: Tensor, lpips: Callable[[Tensor], Tensor], settings: LowKey) -> Tensor:
    """The perturbation, made smaller as far as the budgets ask for it."""
    if settings.max_lpips is not None:
        delta = within_budget(images, delta, lpips, settings.max_lpips)
    if settings.max_change is not None:
        delta = within_budget(images, delta, partial(delta_e, images), settings.max_change)
    return delta


def _branches(smoothing: str, step: int) -> tuple[bool, ...]:
    """Whether to smooth, for each look at the picture in this step."""
    return {"both": (False, True), "alternate": (step % 2 == 1,), "none": (False,)}[smoothing]


def _embed(recognizers: Sequence[Recognizer], images: Tensor, landmarks: Tensor, settings: LowKey) -> list[Tensor]:
    """Each recognizer's embeddings (F, D) of the faces."""
    return [embed(crops) for embed, crops in _to_embed(recognizers, images, landmarks, settings)]


def _to_embed(
    recognizers: Sequence[Recognizer], images: Tensor, landmarks: Tensor, settings: LowKey
) -> list[tuple[Callable[[Tensor], Tensor], Tensor]]:
    """What embeds the faces under each recognizer, and the crops it is to be given; equal crops are cut once."""
    crops: dict[tuple[int, float, float], Tensor] = {}
    for framing in (recognizer.framing for recognizer in recognizers):
        place = (framing.size, framing.zoom, framing.drop)
        if place not in crops:
            crops[place] = framing.crop(images, landmarks, antialias=settings.antialias)
    return [
        (partial(r.embed_crops, mirror=settings.mirror), crops[r.framing.size, r.framing.zoom, r.framing.drop])
        for r in recognizers
    ]


def _smooth(images: Tensor, settings: LowKey) -> Tensor:
    """G of equation 3.1, with reflected borders."""
    smoothed: Tensor = gaussian_blur2d(images, (settings.window,) * 2, (settings.sigma,) * 2, border_type="reflect")
    return smoothed


def _thresholds(recognizers: Sequence[Recognizer]) -> Tensor:
    unknown = [recognizer.name for recognizer in recognizers if recognizer.threshold is None]
    if unknown:
        raise FairveilError(
            f"stop_below needs the match threshold of every recognizer, and {', '.join(unknown)} has none: "
            "give it one (threshold=...) or leave stop_below out."
        )
    return torch.tensor([r.threshold.similarity for r in recognizers if r.threshold is not None])


def similarity_to_itself(clean: Sequence[Tensor], moved: Sequence[Tensor]) -> Tensor:
    """The cosine of every changed face to itself under each of n recognizers, from n features (F, D): (F, n)."""
    return torch.stack([(f * g.detach()).sum(-1) for f, g in zip(clean, moved, strict=True)], -1)
