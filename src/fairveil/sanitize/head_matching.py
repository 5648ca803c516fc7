"""Gradient matching in the transfer regime: a frozen feature extractor, and a linear head that the victim retrains.

Only the head's parameters are trained, and their gradient has a closed form, so that a step of brewing costs one
ordinary backward pass. The attacker knows the very extractor the victim uses: a white box, an easier attack than one
on networks trained from scratch.
"""

import copy
from typing import Self

import torch
from torch import Tensor, nn

from fairveil.base.errors import FairveilError


class TransferNetwork(nn.Module):
    """Frozen features and a fresh linear head.

    The features stay in evaluation mode and untrained whatever is asked of the whole; heads share them, so that many
    victims cost the memory of one.

    Attributes:
        features: from pixels in [0, 1] to features (B, D); its parameters need no gradient.
        head: the linear layer that is trained.
    """

    def __init__(self, features: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.features = features.eval().requires_grad_(False)
        self.head = head

    @classmethod
    def of(cls, network: nn.Module) -> Self:
        """Take a trained network's features, and give them a head of the same size as its last linear layer.

        The network is left as it was. The head's weights are those PyTorch draws for a linear layer; see `fresh`.

        Raises:
            FairveilError: the network does not end in a linear layer.
        """
        features = copy.deepcopy(network)
        name, last = last_linear(features)
        parent, _, attribute = name.rpartition(".")
        if not name:
            raise FairveilError("A network that is one linear layer has no features to freeze.")
        setattr(features.get_submodule(parent), attribute, nn.Identity())
        return cls(features, nn.Linear(last.in_features, last.out_features))

    def fresh(self, seed: int) -> "TransferNetwork":
        """The same features with a head of new random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = nn.Linear(self.head.in_features, self.head.out_features)
        return TransferNetwork(self.features, head.to(self.head.weight.device))

    def train(self, mode: bool = True) -> Self:
        """Put the head in training mode; the features stay in evaluation mode."""
        super().train(mode)
        self.features.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """The network's last linear layer in the order of its modules, and its name.

    Raises:
        FairveilError: it has none.
    """
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise FairveilError(f"The network {type(network).__name__} has no linear layer that could be its head.")
    return layers[-1]


def head_gradient(network: nn.Module, images: Tensor, targets: Tensor, *, differentiable: bool) -> Tensor:
    """The gradient of the summed cross entropy with respect to the last linear layer: a `ParameterGradient`.

    With features f and softmax probabilities p it is Σ_i (p_i − y_i) f_iᵀ for the weights and Σ_i (p_i − y_i) for the
    bias, which is differentiable by the images without a double backward pass.

    Raises:
        FairveilError: the network's last linear layer does not give its logits.
    """
    _, head = last_linear(network)
    seen: list[Tensor] = []
    hook = head.register_forward_hook(lambda _, given, made: seen.extend((given[0], made)))
    try:
        with torch.set_grad_enabled(differentiable):
            logits = network(images)
    finally:
        hook.remove()
    if len(seen) != 2 or seen[1] is not logits:
        raise FairveilError(
            f"The last linear layer of {type(network).__name__} does not give its logits, so that the head's gradient "
            "cannot be had in closed form: match the gradients of the whole network instead."
        )
    features = seen[0]
    excess = logits.softmax(1) - targets  # (B, K)
    weight = excess.T @ features  # (K, D)
    bias = excess.sum(0) if head.bias is not None else excess.new_empty(0)
    return torch.cat([weight.flatten(), bias])
