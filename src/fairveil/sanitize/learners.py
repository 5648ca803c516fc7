"""How a victim learns: a whole network from scratch, or a new head on frozen features (the transfer regime)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import LabeledImages
from fairveil.sanitize.defenses import Defense
from fairveil.sanitize.head_fitting import fit_head
from fairveil.sanitize.head_matching import TransferNetwork, head_gradient
from fairveil.sanitize.matching import ParameterGradient, network_gradient
from fairveil.sanitize.maxup import MaxUp
from fairveil.training import Classification, Training, train
from fairveil.training.checkpoints import described
from fairveil.training.objectives import FromEpoch, Objective


@runtime_checkable
class Learner(Protocol):
    """Trains victims, and the clean networks an attacker works with."""

    @property
    def gradient(self) -> ParameterGradient:
        """The gradient of what is trained, which an attacker matches."""

    def new(self, seed: int) -> nn.Module:
        """An untrained network, whose weights can be replaced by kept ones."""

    def learn(self, data: LabeledImages, defense: Defense, *, seed: int) -> nn.Module:
        """Train a new network on the data under a defense, and give it in evaluation mode."""

    def described(self) -> str:
        """What it is in words: the same words if and only if it would train the same."""


@dataclass(frozen=True)
class FromScratch:
    """Trains every parameter of a new network: the dissertation's setting.

    Attributes:
        network: makes a new network, from pixels in [0, 1] to logits. PyTorch's own generator is seeded for it, so it
            should not seed it itself.
        training: how; the seed in it is replaced.
        device: where, as torch names it.
    """

    network: Callable[[], nn.Module]
    training: Training = field(default_factory=Training)
    device: str = "cpu"
    gradient: ClassVar[ParameterGradient] = staticmethod(network_gradient)

    def new(self, seed: int) -> nn.Module:
        """An untrained network; see `Learner`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.network().to(self.device).eval()

    def learn(self, data: LabeledImages, defense: Defense, *, seed: int) -> nn.Module:
        """Train a new network; see `Learner`."""
        network = self.new(seed)
        settings = self.training.model_copy(update={"seed": seed})
        train(network, data, settings, objective=defense.objective, gradients=defense.gradients, device=self.device)
        layout: nn.Module = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return layout.eval()

    def described(self) -> str:
        """See `Learner`."""
        return f"from scratch: {described(self.new(0))} {self.training.model_copy(update={'seed': 0})!r}"


@dataclass(frozen=True)
class HeadOnly:
    """Fits a new head to frozen features: seconds instead of minutes, and an easier target.

    The attacker knows the very features, so that matching the head's gradient is a white-box attack. Defenses that
    change the gradients of steps cannot be tried, since a fitted head takes none.

    Attributes:
        features: a network with frozen features.
        views: how often each picture is seen, augmented anew; see `fit_head`.
    """

    features: TransferNetwork
    views: int = 3
    gradient: ClassVar[ParameterGradient] = staticmethod(head_gradient)

    def new(self, seed: int) -> nn.Module:
        """A head of random weights; see `Learner`."""
        return self.features.fresh(seed)

    @staticmethod
    def check(defense: Defense) -> None:
        """Refuse a defense that no head can be fitted under.

        Raises:
            FairveilError: the defense changes gradients, or has a loss that heads are not fitted to.
        """
        if not isinstance(_settled(defense.objective), Classification | MaxUp) or defense.gradients is not None:
            raise FairveilError(
                f"{defense.name} cannot be tried where only a head is fitted, since it changes the steps of training: "
                "leave it out, or train from scratch."
            )

    def learn(self, data: LabeledImages, defense: Defense, *, seed: int) -> nn.Module:
        """Fit a head; see `Learner`.

        Raises:
            FairveilError: the defense changes gradients, or has a loss that heads are not fitted to.
        """
        self.check(defense)
        objective = _settled(defense.objective)
        assert isinstance(objective, Classification | MaxUp)
        generator = torch.Generator().manual_seed(seed)
        return fit_head(self.features, data, objective, generator=generator, views=self.views).eval()

    def described(self) -> str:
        """See `Learner`."""
        return f"head only: {described(self.features.features)} {self.views} views"


def _settled(objective: Objective) -> Objective:
    """What is lowered in the end: a fitted head takes no steps, and knows no epochs."""
    return objective.after if isinstance(objective, FromEpoch) else objective
