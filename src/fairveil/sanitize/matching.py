"""Gradient matching: how well poisons pull a network's parameters where the attacker wants them (Witches' Brew).

Geiping et al., "Witches' Brew: Industrial Scale Data Poisoning via Gradient Matching", ICLR 2021, equation 3.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.base.errors import FairveilError


class ParameterGradient(Protocol):
    """The gradient of the training loss, *summed* over images, with respect to the parameters that are trained."""

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, *, differentiable: bool) -> Tensor:
        """Images (B, C, H, W) in [0, 1] and soft targets (B, K) give one flat vector of all parameters together.

        With `differentiable` the vector can itself be differentiated with respect to the images.
        """


def network_gradient(network: nn.Module, images: Tensor, targets: Tensor, *, differentiable: bool) -> Tensor:
    """The gradient of the summed cross entropy with respect to every parameter that is trained: a `ParameterGradient`.

    Differentiating it costs a double backward pass.

    Raises:
        FairveilError: no parameter is trained.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise FairveilError(f"The network {type(network).__name__} has no parameter that is trained: nothing to match.")
    with torch.enable_grad():
        loss = F.cross_entropy(network(images), targets, reduction="sum")
        gradients = torch.autograd.grad(loss, trained, create_graph=differentiable, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def matching_loss(poison_gradient: Tensor, target_gradient: Tensor) -> Tensor:
    """1 − ⟨g_target, g_poison⟩ / (‖g_target‖ ‖g_poison‖): one cosine over all parameters together.

    >>> matching_loss(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])).item()
    0.03999...
    """
    return 1 - F.cosine_similarity(poison_gradient, target_gradient, dim=0)


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A clean network the attacker matches gradients on.

    Attributes:
        network: trained on clean data, in evaluation mode.
        target_gradient: the gradient of L(F(x^t), y^adv) on it, flat.
    """

    network: nn.Module
    target_gradient: Tensor


def surrogates_for(
    networks: Sequence[nn.Module], target: Tensor, adversarial_class: int, classes: int, gradient: ParameterGradient
) -> list[Surrogate]:
    """Compute the target's adversarial gradient on each network, once for the whole attack.

    Args:
        networks: in evaluation mode.
        target: the test image, float in [0, 1], (C, H, W), on their device.
        adversarial_class: the class it shall be given.
        classes: how many there are.
        gradient: with respect to which parameters.

    Raises:
        FairveilError: a gradient is not finite.
    """
    wanted = F.one_hot(torch.tensor([adversarial_class], device=target.device), classes).to(target.dtype)
    gradients = [gradient(network, target[None], wanted, differentiable=False).detach() for network in networks]
    if not all(bool(one.isfinite().all()) for one in gradients):
        raise FairveilError("The target's gradient is not finite: a surrogate has diverged, so train it again.")
    return [Surrogate(network, one) for network, one in zip(networks, gradients, strict=True)]


def match(
    surrogate: Surrogate,
    images: Tensor,
    targets: Tensor,
    gradient: ParameterGradient,
    *,
    chunk: int = 128,
    received: Callable[[Tensor], Tensor] = lambda poison_gradient: poison_gradient,
) -> tuple[float, Tensor]:
    """The matching loss of all the poisons *jointly*, and its derivative by their pixels, in bounded memory.

    The loss is a function of the mean gradient g = (1/B) Σ_i g_i of all B images, so that cutting them into batches
    with a loss each would be another attack. But in evaluation mode no image's gradient depends on another image, and
    by the chain rule ∂loss/∂x = ⟨v, ∂g/∂x⟩ with v = ∂loss/∂g. So a first pass sums g over chunks and keeps no graph,
    and a second pass differentiates ⟨v, g_chunk⟩ chunk by chunk: the same numbers, with one chunk's graph in memory.

    Args:
        surrogate: network and target gradient.
        images: float in [0, 1], (B, C, H, W), as the victim's training step would see them (augmented).
        targets: soft labels (B, K).
        gradient: with respect to which parameters.
        chunk: how many images at once.
        received: what a defense makes of the mean gradient before it is used, flat to flat, such as noise (private
            SGD). Its own derivative is taken to be the identity: the straight-through estimate.

    Returns:
        The loss, and its derivative by `images`, of their shape.
    """
    pieces = list(zip(torch.split(images.detach(), chunk), torch.split(targets.detach(), chunk), strict=True))
    only_one = len(pieces) == 1  # then its graph may be kept, which saves the first pass
    leaves = [piece.requires_grad_() for piece, _ in pieces]
    gradients = [
        gradient(surrogate.network, leaf, soft, differentiable=only_one)
        for leaf, (_, soft) in zip(leaves, pieces, strict=True)
    ]
    mean = torch.stack([piece.detach() for piece in gradients]).sum(0) / len(images)
    loss, pull = _loss_and_pull(received(mean), surrogate.target_gradient)
    derivatives: list[Tensor] = []
    for leaf, (_, soft) in zip(leaves, pieces, strict=True):
        again = gradients[0] if only_one else gradient(surrogate.network, leaf, soft, differentiable=True)
        derivatives += torch.autograd.grad(again @ pull / len(images), leaf)
    return loss, torch.cat(derivatives)


def _loss_and_pull(mean: Tensor, target_gradient: Tensor) -> tuple[float, Tensor]:
    """The loss and v = ∂loss/∂g."""
    with torch.enable_grad():
        leaf = mean.detach().requires_grad_()
        loss = matching_loss(leaf, target_gradient)
        (pull,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), pull


@contextmanager
def evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Evaluation mode inside the block (batch norm by its running statistics, no dropout), and back to what it was."""
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)
