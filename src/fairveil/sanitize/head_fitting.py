"""Retraining the head in the transfer regime: a convex problem, solved in a second instead of trained for minutes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.data.images import LabelledImages
from fairveil.errors import FairveilError
from fairveil.sanitize.head_matching import TransferNetwork
from fairveil.training.objectives import Augmentation


def fit_head(
    network: TransferNetwork,
    data: LabelledImages,
    *,
    augment: Augmentation | None,
    generator: torch.Generator,
    views: int = 3,
    weight_decay: float = 5e-4,
    batch_size: int = 250,
    iterations: int = 200,
) -> TransferNetwork:
    """Give frozen features the head that is best on augmented pictures.

    What trains a head for long enough ends here too: with frozen features, cross entropy plus
    weight_decay/2 · ‖head‖² has one minimum, whatever the first weights. It is found by L-BFGS on the features of a few
    augmented views of every picture. A head stopped early is another matter: poison moves it much less.

    Args:
        network: whose features are used, on any device; it is left as it was.
        data: what the victim trains on.
        augment: what is done to each batch of a view: flips and crops, and the defence. Not those whose loss is other
            than the mean cross entropy of what they give, as that of MaxUp.
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
    features, targets = _views(network, data, augment, views, batch_size, generator)
    head = nn.Linear(features.shape[1], targets.shape[1], bias=network.head.bias is not None).to(features)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    solver = torch.optim.LBFGS(head.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> float:
        solver.zero_grad()
        decay = torch.stack([parameter.square().sum() for parameter in head.parameters()]).sum()
        value = F.cross_entropy(head(features), targets) + weight_decay / 2 * decay
        torch.autograd.backward(value)
        return float(value.detach())

    with torch.enable_grad():
        solver.step(loss)  # type: ignore[no-untyped-call]
    return TransferNetwork(network.features, head.to(network.head.weight.dtype)).eval()


@torch.no_grad()
def _views(
    network: TransferNetwork,
    data: LabelledImages,
    augment: Augmentation | None,
    views: int,
    batch_size: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Features (views · N, D) and soft labels (views · N, K) of augmented pictures."""
    device, classes = network.head.weight.device, network.head.out_features
    features, targets = [], []
    for _ in range(views):
        order = torch.randperm(len(data), generator=generator)
        for rows in order.tensor_split(math.ceil(len(data) / batch_size)):  # even batches, none too small to be mixed
            images = data.images[rows].to(device).float() / 255
            soft = F.one_hot(data.labels[rows], classes).float().to(device)
            if augment is not None:
                images, soft = augment(images, soft, generator)
            features.append(network.features(images))
            targets.append(soft)
    return torch.cat(features), torch.cat(targets)
