"""The LowKey attack (dissertation, section 3.3.2): move a face away from itself in feature space, quietly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from kornia.filters import gaussian_blur2d
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.errors import FairveilError
from fairveil.faces.recognizers import Recognizer
from fairveil.protection.perceptual import LPIPS

FEATURE_DIMENSIONS = 512
"""Over how many dimensions LowKey's released code averages squared feature differences."""


class LowKey(BaseModel):
    """The settings of the attack; the defaults are the dissertation's (sections 3.3.2, 3.8.1 and 3.8.6).

    Attributes:
        steps: of signed gradient ascent.
        step_size: how far a step moves each pixel, on the scale 0 to 1.
        alpha: the weight α of LPIPS in equation 3.1, against *averaged* squared differences (see `objective`).
        smoothing: whether the objective sees the picture with and without Gaussian smoothing at each step ("both", the
            equation), in turns from step to step ("alternate", half the work), or only without ("none").
        sigma: of the Gaussian smoothing G, in pixels.
        window: side of its kernel, in pixels.
        mirror: whether features are those of the crop and its mirror image, summed.
        noise: half-width of the uniform noise the perturbation starts from (at x' = x the gradient of LPIPS is zero).
        canvas: "face", a square around each face, or "photo", the whole photo at full resolution.
        canvas_size: side of the face canvas in pixels, at the most.
        margin: side of the face canvas over the side of the standard aligned crop.
        max_lpips: the quality budget: LPIPS on the canvas stays at or below it.
        stop_below: stop working on a face once its similarity to itself is below every recogniser's match threshold
            by this margin.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(50, ge=1)
    step_size: float = Field(0.0025, gt=0, le=1)
    alpha: float = Field(0.05, ge=0)
    smoothing: Literal["both", "alternate", "none"] = "both"
    sigma: float = Field(3.0, gt=0)
    window: int = Field(7, ge=3)
    mirror: bool = True
    noise: float = Field(0.005, ge=0, le=1)
    canvas: Literal["face", "photo"] = "face"
    canvas_size: int = Field(224, ge=112)
    margin: float = Field(1.5, ge=1)
    max_lpips: float | None = Field(None, gt=0)
    stop_below: float | None = Field(None, ge=0)


PRESETS: dict[str, LowKey] = {
    "low": LowKey(step_size=0.00125, alpha=0.02, smoothing="alternate", mirror=False),
    "medium": LowKey(step_size=0.0018, alpha=0.03, smoothing="alternate", mirror=False),
    "high": LowKey(step_size=0.003, alpha=0.02, smoothing="alternate", mirror=False),
    "lowkey": LowKey(),
    "small": LowKey(alpha=0.08),
}
"""Settings by the name of their strength."""


def preset(name: str) -> LowKey:
    """The settings of a named strength.

    Raises:
        FairveilError: there is no such strength.
    """
    if name not in PRESETS:
        raise FairveilError(f"There is no strength {name!r}: choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


@dataclass
class Trace:
    """What happened to each of F faces while it was being protected.

    Attributes:
        perturbation: what was added to each canvas, (F, C, H, W), on the scale 0 to 1.
        lpips: LPIPS (AlexNet) between each canvas and its protected version, (F,).
        similarity: for each recogniser, the cosine between each clean and protected face, one row per look, (S, F).
        steps: how many steps each face took, (F,).
    """

    perturbation: Tensor
    lpips: Tensor
    similarity: dict[str, list[Tensor]] = field(default_factory=dict)
    steps: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


def feature_distance(clean: Tensor, moved: Tensor) -> Tensor:
    """‖f(A(x)) - f(A(x'))‖² / ‖f(A(x))‖: one summand of equation 3.1, for features (F, D); shape (F,)."""
    distance: Tensor = (clean - moved).square().sum(-1) / clean.norm(dim=-1)
    return distance


def objective(distances: Sequence[Tensor], perceptual: Tensor, alpha: float) -> Tensor:
    """Equation 3.1, to be maximised: the mean feature distance less α times LPIPS.

    The equation sums squared differences over the features, but the code the dissertation released averages them
    over their 512 dimensions, and its α of 0.05 belongs to that form: with sums, the perceptual term would be as
    good as absent. So we average, over 512 whatever the recogniser's own dimension, since its vectors have length 1.

    Args:
        distances: `feature_distance` of every recogniser, with and without smoothing: 2n tensors of shape (F,).
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
    grey: bool = False,
    generator: torch.Generator | None = None,
    on_step: Callable[[int], None] = lambda steps: None,
) -> Trace:
    """Maximise equation 3.1 by signed gradient ascent, for several faces at once.

    Args:
        images: canvases, RGB in [0, 1], shape (F, 3, H, W), one per face; or (1, 3, H, W) that shows all the faces.
        landmarks: of each face on its canvas, shape (F, 5, 2).
        recognizers: the ensemble f_1 … f_n.
        settings: steps, weights and budgets.
        window: how much of the perturbation each pixel takes, (F, 1, H, W) in [0, 1]; all of it by default.
        grey: give all three channels the same perturbation.
        generator: where the starting noise comes from.
        on_step: called after every step with the number of steps done.

    Returns:
        The perturbation and how it came about.

    Raises:
        FairveilError: `stop_below` is asked for with a recogniser whose match threshold is not known.
    """
    thresholds = None
    if settings.stop_below is not None:
        thresholds = _thresholds(recognizers).to(images.device) - settings.stop_below
    window = torch.ones_like(images[:, :1]) if window is None else window
    perceptual = LPIPS.pretrained("alexnet").to(images.device)
    with torch.no_grad():
        clean = _embed(recognizers, images, landmarks, settings)
        reference = perceptual.features(images)

    delta = images.new_empty(len(images), 1 if grey else 3, *images.shape[2:]).uniform_(
        -settings.noise, settings.noise, generator=generator
    )
    active = torch.ones(len(landmarks), dtype=torch.bool, device=images.device)
    trace = Trace(delta, active.float(), {recognizer.name: [] for recognizer in recognizers}, active.long() * 0)
    for step in range(settings.steps):
        delta.requires_grad_(True)
        moved = images + window * delta
        distances = []
        for smooth in _branches(settings.smoothing, step):
            view = _smooth(moved, settings) if smooth else moved
            embeddings = _embed(recognizers, view, landmarks, settings)
            distances += [feature_distance(f, g) for f, g in zip(clean, embeddings, strict=True)]
            if not smooth:
                similarity = _look(trace, recognizers, clean, embeddings)
                if thresholds is not None:
                    active = active & (similarity >= thresholds).any(1)
        if not active.any():
            break
        price = perceptual.distance(reference, perceptual.features(moved))
        value = objective(distances, price, settings.alpha)
        if settings.max_lpips is not None:  # a face over its budget only pays back
            value = torch.where(price > settings.max_lpips, -price, value)
        (gradient,) = torch.autograd.grad(value.sum(), delta)
        working = active if len(images) == len(active) else active.any()[None]
        with torch.no_grad():
            delta = delta + settings.step_size * gradient.sign() * working.view(-1, 1, 1, 1)
            delta = _within_range(images, delta)
        trace.steps += active
        on_step(step + 1)

    with torch.no_grad():
        delta = delta.detach() * window
        if settings.max_lpips is not None:
            delta = _within_budget(images, delta, reference, perceptual, settings.max_lpips)
        trace.perturbation = delta
        trace.lpips = perceptual.distance(reference, perceptual.features(images + delta)).expand(len(landmarks))
        _look(trace, recognizers, clean, _embed(recognizers, images + delta, landmarks, settings))
    return trace


def _branches(smoothing: str, step: int) -> tuple[bool, ...]:
    """Whether to smooth, for each look at the picture in this step."""
    return {"both": (False, True), "alternate": (step % 2 == 1,), "none": (False,)}[smoothing]


def _embed(recognizers: Sequence[Recognizer], images: Tensor, landmarks: Tensor, settings: LowKey) -> list[Tensor]:
    """Each recogniser's embeddings (F, D) of the faces; those that see the same crop share it."""
    crops: dict[tuple[int, float, float], Tensor] = {}
    embeddings = []
    for recognizer in recognizers:
        place = (recognizer.framing.size, recognizer.framing.zoom, recognizer.framing.drop)
        if place not in crops:
            crops[place] = recognizer.framing.crop(images, landmarks)
        embeddings.append(recognizer.embed_crops(crops[place], mirror=settings.mirror))
    return embeddings


def _smooth(images: Tensor, settings: LowKey) -> Tensor:
    """G of equation 3.1, with reflected borders."""
    smoothed: Tensor = gaussian_blur2d(images, (settings.window,) * 2, (settings.sigma,) * 2, border_type="reflect")
    return smoothed


def _thresholds(recognizers: Sequence[Recognizer]) -> Tensor:
    unknown = [recognizer.name for recognizer in recognizers if recognizer.threshold is None]
    if unknown:
        raise FairveilError(
            f"stop_below needs the match threshold of every recogniser, and {', '.join(unknown)} has none: "
            "give it one (threshold=...) or leave stop_below out."
        )
    return torch.tensor([r.threshold.similarity for r in recognizers if r.threshold is not None])


def _look(trace: Trace, recognizers: Sequence[Recognizer], clean: list[Tensor], embeddings: list[Tensor]) -> Tensor:
    """Note the similarity of every protected face to itself: also returned, (F, n)."""
    similarity = torch.stack([(f * g.detach()).sum(-1) for f, g in zip(clean, embeddings, strict=True)], -1)
    for recognizer, column in zip(recognizers, similarity.unbind(-1), strict=True):
        trace.similarity[recognizer.name].append(column)
    return similarity


def _within_range(images: Tensor, delta: Tensor) -> Tensor:
    """The nearest perturbation that leaves every pixel in [0, 1]."""
    if delta.shape[1] == images.shape[1]:
        return (images + delta).clamp(0, 1) - images
    return delta.clamp(-images.amin(1, keepdim=True), 1 - images.amax(1, keepdim=True))


def _within_budget(images: Tensor, delta: Tensor, reference: list[Tensor], perceptual: LPIPS, budget: float) -> Tensor:
    """Scale each perturbation down just so far that LPIPS is within the budget, by bisection."""
    low, high = torch.zeros(len(images), 1, 1, 1), torch.ones(len(images), 1, 1, 1)
    scale = high.to(images)
    for _ in range(12):
        price = perceptual.distance(reference, perceptual.features(images + scale * delta)).view(-1, 1, 1, 1)
        fits = price <= budget
        low, high = torch.where(fits, scale, low), torch.where(fits, high, scale)
        scale = torch.where(low == 1, low, (low + high) / 2)
    return low * delta
