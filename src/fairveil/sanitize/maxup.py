"""MaxUp: train on the worst of several augmented copies of each picture (section 4.3; Gong et al. 2020)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.sanitize.augmentations import Compose
from fairveil.training.batches import Batch
from fairveil.training.objectives import Augmentation


@dataclass(frozen=True)
class MaxUp:
    """The mean over pictures of the largest loss among m augmented copies of each: an `Objective` for training.

    min_θ E [ max_j L(f(x̃_ij), ỹ_ij) ], j = 1 … m. It costs m times the usual.

    Attributes:
        base: makes the copies.
        m: how many of each picture.
        first: an augmentation that is done before, once, such as flips and crops.

    Raises:
        FairveilError: no copies are asked for.
    """

    base: Augmentation
    m: int = 4
    first: Augmentation | None = None

    def __post_init__(self) -> None:
        """Refuse to train on nothing."""
        if self.m < 1:
            raise FairveilError(f"MaxUp needs 1 or more copies of each picture, not {self.m}.")

    def __call__(self, network: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """The loss of a batch; without a generator that of torch draws.

        Raises:
            FairveilError: it is no `Batch`, which tells pictures, targets and classes apart.
        """
        if not isinstance(batch, Batch):
            raise FairveilError(
                f"MaxUp cannot train on a {type(batch).__name__}: give fairveil.training.Batch(images, targets, rows, "
                "classes)."
            )
        generator = torch.default_generator if generator is None else generator
        images, targets = batch.images, batch.soft_targets()
        if self.first is not None:
            images, targets = self.first(images, targets, generator)
        copies = [self.base(images, targets, generator) for _ in range(self.m)]
        every_image, every_target = (torch.cat(part) for part in zip(*copies, strict=True))  # (m·B, …)
        losses = F.cross_entropy(network(every_image).float(), every_target, reduction="none")
        return losses.view(self.m, len(images)).amax(0).mean()


def in_place_maxup(base: Augmentation, m: int = 4) -> Compose:
    """What the chapter's code calls MaxUp: one picture augmented m times over, and the mean loss.

    Its copies share one tensor that each changes in place, so that "the worst of four cutouts" is a picture with four
    holes. Kept, under a name of its own, to compare with the published figures.

    Args:
        base: done m times over.
        m: how often.

    Raises:
        FairveilError: it is to be done less than once.
    """
    if m < 1:
        raise FairveilError(f"In-place MaxUp augments 1 or more times, not {m}.")
    return Compose((base,) * m)
