"""Training with a guarantee of privacy, which bounds what any one picture can do to a network, and so any one poison.

It is for `gradients=` of `fairveil.training.train`, and needs Opacus, which the extra `private` installs.
`noised_gradients` has the plain form that the literature tried.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from opacus import GradSampleModule
from opacus.accountants import RDPAccountant
from opacus.accountants.utils import get_noise_multiplier
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from fairveil.base.errors import FairveilError


class PrivateSGD:
    """DP-SGD (Abadi et al., "Deep learning with differential privacy", 2016) by Opacus: a `GradientRule`.

    The gradient of each *picture* is clipped, their sum is noised, and an accountant knows what has been given away.
    The guarantee is for one picture added or removed, and holds only if an objective does not mix pictures with each
    other: flips, crops and cutout are fine, mixup and CutMix are not.

        private = PrivateSGD(network, pictures=len(data), batch_size=settings.batch_size, noise_multiplier=1.0)
        train(private.network, data, settings, order=private.order, gradients=private)
        private.epsilon(delta=1e-5)

    Attributes:
        network: the network given, which notes the gradient of each picture while it trains; `release` ends that.
        noise_multiplier: the noise's standard deviation by the clipping norm.
        clip: the norm to which each picture's gradient is shortened.
        sample_rate: the chance of each picture to be in a batch.
    """

    def __init__(
        self, network: nn.Module, *, pictures: int, batch_size: int, noise_multiplier: float, clip: float = 1.0
    ) -> None:
        """Prepare a network.

        Args:
            network: without batch norm: build it with `norm="group"`, or let `opacus.validators.ModuleValidator.fix`
                replace it.
            pictures: how many there are to train on.
            batch_size: how many are in a batch on average.
            noise_multiplier: see `noise_multiplier_for` for a wanted guarantee.
            clip: see above.

        Raises:
            FairveilError: a layer makes pictures of a batch depend on each other, or several processes train.
        """
        if clip <= 0 or noise_multiplier < 0:
            raise FairveilError(
                f"Private training cannot clip to {clip:g} and noise by {noise_multiplier:g}: "
                "the clip must be above 0, the noise at least 0."
            )
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            raise FairveilError("Private training works in one process only: start it without a launcher.")
        if errors := ModuleValidator.validate(network.train(), strict=False):
            raise FairveilError(
                f"This network cannot be trained privately ({str(errors[0]).split('.', maxsplit=1)[0]}): "
                'build it with norm="group".'
            )
        # Of the first layer, whose input needs no gradient, PyTorch remarks what Opacus knows and allows for.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        self.network = GradSampleModule(network)
        self.noise_multiplier, self.clip = noise_multiplier, clip
        self.batch_size = min(batch_size, pictures)
        self.sample_rate = self.batch_size / pictures
        self._accountant = RDPAccountant()

    def __repr__(self) -> str:
        """What a checkpoint's settings are compared by."""
        return f"PrivateSGD({self.noise_multiplier=}, {self.clip=}, {self.sample_rate=})".replace("self.", "")

    def order(self, count: int, batch_size: int, generator: torch.Generator) -> Sequence[Tensor]:
        """Each batch has each picture with the same chance, as the accountant assumes: an `Order`.

        Batches differ in size. An empty one, of a chance of about exp(-batch_size), is left out.
        """
        steps = max(1, int(count / self.batch_size))
        drawn = (torch.rand(count, generator=generator) < self.sample_rate for _ in range(steps))
        return [rows for taken in drawn if len(rows := taken.nonzero().flatten())]

    def __call__(self, parameters: Sequence[nn.Parameter], generator: torch.Generator) -> None:
        """Put the clipped, summed and noised gradients in the place of the plain ones."""
        optimizer = DPOptimizer(
            torch.optim.SGD(parameters, lr=1.0),  # only for its list of parameters: the loop takes the step
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.clip,
            expected_batch_size=self.batch_size,
            generator=generator,
        )
        optimizer.pre_step()
        for parameter in parameters:
            parameter.grad_sample = parameter.summed_grad = None  # type: ignore[attr-defined]
        self._accountant.step(noise_multiplier=self.noise_multiplier, sample_rate=self.sample_rate)

    def epsilon(self, delta: float) -> float:
        """The ε of the (ε, δ)-differential privacy of the network as trained so far; infinite without noise.

        Args:
            delta: the chance with which the bound may fail; usually below one by the number of pictures.
        """
        if not len(self._accountant):
            return 0.0
        if not self.noise_multiplier:
            return float("inf")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of orders at the edge of a grid: the bound holds all the same
            return float(self._accountant.get_epsilon(delta))

    def release(self) -> nn.Module:
        """The network given, as it was trained, without what notes gradients."""
        network: nn.Module = self.network.to_standard_module()
        return network

    def state_dict(self) -> dict[str, Any]:
        """What has been given away so far, for checkpoints."""
        return {"history": [list(step) for step in self._accountant.history]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what had been given away."""
        self._accountant.history = [(float(noise), float(rate), int(steps)) for noise, rate, steps in state["history"]]


def noise_multiplier_for(epsilon: float, delta: float, *, pictures: int, batch_size: int, epochs: int) -> float:
    """The noise multiplier with which so many epochs of `PrivateSGD` are (ε, δ)-private.

    Raises:
        FairveilError: no noise would do.
    """
    size = min(batch_size, pictures)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(
                get_noise_multiplier(
                    target_epsilon=epsilon,
                    target_delta=delta,
                    sample_rate=size / pictures,
                    steps=max(1, int(pictures / size)) * epochs,
                    accountant="rdp",
                )
            )
    except ValueError as error:
        raise FairveilError(
            f"No noise makes {epochs} epochs ({epsilon:g}, {delta:g})-private: allow a larger epsilon or delta."
        ) from error
