"""Retraining the head in the transfer regime: a convex problem, solved in a second instead of trained for minutes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import LabeledImages
from fairveil.sanitize.head_matching import TransferNetwork
from fairveil.sanitize.maxup import MaxUp
from fairveil.training.objectives import Classification


def fit_head(
    network: TransferNetwork,
    data: LabeledImages,
    objective: Classification | MaxUp,
    *,
    generator: torch.Generator,
    views: int = 3,
    weight_decay: float = 5e-4,
    batch_size: int = 250,
    iterations: int = 200,
) -> TransferNetwork:
    """Give frozen features the head that is best on augmented pictures.

    What trains a head for long enough ends here too: with frozen features, cross entropy plus
    weight_decay/2 · ‖head‖² has one minimum, whatever the first weights, and so has the worst cross entropy of several
    copies. It is found by L-BFGS on the features of a few augmented views of every picture. A head stopped early is
    another matter: poison moves it much less.

    Args:
        network: whose features are used, on any device; it is left as it was.
        data: what the victim trains on.
        objective: what is lowered, and what is done to each batch of a view: flips and crops, and the defense.
        generator: of batches and augmentations, on the processor.
        views: how often each picture is seen, each time augmented anew; without augmentation once is enough.
        weight_decay: as in stochastic gradient descent.
        batch_size: pictures that are augmented, and so mixed, together.
        iterations: of L-BFGS at the most.

    Raises:
        FairveilError: there are no pictures, or views; or the augmentation's own.
    """
    if not len(data) or views < 1:
        raise FairveilError(f"A head cannot be fitted to {len(data)} pictures seen {views} times: give at least one.")
    features, targets = _views(network, data, objective, views, batch_size, generator)
    head = nn.Linear(features.shape[-1], targets.shape[-1], bias=network.head.bias is not None).to(features)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    solver = torch.optim.LBFGS(head.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")
    smoothing = objective.label_smoothing if isinstance(objective, Classification) else 0.0

    def loss() -> float:
        solver.zero_grad()
        decay = torch.stack([parameter.square().sum() for parameter in head.parameters()]).sum()
        logits = head(features).transpose(1, 2)  # (copies, K, N)
        losses = F.cross_entropy(logits, targets.transpose(1, 2), reduction="none", label_smoothing=smoothing)
        value = losses.amax(0).mean() + weight_decay / 2 * decay
        torch.autograd.backward(value)
        return float(value.detach())

    with torch.enable_grad():
        solver.step(loss)  # type: ignore[no-untyped-call]
    return TransferNetwork(network.features, head.to(network.head.weight.dtype)).eval()


@torch.no_grad()
def _views(
    network: TransferNetwork,
    data: LabeledImages,
    objective: Classification | MaxUp,
    views: int,
    batch_size: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Features (copies, views · N, D) and soft labels (copies, views · N, K) of augmented pictures."""
    device, classes = network.head.weight.device, network.head.out_features
    features, targets = [], []
    for _ in range(views):
        order = torch.randperm(len(data), generator=generator)
        for rows in order.tensor_split(math.ceil(len(data) / batch_size)):  # even batches, none too small to be mixed
            images = data.images[rows].to(device).float() / 255
            soft = F.one_hot(data.labels[rows], classes).float().to(device)
            copies = _copies(objective, images, soft, generator)
            features.append(torch.stack([network.features(copy) for copy, _ in copies]))
            targets.append(torch.stack([labels for _, labels in copies]))
    return torch.cat(features, 1), torch.cat(targets, 1)


def _copies(
    objective: Classification | MaxUp, images: Tensor, soft: Tensor, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """A batch as the objective sees it: once, or in MaxUp's copies."""
    first = objective.augment if isinstance(objective, Classification) else objective.first
    if first is not None:
        images, soft = first(images, soft, generator)
    if isinstance(objective, Classification):
        return [(images, soft)]
    return [objective.base(images, soft, generator) for _ in range(objective.m)]
