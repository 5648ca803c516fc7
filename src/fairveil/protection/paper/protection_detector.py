"""A defender who has LowKey too: it trains a network that tells protected faces from others."""

from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor, nn

from fairveil.base.estimate import Estimate
from fairveil.base.rates import RESAMPLES

_EPOCHS, _RATE, _DECAY, _BATCH, _WIDTH, _SLOPE = 40, 2e-3, 1e-3, 8, 16, 0.1


class ProtectionDetector(nn.Module):
    """A small convolutional network that sees what is finer in a picture than a Gaussian blur leaves.

    Args:
        width: channels of its first layer.
        sigma: of the blur, in pixels.
    """

    def __init__(self, width: int = _WIDTH, sigma: float = 1.5) -> None:
        super().__init__()
        self.sigma = sigma
        channels = (3, width, width, 2 * width, 2 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2 if place else 1, padding=1)
            for place, (before, after) in enumerate(pairwise(channels))
        )
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, a=_SLOPE)  # type: ignore[arg-type]
        self.last = nn.Linear(2 * channels[-1], 1)

    def forward(self, views: Tensor) -> Tensor:
        """Squares around faces (B, 3, S, S) in [0, 1] to scores (B,); above 0 it takes them for protected."""
        side = 2 * round(3 * self.sigma) + 1
        maps = 10 * (views - gaussian_blur2d(views, (side, side), (self.sigma, self.sigma)))
        for layer in self.layers:
            maps = F.leaky_relu(layer(maps), _SLOPE)
        summary = torch.cat([maps.mean((2, 3)), maps.std((2, 3))], 1)
        scores: Tensor = self.last(summary)[:, 0]
        return scores


def train_detector(
    clean: Tensor, protected: Tensor, *, epochs: int = _EPOCHS, width: int = _WIDTH, seed: int = 0
) -> ProtectionDetector:
    """Train a detector on faces in both versions, which go through it together.

    Args:
        clean: squares around faces as they were, (N, 3, S, S), RGB in [0, 1].
        protected: the same faces, protected.
        epochs: passes over the faces.
        width: see `ProtectionDetector`.
        seed: of weights, batches and mirroring.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ProtectionDetector(width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    batches = [torch.split(torch.randperm(len(clean), generator=generator), _BATCH) for _ in range(epochs)]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, sum(map(len, batches)))
    for rows in chain.from_iterable(batches):
        mirrored = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
        views = torch.cat([torch.where(mirrored, x.flip(-1), x) for x in (protected[rows], clean[rows])])
        truth = torch.cat([torch.ones(len(rows)), torch.zeros(len(rows))])
        loss = F.binary_cross_entropy_with_logits(network(views), truth)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


@torch.no_grad()
def scores_of(network: ProtectionDetector, views: Tensor) -> Tensor:
    """Scores (N,) of squares around faces (N, 3, S, S)."""
    return torch.cat([network(batch) for batch in torch.split(views, _BATCH)])


def area_under_curve(positives: Tensor, negatives: Tensor, people: Tensor) -> Estimate:
    """How often a protected face scores above a clean one, ties counting half; people are drawn anew for the interval.

    Args:
        positives: scores of protected faces, (N,).
        negatives: scores of clean ones, (N,).
        people: whose face the nth of either is, int64 (N,).

    >>> area_under_curve(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0]), torch.tensor([0, 1])).value
    0.875
    """
    _, person = torch.unique(people, return_inverse=True)
    members = F.one_hot(person).double()  # (N, I)
    over = positives[:, None] - negatives
    wins = members.T @ ((over > 0).double() + 0.5 * (over == 0)) @ members  # (I, I)
    pairs = members.T @ torch.ones_like(over, dtype=torch.float64) @ members
    count = members.shape[1]
    drawn = torch.randint(count, (RESAMPLES, count), generator=torch.Generator().manual_seed(0))
    weights = F.one_hot(drawn, count).sum(1).double()  # (R, I)
    areas = ((weights @ wins) * weights).sum(1) / ((weights @ pairs) * weights).sum(1)
    low, high = areas.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    value = float(wins.sum() / pairs.sum())
    return Estimate(value, min(low, value), max(high, value), count, "people", "bootstrap", 2 * len(people))
