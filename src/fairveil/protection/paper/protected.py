"""Protected photos, made once for every study that needs them."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, Self

import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.data import FaceTable
from fairveil.experiment.workbench import Workbench
from fairveil.faces.detection import Detector, Faces
from fairveil.faces.embedding import MINIMUM_FACE, WhichFace, faces_that_count, fingerprint
from fairveil.faces.recognizers import Recognizer
from fairveil.faces.zoo import load_recognizer
from fairveil.images import as_image
from fairveil.protection.lowkey import LowKey
from fairveil.protection.paper.fawkes import Fawkes, cloak
from fairveil.protection.paper.people import People
from fairveil.protection.paper.targets import Target, targets_of
from fairveil.protection.protecting import perturb_faces, protect
from fairveil.protection.verification import Quality, quality_of_face
from fairveil.report.tables import Unit


class Cost(NamedTuple):
    """How a cost of protection is measured: a field of `Quality`, and its unit."""

    field: str
    unit: Unit


COSTS: Mapping[str, Cost] = {
    "LPIPS (VGG)": Cost("lpips_vgg", "LPIPS"),
    "LPIPS (AlexNet)": Cost("lpips", "LPIPS"),
    "SSIM": Cost("ssim", "ratio"),
    "PSNR": Cost("psnr", "dB"),
    "ΔE": Cost("delta_e", "ΔE"),
    "ΔE, color": Cost("delta_chroma", "ΔE"),
}
"""What protection costs a photo, by what tables call it."""

_FORMAT = 1  # raised when the same photo and attack would give another protected photo
_NO_FACE = "null"  # in place of a quality


class GalleryAttack(BaseModel):
    """How photos are protected.

    Attributes:
        recognizers: names of the ensemble that is attacked.
        settings: of LowKey, or of Fawkes.
        seed: of the starting noise.
        people: whose strangers Fawkes moves photos toward; LowKey needs nobody.

    Raises:
        ValueError: Fawkes without people, or LowKey with them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recognizers: tuple[str, ...]
    settings: LowKey | Fawkes
    seed: int = 0
    # It came later, and is written only where it is not the default: older records and photos stay valid.
    people: People | None = Field(None, exclude_if=lambda people: people is None)

    @model_validator(mode="after")
    def _has_targets(self) -> Self:
        if isinstance(self.settings, Fawkes) != (self.people is not None):
            raise ValueError("Fawkes needs the people whose strangers it moves photos towards, and LowKey has none")
        return self

    @classmethod
    def of(cls, settings: LowKey | Fawkes, recognizers: Sequence[str], people: People, seed: int) -> Self:
        """An attack on recognizers for the users among some people, whom only Fawkes has to know."""
        known = people if isinstance(settings, Fawkes) else None
        return cls(recognizers=tuple(recognizers), settings=settings, seed=seed, people=known)


def protected_photos(table: FaceTable, attack: GalleryAttack, faces: WhichFace, bench: Workbench) -> FaceTable:
    """The photos of a table as an attack leaves them, losslessly saved, in their old order, with their labels.

    Args:
        table: the photos as they were.
        attack: how to protect them.
        faces: which face of each photo is protected.
        bench: where networks run and photos are kept; what is there is not made again, and processes share the work.
    """
    networks = [fingerprint(load_recognizer(name)) for name in attack.recognizers]
    targets = targets_for(table, attack, bench)
    key = content_key([_FORMAT, attack.model_dump(mode="json"), networks, faces], digits=16)
    folder = bench.cache / "protected" / key
    images = [f"{content_name(table, row, targets[row])}.png" for row in range(len(table))]
    make_files(
        folder,
        {
            image: partial(
                _protect, table=table, row=row, attack=attack, faces=faces, device=bench.device, target=targets[row]
            )
            for row, image in enumerate(images)
        },
    )
    return FaceTable(table.frame.with_columns(image=pl.Series(images)), folder, table.name, table.groups)


def qualities(before: FaceTable, after: FaceTable, faces: WhichFace) -> list[Quality]:
    """How much each face changed from what `protected_photos` was given to what it gave; no face, no figure."""
    makers = {
        Path(image).with_suffix(".json").name: partial(_measure, before=before, after=after, row=row, faces=faces)
        for row, image in enumerate(after.frame["image"])
    }
    texts = [path.read_text() for path in make_files(after.root, makers)]
    return [Quality.model_validate_json(text) for text in texts if text != _NO_FACE]


def costs_of(measured: Sequence[Quality]) -> dict[str, list[float]]:
    """Each of `COSTS` of every photo that has one."""
    costs = {name: [getattr(quality, cost.field) for quality in measured] for name, cost in COSTS.items()}
    return {name: [value for value in values if value is not None] for name, values in costs.items()}


@cache
def detector_for(faces: WhichFace) -> Detector | None:
    """Who finds the faces of a study's photos; nobody in aligned crops."""
    return None if faces == "aligned" else Detector.pretrained(minimum_face=MINIMUM_FACE)


def targets_for(table: FaceTable, attack: GalleryAttack, bench: Workbench) -> Sequence[Target | None]:
    """For each photo the one that Fawkes moves it toward; None where LowKey protects."""
    if not isinstance(attack.settings, Fawkes) or attack.people is None:
        return [None] * len(table)
    ensemble = [load_recognizer(name).to(bench.device) for name in attack.recognizers]
    return targets_of(table, ensemble, attack.people, attack.settings.candidates, bench)


def content_name(table: FaceTable, row: int, target: Target | None = None) -> str:
    """The name of a photo's protected version: by what it shows, since paths mean another photo tomorrow."""
    photo = table.photo(row)
    name = f"{table.frame['image'][row]} {tuple(photo.shape)}"
    return content_key(name, photo, *(target.features if target else ()))


def _protect(
    path: Path,
    *,
    table: FaceTable,
    row: int,
    attack: GalleryAttack,
    faces: WhichFace,
    device: str,
    target: Target | None,
) -> None:
    photo = table.photo(row).to(device)
    found = faces_that_count(photo, detector_for(faces), faces)
    ensemble = [load_recognizer(name).to(device) for name in attack.recognizers]
    after = attacked(photo, found, ensemble, attack.settings, seed=attack.seed, target=target)
    as_image(after.cpu()).save(path, "PNG")


def attacked(
    photo: Tensor,
    faces: Faces,
    recognizers: Sequence[Recognizer],
    settings: LowKey | Fawkes,
    *,
    seed: int,
    target: Target | None = None,
) -> Tensor:
    """A photo, uint8, (3, H, W), after an attack on its faces.

    Args:
        photo: as it was.
        faces: those to protect.
        recognizers: the ensemble to attack.
        settings: of LowKey, or of Fawkes, which leaves the photo as it is without a target.
        seed: of the starting noise.
        target: whom Fawkes moves the faces toward.
    """
    if isinstance(settings, LowKey):
        return protect(photo, settings, recognizers=recognizers, faces=faces, seed=seed)[0]
    if target is None:
        return photo
    cloaked, _ = perturb_faces(photo, faces, recognizers, settings, seed, by=partial(cloak, targets=target.features))
    return cloaked


@torch.no_grad()
def _measure(target: Path, *, before: FaceTable, after: FaceTable, row: int, faces: WhichFace) -> None:
    photo = before.photo(row)
    found = faces_that_count(photo, detector_for(faces), faces)
    if not len(found):
        target.write_text(_NO_FACE)
        return
    quality = quality_of_face(photo, after.photo(row), found.landmarks[0])
    target.write_text(quality.model_dump_json())
