"""X-rays with findings as one tensor: what the networks of chapter 6 are trained on and tested with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.tensor_files import read_tensors, write_tensors

FINDINGS = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""The five pathologies of section 6.3.2, in its order and as CheXpert spells them."""

_FORMAT = "fairveil xrays 1"


@dataclass(frozen=True, eq=False)
class Xrays:
    """Square grey X-rays, each of one patient and with any number of findings: `training.Examples` of several labels.

    Attributes:
        images: uint8 (N, 1, size, size).
        labels: float32 (N, K): 1 where a finding is present, 0 where absent, NaN where that is unknown.
        classes: what the K findings are called.
        name: what reports call the data set.
        image_names: what each image is called.
        patients: whose each is.
        groups: values of the group columns, one an image, by column; None where unknown.
        left_out: why rows of the data set gave no image, and how many each.
        remarks: what was found and assumed in reading, in sentences.

    >>> black = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    >>> labels = torch.tensor([[1.0], [0.0], [float("nan")]])
    >>> xrays = Xrays(black, labels, ("Edema",), "three", ("1.png", "2.png", "3.png"), ("Ann", "Bob", "Bob"))
    >>> xrays.take([2, 0]).patients
    ('Bob', 'Ann')
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    image_names: tuple[str, ...]
    patients: tuple[str, ...]
    groups: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            FairveilError: images are not grey squares of bytes; labels are of another shape or type or are neither 0,
                1, nor NaN; a finding comes twice; or not every image has a name, a patient, and a value of each group.
        """
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 1 or shape[2] != shape[3]:
            kind = f"{_bare(self.images)} {shape}"
            raise FairveilError(f"The X-rays of {self.name} are {kind}: they must be uint8 of shape (N, 1, S, S).")
        expected = (shape[0], len(self.classes))
        if self.labels.dtype != torch.float32 or tuple(self.labels.shape) != expected:
            kind = f"{_bare(self.labels)} {tuple(self.labels.shape)}"
            raise FairveilError(
                f"The labels of {self.name} are {kind}: they must be float32 {expected}, a row an image and a column a "
                "finding."
            )
        odd = self.labels[~((self.labels == 0) | (self.labels == 1) | self.labels.isnan())]
        if len(odd):
            raise FairveilError(
                f"{self.name} has the label {odd[0]:g}: a finding is present (1), absent (0), or unknown (NaN)."
            )
        if not self.classes or len({*self.classes}) < len(self.classes):
            raise FairveilError(f"The findings of {self.name} are {self.classes}: name one or more, each once.")
        for column, values in {"image": self.image_names, "patient": self.patients, **self.groups}.items():
            if len(values) != shape[0]:
                raise FairveilError(
                    f"{self.name} has {shape[0]} X-rays, but {len(values)} values of {column}: give each one."
                )
        if taken := {"image", "patient"} & {*self.groups}:
            raise FairveilError(f"A column of groups of {self.name} is called {taken.pop()!r}: give it another name.")

    def __len__(self) -> int:
        """How many X-rays there are."""
        return len(self.images)

    @property
    def size(self) -> int:
        """Side of the X-rays in pixels."""
        return int(self.images.shape[-1])

    @property
    def frame(self) -> pl.DataFrame:
        """One row an X-ray: image, patient, and the groups."""
        columns = {"image": self.image_names, "patient": self.patients, **self.groups}
        return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))

    def fingerprint(self) -> str:
        """A SHA-256 of images, findings, patients, and groups: equal if and only if these are."""
        words = [list(self.images.shape), self.classes, self.image_names, self.patients, dict(self.groups)]
        digest = hashlib.sha256(json.dumps(words).encode())
        # NaN has many bit patterns, all of which mean the same here
        for tensor in (self.images, self.labels.nan_to_num(nan=-1)):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def take(self, rows: Tensor | Sequence[int]) -> "Xrays":
        """Those of some rows, in that order; the findings stay as they are."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        places = chosen.tolist()
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            image_names=tuple(self.image_names[row] for row in places),
            patients=tuple(self.patients[row] for row in places),
            groups={column: tuple(values[row] for row in places) for column, values in self.groups.items()},
        )

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
        if not 0 < share < 1:
            raise FairveilError(f"A share of {share:g} of the patients cannot be put aside: give one between 0 and 1.")
        people = sorted({*self.patients})
        if len(people) < 2:
            raise FairveilError(
                f"{self.name} has X-rays of {len(people)} patient{'s' * (len(people) != 1)}, too few to put some "
                "aside and keep others: add patients."
            )
        count = min(max(1, round(share * len(people))), len(people) - 1)
        order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))
        drawn = {people[number] for number in order[:count].tolist()}
        aside = torch.tensor([patient in drawn for patient in self.patients])
        return self.take((~aside).nonzero().flatten()), self.take(aside.nonzero().flatten())

    def write(self, path: Path) -> None:
        """Write everything to one new safetensors file, whole or not at all.

        Raises:
            FairveilError: the file already exists or cannot be written.
        """
        words = {
            "classes": self.classes,
            "name": self.name,
            "image_names": self.image_names,
            "patients": self.patients,
            "groups": dict(self.groups),
            "left_out": dict(self.left_out),
            **({"remarks": self.remarks} if self.remarks else {}),
        }
        write_tensors(
            path,
            {"images": self.images, "labels": self.labels},
            {key: json.dumps(value) for key, value in words.items()},
            format=_FORMAT,
        )

    @classmethod
    def read(cls, path: Path) -> "Xrays":
        """Read what `write` wrote. Pixels stay in the file until they are used, so that processes share them.

        Raises:
            FairveilError: it is not there, is damaged, or holds no X-rays.
        """
        with read_tensors(path, format=_FORMAT, what="X-rays", maker="Xrays.write") as (tensors, metadata):
            words = {key: json.loads(value) for key, value in metadata.items() if key != "format"}
            return cls(
                tensors["images"],
                tensors["labels"],
                tuple(words["classes"]),
                words["name"],
                tuple(words["image_names"]),
                tuple(words["patients"]),
                {column: tuple(values) for column, values in words["groups"].items()},
                words["left_out"],
                tuple(words.get("remarks", ())),
            )


def _bare(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
