"""Faces to train on, and those that recognizers are judged by: of the same people and of others (section 6.3.1)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.data.face_crops import FaceCrops
from fairveil.fair.groups import Groups, groups_of
from fairveil.fair.scores import LEAST_PEOPLE


@dataclass(frozen=True, eq=False)
class FaceSplits:
    """Who is trained on and who is judged by.

    Attributes:
        train: crops to train on.
        holdout: other crops of the same people, of which a penalty may be taken; then no identities are learned of it.
        validation: more of their crops.
        test: of other people.
        bystanders: of yet others, out of a data set with other columns of groups, which nobody asked about (6.7).
    """

    train: FaceCrops
    holdout: FaceCrops
    validation: FaceCrops
    test: FaceCrops
    bystanders: FaceCrops | None = None

    def __post_init__(self) -> None:
        """Refuse what leaks.

        Raises:
            FairveilError: a person of the test is trained on, or a crop is in two of the parts.
        """
        trained = {*self.train.classes, *self.holdout.classes, *self.validation.classes}
        if both := trained & {*self.test.classes}:
            raise FairveilError(
                f"{len(both)} identities, such as {min(both)}, are trained on and tested with, so that the test would "
                "say nothing of new people: split by identity."
            )
        seen: set[str] = set()
        for part in (self.train, self.holdout, self.validation):
            if both := seen & {*part.image_names}:
                raise FairveilError(
                    f"{len(both)} images, such as {min(both)}, are trained on and put aside at once: what is learned "
                    "from them would be judged by them. Put them into one part only."
                )
            seen |= {*part.image_names}

    @property
    def parts(self) -> dict[str, FaceCrops]:
        """What is trained on, and what every recognizer is judged by, by the names of the splits."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def fingerprints(self) -> list[str]:
        """Of all parts."""
        parts = (self.train, self.holdout, self.validation, self.test, self.bystanders)
        return [part.fingerprint() for part in parts if part is not None]

    def learned(self, *, without_holdout: bool = False) -> FaceCrops:
        """What identities are learned from: nothing need be put aside but for a penalty on a holdout set."""
        return self.train if without_holdout else joined(self.train, self.holdout)


def split_faces(
    crops: FaceCrops,
    column: str,
    *,
    test: float = 0.2,
    holdout: float = 0.1,
    validation: int = 3,
    above: int = 6,
    bystanders: FaceCrops | None = None,
    seed: int = 0,
) -> FaceSplits:
    """Split faces as in section 6.3.1: people for the test, and of the others images to validate with.

    Args:
        crops: of people, each of one group.
        column: of the groups, each of which gives its share of people to the test.
        test: share of the people.
        holdout: share of the images to be trained on that a penalty on a holdout set is taken of (section 6.9.2).
        validation: images of each person that has enough of them.
        above: so many images a person must have more than.
        bystanders: of another data set, see `FaceSplits`.
        seed: of the drawing.

    Raises:
        FairveilError: there is no such column, somebody is of two groups, or there are too few people or images.
    """
    groups = groups_of(crops.groups, column)
    group_of_each(crops, groups)
    generator = torch.Generator().manual_seed(seed)
    tested = torch.zeros(len(crops.classes), dtype=torch.bool)
    several = torch.bincount(crops.labels, minlength=len(crops.classes)) > 1
    for number, name in enumerate(groups.names):
        people = torch.unique(crops.labels[groups.numbers == number])
        count = round(test * len(people))
        can = people[several[people]]
        if count < LEAST_PEOPLE or len(can) < count or len(people) - count < LEAST_PEOPLE:
            raise FairveilError(
                f"Of the {len(people)} people of {column} {name}, {test:.0%} are {count}: {LEAST_PEOPLE} with two "
                f"images each must be there to test with and {LEAST_PEOPLE} to train on. Add people, or leave the "
                "group's cells empty: then its people count as of an unknown group."
            )
        tested[can[torch.randperm(len(can), generator=generator)[:count]]] = True
    is_test = tested[crops.labels]
    role = torch.where(is_test, 3, 0)
    for label in torch.unique(crops.labels[~is_test]).tolist():
        rows = (crops.labels == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        if len(rows) > above:
            role[rows[:validation]] = 2
            rows = rows[validation:]
        role[rows[: int(holdout * len(rows) + torch.rand((), generator=generator))][: len(rows) - 1]] = 1
    train, put_aside, validated, tested_with = (crops.take((role == number).nonzero().flatten()) for number in range(4))
    if not all(len(part) for part in (train, put_aside, validated, tested_with)):
        raise FairveilError(
            f"{crops.name} has too few images of each person to put some aside for validation and for penalties: "
            f"people need more than {above}."
        )
    return FaceSplits(train, put_aside, validated, tested_with, bystanders)


def joined(first: FaceCrops, second: FaceCrops) -> FaceCrops:
    """The crops of both, the second of which are of people of the first."""
    more = relabeled(second, first.classes)
    return replace(
        first,
        images=torch.cat([first.images, more.images]),
        labels=torch.cat([first.labels, more.labels]),
        image_names=first.image_names + more.image_names,
        groups={column: (*values, *more.groups[column]) for column, values in first.groups.items()},
    )


def relabeled(crops: FaceCrops, classes: tuple[str, ...]) -> FaceCrops:
    """The same crops, with the numbers that their people have among others."""
    places = {name: number for number, name in enumerate(classes)}
    numbers = torch.tensor([places[name] for name in crops.classes], dtype=torch.int64)
    return replace(crops, labels=numbers[crops.labels], classes=classes)


def group_of_each(crops: FaceCrops, groups: Groups) -> Tensor:
    """The group of each identity, int64 (K,), -1 where unknown.

    Raises:
        FairveilError: somebody is of two groups.
    """
    own = torch.full((len(crops.classes),), -1, dtype=torch.int64)
    own[crops.labels] = groups.numbers
    odd = (own[crops.labels] != groups.numbers).nonzero().flatten()
    if len(odd):
        person = crops.classes[int(crops.labels[odd[0]])]
        raise FairveilError(f"{person} has images of two values of {groups.column}: give each person one group.")
    return own
