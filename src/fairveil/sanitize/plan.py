"""What a targeted poisoning attack is after: one test image, the class it shall be given, and the images to poison."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import LabeledImages
from fairveil.sanitize.poisoning import class_number, predicted_classes, rows_of, some_of


@dataclass(frozen=True, eq=False)
class PoisonPlan:
    """One trial of a targeted attack (section 4.2, with a single target, T = 1).

    Attributes:
        target: the test image x^t, uint8 (C, H, W).
        target_row: its row in the test data.
        true_class: its own label y^t.
        adversarial_class: the label y^adv it shall be given.
        rows: the training images to poison, all of the adversarial class, int64 (P,), ascending.
    """

    target: Tensor
    target_row: int
    true_class: int
    adversarial_class: int
    rows: Tensor

    def taken(self, network: nn.Module) -> bool:
        """Whether a network gives the target the adversarial class; one trained on clean data tells the base rate."""
        return int(predicted_classes(network, self.target[None])) == self.adversarial_class


def plan_attack(
    train: LabeledImages,
    test: LabeledImages,
    *,
    budget: float = 0.01,
    target_row: int | None = None,
    adversarial_class: int | str | None = None,
    generator: torch.Generator,
) -> PoisonPlan:
    """Choose target, adversarial class and poison images, at random where they are not given.

    Args:
        train: what the victim trains on.
        test: where the target is taken from; of the same classes and size.
        budget: the share of the training images that may be poisoned: ⌈budget · N⌉ of them, all of the adversarial
            class (the literature's threat model "single-class"). The dissertation's is 1 %.
        target_row: the row of the target among the test data.
        adversarial_class: by name or label.
        generator: of what is left to chance.

    Raises:
        FairveilError: an empty budget, one larger than the adversarial class, a target that is of the adversarial
            class already or is not there, or data that do not belong together.
    """
    check_together(train, test)
    count = math.ceil(round(budget * len(train), 6)) if budget > 0 else 0
    if count == 0:
        raise FairveilError(f"A poison budget of {budget:g} allows no image to be poisoned: 0.01 is the usual 1 %.")
    sizes = torch.bincount(train.labels, minlength=len(train.classes))
    if adversarial_class is None:
        able = [number for number, size in enumerate(sizes.tolist()) if size >= count]
    else:
        able = [class_number(train, adversarial_class)]
    if not able or sizes[able[0]] < count:
        largest = int(sizes.max()) if adversarial_class is None else int(sizes[able[0]])
        raise FairveilError(
            f"A poison budget of {budget:g} is {count} of {len(train)} images, all of one class, and "
            f"{'the largest class' if adversarial_class is None else repr(train.classes[able[0]])} has {largest}: "
            f"choose a budget of at most {largest / len(train):.3g}."
        )
    if target_row is None:
        # Any test image for which some able class is another than its own.
        candidates = (test.labels != able[0]).nonzero().flatten() if len(able) == 1 else torch.arange(len(test))
        if not len(candidates):
            raise FairveilError(
                f"Every image of {test.name} is of class {train.classes[able[0]]!r}: nothing to attack."
            )
        target_row = int(candidates[torch.randint(len(candidates), (), generator=generator)])
    elif not 0 <= target_row < len(test):
        raise FairveilError(
            f"{test.name} has images 0 to {len(test) - 1}, and the target {target_row} is none of them."
        )
    true_class = int(test.labels[target_row])
    able = [number for number in able if number != true_class]
    if not able:
        raise FairveilError(
            f"The target, image {target_row} of {test.name}, is of class {test.classes[true_class]!r} already: choose "
            "another target, or another adversarial class."
        )
    chosen = able[int(torch.randint(len(able), (), generator=generator))]
    rows = some_of(rows_of(train, chosen), count, generator)
    return PoisonPlan(test.images[target_row], target_row, true_class, chosen, rows)


def check_together(train: LabeledImages, test: LabeledImages) -> None:
    """Refuse pictures to train on and to test with that are not of the same classes and size.

    Raises:
        FairveilError: they are not, or there are none.
    """
    if not len(train) or not len(test):
        raise FairveilError(f"{(test if len(train) else train).name} has no images.")
    if train.classes != test.classes or train.images.shape[1:] != test.images.shape[1:]:
        raise FairveilError(
            f"{train.name} and {test.name} do not belong together: the target must be of the classes and the size of "
            "the training images."
        )
