"""Augmentations that defuse poisoned training data, a batch at a time and without a loop over its pictures (chapter 4).

Each is a small frozen object that is called with pictures and labels, and gives other pictures and soft labels: in the
loop of `fairveil.training`, in anybody's own, or where a `DataLoader` puts batches together
(`fairveil.sanitize.as_collate`). Every picture of a batch has draws of its own.

    mixed, soft = CutMix()(images, labels, num_classes=10)
    loss = torch.nn.functional.cross_entropy(network(mixed), soft)
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.training.objectives import Augmentation


class BatchAugmentation(ABC):
    """What all augmentations have in common: they are called with a batch, which is checked once, here."""

    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        generator: torch.Generator | None = None,
        *,
        num_classes: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch: images float (B, C, H, W), targets as `check_batch` takes them.

        Returns:
            Images and soft targets, float (B, K).

        Raises:
            FairveilError: see `check_batch`.
        """
        return self.apply(images, *check_batch(images, targets, generator, num_classes))

    @abstractmethod
    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augment a checked batch: images float (B, C, H, W), soft targets float (B, K)."""


@dataclass(frozen=True)
class Mixup(BatchAugmentation):
    """Convex mixtures of pictures and of their labels (section 4.3; Zhang et al. 2017, there of two).

    Each picture is mixed with `width` − 1 others of its batch, all different: Σ wⱼ xⱼ with labels Σ wⱼ yⱼ, where
    w ~ Dir[α, …, α].

    Attributes:
        width: how many pictures go into one, 2 or more.
        alpha: of the Dirichlet distribution, above 0: the larger, the more even the weights.

    Raises:
        FairveilError: settings out of range; or, when called, the batch is smaller than the width.

    >>> images, labels = torch.rand(8, 3, 32, 32), torch.eye(8)
    >>> mixed, soft = Mixup(width=4)(images, labels, torch.Generator().manual_seed(0))
    >>> mixed.shape, (soft > 0).sum(1).tolist()
    (torch.Size([8, 3, 32, 32]), [4, 4, 4, 4, 4, 4, 4, 4])
    """

    width: int = 2
    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that mix nothing."""
        if self.width < 2 or not self.alpha > 0:
            raise FairveilError(
                f"Mixup takes 2 or more pictures and an alpha above 0, not {self.width} and {self.alpha}."
            )

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix a batch: images float (B, C, H, W), soft targets float (B, K)."""
        members = _members(len(images), self.width, generator).to(images.device)  # (B, width), first of all itself
        concentration = torch.full(members.shape, self.alpha, dtype=torch.float64, device=generator.device)
        weights = torch._sample_dirichlet(concentration, generator).to(images)
        mixed, soft = torch.zeros_like(images), torch.zeros_like(targets)
        for weight, member in zip(weights.T, members.T, strict=True):
            mixed = mixed + weight[:, None, None, None] * images[member]
            soft = soft + weight[:, None].to(targets) * targets[member]
        return mixed, soft


@dataclass(frozen=True)
class CutMix(BatchAugmentation):
    """A box of each picture is replaced by what another picture of the batch has there (section 4.3; Yun et al. 2019).

    The box's center is uniform over the picture; its sides are √(1 − λ) of the picture's, with λ ~ Dir[1, 1]. What
    sticks out of the picture is cut off, and labels are mixed by the area that is really replaced.

    Attributes:
        share: how likely it is that a picture is mixed at all.
        draws: whether each picture has a box of its own, or "batch" one for all, as much published code has it. That
            of the chapter is `fairveil.sanitize.published.BatchCutMix`.

    Raises:
        FairveilError: settings out of range; or, when called, the batch is of one picture.
    """

    share: float = 1.0
    draws: Literal["image", "batch"] = "image"

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        if not 0 <= self.share <= 1:
            raise FairveilError(f"The share of pictures that CutMix mixes is between 0 and 1, not {self.share}.")
        if self.draws not in ("image", "batch"):
            raise FairveilError(f"CutMix draws a box for each 'image' or for the 'batch', not {self.draws!r}.")

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix a batch: images float (B, C, H, W), soft targets float (B, K)."""
        other = _members(len(images), 2, generator)[:, 1].to(images.device)
        count = len(images) if self.draws == "image" else 1
        sides = (1 - _uniform((count,), generator)).sqrt()  # λ ~ Dir[1, 1] is uniform
        inside = _boxes(sides, images, generator) & (_uniform((count, 1, 1), generator) < self.share).to(images.device)
        area = inside.float().mean((1, 2))[:, None].to(targets)  # (count, 1)
        return torch.where(inside[:, None], images[other], images), (1 - area) * targets + area * targets[other]


@dataclass(frozen=True)
class Cutout(BatchAugmentation):
    """A box of each picture becomes black; its label stays (section 4.3; DeVries and Taylor 2017).

    Attributes:
        size: side of the box in pixels, of which less is seen where it sticks out; None for random sides as those of
            `CutMix`, which is how the chapter's text has it. For its code see `fairveil.sanitize.published`.

    Raises:
        FairveilError: the box has no pixels; or, when called, it is larger than the picture.
    """

    size: int | None = None

    def __post_init__(self) -> None:
        """Refuse a box of nothing."""
        if self.size is not None and self.size < 1:
            raise FairveilError(f"Cutout takes boxes of 1 pixel or more, not {self.size}.")

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Blacken a box of each picture: images float (B, C, H, W); labels stay, but become soft."""
        height, width = images.shape[2:]
        if self.size is None:
            sides = (1 - _uniform((len(images),), generator)).sqrt()
            return images.masked_fill(_boxes(sides, images, generator)[:, None], 0), targets
        if self.size > min(height, width):
            raise FairveilError(
                f"A cutout of {self.size} pixels is larger than the pictures, {width}×{height}: make it smaller."
            )
        sides = torch.full((len(images),), float(self.size), device=generator.device)
        return images.masked_fill(_boxes(sides, images, generator, in_pixels=True)[:, None], 0), targets


@dataclass(frozen=True)
class FlipAndCrop(BatchAugmentation):
    """The usual baseline: pictures are mirrored at random and shifted at random, black coming in at the edges.

    Differentiable with respect to the pixels. Labels stay.

    Attributes:
        padding: by how many pixels pictures are shifted at the most, in all four directions.
        flip: whether half of them are mirrored left to right.

    Raises:
        FairveilError: the padding is below 0.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        """Refuse a negative shift."""
        if self.padding < 0:
            raise FairveilError(f"Pictures are shifted by 0 pixels or more, not by {self.padding}.")

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Shift and mirror each picture: images float (B, C, H, W); labels stay, but become soft."""
        count, _, height, width = images.shape
        start = torch.randint(2 * self.padding + 1, (2, count, 1), generator=generator, device=generator.device)
        rows, columns = (
            offset + torch.arange(length, device=generator.device)
            for offset, length in zip(start, (height, width), strict=True)
        )
        if self.flip:
            mirrored = _uniform((count, 1), generator) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(images, (self.padding,) * 4).permute(0, 2, 3, 1)  # (B, H + 2p, W + 2p, C)
        one = torch.arange(count, device=images.device)[:, None, None]
        cropped = padded[one, rows.to(images.device)[:, :, None], columns.to(images.device)[:, None, :]]
        return cropped.permute(0, 3, 1, 2), targets


@dataclass(frozen=True)
class Compose(BatchAugmentation):
    """Augmentations one after the other.

    Attributes:
        parts: the first to be done comes first.

    >>> usual = Compose((FlipAndCrop(), CutMix()))
    """

    parts: Sequence[Augmentation]

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Do all of them: images float (B, C, H, W), soft targets float (B, K)."""
        for part in self.parts:
            images, targets = part(images, targets, generator)
        return images, targets


def _members(count: int, width: int, generator: torch.Generator) -> Tensor:
    """For each picture of a batch itself and `width` − 1 others, all different: (B, width).

    The batch is dealt in a random circle, in which everybody is mixed with those who come next.
    """
    if width > count:
        raise FairveilError(
            f"A batch of {count} cannot be mixed {width} at a time: use larger batches, and leave out the incomplete "
            "last one (drop_last)."
        )
    circle = torch.randperm(count, generator=generator, device=generator.device)
    place = circle.argsort()
    return circle[(place[:, None] + torch.arange(width, device=generator.device)) % count]


def _boxes(sides: Tensor, images: Tensor, generator: torch.Generator, *, in_pixels: bool = False) -> Tensor:
    """Boxes with uniform centers: (B, H, W), true inside. Sides (B,) are shares of the picture's, or pixels."""
    height, width = images.shape[2:]
    lines = []
    for length in (height, width):
        half = sides / 2 if in_pixels else sides * length / 2
        center = _uniform(sides.shape, generator) * length
        if in_pixels:  # whole pixels, as many as asked for
            center = center.floor() + sides % 2 / 2
        first, last = (center - half).round(), (center + half).round()
        pixel = torch.arange(length, device=generator.device)
        lines.append((pixel >= first[:, None]) & (pixel < last[:, None]))
    return (lines[0][:, :, None] & lines[1][:, None, :]).to(images.device)


def _uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.rand(tuple(shape), generator=generator, device=generator.device)


def check_batch(
    images: Tensor, targets: Tensor, generator: torch.Generator | None = None, num_classes: int | None = None
) -> tuple[Tensor, torch.Generator]:
    """Refuse what cannot be augmented, and bring labels and generator into the form that augmentations work with.

    Args:
        images: float (B, C, H, W).
        targets: soft labels, float (B, K); or the classes, int (B,), with their number.
        generator: draws; by default that of torch, which `torch.manual_seed` seeds.
        num_classes: K, where targets are classes.

    Returns:
        Soft targets, float (B, K), and the generator.

    Raises:
        FairveilError: images are not float (B, C, H, W), targets are neither float (B, K) nor int (B,), or there is no
            such class.

    >>> check_batch(torch.rand(2, 3, 8, 8), torch.tensor([2, 0]), num_classes=3)[0]
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if images.ndim != 4 or not images.is_floating_point() or not len(images):
        raise FairveilError(
            f"Pictures of shape {tuple(images.shape)} and type {images.dtype} cannot be augmented: give floats, "
            "(B, C, H, W)."
        )
    generator = torch.default_generator if generator is None else generator
    soft = targets.is_floating_point()
    if len(targets) != len(images) or targets.ndim != (2 if soft else 1) or targets.is_complex():
        raise FairveilError(
            f"Labels of shape {tuple(targets.shape)} and type {targets.dtype} cannot be mixed: for {len(images)} "
            f"pictures give {len(images)} classes, or a row of floats each, such as "
            "torch.nn.functional.one_hot(labels, num_classes).float()."
        )
    if soft:
        return targets, generator
    if num_classes is None:
        raise FairveilError("Classes become soft labels, for which their number is needed: give num_classes as well.")
    return one_hot(targets, num_classes).to(images), generator


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Classes, int (B,), as rows with a one, int64 (B, K).

    Raises:
        FairveilError: there is no such class.
    """
    labels = labels.long()
    if labels.min() < 0 or labels.max() >= num_classes:
        raise FairveilError(
            f"Labels go from {int(labels.min())} to {int(labels.max())}, but {num_classes} classes have labels "
            f"from 0 to {num_classes - 1}: give as many classes as there are."
        )
    return F.one_hot(labels, num_classes)
