"""X-rays with findings as one tensor: what the networks of chapter 6 are trained on and tested with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from fairveil.base.errors import FairveilError
from fairveil.data.image_set import NamedImages, check_share, kind_of

FINDINGS = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""The five pathologies of section 6.3.2, in its order and as CheXpert spells them."""


@dataclass(frozen=True, eq=False)
class Xrays(NamedImages):
    """Square gray X-rays, each of one patient and with any number of findings: `training.Examples` of several labels.

    Attributes:
        images: uint8 (N, 1, size, size).
        labels: float32 (N, K): 1 where a finding is present, 0 where absent, NaN where that is unknown.
        classes: what the K findings are called.
        patients: whose each is.
        remarks: what was found and assumed in reading, in sentences.

    >>> black = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    >>> labels, names = torch.tensor([[1.0], [0.0], [float("nan")]]), ("1.png", "2.png", "3.png")
    >>> xrays = Xrays(black, labels, ("Edema",), "three", names, patients=("Ann", "Bob", "Bob"))
    >>> xrays.take([2, 0]).patients
    ('Bob', 'Ann')
    """

    patients: tuple[str, ...] = field(kw_only=True)
    remarks: tuple[str, ...] = ()

    what = "X-rays"
    channels = 1
    format = "fairveil xrays 1"
    columns: ClassVar[Mapping[str, str]] = {"image": "image_names", "patient": "patients"}
    reserved = ("image", "patient")

    def split(self, share: float, *, seed: int) -> tuple["Xrays", "Xrays"]:
        """Put a share of the patients aside at random, with all their X-rays: the rest, and those put aside.

        Nobody is in both. At least one patient is put aside and one left, rows stay in their old order, and who is
        drawn does not depend on that order.

        Args:
            share: of the patients, above 0 and below 1.
            seed: of what is drawn.

        Raises:
            FairveilError: the share is out of range, or there are fewer than two patients.
        """
        check_share(share, "patients")
        people = sorted({*self.patients})
        if len(people) < 2:
            raise FairveilError(
                f"{self.name} has X-rays of {len(people)} patient{'s' * (len(people) != 1)}, too few to put some "
                "aside and keep others: add patients."
            )
        count = min(max(1, round(share * len(people))), len(people) - 1)
        order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))
        drawn = {people[number] for number in order[:count].tolist()}
        return self.parted(torch.tensor([patient in drawn for patient in self.patients]))

    def _check_labels(self) -> None:
        expected = (len(self), len(self.classes))
        if self.labels.dtype != torch.float32 or tuple(self.labels.shape) != expected:
            raise FairveilError(
                f"The labels of {self.name} are {kind_of(self.labels)}: they must be float32 {expected}, a row an "
                "image and a column a finding."
            )
        odd = self.labels[~((self.labels == 0) | (self.labels == 1) | self.labels.isnan())]
        if len(odd):
            raise FairveilError(
                f"{self.name} has the label {odd[0]:g}: a finding is present (1), absent (0), or unknown (NaN)."
            )
        if not self.classes or len({*self.classes}) < len(self.classes):
            raise FairveilError(f"The findings of {self.name} are {self.classes}: name one or more, each once.")

    def _words(self) -> bytes:
        known = [list(self.images.shape), self.classes, self.image_names, self.patients, dict(self.groups)]
        return json.dumps(known).encode()
