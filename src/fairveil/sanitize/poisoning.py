"""What every poisoning attack of chapter 4 shares: a poisoned copy of the data, and who was taken in by it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.data.images import LabeledImages


@dataclass(frozen=True, eq=False)
class PoisonedImages:
    """A data set as the victim gets it.

    Attributes:
        data: the poisoned copy; the clean data are left as they were.
        rows: which of its rows the attacker changed, int64 (P,), in ascending order.
    """

    data: LabeledImages
    rows: Tensor


def class_number(data: LabeledImages, wanted: int | str) -> int:
    """The label of a class given by its name or by its label, which must have at least one image.

    Raises:
        FairveilError: the data have no such class, or no image of it.
    """
    if isinstance(wanted, str):
        if wanted not in data.classes:
            raise FairveilError(f"{data.name} has no class {wanted!r}.{did_you_mean(wanted, data.classes)}")
        number = data.classes.index(wanted)
    else:
        number = wanted
        if not 0 <= number < len(data.classes):
            raise FairveilError(f"{data.name} has classes 0 to {len(data.classes) - 1}, and {number} is none of them.")
    if not bool((data.labels == number).any()):
        raise FairveilError(f"{data.name} has no image of class {data.classes[number]!r}: choose another class.")
    return number


def rows_of(data: LabeledImages, number: int) -> Tensor:
    """The rows of one class, int64, in ascending order."""
    return (data.labels == number).nonzero().flatten()


def some_of(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the rows at random, in ascending order."""
    return rows[torch.randperm(len(rows), generator=generator)[:count]].sort().values


@torch.no_grad()
def predicted_classes(network: nn.Module, images: Tensor, *, batch_size: int = 512) -> Tensor:
    """The class a network gives each image, in evaluation mode.

    Args:
        network: from pixels in [0, 1], (B, C, H, W), to logits (B, K); its mode is given back as it was.
        images: uint8 (N, C, H, W).
        batch_size: how many images at once.

    Returns:
        int64 (N,), on the device of `images`.
    """
    device = next((parameter.device for parameter in network.parameters()), images.device)
    was_training = network.training
    network.eval()
    try:
        logits = [network(batch.to(device).float() / 255) for batch in torch.split(images, batch_size)]
    finally:
        network.train(was_training)
    return torch.cat(logits).argmax(1).to(images.device)
