"""Features that do not tell the group: a sensitive information removal network (section 6.5; Morales et al., 2020).

It projects the embeddings of a recognizer that stays as it is. A head tries to tell the group from the projection; the
network, to be right about identities while the head sees the same fixed group in everybody.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.faces.backbones import Projection
from fairveil.faces.backbones.projection import perceptron
from fairveil.faces.heads import MarginHead, focal_losses


class Removal(BaseModel):
    """How a removal network is trained.

    Attributes:
        weight: α, of the adversarial term.
        epochs: how often the embeddings are gone through.
        batch_size: embeddings a step.
        learning_rate: of Adam, for both sides.
        seed: of initial weights and the order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(1.0, ge=0)
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(512, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    seed: int = Field(0, ge=0)


class SensitiveHead(nn.Module):
    """3 linear layers with ReLU between them, from projected embeddings to a logit for each group, (B, G)."""

    def __init__(self, dimension: int, groups: int) -> None:
        super().__init__()
        self.layers = perceptron(dimension, [dimension // 2, dimension // 4], groups)

    def forward(self, projected: Tensor) -> Tensor:
        """Projected embeddings to logits of groups."""
        logits: Tensor = self.layers(projected)
        return logits


@dataclass(frozen=True)
class Removed:
    """What training a removal network gives.

    Attributes:
        network: φ.
        identities: the margin head, of the identities trained on.
        sensitive: the head that tells groups.
    """

    network: Projection
    identities: MarginHead
    sensitive: SensitiveHead

    @torch.no_grad()
    def project(self, embeddings: Tensor) -> Tensor:
        """Unit vectors φ(x), (N, D)."""
        return F.normalize(self.network(embeddings))

    @torch.no_grad()
    def sensitive_accuracy(self, embeddings: Tensor, groups: Tensor) -> float:
        """How often the sensitive head tells the group, of those whose group is known (table 6.4)."""
        known = groups >= 0
        told = self.sensitive(self.network(embeddings[known])).argmax(1)
        return float((told == groups[known]).float().mean())


def fooling(logits: Tensor, toward: int) -> Tensor:
    """The mean of log(1 + |0.9 − P(s | φ(x))|): all are to look like the fixed group s (section 6.9.2).

    The text calls P a logit; a probability, which 0.9 can be compared with, is what Morales et al. take.

    Args:
        logits: of groups, (B, G).
        toward: s.

    >>> fooling(torch.zeros(1, 2), 0)  # log(1 + |0.9 - 0.5|)
    tensor(0.3365)
    """
    return (0.9 - logits.softmax(1)[:, toward]).abs().log1p().mean()


def remove_sensitive(
    embeddings: Tensor,
    labels: Tensor,
    groups: Tensor,
    *,
    toward: int,
    settings: Removal,
    on_step: Callable[[float], None] = lambda done: None,
) -> Removed:
    """Train a removal network on embeddings, by turns with its adversary.

    In each step the network lowers L_FR + α·log(1 + |0.9 − P_s|), while the sensitive head stays; then the head lowers
    its cross entropy, while the network stays.

    Args:
        embeddings: of a recognizer, (N, D), not changed.
        labels: identities, int64 (N,), from 0 on.
        groups: int64 (N,), from 0 on; -1 where unknown: such rows teach identities only.
        toward: s, the group that everybody is to look like.
        settings: how.
        on_step: told how many epochs are done, in fractions.

    Raises:
        FairveilError: there is one group or identity only, nobody of group s, or a loss is no longer finite.
    """
    group_count = int(groups.max()) + 1
    if group_count < 2 or not 0 <= toward < group_count:
        raise FairveilError(f"With {group_count} groups nobody can be made to look like group {toward}: give two.")
    dimension, count = embeddings.shape[1], len(embeddings)
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network, sensitive = Projection(dimension), SensitiveHead(dimension, group_count)
    head = MarginHead(int(labels.max()) + 1, dimension, seed=settings.seed)
    remover = torch.optim.Adam([*network.parameters(), *head.parameters()], settings.learning_rate)
    adversary = torch.optim.Adam(sensitive.parameters(), settings.learning_rate)
    size = min(settings.batch_size, count)
    steps = count // size
    for epoch in range(settings.epochs):
        for step, rows in enumerate(torch.split(torch.randperm(count, generator=generator)[: steps * size], size)):
            known = groups[rows] >= 0
            projected = network(embeddings[rows])
            loss = focal_losses(head(projected, labels[rows]), labels[rows]).mean()
            if settings.weight and bool(known.any()):
                loss = loss + settings.weight * fooling(sensitive(projected[known]), toward)
            _descend(remover, loss)
            if bool(known.any()):
                told = sensitive(network(embeddings[rows]).detach()[known])
                _descend(adversary, F.cross_entropy(told, groups[rows][known]))
            on_step(epoch + (step + 1) / steps)
    return Removed(network.eval(), head.eval(), sensitive.eval())


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    if not bool(loss.isfinite()):
        raise FairveilError(f"The loss of the removal network is {loss.item()}: lower the weight or the learning rate.")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
