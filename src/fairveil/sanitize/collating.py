"""Augmentations where a PyTorch `DataLoader` puts batches together."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.sanitize.augmentations import one_hot
from fairveil.sanitize.maxup import MaxUp
from fairveil.training.objectives import Augmentation, Classification


class Collate:
    """See `as_collate`."""

    def __init__(self, augmentation: Augmentation, classes: int, seed: int) -> None:
        self.augmentation, self.classes, self.seed = augmentation, classes, seed
        self._rank: int | None = None  # of the process that started this one
        self._stream: list[int] | None = None
        self._generator = torch.Generator()

    def __call__(self, samples: Sequence[tuple[Tensor, Any]]) -> tuple[Tensor, Tensor]:
        """Pairs of a picture (C, H, W) and a label, to images float (B, C, H, W) and soft targets (B, K).

        Raises:
            FairveilError: samples are no such pairs, pictures differ in size, or there is no such class.
        """
        pictures, labels = _taken_apart(samples)
        images = torch.stack(pictures)
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return self.augmentation(images, _soft(labels, self.classes).to(images), self._drawing())

    def __getstate__(self) -> dict[str, Any]:
        """What a worker that is started anew gets: where draws stand is its own, of which rank it is, its parent's."""
        return self.__dict__ | {"_rank": self._of_rank(), "_stream": None, "_generator": None}

    def _drawing(self) -> torch.Generator:
        """The generator of this process, worker and epoch: another one as soon as one of these is another."""
        worker = torch.utils.data.get_worker_info()
        # the loader seeds its workers anew in every epoch, but alike in all processes that train together
        stream = [self.seed, self._of_rank()] if worker is None else [self.seed, self._of_rank(), worker.seed]
        if stream != self._stream:
            seed = int(np.random.SeedSequence(stream).generate_state(1, np.uint64)[0] >> np.uint64(1))
            self._stream, self._generator = stream, torch.Generator().manual_seed(seed)
        return self._generator

    def _of_rank(self) -> int:
        """Which of the processes that train together this one is, or works for."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank()
        return int(os.environ.get("RANK", "0")) if self._rank is None else self._rank


def as_collate(augmentation: Augmentation, num_classes: int, *, seed: int = 0) -> Collate:
    """An augmentation as the `collate_fn` of a PyTorch `DataLoader` over pairs of picture and label.

    Each process that trains, each of its workers and each epoch has draws of its own, whatever was drawn before; with a
    seeded generator of the loader they are the same in every run. Without workers a process draws on from epoch to
    epoch.

    Args:
        augmentation: what is done to each batch.
        num_classes: how many there are.
        seed: of the draws.

    Raises:
        FairveilError: what is given is a loss such as `MaxUp`, which needs the network, and so the training loop.

    >>> from fairveil.sanitize import Mixup
    >>> pairs = [(torch.rand(3, 8, 8), number % 3) for number in range(6)]
    >>> images, soft = next(iter(torch.utils.data.DataLoader(pairs, 6, collate_fn=as_collate(Mixup(), num_classes=3))))
    >>> images.shape, soft.shape
    (torch.Size([6, 3, 8, 8]), torch.Size([6, 3]))
    """
    if isinstance(augmentation, MaxUp | Classification | type):
        raise FairveilError(
            f"{augmentation!r} cannot put batches together: give an augmentation such as CutMix(). A loss such as "
            "MaxUp asks the network, so it belongs into the training loop: objective(network, batch, generator)."
        )
    if num_classes < 1:
        raise FairveilError(f"There cannot be {num_classes} classes: give as many as the data have.")
    return Collate(augmentation, num_classes, seed)


_PAIRS = "give pairs of a tensor (C, H, W) and a label, as torchvision's ToTensor makes them"


def _taken_apart(samples: Sequence[Any]) -> tuple[list[Tensor], list[Any]]:
    """The pictures, as tensors of one shape and type, and the labels."""
    pictures, labels = [], []
    for sample in samples:
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            what = f"{len(sample)} values" if isinstance(sample, tuple | list) else f"a {type(sample).__name__}"
            raise FairveilError(f"A sample of the data is {what}, which cannot be put together: {_PAIRS}.")
        pictures.append(_picture(sample[0]))
        labels.append(sample[1])
    if not pictures:
        raise FairveilError("A batch of no samples cannot be put together.")
    kinds = {(tuple(picture.shape), picture.dtype) for picture in pictures}
    if len(kinds) > 1:
        (one, _), (other, _) = sorted(kinds, key=str)[:2]
        difference = f"sizes {one} and {other}" if one != other else "different types of numbers"
        raise FairveilError(f"A batch has pictures of {difference}: bring all to one, such as by Resize or float().")
    return pictures, labels


def _picture(given: Any) -> Tensor:
    if isinstance(given, np.ndarray):
        given = torch.from_numpy(np.ascontiguousarray(given))
    if not isinstance(given, Tensor):
        raise FairveilError(f"A picture of the data is a {type(given).__name__}: {_PAIRS}.")
    if given.ndim != 3 or (given.shape[2] in (1, 3, 4) and given.shape[0] not in (1, 3, 4)):
        raise FairveilError(f"A picture of the data has the shape {tuple(given.shape)}: {_PAIRS}.")
    if not given.is_floating_point() and given.dtype != torch.uint8:
        raise FairveilError(f"A picture of the data has numbers of type {given.dtype}: give floats, or bytes (uint8).")
    return given


def _soft(labels: Sequence[Any], classes: int) -> Tensor:
    """A row for each label, float (B, K): one-hot of a class, or a soft label as it is."""
    try:
        together = torch.stack([torch.as_tensor(label) for label in labels])
    except (TypeError, ValueError, RuntimeError) as error:
        raise FairveilError(
            f"The labels {', '.join(repr(label)[:40] for label in labels[:3])} cannot be put together: give the number "
            "of a class each, or a row of floats."
        ) from error
    if together.ndim == 2 and together.is_floating_point() and together.shape[1] == classes:
        return together
    if together.ndim == 2 and together.shape[1] == 1 and not together.is_floating_point():
        together = together[:, 0]
    if together.ndim != 1 or together.is_floating_point() or together.is_complex():
        raise FairveilError(
            f"Labels of shape {tuple(together.shape[1:])} and type {together.dtype} are neither numbers of classes nor "
            f"rows of {classes} floats: give one of these."
        )
    return one_hot(together, classes)
