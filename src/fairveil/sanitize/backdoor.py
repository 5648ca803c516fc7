"""Backdoors: training images with a trigger on them, so that the trigger comes to mean a class (section 4.4.1)."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.base.estimate import BinomialCount
from fairveil.data.images import LabeledImages
from fairveil.sanitize.poisoning import PoisonedImages, class_number, predicted_classes, rows_of, some_of
from fairveil.sanitize.triggers import Trigger


class Backdoor(BaseModel):
    """Which training images get the trigger.

    Attributes:
        trigger: the patch.
        share: of the images concerned, above 0 up to 1. The dissertation poisons 100 % and 10 %.
        labels: "clean", the dissertation's: the trigger goes on images **of the target class**, whose labels stay
            right, so that checking the labels finds nothing. "dirty": the trigger goes on images **of all the other
            classes**, which are then labeled as the target class; stronger, and whoever looks at labels sees it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trigger: Trigger = Trigger()
    share: float = Field(1.0, ge=0, le=1)
    labels: Literal["clean", "dirty"] = "clean"


@dataclass(frozen=True)
class BackdoorSuccess:
    """What the trigger does to test images that are not of the target class.

    Attributes:
        base: of patched images of the base class, how many are given the target class: the dissertation's figure.
        others: the same of patched images of every class but the target's.
        base_unpatched: of the base class's images without the trigger, how many are given the target class anyway.
        others_unpatched: the same of every class but the target's.
    """

    base: BinomialCount
    others: BinomialCount
    base_unpatched: BinomialCount
    others_unpatched: BinomialCount


def poison(
    data: LabeledImages, attack: Backdoor, *, target_class: int | str, generator: torch.Generator
) -> PoisonedImages:
    """Put the trigger on training images.

    Args:
        data: the clean training images.
        attack: trigger, share, and whether labels are changed.
        target_class: the class, by name or label, that the trigger shall come to mean.
        generator: chooses the images.

    Returns:
        A poisoned copy. Of n images concerned, ⌈share · n⌉ are poisoned.

    Raises:
        FairveilError: there is no image of the target class, nothing to poison, or the trigger does not fit.
    """
    target = class_number(data, target_class)
    concerned = rows_of(data, target) if attack.labels == "clean" else (data.labels != target).nonzero().flatten()
    count = math.ceil(round(attack.share * len(concerned), 6))
    if count == 0:
        raise FairveilError(
            f"A share of {attack.share:g} of {len(concerned)} images poisons none of them: choose a larger share, "
            "or data with more than one class."
        )
    rows = some_of(concerned, count, generator)
    images, labels = data.images.clone(), data.labels.clone()
    images[rows] = attack.trigger.stamp(images[rows])
    labels[rows] = target
    return PoisonedImages(replace(data, images=images, labels=labels), rows)


def backdoor_success(
    network: nn.Module,
    test: LabeledImages,
    trigger: Trigger,
    *,
    target_class: int | str,
    base_class: int | str,
) -> BackdoorSuccess:
    """Count how many test images the trigger turns into the target class.

    Args:
        network: the victim's, from pixels in [0, 1] to logits.
        test: clean images that were not trained on.
        trigger: as it was put on the training images.
        target_class: the class, by name or label, that the attacker wants.
        base_class: whose images are the dissertation's test.

    Raises:
        FairveilError: a class without images, a base class that is the target class, or a trigger that does not fit.
    """
    target, base = class_number(test, target_class), class_number(test, base_class)
    if base == target:
        raise FairveilError(
            f"Base and target class are both {test.classes[base]!r}: whether the trigger turns images into a class "
            "can only be seen on images of another."
        )
    others = test.take((test.labels != target).nonzero().flatten())
    of_base = others.labels == base

    def hits(images: Tensor) -> tuple[BinomialCount, BinomialCount]:
        taken = predicted_classes(network, images) == target
        return BinomialCount(int(taken[of_base].sum()), int(of_base.sum())), BinomialCount(int(taken.sum()), len(taken))

    (base_patched, patched), (base_unpatched, unpatched) = hits(trigger.stamp(others.images)), hits(others.images)
    return BackdoorSuccess(base_patched, patched, base_unpatched, unpatched)
