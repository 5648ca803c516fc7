"""Witches' BrewedPoison: find perturbations of a few training images that make a new network misjudge one test image.

The attack of section 4.4.2: Geiping et al., "Witches' BrewedPoison", ICLR 2021, with the settings its authors run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.base.files import atomic_path
from fairveil.base.keys import content_key
from fairveil.data.images import LabeledImages
from fairveil.sanitize.matching import ParameterGradient, Surrogate, evaluating, match, network_gradient, surrogates_for
from fairveil.sanitize.plan import PoisonPlan
from fairveil.training.checkpoints import described
from fairveil.training.objectives import Augmentation


class WitchesBrew(BaseModel):
    """The settings of the attack; the defaults are its authors' on CIFAR-10.

    The attacker of section 4.4.2 is *adaptive* when the surrogates were trained with the defense's augmentation. One
    that goes further mixes inside the brewing loop: it gives `brew` the mixing augmentation, and `companions`.

    Attributes:
        epsilon: the bound ε on the perturbation in every pixel and channel, on the scale 0 to 1: 16/255.
        steps: of signed Adam, for each restart.
        restarts: from new noise; the one with the least matching loss at its last step is kept.
        step_size: of a step, on the scale 0 to 1. The authors' 0.1 is in units of the pixels' standard deviation,
            which is a quarter of that scale on CIFAR-10, hence 0.025.
        milestones: after these shares of the steps the step size is multiplied by `decay`.
        decay: see there.
        companions: how many clean images, new ones at every step, join the poisons before they are augmented, so
            that mixing augmentations mix them with other classes, as they do in the victim's batches.
        gradient_noise: deviation of the noise on every component of the poisons' gradient, in units of
            `gradient_clip`: the adaptive attack on private SGD, whose noise is passed straight through.
        gradient_clip: with noise, the norm to which that gradient is cut first, as the victim's is.
        chunk: how many images pass through the network at once: memory and speed, not the result (see `match`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epsilon: float = Field(16 / 255, gt=0, le=127 / 255)
    steps: int = Field(250, ge=1)
    restarts: int = Field(8, ge=1)
    step_size: float = Field(0.025, gt=0, le=1)
    milestones: tuple[float, ...] = (3 / 8, 5 / 8, 7 / 8)
    decay: float = Field(0.1, gt=0, le=1)
    companions: int = Field(0, ge=0)
    gradient_noise: float = Field(0.0, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    chunk: int = Field(128, ge=1)

    def step_size_at(self, step: int) -> float:
        """The step size of a step, counted from 0.

        >>> [round(WitchesBrew(steps=8).step_size_at(step), 6) for step in (0, 3, 5, 7)]
        [0.025, 0.0025, 0.00025, 2.5e-05]
        """
        return self.step_size * self.decay ** sum(step >= int(share * self.steps) for share in self.milestones)


@dataclass(frozen=True, eq=False)
class BrewedPoison:
    """What brewing gave.

    Attributes:
        perturbation: what to add to each of the plan's rows, float (P, C, H, W), within ±ε and so that the sum stays
            in [0, 1]; not rounded to bytes, which `PoisonBundle` does.
        losses: the matching loss before each step, for each restart, (restarts, steps).
        best: the restart that was kept.
        seed: it came from.
    """

    perturbation: Tensor
    losses: Tensor
    best: int
    seed: int


def brew(
    data: LabeledImages,
    plan: PoisonPlan,
    surrogates: Sequence[nn.Module],
    settings: WitchesBrew,
    *,
    seed: int,
    augment: Augmentation | None = None,
    gradient: ParameterGradient = network_gradient,
    checkpoint: Path | None = None,
    save_every: int = 25,
    on_step: Callable[[int], None] = lambda steps: None,
) -> BrewedPoison:
    """Perturb the plan's images until their training gradient points where the target's adversarial gradient does.

    Args:
        data: the clean training images.
        plan: target, adversarial class and the rows to poison.
        surrogates: clean networks the attacker has trained, from pixels in [0, 1] to logits; with several, the mean of
            their matching losses is minimized. They are used in evaluation mode and left as they were. (The authors
            keep dropout on, if there is any; we do not, since then chunks would not add up.)
        settings: bound, steps, restarts.
        seed: of the noise each restart starts from, and of augmentations.
        augment: of the poisons at every step, differentiable; flips and crops, usually.
        gradient: of which parameters: of all (`matching.network_gradient`), or, in the transfer regime, of the linear
            head (`head_matching.head_gradient`).
        checkpoint: a file to keep the state in, and to go on from if it is there: bit for bit, on the same machine.
            It stays when the work is done.
        save_every: after how many steps.
        on_step: called after every step with the number of steps done, over all restarts.

    Raises:
        FairveilError: no surrogate is given, one has diverged or nothing to train, or the checkpoint is damaged or
            belongs to another attack.
    """
    if not surrogates:
        raise FairveilError("Gradient matching needs at least one network trained on clean data.")
    device = next(surrogates[0].parameters()).device
    with evaluating(surrogates):
        target = plan.target.to(device).float() / 255
        known = surrogates_for(surrogates, target, plan.adversarial_class, len(data.classes), gradient)
        matcher = _GradientMatcher(data, plan, known, settings, augment, gradient, device)
        state = _State.start(matcher.clean, settings, seed, _fingerprint(matcher, seed))
        if checkpoint is not None and checkpoint.exists():
            state.load(checkpoint)
        while state.restart < settings.restarts:
            matcher.step(state)
            state.advance(matcher.clean)
            done = state.restart * settings.steps + state.step
            if checkpoint is not None and (done % save_every == 0 or state.restart == settings.restarts):
                state.save(checkpoint)
            on_step(done)
    return BrewedPoison(state.best_delta.cpu(), state.losses, state.best, seed)


class _GradientMatcher:
    """One step of signed Adam on the perturbation, and all that stays the same between steps."""

    def __init__(
        self,
        data: LabeledImages,
        plan: PoisonPlan,
        surrogates: list[Surrogate],
        settings: WitchesBrew,
        augment: Augmentation | None,
        gradient: ParameterGradient,
        device: torch.device,
    ) -> None:
        self.data, self.surrogates, self.settings = data, surrogates, settings
        self.augment, self.gradient, self.device = augment, gradient, device
        self.plan = plan
        self.clean, self.targets = self._images(plan.rows)
        bystanders = torch.ones(len(data), dtype=torch.bool)
        bystanders[plan.rows] = False
        self.bystanders = bystanders.nonzero().flatten()

    def _images(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels in [0, 1] and one-hot labels (B, K) of some rows, on the device."""
        images = self.data.images[rows].to(self.device).float() / 255
        return images, F.one_hot(self.data.labels[rows].to(self.device), len(self.data.classes)).float()

    def step(self, state: "_State") -> None:
        """One step: loss and derivative, the sign of the derivative to Adam, back within the bounds."""
        delta = state.delta.requires_grad_()
        images, targets = self.clean + delta, self.targets
        if self.settings.companions:
            drawn = torch.randperm(len(self.bystanders), generator=state.generator)[: self.settings.companions]
            more, more_targets = self._images(self.bystanders[drawn])
            images, targets = torch.cat([images, more]), torch.cat([targets, more_targets])
        if self.augment is not None:
            images, targets = self.augment(images, targets, state.generator)
        loss, derivative = 0.0, torch.zeros_like(images)
        for surrogate in self.surrogates:
            one, by_pixel = match(
                surrogate,
                images,
                targets,
                self.gradient,
                chunk=self.settings.chunk,
                received=lambda mean: self._as_received(mean, state.generator),
            )
            loss += one / len(self.surrogates)
            derivative += by_pixel
        (pull,) = torch.autograd.grad(images, delta, derivative)
        state.losses[state.restart, state.step] = loss
        with torch.no_grad():
            delta.grad = pull.sign()
            for group in state.adam.param_groups:
                group["lr"] = self.settings.step_size_at(state.step)
            state.adam.step()
            delta.grad = None
            delta.copy_(within_bounds(self.clean, delta, self.settings.epsilon))

    def _as_received(self, mean: Tensor, generator: torch.Generator) -> Tensor:
        """The gradient after the victim's clipping and noise, if the attacker expects them."""
        if not self.settings.gradient_noise:
            return mean
        clip = self.settings.gradient_clip
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        cut = mean * float(clip / mean.norm().clamp(min=clip))
        return cut + self.settings.gradient_noise * clip * noise


def within_bounds(clean: Tensor, delta: Tensor, epsilon: float) -> Tensor:
    """The nearest perturbation within ±ε that leaves every pixel in [0, 1].

    >>> within_bounds(torch.tensor([0.05, 0.5]), torch.tensor([-0.2, 0.2]), 0.1)
    tensor([-0.0500,  0.1000])
    """
    return delta.clamp(-epsilon, epsilon).clamp(-clean, 1 - clean)


class _State:
    """Where brewing stands: everything a step changes."""

    def __init__(self, delta: Tensor, settings: WitchesBrew, seed: int, fingerprint: str) -> None:
        self.settings, self.seed, self.fingerprint = settings, seed, fingerprint
        self.restart, self.step, self.best = 0, 0, 0
        self.losses = torch.full((settings.restarts, settings.steps), torch.nan, dtype=torch.float64)
        self.delta, self.best_delta = delta, torch.zeros_like(delta)
        self.generator = torch.Generator()
        self.adam = torch.optim.Adam([self.delta], lr=settings.step_size)

    @classmethod
    def start(cls, clean: Tensor, settings: WitchesBrew, seed: int, fingerprint: str) -> "_State":
        state = cls(torch.zeros_like(clean), settings, seed, fingerprint)
        state._begin(clean)
        return state

    def _begin(self, clean: Tensor) -> None:
        """Start a restart: Gaussian noise of deviation ε, cut to the bounds, from its own seed."""
        entropy = np.random.SeedSequence([self.seed, self.restart]).generate_state(1)
        self.generator.manual_seed(int(entropy[0]))
        noise = torch.randn(clean.shape, generator=self.generator).to(clean.device)
        self.delta = within_bounds(clean, self.settings.epsilon * noise, self.settings.epsilon)
        self.adam = torch.optim.Adam([self.delta], lr=self.settings.step_size)

    def advance(self, clean: Tensor) -> None:
        """Count a step; after a restart's last one, keep its perturbation if it is the best, and begin the next."""
        self.step += 1
        if self.step < self.settings.steps:
            return
        last = self.losses[: self.restart + 1, -1].nan_to_num(nan=torch.inf)
        if int(last.argmin()) == self.restart:
            self.best, self.best_delta = self.restart, self.delta.detach().clone()
        self.restart, self.step = self.restart + 1, 0
        if self.restart < self.settings.restarts:
            self._begin(clean)

    def save(self, file: Path) -> None:
        """Write the state, so that a crash leaves this one or the one before."""
        content = {
            "fingerprint": self.fingerprint,
            "restart": self.restart,
            "step": self.step,
            "best": self.best,
            "losses": self.losses,
            "delta": self.delta.detach(),
            "best_delta": self.best_delta,
            "generator": self.generator.get_state(),
            "adam": self.adam.state_dict(),
        }
        with atomic_path(file, overwrite=True) as temporary:
            torch.save(content, temporary)

    def load(self, file: Path) -> None:
        """Go on from a state that was written."""
        content = _read(file)
        if content.get("fingerprint") != self.fingerprint:
            raise FairveilError(
                f"{file} is the state of another attack (other settings, data, target, seed or networks): "
                "remove it, or name another file."
            )
        device = self.delta.device
        self.restart, self.step, self.best = content["restart"], content["step"], content["best"]
        self.losses = content["losses"]
        self.delta, self.best_delta = content["delta"].to(device), content["best_delta"].to(device)
        self.generator.set_state(content["generator"])
        self.adam = torch.optim.Adam([self.delta], lr=self.settings.step_size)
        self.adam.load_state_dict(content["adam"])


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as reason:  # whatever a damaged archive makes PyTorch's reader raise
        raise FairveilError(f"{file} is no state of an attack that can be read: remove it to begin anew.") from reason
    return content


def _fingerprint(matcher: _GradientMatcher, seed: int) -> str:
    """A hash of all that the result depends on."""
    done = [described(matcher.augment), described(matcher.gradient)]
    words = [matcher.settings.model_dump(mode="json"), seed, *done, matcher.plan.adversarial_class]
    tensors = [matcher.clean, matcher.plan.target, matcher.plan.rows]
    tensors += [surrogate.target_gradient for surrogate in matcher.surrogates]  # every parameter has its part in it
    return content_key(words, *tensors, digits=64)
