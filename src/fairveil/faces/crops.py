"""Aligned crops of labelled faces as one tensor: what recognisers are trained on and tested with."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

import polars as pl
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError, shown
from fairveil.base.files import file_state
from fairveil.base.sharing import make_files
from fairveil.base.tensor_files import read_tensors, write_tensors
from fairveil.data.images import LabelledImages
from fairveil.data.table import FaceTable
from fairveil.faces.alignment import TEMPLATE_SIZE
from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector
from fairveil.faces.embedding import MINIMUM_FACE, WhichFace, faces_that_count
from fairveil.faces.recognizers import Framing
from fairveil.training.checkpoints import weights_fingerprint

_FORMAT = "fairveil crops 1"
_NOBODY = (
    "{} has no identities, which recognisers are trained to tell apart: put each person's photos in a folder of their "
    "own, or name them in a column identity."
)


@dataclass(frozen=True, eq=False)
class FaceCrops:
    """Aligned square crops of faces, each of one identity: `training.Examples` whose classes are people.

    Attributes:
        images: uint8 (N, 3, size, size), with faces where `Framing(size=size)` has them.
        labels: the number of each crop's identity, int64 (N,).
        classes: what the identities are called.
        name: what reports call the data set.
        image_names: the photo each crop is of.
        groups: values of the group columns, one a crop, by column; None where unknown.
        left_out: why photos gave no crop, and how many each.

    >>> black = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    >>> crops = FaceCrops(black, torch.tensor([0, 1, 1]), ("Ann", "Bob"), "two", ("1.png", "2.png", "3.png"))
    >>> crops.take([2, 1]).classes
    ('Bob',)
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    image_names: tuple[str, ...]
    groups: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            FairveilError: as `LabelledImages`; crops are not square and of three colours; or not every crop has a
                name and a value of each group.
        """
        count, channels, height, width = self._pictures().images.shape
        if channels != 3 or height != width:
            raise FairveilError(f"The crops of {self.name} have shape {(channels, height, width)}: give RGB squares.")
        for column, values in {"image": self.image_names, **self.groups}.items():
            if len(values) != count:
                raise FairveilError(
                    f"{self.name} has {count} crops, but {len(values)} values of {column}: give each one."
                )
        if taken := {"image", "identity"} & {*self.groups}:
            raise FairveilError(f"A column of groups of {self.name} is called {taken.pop()!r}: give it another name.")

    def __len__(self) -> int:
        """How many crops there are."""
        return len(self.images)

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return int(self.images.shape[-1])

    @property
    def frame(self) -> pl.DataFrame:
        """One row a crop: image, identity, and the groups."""
        identity = pl.Series(self.classes, dtype=pl.String)[self.labels.tolist()]
        columns = {"image": self.image_names, "identity": identity, **self.groups}
        return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))

    def fingerprint(self) -> str:
        """A SHA-256 of crops, identities, and groups: equal if and only if these are."""
        digest = hashlib.sha256(self._pictures().fingerprint().encode())
        digest.update(json.dumps([self.image_names, dict(self.groups)]).encode())
        return digest.hexdigest()

    def take(self, rows: Tensor | Sequence[int]) -> "FaceCrops":
        """Those of some rows, in that order; identities of which none is left are no classes any more."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        kept, labels = torch.unique(self.labels[chosen], return_inverse=True)
        places = chosen.tolist()
        return replace(
            self,
            images=self.images[chosen],
            labels=labels,
            classes=tuple(self.classes[label] for label in kept.tolist()),
            image_names=tuple(self.image_names[row] for row in places),
            groups={column: tuple(values[row] for row in places) for column, values in self.groups.items()},
        )

    def hold_out(self, share: float, *, seed: int) -> tuple["FaceCrops", "FaceCrops"]:
        """Put a share of the identities aside at random, with all their crops: the rest, and those put aside.

        At least two are put aside, and only such as have two crops, so that one can be looked for among others.

        Raises:
            FairveilError: there are too few identities.
        """
        several = (torch.bincount(self.labels, minlength=len(self.classes)) >= 2).nonzero().flatten()
        count = max(2, round(share * len(self.classes)))
        if count > min(len(several), len(self.classes) - 2):
            raise FairveilError(
                f"{self.name} has {len(self.classes)} identities, {len(several)} of them with two images or more: too "
                f"few to hold out {count} with two images each for validation and to train on 2 others. Add people, or "
                "do without validation (a share of 0)."
            )
        drawn = several[torch.randperm(len(several), generator=torch.Generator().manual_seed(seed))[:count]]
        aside = torch.isin(self.labels, drawn)
        return self.take((~aside).nonzero().flatten()), self.take(aside.nonzero().flatten())

    @classmethod
    def without_pictures(cls, table: FaceTable) -> "FaceCrops":
        """The labels of a table's photos with a black pixel in the place of each crop, to try labels before any is cut.

        Photos without an identity are left out; of the others every one is taken to give a crop.

        Raises:
            FairveilError: nobody's identity is known.
        """
        rows = [row for row, identity in enumerate(table.identities) if identity is not None]
        left_out = {"no identity": len(table) - len(rows)} if len(rows) < len(table) else {}
        if not rows:
            raise FairveilError(_NOBODY.format(table.name))
        return _labelled(table, rows, torch.zeros(len(rows) * 3, dtype=torch.uint8), 1, left_out)

    def make_up(self) -> dict[str, dict[str, dict[str, int]]]:
        """By group column and value, how many identities and images there are."""
        counts: dict[str, dict[str, dict[str, int]]] = {}
        for column in self.groups:
            known = self.frame.drop_nulls(column).group_by(column).agg(pl.col("identity").n_unique(), pl.len())
            counts[column] = {
                value: {"identities": people, "images": images} for value, people, images in known.sort(column).rows()
            }
        return counts

    def write(self, path: Path) -> None:
        """Write everything to one new safetensors file, whole or not at all.

        Raises:
            FairveilError: the file already exists or cannot be written.
        """
        words = {
            "classes": self.classes,
            "name": self.name,
            "image_names": self.image_names,
            "groups": dict(self.groups),
            "left_out": dict(self.left_out),
        }
        write_tensors(
            path,
            {"images": self.images, "labels": self.labels},
            {key: json.dumps(value) for key, value in words.items()},
            format=_FORMAT,
        )

    @classmethod
    def read(cls, path: Path) -> "FaceCrops":
        """Read what `write` wrote. Pixels stay in the file until they are used, so that processes share them.

        Raises:
            FairveilError: it is not there, is damaged, or holds no crops.
        """
        with read_tensors(path, format=_FORMAT, what="crops of faces", maker="FaceCrops.write") as (tensors, metadata):
            words = {key: json.loads(value) for key, value in metadata.items() if key != "format"}
            return cls(
                tensors["images"],
                tensors["labels"],
                tuple(words["classes"]),
                words["name"],
                tuple(words["image_names"]),
                {column: tuple(values) for column, values in words["groups"].items()},
                words["left_out"],
            )

    def _pictures(self) -> LabelledImages:
        return LabelledImages(self.images, self.labels, self.classes, self.name)


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
        folder: keeps the crops in a file, from which pixels are read as they are used. What is in there already is not
            cut again, and processes that are given one folder share the file. Without it the crops are in memory.
        on_photo: called with the number of photos that are done.

    Raises:
        FairveilError: nobody's identity is known, all faces are to count, no photo gives a crop, or the folder cannot
            be written to.
    """
    if which == "all":
        raise FairveilError("Of several faces nobody could tell whose the identity of a photo is: choose which counts.")
    if table.identities.count(None) == len(table):
        raise FairveilError(_NOBODY.format(table.name))
    if which == "aligned":
        detector = None
    elif detector is None:
        detector = Detector.pretrained(minimum_face=MINIMUM_FACE)
    if folder is None:
        memory = BytesIO()
        rows, left_out = _cut(table, memory, size, which, detector, on_photo)
        return _labelled(table, rows, torch.frombuffer(memory.getbuffer(), dtype=torch.uint8), size, left_out)

    def cut(target: Path) -> None:
        with NamedTemporaryFile(dir=target.parent) as pixels:  # there may be more of them than memory holds
            rows, left_out = _cut(table, pixels, size, which, detector, on_photo)
            pixels.flush()
            mapped = torch.from_file(pixels.name, size=len(rows) * 3 * size**2, dtype=torch.uint8)
            target.unlink()  # its name was kept for it
            _labelled(table, rows, mapped, size, left_out).write(target)

    try:
        return FaceCrops.read(make_files(folder, {f"{_key(table, size, which, detector)}.safetensors": cut})[0])
    except OSError as error:
        raise FairveilError(f"{shown(folder)} cannot be written to: {error.strerror or error}.") from error


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


def _labelled(table: FaceTable, rows: list[int], pixels: Tensor, size: int, left_out: dict[str, int]) -> FaceCrops:
    """Crops, uint8 (M · 3 · size · size,), with the labels of their M rows."""
    kept = table.frame[rows]
    people = kept["identity"].unique().sort()
    labels = kept["identity"].replace_strict(people, range(len(people)), return_dtype=pl.Int64)
    return FaceCrops(
        pixels.view(-1, 3, size, size),
        torch.from_numpy(labels.to_numpy(writable=True)),
        tuple(people),
        table.name,
        tuple(kept["image"]),
        {column: tuple(kept[column]) for column in table.groups},
        left_out,
    )


def _key(table: FaceTable, size: int, which: WhichFace, detector: Detector | None) -> str:
    """A hash of what crops depend on: labels, the photos' sizes and dates, and how faces are found and cut."""
    files = [table.root] if table.root.is_file() else [table.root / image for image in table.frame["image"]]
    # by its fields, since a table may be of another kind, whose photos are no files
    source = [repr(getattr(table, part.name)) for part in fields(table) if part.name not in ("frame", "notes")]
    finder = detector and [
        *detector.settings,
        *(weights_fingerprint(network) for network in (detector.pnet, detector.rnet, detector.onet)),
    ]
    about = [_FORMAT, source, table.frame.write_csv(), list(map(file_state, files)), size, which, finder]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]


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
