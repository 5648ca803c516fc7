"""From photos to aligned crops of faces: found, aligned and cut, or taken where they are crops already."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.files import file_state
from fairveil.base.keys import content_key
from fairveil.data.face_crops import FaceCrops, check_identities
from fairveil.data.image_set import made_image_by_image
from fairveil.data.table import FaceTable
from fairveil.faces.alignment import TEMPLATE_SIZE
from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector
from fairveil.faces.embedding import MINIMUM_FACE, WhichFace, faces_that_count
from fairveil.faces.recognizers import Framing
from fairveil.training.checkpoints import weights_fingerprint


def cut_crops(
    table: FaceTable,
    *,
    size: int = TEMPLATE_SIZE,
    which: WhichFace = "central",
    detector: Detector | None = None,
    folder: Path | None = None,
    on_photo: Callable[[int], None] = lambda count: None,
) -> FaceCrops:
    """Find and align the face of each photo, or take photos that are aligned crops already.

    Photos without an identity, or a face, or that cannot be read, are left out and counted.

    Args:
        table: photos with identities.
        size: side of the crops, in which faces lie as in the 112×112 template.
        which: which face of a photo counts; "aligned" for ready crops, which are resized where need be.
        detector: finds the faces; by default the pretrained one, for faces of `MINIMUM_FACE` pixels and more.
        folder: keeps the crops in a file, from which pixels are read as they are used. What it already holds is not
            cut again, and processes that are given one folder share the file. Without it the crops are in memory.
        on_photo: called with the number of photos that are done.

    Raises:
        FairveilError: nobody's identity is known, all faces are to count, no photo gives a crop, or the folder cannot
            be written to.
    """
    if which == "all":
        raise FairveilError("Of several faces nobody could tell whose the identity of a photo is: choose which counts.")
    check_identities(table)
    if which == "aligned":
        detector = None
    elif detector is None:
        detector = Detector.pretrained(minimum_face=MINIMUM_FACE)
    return made_image_by_image(
        FaceCrops,
        lambda pixels: _cut(table, pixels, size, which, detector, on_photo),
        lambda pixels, known: FaceCrops.of_rows(table, known[0], pixels, size, known[1]),
        folder=folder,
        key=lambda: _key(table, size, which, detector),
    )


def _cut(
    table: FaceTable,
    pixels: IO[bytes],
    size: int,
    which: WhichFace,
    detector: Detector | None,
    on_photo: Callable[[int], None],
) -> tuple[list[int], dict[str, int]]:
    """Write crops one after another; gives the rows they are of, and why and how often others have none."""
    framing = Framing(size=size)
    rows: list[int] = []
    left_out: dict[str, int] = {}
    for row, identity in enumerate(table.identities):
        crop = "no identity" if identity is None else _crop_or_reason(table, row, which, detector, framing)
        if isinstance(crop, str):
            left_out[crop] = left_out.get(crop, 0) + 1
        else:
            pixels.write(crop.numpy().tobytes())
            rows.append(row)
        on_photo(row + 1)
    if not rows:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise FairveilError(f"None of the {len(table)} photos of {table.name} gives a crop of a face ({reasons}).")
    return rows, left_out


def _key(table: FaceTable, size: int, which: WhichFace, detector: Detector | None) -> str:
    """A hash of what crops depend on: labels, the photos' sizes and dates, and how faces are found and cut."""
    files = [table.root] if table.root.is_file() else [table.root / image for image in table.frame["image"]]
    # by its fields, since a table may be of another kind, whose photos are no files
    source = [repr(getattr(table, part.name)) for part in fields(table) if part.name not in ("frame", "notes")]
    finder = detector and [
        *detector.settings,
        *(weights_fingerprint(network) for network in (detector.pnet, detector.rnet, detector.onet)),
    ]
    about = [FaceCrops.format, source, table.frame.write_csv(), list(map(file_state, files)), size, which, finder]
    return content_key(about, digits=24)


@torch.no_grad()
def _crop_or_reason(
    table: FaceTable, row: int, which: WhichFace, detector: Detector | None, framing: Framing
) -> Tensor | str:
    """The crop of a photo's face, uint8 (3, size, size), or why there is none."""
    try:
        photo = table.photo(row)
    except FairveilError:
        return "not readable"
    if which == "aligned" and photo.shape[1] != photo.shape[2]:
        return "not square, so no aligned crop"
    faces = faces_that_count(photo, detector, which)
    if not len(faces):
        return "no face found"
    # an aligned crop has no surroundings to be shown
    view = (photo[None] / 255, faces.landmarks[:1]) if which == "aligned" else view_of_face(photo, faces.landmarks[0])
    return (framing.crop(*view)[0] * 255).round().clamp(0, 255).byte()
