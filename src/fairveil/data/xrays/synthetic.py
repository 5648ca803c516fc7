"""Generated X-rays with findings, of generated patients: for tests, studies and training without anyone's images.

An X-ray is a stand-in and shows no anatomy. Waves that are the patient's own make up the background, and each finding
that is present is a soft bright blob, the brighter the more severe, about its own place. Sex and age are visible too.

Every number of a patient comes from the seed and the patient's number, and every number of an X-ray from these and its
own, so that it stays the same whatever else is drawn. (To within rounding, as with `SyntheticFaces`.)
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.keyed_random import deviates_of, evenly, mixed
from fairveil.data.xrays.images import FINDINGS, Xrays

Group = Literal["M", "F", "young", "old"]
Contrast = Annotated[float, Field(ge=0, le=2)]

GROUPS: dict[str, tuple[Group, Group]] = {"sex": ("M", "F"), "age": ("young", "old")}
"""The group columns and their values: the first of each has the share that is set."""

PREVALENCE: Mapping[str, float] = {
    "Cardiomegaly": 0.12,
    "Edema": 0.26,
    "Consolidation": 0.08,
    "Atelectasis": 0.28,
    "Pleural Effusion": 0.38,
}
"""The share of X-rays with each finding: about CheXpert's, where uncertain oedema and atelectasis count."""

# Correlations of what lies behind the findings, in their order: fluid collapses lung and comes with a failing heart.
_TOGETHER = (
    (1.00, 0.30, 0.00, 0.05, 0.20),
    (0.30, 1.00, 0.05, 0.15, 0.35),
    (0.00, 0.05, 1.00, 0.10, 0.15),
    (0.05, 0.15, 0.10, 1.00, 0.40),
    (0.20, 0.35, 0.15, 0.40, 1.00),
)
_LASTING = 0.7  # how much of that is the patient's, in all of whose X-rays it is
_NOISE = 0.032  # standard deviation of a pixel, on a scale of 1
_MILDEST = 0.35  # severity where a finding is present, from this to 1
_BATCH_PIXELS = 1 << 18  # pixels drawn at a time: more would leave the processor's cache


class Blob(NamedTuple):
    """How a finding shows: x to the right and y down, both from −1 to 1.

    Attributes:
        x: of the middle of its usual place.
        y: likewise.
        width: over which brightness falls to 1/e.
        brightness: that it adds in its middle at a severity of 1, on a scale of 1.
    """

    x: float
    y: float
    width: float
    brightness: float


BLOBS: Mapping[str, Blob] = {
    "Cardiomegaly": Blob(0.2, 0.3, 0.4, 0.21),
    "Edema": Blob(0.0, -0.3, 0.5, 0.18),
    "Consolidation": Blob(-0.5, -0.1, 0.2, 0.17),
    "Atelectasis": Blob(-0.4, 0.6, 0.2, 0.17),
    "Pleural Effusion": Blob(0.6, 0.6, 0.3, 0.18),
}
"""Where each finding lies, and how well it can be seen."""

_WANDER = 0.08  # standard deviation of a blob's place, of which half the variance is the patient's
_WAVES, _WAVE_HEIGHT = 6, 0.035  # waves of the background, and the standard deviation of the height of each
_SHIFT, _GAIN, _OFFSET = 0.035, 0.08, 0.04  # standard deviations of place, contrast and brightness of X-rays
_SEX_MARK, _AGE_MARK = 0.1, 0.05  # brightness of a band across women's X-rays, and of the edges of those of the old
_OWN_NUMBERS = 4 + 2 * len(FINDINGS)


class SyntheticXrays(BaseModel):
    """Generated patients and their frontal X-rays, with the five findings of section 6.3.2.

    Findings are as frequent and severe in one group as in another, but their `hardness` can differ.

    Attributes:
        patients: how many.
        per_patient: X-rays of each.
        size: side of the X-rays in pixels.
        seed: of everything random.
        male_share: share of patients who are men, kept as well as can be in any number of first patients.
        old_share: share of patients who are old, likewise and within each sex.
        hardness: by which factor findings show less (below 1) or more in a group, by its value; factors of a patient's
            two groups multiply.

    >>> xrays = SyntheticXrays(patients=4, size=32, seed=0).draw()
    >>> xrays.images.shape, xrays.patients[:3], xrays.groups["sex"][::2]
    (torch.Size([8, 1, 32, 32]), ('synthetic-00000', 'synthetic-00000', 'synthetic-00001'), ('F', 'M', 'F', 'M'))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients: int = Field(ge=1, le=100_000)
    per_patient: int = Field(default=2, ge=1, le=1_000)
    size: int = Field(default=64, ge=16, le=512)
    seed: int = Field(ge=0, lt=2**63)
    male_share: float = Field(default=0.6, ge=0, le=1)
    old_share: float = Field(default=0.5, ge=0, le=1)
    hardness: Mapping[Group, Contrast] = Field(default_factory=dict)

    @torch.no_grad()
    def draw(self) -> Xrays:
        """Draw all of them."""
        rows = torch.arange(self.patients * self.per_patient)
        patients = rows // self.per_patient
        groups = {column: group[patients] for column, group in self._groups().items()}  # (N,) each
        person = mixed(mixed(torch.tensor(self.seed)) + patients)
        own = mixed(mixed(person) + rows % self.per_patient)
        severities = _severities(person, own)
        images = torch.empty(len(rows), 1, self.size, self.size, dtype=torch.uint8)
        for some in torch.split(rows, max(1, _BATCH_PIXELS // self.size**2)):
            images[some, 0] = self._pictures(
                person[some], own[some], severities[some], {column: group[some] for column, group in groups.items()}
            )
        names = [f"synthetic-{patient:05d}" for patient in patients.tolist()]
        return Xrays(
            images,
            (severities > 0).float(),
            FINDINGS,
            "synthetic X-rays",
            tuple(f"{name}/{row % self.per_patient:03d}" for row, name in enumerate(names)),
            {column: tuple(GROUPS[column][value] for value in group.tolist()) for column, group in groups.items()},
            patients=tuple(names),
        )

    def _groups(self) -> dict[str, Tensor]:
        """Positions in `GROUPS` of everyone's sex and age, (patients,) each."""
        people = torch.arange(self.patients)
        male, men_before = evenly(people, self.male_share)
        old, _ = evenly(torch.where(male, men_before, people - men_before), self.old_share)
        return {"sex": 1 - male.long(), "age": old.long()}

    def _pictures(self, person: Tensor, own: Tensor, severities: Tensor, groups: Mapping[str, Tensor]) -> Tensor:
        """X-rays as bytes, (B, S, S), from keys (B,), severities (B, K), and positions of groups (B,)."""
        for column, values in GROUPS.items():
            factor = torch.tensor([self.hardness.get(value, 1.0) for value in values])
            severities = severities * factor[groups[column]][:, None]
        body = deviates_of(person, 4 * _WAVES + 2 * len(FINDINGS))
        waves, theirs = body[:, : 4 * _WAVES].view(-1, _WAVES, 4), body[:, 4 * _WAVES :]
        exposure = deviates_of(own, _OWN_NUMBERS)
        right, down, gain, offset = (number[:, None, None] for number in exposure[:, :4].unbind(1))
        pixel = (torch.arange(self.size) + 0.5) / self.size * 2 - 1
        x, y = pixel[None, None, :] - _SHIFT * right, pixel[None, :, None] - _SHIFT * down
        female, old = (groups[column].float()[:, None, None] for column in GROUPS)
        wander = _WANDER * math.sqrt(0.5) * (theirs + exposure[:, 4:]).view(-1, len(FINDINGS), 2)
        picture = 0.4 + _background(waves, x, y) + _marks(female, old, x, y) + _blobs(severities, wander, x, y)
        picture = 0.5 + (picture - 0.5) * (_GAIN * gain).exp() + _OFFSET * offset
        grain = deviates_of(mixed(own + 1), self.size**2).view_as(picture)
        return ((picture + _NOISE * grain).clamp(0, 1) * 255).round().byte()


def _background(waves: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Plane waves, (B, S, S), from two frequencies, a phase and a height of each, (B, W, 4)."""
    total = torch.zeros_like(x + y)
    for wave in waves.unbind(1):
        across, along, phase, height = (part[:, None, None] for part in wave.unbind(1))
        total = total + _WAVE_HEIGHT * height * torch.sin(3 * (across * x + along * y) + 3 * phase)
    return total


def _marks(female: Tensor, old: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """What of sex and age can be seen, (B, S, S): a band across the picture, and brighter sides."""
    return _SEX_MARK * female * torch.exp(-((y / 0.3).square())) + _AGE_MARK * old * x.square()


def _blobs(severities: Tensor, wander: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The findings, (B, S, S), from severities (B, K) and how far each lies from its usual place, (B, K, 2)."""
    total = torch.zeros_like(x + y)
    for number, finding in enumerate(FINDINGS):
        blob, strength = BLOBS[finding], severities[:, number, None, None]
        right, down = (part[:, None, None] for part in wander[:, number].unbind(1))
        away = (x - blob.x - right).square() + (y - blob.y - down).square()
        total = total + blob.brightness * strength * torch.exp(-away / blob.width**2)
    return total


def _severities(person: Tensor, own: Tensor) -> Tensor:
    """How strong each finding is in X-rays, 0 where it is absent, (N, K), from keys (N,)."""
    together = torch.linalg.cholesky(torch.tensor(_TOGETHER, dtype=torch.float64))
    lasting, passing = (deviates_of(mixed(keys + 2), len(FINDINGS)).double() for keys in (person, own))
    behind = (_LASTING**0.5 * lasting + (1 - _LASTING) ** 0.5 * passing) @ together.T
    rank = torch.special.ndtr(behind)  # uniform
    share = torch.tensor([PREVALENCE[finding] for finding in FINDINGS], dtype=torch.float64)
    present = rank > 1 - share
    severity = _MILDEST + (1 - _MILDEST) * torch.special.ndtr(deviates_of(mixed(own + 3), len(FINDINGS)).double())
    return torch.where(present, severity, 0.0).float()
