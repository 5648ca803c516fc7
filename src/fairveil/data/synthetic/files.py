"""Generated faces on disk: photos, their labels and their landmarks, written by one process or by several at once."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import rmtree

import polars as pl
from pydantic import ValidationError

from fairveil.base.errors import FairveilError, shown
from fairveil.base.files import atomic_path
from fairveil.base.sharing import make_files
from fairveil.data.synthetic.people import SyntheticFaces
from fairveil.data.table import FaceTable
from fairveil.images import Photo, Saving, write_photo

_SETTINGS, _TABLE, _LANDMARKS, _PARTS = "synthetic.json", "faces.csv", "landmarks.csv", ".parts"
_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_COORDINATES = [f"{point}_{axis}" for point in _POINTS for axis in "xy"]


def write_faces(
    faces: SyntheticFaces,
    folder: Path,
    *,
    overwrite: bool = False,
    on_identity: Callable[[int], None] = lambda count: None,
) -> FaceTable:
    """Write photos of generated faces, `faces.csv` with their labels and `landmarks.csv` with their true landmarks.

    Several processes may write one set together, and what a killed one has left is finished by the next: a person's
    photos are made by whoever comes first.

    Args:
        faces: which.
        folder: where to; made if need be. A photo goes to `identity/number.png`.
        overwrite: replace the generated faces that the folder holds, or write beside what else it holds.
        on_identity: called whenever photos of more people are there, with how many people.

    Returns:
        The table of the files.

    Raises:
        FairveilError: the folder holds something else and `overwrite` is false, or cannot be written to.
    """
    try:
        _begin(faces, folder, overwrite=overwrite)
        labels = faces.labels
        images = labels.partition_by("identity", maintain_order=True)
        makers = {
            f"{some['identity'][0]}.csv": partial(_write_person, faces, folder, some["image"].to_list(), number)
            for number, some in enumerate(images)
        }
        parts = make_files(folder / _PARTS, makers, on_file=on_identity)
        landmarks = pl.concat(pl.read_csv(part, schema_overrides={"image": pl.String}) for part in parts)
        for name, frame in ((_LANDMARKS, landmarks), (_TABLE, labels)):
            with atomic_path(folder / name, overwrite=True) as temporary:
                frame.write_csv(temporary)
    except OSError as error:
        raise FairveilError(f"{shown(folder)} cannot be written to: {error.strerror or error}.") from error
    return FaceTable.from_csv(folder / _TABLE)


def _begin(faces: SyntheticFaces, folder: Path, *, overwrite: bool) -> None:
    """Make the folder ready, and note there what it will hold."""
    settings, wanted = folder / _SETTINGS, faces.model_dump_json(indent=2)
    if settings.is_file() and not overwrite:
        if settings.read_text() == wanted:
            return
        raise FairveilError(
            f"{shown(folder)} holds synthetic faces of other settings: choose another folder, or overwrite them."
        )
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        _remove_former(settings)
    elif any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise FairveilError(f"{shown(folder)} is not empty: choose another folder, or allow to overwrite.")
    with atomic_path(settings, overwrite=True) as temporary:
        temporary.write_text(wanted)


def _remove_former(settings: Path) -> None:
    """Remove the generated photos that a folder holds by its own account, and nothing else."""
    rmtree(settings.parent / _PARTS, ignore_errors=True)
    try:
        former = SyntheticFaces.model_validate_json(settings.read_text())
    except (FileNotFoundError, ValidationError):
        return
    for image in former.labels["image"]:
        (settings.parent / image).unlink(missing_ok=True)


def _write_person(faces: SyntheticFaces, folder: Path, images: list[str], person: int, part: Path) -> None:
    """Write one person's photos, and then the part of the landmarks that says that they are there."""
    indices = range(person * faces.per_identity, (person + 1) * faces.per_identity)
    for image, pixels in zip(images, faces.render(indices), strict=True):
        (folder / image).parent.mkdir(exist_ok=True)
        photo = Photo(pixels, None, "PNG" if faces.format == "png" else "JPEG")
        write_photo(photo, folder / image, Saving(overwrite=True))
    points = pl.DataFrame(faces.landmarks(indices).flatten(1).numpy(), schema=_COORDINATES)
    points.insert_column(0, pl.Series("image", images)).write_csv(part, float_precision=3)
