"""Protected photos, made once for every study that needs them."""

import hashlib
import json
from functools import cache, partial
from pathlib import Path

import polars as pl
import torch
from pydantic import BaseModel, ConfigDict

from fairveil.data import FaceTable
from fairveil.faces.detection import Detector
from fairveil.faces.embedding import MINIMUM_FACE, WhichFace, faces_that_count, fingerprint
from fairveil.faces.zoo import load_recognizer
from fairveil.photos import as_image
from fairveil.protection.lowkey import LowKey
from fairveil.protection.protecting import protect
from fairveil.protection.verification import Quality, quality_of_face
from fairveil.sharing import make_files
from fairveil.studies.workbench import Workbench

_FORMAT = 1  # raised when the same photo and attack would give another protected photo
_NO_FACE = "null"  # in place of a quality


class Attack(BaseModel):
    """How photos are protected.

    Attributes:
        recognizers: names of the ensemble that is attacked.
        settings: of LowKey.
        seed: of the starting noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recognizers: tuple[str, ...]
    settings: LowKey
    seed: int = 0


def protected_photos(table: FaceTable, attack: Attack, faces: WhichFace, bench: Workbench) -> FaceTable:
    """The photos of a table as an attack leaves them, losslessly saved, in their old order, with their labels.

    Args:
        table: the photos as they were.
        attack: how to protect them.
        faces: which face of each photo is protected.
        bench: where networks run and photos are kept; what is there is not made again, and processes share the work.
    """
    networks = [fingerprint(load_recognizer(name)) for name in attack.recognizers]
    content = json.dumps([_FORMAT, attack.model_dump(mode="json"), networks, faces], sort_keys=True)
    folder = bench.cache / "protected" / hashlib.sha256(content.encode()).hexdigest()[:16]
    images = [f"{content_name(table, row)}.png" for row in range(len(table))]
    make_files(
        folder,
        {
            image: partial(_protect, table=table, row=row, attack=attack, faces=faces, device=bench.device)
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


@cache
def detector_for(faces: WhichFace) -> Detector | None:
    """Who finds the faces of a study's photos; nobody in aligned crops."""
    return None if faces == "aligned" else Detector.pretrained(minimum_face=MINIMUM_FACE)


def content_name(table: FaceTable, row: int) -> str:
    """The name of a photo's protected version: by what it shows, since paths mean another photo tomorrow."""
    photo = table.photo(row)
    content = f"{table.frame['image'][row]} {tuple(photo.shape)}".encode() + photo.contiguous().numpy().tobytes()
    return hashlib.sha256(content).hexdigest()[:20]


def _protect(target: Path, *, table: FaceTable, row: int, attack: Attack, faces: WhichFace, device: str) -> None:
    photo = table.photo(row).to(device)
    found = faces_that_count(photo, detector_for(faces), faces)
    ensemble = [load_recognizer(name).to(device) for name in attack.recognizers]
    after, _ = protect(photo, attack.settings, recognizers=ensemble, faces=found, seed=attack.seed)
    as_image(after.cpu()).save(target, "PNG")


@torch.no_grad()
def _measure(target: Path, *, before: FaceTable, after: FaceTable, row: int, faces: WhichFace) -> None:
    photo = before.photo(row)
    found = faces_that_count(photo, detector_for(faces), faces)
    if not len(found):
        target.write_text(_NO_FACE)
        return
    quality = quality_of_face(photo, after.photo(row), found.landmarks[0])
    target.write_text(quality.model_dump_json())
