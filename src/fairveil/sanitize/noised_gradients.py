"""Clipped and noised gradients, the plain form tried against poison: noise without a guarantee of privacy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fairveil.base.errors import FairveilError


@dataclass(frozen=True)
class ClipAndNoise:
    """Clips the gradient of each *mini-batch* and adds noise to it: no guarantee of privacy, a `GradientRule`.

    This is the "DP-SGD" of table 4.2 and of Geiping et al., "Witches' Brew", 2021: per-picture gradients do not exist
    where there is batch norm, so it is the whole batch's that is clipped.

    Attributes:
        clip: the norm, over all parameters together, to which a longer gradient is shortened.
        noise: standard deviation of the Gaussian noise on each entry; 0.01 or 0.05 in the table.

    >>> weight = nn.Parameter(torch.zeros(2))
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> ClipAndNoise(clip=1, noise=0)([weight], torch.Generator())
    >>> weight.grad
    tensor([0.6000, 0.8000])
    """

    clip: float = 1.0
    noise: float = 0.01

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if self.clip <= 0 or self.noise < 0:
            raise FairveilError(
                f"Gradients cannot be clipped to {self.clip:g} and noised by {self.noise:g}: "
                "the clip must be above 0, the noise at least 0."
            )

    def __call__(self, parameters: Sequence[nn.Parameter], generator: torch.Generator) -> None:
        """Clip and noise the gradients in place."""
        nn.utils.clip_grad_norm_(parameters, self.clip)
        for parameter in parameters:
            if parameter.grad is not None:
                gradient = parameter.grad
                noise = torch.empty_like(gradient, memory_format=torch.contiguous_format)
                gradient.add_(noise.normal_(0, self.noise, generator=generator))
