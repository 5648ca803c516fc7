"""Fawkes (Shan et al., USENIX Security 2020), the published baseline of chapter 3: move a face toward somebody else's.

The dissertation compares LowKey with Fawkes in tables 3.1, 3.2 and 3.5 and in section 3.6.3. It ran the authors' own
program at its highest setting, with the program's own networks; this is the algorithm of that program, written anew,
on recognizers of ours. It is part of the studies and no strength of `fairveil.protect`, since it protects less.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.faces.recognizers import Recognizer
from fairveil.protection.lowkey import Trace, similarity_to_itself
from fairveil.protection.perceptual import LPIPS, delta_e, ssim

_START = 1e-6  # where every entry of the modifier starts
_RHO, _EPSILON = 0.95, 1e-8  # of Adadelta, TensorFlow's defaults
_DECAYS, _DECAY = 3, 0.8  # the learning rate is multiplied by 0.8 after each third of the steps
_SQUEEZE = 2 - 1e-6  # keeps the hyperbolic tangent's inverse finite at black and white


class Fawkes(BaseModel):
    """The settings of Fawkes; the defaults are those of its mode `high`.

    They are those of the program's version 0.3 (`Shawn-Shan/fawkes`, August 2020, commit 2b08b3e), the last one before
    LowKey was published that moves a face toward a target, as the paper does. The paper's own experiments had Adam, a
    budget of 0.007 and a penalty of 10⁵; version 1.0 (2021) has no target: it maximizes the distance from the face
    itself.

    Attributes:
        steps: of Adadelta (`max_step`).
        learning_rate: of Adadelta (`lr`), for the modifier in the space of the hyperbolic tangent.
        budget: ρ, the structural dissimilarity DSSIM that costs nothing (`th`).
        penalty: λ, the weight of the square of what exceeds the budget (`sd`).
        reach: how far the goal lies from the face's own features on the line to the target's: 1 is the target, as in
            the paper; 2 is twice as far, as in the program.
        candidates: from how many people the target is chosen.
        canvas: always "face", a square around each face.
        canvas_size: side of the canvas in pixels at the most; the program's 224.
        margin: side of the canvas over the side of the standard aligned crop, as for LowKey.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(500, ge=1)
    learning_rate: float = Field(10.0, gt=0)
    budget: float = Field(0.008, ge=0, le=1)
    penalty: float = Field(1e9, ge=0)
    reach: float = Field(2.0, gt=0)
    candidates: int = Field(20, ge=1)
    canvas: Literal["face"] = "face"
    canvas_size: int = Field(224, ge=112, le=4096)
    margin: float = Field(1.5, ge=1, le=8)


MODES: dict[str, Fawkes] = {
    "low": Fawkes(budget=0.003, steps=50, learning_rate=35),
    "mid": Fawkes(budget=0.005, steps=200, learning_rate=20),
    "high": Fawkes(),
}
"""The three modes by name, with the numbers of version 0.3. It also had `min`, and `ultra`, which asks for a GPU."""


def dssim(images: Tensor, others: Tensor) -> Tensor:
    """Structural dissimilarity (1 - SSIM) / 2 of images (B, 3, H, W) in [0, 1]: shape (B,), 0 for equal images.

    >>> picture = torch.rand(1, 3, 16, 16)
    >>> round(dssim(picture, picture).item(), 4)
    0.0
    """
    return (1 - ssim(images, others)) / 2


def goal_of(own: Tensor, target: Tensor, reach: float) -> Tensor:
    """Φ(x) + reach · (Φ(x_T) - Φ(x)), where the features shall move: own features (F, D), a target's (D,) or (F, D).

    >>> goal_of(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 1.0]), reach=2)
    tensor([[-1.,  2.]])
    """
    return own + reach * (target - own)


def distance_to(goal: Tensor, moved: Tensor) -> Tensor:
    """‖goal - Φ(x')‖ / ‖goal‖, the distance of features (F, D) as the program measures it: shape (F,)."""
    distance: Tensor = (goal - moved).norm(dim=-1) / goal.norm(dim=-1)
    return distance


def objective(distances: Sequence[Tensor], dissimilarity: Tensor, *, budget: float, penalty: float) -> Tensor:
    """Fawkes' objective, to be minimized: Σ_i Dist(Φ_i(x_T), Φ_i(x')) + λ · max(DSSIM(x, x') - ρ, 0)².

    The paper states the first term for one feature extractor Φ under the constraint DSSIM ≤ ρ, and turns the constraint
    into a penalty; the program squares what exceeds the budget, and sums over extractors where it is given several.

    `cloak` follows the program in this: the picture is x' = tanh(w + m) / (2 - 10⁻⁶) + ½, where w makes it the clean
    one; the modifier m starts at 10⁻⁶ everywhere, without noise; Adadelta (ρ 0.95, ε 10⁻⁸) moves it; the learning rate
    is multiplied by 0.8 after each third of the steps; and what is kept is the look whose features came nearest to the
    goal, whatever its DSSIM. It departs from the program in this:

    - Recognizers are ours, several, with features of length 1 of an aligned crop; the program's was one network
      with features of any length, which saw the whole canvas.
    - The canvas fades out toward its edges, as for LowKey; the program changes a rectangle (the detector's box and
      0.35 of its side around it), made square with black.
    - The target is the person farthest from the user (see `studies.lowkey.targets`), as in the paper; the program
      draws one of the 20 farthest.

    Args:
        distances: `distance_to` the goal of every extractor, n tensors of shape (F,).
        dissimilarity: DSSIM(x, x'), shape (F,).
        budget: ρ.
        penalty: λ.

    Returns:
        One value per face, shape (F,).

    >>> objective([torch.tensor([0.5])], torch.tensor([0.009]), budget=0.008, penalty=1e6)
    tensor([1.5000])
    """
    return torch.stack(list(distances)).sum(0) + penalty * (dissimilarity - budget).clamp(min=0).square()


def cloak(
    images: Tensor,
    landmarks: Tensor,
    recognizers: Sequence[Recognizer],
    settings: Fawkes,
    *,
    targets: Sequence[Tensor],
    window: Tensor | None = None,
    gray: bool = False,
    generator: torch.Generator | None = None,
    on_step: Callable[[int], None] = lambda steps: None,
) -> Trace:
    """Minimize Fawkes' objective, for several faces at once; it takes the place of `lowkey.attack`.

    Args:
        images: canvases, RGB in [0, 1], shape (F, 3, H, W), one per face.
        landmarks: of each face on its canvas, shape (F, 5, 2).
        recognizers: the extractors Φ_1 … Φ_n.
        settings: steps, budget and penalty.
        targets: the features Φ_i(x_T) of somebody else under each recognizer, n tensors of shape (D_i,) or (F, D_i).
        window: how much of the perturbation each pixel takes, (F, 1, H, W) in [0, 1]; all of it by default.
        gray: give all three channels the same modifier.
        generator: not used, since nothing here is random.
        on_step: called after every step with the number of steps done.

    Returns:
        The perturbation and how it came about; similarities are those to the clean face.

    Raises:
        FairveilError: there is not one target for each recognizer.
    """
    if len(targets) != len(recognizers):
        raise FairveilError(
            f"Fawkes needs the target's features under each of {len(recognizers)} recognizers, and was given "
            f"{len(targets)}: embed the target with the recognizers that are attacked."
        )
    window = torch.ones_like(images[:, :1]) if window is None else window
    with torch.no_grad():
        clean = [recognizer.embed(images, landmarks) for recognizer in recognizers]
    goals = [goal_of(own, target.to(own), settings.reach) for own, target in zip(clean, targets, strict=True)]
    origin = torch.atanh((images - 0.5) * _SQUEEZE)
    modifier = torch.full_like(images[:, : 1 if gray else 3], _START).requires_grad_(True)
    optimizer = torch.optim.Adadelta([modifier], settings.learning_rate, _RHO, _EPSILON)
    nearest = images.new_full((len(images),), torch.inf)
    kept = images.clone()
    looks = []
    for step in range(settings.steps + 1):  # the look after each step is the one before the next
        moved = images + window * (torch.tanh(origin + modifier) / _SQUEEZE + 0.5 - images)
        features = [recognizer.embed(moved, landmarks) for recognizer in recognizers]
        distances = [distance_to(goal, feature) for goal, feature in zip(goals, features, strict=True)]
        looks.append(similarity_to_itself(clean, features))
        if step:
            distance = torch.stack(distances).detach().sum(0)
            better = distance < nearest
            nearest = torch.where(better, distance, nearest)
            kept = torch.where(better.view(-1, 1, 1, 1), moved.detach(), kept)
        if step == settings.steps:
            break
        value = objective(distances, dssim(images, moved), budget=settings.budget, penalty=settings.penalty)
        (modifier.grad,) = torch.autograd.grad(value.sum(), modifier)
        optimizer.step()
        if step and step % max(1, settings.steps // _DECAYS) == 0:
            optimizer.param_groups[0]["lr"] *= _DECAY
        on_step(step + 1)

    with torch.no_grad():
        looks.append(similarity_to_itself(clean, [recognizer.embed(kept, landmarks) for recognizer in recognizers]))
        return Trace(
            perturbation=kept - images,
            lpips=LPIPS.pretrained("alexnet", images.device)(images, kept),
            change=delta_e(images, kept),
            similarity={r.name: [look[:, column] for look in looks] for column, r in enumerate(recognizers)},
            steps=torch.full((len(landmarks),), settings.steps),
        )
