"""What a step of training lowers: the seam through which augmentations, margins and penalties come in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.training.batches import Batch

Objective = Callable[[nn.Module, Batch, torch.Generator], Tensor]
"""A network, a batch and a generator of the batch's device, to a scalar loss, the mean over the batch.

It may call the network as often as it needs. One that is itself an `nn.Module` (a margin head, say) is trained and
kept in checkpoints along with the network.
"""


class Augmentation(Protocol):
    """Changes a batch of pictures and their soft labels."""

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images float in [0, 1] (B, C, H, W) and soft targets float (B, K), to others of the same shapes.

        The generator is one of the images' device.
        """


@dataclass(frozen=True)
class Classification:
    """Cross entropy with the classes of the batch, or with its soft labels, after an augmentation: an `Objective`.

    Attributes:
        augment: what is done to each batch first.
        label_smoothing: the share of each label that is spread evenly over all classes.
    """

    augment: Augmentation | None = None
    label_smoothing: float = 0.0

    def __call__(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """The mean loss of a batch."""
        images, targets = batch.images, batch.targets
        if self.augment is not None:
            images, targets = self.augment(images, batch.soft_targets(), generator)
        # Under mixed precision logits come with 8 bits, too few for a logarithm.
        return F.cross_entropy(network(images).float(), targets, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class FromEpoch:
    """One objective at first, and another one from some epoch on: an `Objective`.

    Attributes:
        start: how many epochs the first one is lowered in.
        before: in these.
        after: from then on, and outside of a run.
    """

    start: int
    before: Objective
    after: Objective

    def __call__(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """The loss of a batch, by the epoch it belongs to."""
        early = batch.epoch is not None and batch.epoch < self.start
        return (self.before if early else self.after)(network, batch, generator)
