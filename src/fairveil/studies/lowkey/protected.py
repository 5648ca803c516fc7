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
from fairveil.faces.embedding import MINIMUM_FACE, WhichFace, faces_that_count
from fairveil.faces.zoo import load_recognizer
from fairveil.photos import as_image
from fairveil.protection.lowkey import LowKey
from fairveil.protection.protecting import protect
from fairveil.protection.verification import Quality, quality_of_face
from fairveil.sharing import make_files


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


def protected_photos(table: FaceTable, attack: Attack, faces: WhichFace, cache: Path) -> FaceTable:
    """The photos of a table as an attack leaves them, losslessly saved, under their old names, with their labels.

    Args:
        table: the photos as they were.
        attack: how to protect them.
        faces: which face of each photo is protected.
        cache: where they are kept; what is there is not made again, and several processes share the work.
    """
    content = json.dumps([attack.model_dump(mode="json"), faces], sort_keys=True)
    folder = cache / "protected" / hashlib.sha256(content.encode()).hexdigest()[:16]
    images = [f"{path_name(table.name, image)}.png" for image in table.frame["image"]]
    make_files(
        folder,
        {
            image: partial(_protect, table=table, row=row, attack=attack, faces=faces)
            for row, image in enumerate(images)
        },
    )
    return FaceTable(table.frame.with_columns(image=pl.Series(images)), folder, table.name, table.groups)


def qualities(before: FaceTable, after: FaceTable, faces: WhichFace) -> list[Quality]:
    """How much the face of each photo changed, from what `protected_photos` was given to what it gave."""
    makers = {
        Path(image).with_suffix(".json").name: partial(_measure, before=before, after=after, row=row, faces=faces)
        for row, image in enumerate(after.frame["image"])
    }
    return [Quality.model_validate_json(path.read_text()) for path in make_files(after.root, makers)]


def path_name(data: str, image: str) -> str:
    """The name, without its suffix, of the protected version of an image of a data set."""
    return hashlib.sha256(f"{data}/{image}".encode()).hexdigest()[:20]


def _protect(target: Path, *, table: FaceTable, row: int, attack: Attack, faces: WhichFace) -> None:
    photo = table.photo(row)
    found = faces_that_count(photo, _detector(faces), faces)
    ensemble = [load_recognizer(name) for name in attack.recognizers]
    after, _ = protect(photo, attack.settings, recognizers=ensemble, faces=found, seed=attack.seed)
    as_image(after).save(target, "PNG")


@torch.no_grad()
def _measure(target: Path, *, before: FaceTable, after: FaceTable, row: int, faces: WhichFace) -> None:
    photo = before.photo(row)
    found = faces_that_count(photo, _detector(faces), faces)
    quality = quality_of_face(photo, after.photo(row), found.landmarks[0])
    target.write_text(quality.model_dump_json())


@cache
def _detector(faces: WhichFace) -> Detector | None:
    return None if faces == "aligned" else Detector.pretrained(minimum_face=MINIMUM_FACE)
