"""The defenses and the patch as the chapter's published code has them, where it and the text say different things.

Read off github.com/JonasGeiping/data-poisoning; written anew. It draws once for a whole batch where ours draw for each
picture, and works on normalized pictures, so that what it leaves empty has the mean color of CIFAR-10 and is not black.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.sanitize.augmentations import BatchAugmentation, Mixup
from fairveil.sanitize.triggers import Trigger
from fairveil.training.schedules import Training

CIFAR10_MEAN = (0.4914672, 0.4822617, 0.4467701)
"""The mean of each channel of CIFAR-10's training pictures."""

PUBLISHED_TRAINING = Training(epochs=40, schedule="steps", milestones=(14 / 40, 24 / 40, 35 / 40))
"""The recipe: SGD with Nesterov momentum, learning rate 0.1, batches of 128, weight decay 5e-4, 40 epochs.

The rate falls to a tenth after 14, 24 and 35 epochs: the code divides 40 by 2.667, 1.6 and 1.142 and rounds down. The
second is 24, not 25, since the binary number next to 1.6 is a little larger.
"""

PUBLISHED_TRIGGER = Trigger(size=4, place="lower-right", margin=0, pattern="bernoulli")
"""A patch in the very corner, in which each channel of each pixel is a coin toss. The code takes it to be so after
normalization, so that its pixels are the mean or the mean plus one, which no picture file can hold; ours are 0 or 1."""


@dataclass(frozen=True)
class SubPixelCrop(BatchAugmentation):
    """Crops as published: pictures are shifted by any fraction of a pixel and interpolated, the mean color coming in.

    Differentiable with respect to the pixels. Labels stay.

    Attributes:
        padding: by how many pixels pictures are shifted at the most, in all four directions.
        border: color of what comes in, a value for each channel, or the mean of these where there are others.

    Raises:
        FairveilError: the padding is below 0.
    """

    padding: float = 4
    border: tuple[float, ...] = CIFAR10_MEAN

    def __post_init__(self) -> None:
        """Refuse a negative shift."""
        if not self.padding >= 0:
            raise FairveilError(f"Pictures are shifted by 0 pixels or more, not by {self.padding}.")

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Shift and mirror each picture: images float (B, C, H, W); labels stay, but become soft."""
        count, _, height, width = images.shape
        drawn = torch.rand(count, 3, generator=generator, device=generator.device).to(images)
        # from -1 to 1 are length - 1 steps from the middle of the first pixel to that of the last
        reach = [2 * self.padding / max(1, length - 1) for length in (width, height)]
        lines = [torch.linspace(-1, 1, length, device=images.device, dtype=images.dtype) for length in (width, height)]
        x, y = (
            line + (2 * share[:, None] - 1) * most
            for line, share, most in zip(lines, (drawn[:, 0], drawn[:, 1]), reach, strict=True)
        )
        x = torch.where(drawn[:, 2:] > 0.5, -x, x)
        grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], -1)
        border = _color(self.border, images)
        return F.grid_sample(images - border, grid, align_corners=True) + border, targets


@dataclass(frozen=True)
class BatchMixup(Mixup):
    """Mixup as published: one draw of weights for the whole batch, of as many random orders of it.

    A picture may meet itself, and none keeps its place. Settings are those of `Mixup`.
    """

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix a batch: images float (B, C, H, W), soft targets float (B, K)."""
        concentration = torch.full((1, self.width), self.alpha, dtype=torch.float64, device=generator.device)
        weights = torch._sample_dirichlet(concentration, generator)[0].to(images)
        mixed, soft = torch.zeros_like(images), torch.zeros_like(targets)
        for weight in weights:
            order = _order(images, generator)
            mixed = mixed + weight * images[order]
            soft = soft + weight.to(targets) * targets[order]
        return mixed, soft


@dataclass(frozen=True)
class BatchCutMix(BatchAugmentation):
    """CutMix as published: half of the batches are mixed, with one λ ~ Beta[1, 1] and one box of whole pixels each.

    Attributes:
        share: how likely it is that a batch is mixed.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0 <= self.share <= 1:
            raise FairveilError(f"The share of batches that CutMix mixes is between 0 and 1, not {self.share}.")

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix a batch: images float (B, C, H, W), soft targets float (B, K)."""
        mixes, kept = torch.rand(2, generator=generator, device=generator.device).tolist()
        if mixes >= self.share:
            return images, targets
        order = _order(images, generator)
        rows, columns = _box(images, 1 - kept, generator)
        mixed = images.clone()
        mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start) / (images.shape[2] * images.shape[3])
        return mixed, (1 - area) * targets + area * targets[order]


@dataclass(frozen=True)
class BatchCutout(BatchAugmentation):
    """Cutout as published: one box for the whole batch, 18 pixels wide in pictures of 32, of the mean color.

    Attributes:
        share: of the picture's area, before rounding down: 1 - 0.66.
        fill: color of the box, as the border of `SubPixelCrop`.
    """

    share: float = 0.34
    fill: tuple[float, ...] = CIFAR10_MEAN

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0 < self.share <= 1:
            raise FairveilError(
                f"The share of a picture that cutout covers is above 0 and at most 1, not {self.share}."
            )

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Cover a box of each picture: images float (B, C, H, W); labels stay, but become soft."""
        rows, columns = _box(images, self.share, generator)
        covered = images.clone()
        covered[:, :, rows, columns] = _color(self.fill, images)
        return covered, targets


def _order(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)


def _box(images: Tensor, share: float, generator: torch.Generator) -> tuple[slice, slice]:
    """Rows and columns around a whole pixel, half the side rounded down on each side, cut off at the borders."""
    sides = []
    for length in images.shape[2:]:
        half = int(length * np.sqrt(share)) // 2
        middle = int(torch.randint(length, (), generator=generator, device=generator.device))
        sides.append(slice(max(0, middle - half), min(length, middle + half)))
    return sides[0], sides[1]


def _color(color: tuple[float, ...], images: Tensor) -> Tensor:
    """A color for the channels of pictures, (C, 1, 1)."""
    channels = images.shape[1]
    values = color if len(color) == channels else (sum(color) / len(color),) * channels
    return images.new_tensor(values)[:, None, None]
