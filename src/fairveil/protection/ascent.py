"""How the attack moves: from a gradient to a step, and where it starts."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

StepRule = Literal["sign", "unit RMS"]
"""How long a step is: see `direction`."""


def direction(gradient: Tensor, rule: StepRule) -> Tensor:
    """The direction of one step of ascent, for gradients (F, C, H, W).

    With "sign", the dissertation's rule (section 3.3.2), every pixel moves equally, smooth skin and background too.
    With "unit RMS" the gradient is scaled so that the root mean square over each canvas is 1 (steepest ascent in the
    Euclidean norm): pixels move as much as they matter to the recognizers.

    >>> direction(torch.tensor([[[[3.0, -4.0]]]]), "sign")
    tensor([[[[ 1., -1.]]]])
    >>> direction(torch.tensor([[[[3.0, -4.0]]]]), "unit RMS")
    tensor([[[[ 0.8485, -1.1314]]]])
    """
    if rule == "sign":
        return gradient.sign()
    length = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
    return gradient / length.where(length > 0, 1.0)


def shaped(change: Tensor, *, chroma: float, sigma: float) -> Tensor:
    """A change of pixels (F, C, H, W) without its finest grain, and with less of its color.

    People see blotches of color long before they see the same change in lightness, which looks like other light. The
    part of a change that all channels share is its lightness; what is left of each channel is its color.

    Args:
        change: of the pixels; one channel has no color.
        chroma: how much of the color is kept, 0 to 1.
        sigma: of a Gaussian smoothing, in pixels; 0 for none.

    >>> shaped(torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1), chroma=0.0, sigma=0.0).flatten()
    tensor([0.5000, 0.5000, 0.5000])
    """
    if sigma > 0:
        side = 2 * min(math.ceil(2 * sigma), min(change.shape[2:]) - 1) + 1  # reflection needs a picture beyond it
        change = gaussian_blur2d(change, (side, side), (sigma, sigma), border_type="reflect")
    if chroma == 1 or change.shape[1] == 1:
        return change
    lightness = change.mean(1, keepdim=True)
    return lightness + chroma * (change - lightness)


def uniform_noise(images: Tensor, channels: int, width: float, generator: torch.Generator | None) -> Tensor:
    """Uniform noise of ±`width`, (F, channels, H, W) for images (F, 3, H, W), on their device.

    It is drawn where the generator lives, so that a seed means the same everywhere.
    """
    noise = torch.empty(
        len(images), channels, *images.shape[2:], dtype=images.dtype, device=generator.device if generator else "cpu"
    )
    return noise.uniform_(-width, width, generator=generator).to(images.device)


def normal_noise(points: Tensor, sigma: float, generator: torch.Generator | None) -> Tensor:
    """Normal noise of the shape of `points`, on their device; with a `sigma` of 0 nothing is drawn."""
    if sigma == 0:
        return torch.zeros_like(points)
    noise = torch.empty(points.shape, dtype=points.dtype, device=generator.device if generator else "cpu")
    return noise.normal_(0, sigma, generator=generator).to(points.device)


def within_range(images: Tensor, delta: Tensor) -> Tensor:
    """The nearest perturbation (F, C, H, W) that leaves every pixel of images (F, 3, H, W) in [0, 1]."""
    if delta.shape[1] == images.shape[1]:
        return (images + delta).clamp(0, 1) - images
    return delta.clamp(-images.amin(1, keepdim=True), 1 - images.amax(1, keepdim=True))


def within_budget(images: Tensor, delta: Tensor, price: Callable[[Tensor], Tensor], budget: float) -> Tensor:
    """Scale each perturbation down just so far that its price is within a budget, by bisection.

    Args:
        images: (F, 3, H, W).
        delta: their perturbations, (F, C, H, W).
        price: of changed images (F, 3, H, W), shape (F,); it grows with the perturbation.
        budget: what it may be at the most.
    """
    scale = high = images.new_ones(len(images), 1, 1, 1)
    low = torch.zeros_like(high)
    for _ in range(12):
        fits = price(images + scale * delta).view(-1, 1, 1, 1) <= budget
        low, high = torch.where(fits, scale, low), torch.where(fits, high, scale)
        scale = torch.where(low == 1, low, (low + high) / 2)
    return low * delta
