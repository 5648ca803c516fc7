"""From a table of photos to a table of faces and their embeddings: in batches, in parts, by several processes."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar, get_args

import polars as pl
import torch
from torch import Tensor, nn

from fairveil.base.errors import FairveilError, listed, shown
from fairveil.base.executors import Executor, why_ended
from fairveil.base.files import file_state
from fairveil.base.keys import content_key
from fairveil.base.sharing import is_seen, make_files
from fairveil.data.table import FaceTable
from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector, Faces
from fairveil.faces.recognizers import Framing, Recognizer, check_names
from fairveil.faces.vectors import FACE_SCHEMA, Embeddings, Provenance, vector_column, write_parquet
from fairveil.version import __version__

__all__ = ["MINIMUM_FACE", "Embeddings", "Provenance", "WhichFace", "embed_faces", "fingerprint"]

WhichFace = Literal["central", "largest", "all", "aligned"]
"""Which faces of a photo count: the one nearest its center, as in labeled data sets; the largest; all of them; or the
photo itself, which is an aligned square crop already."""

MINIMUM_FACE = 40
"""Side in pixels of the smallest face looked for, unless a detector is given."""

PART = 64
"""Photos in a part: what a process that is killed loses at the most, and what a machine of a cluster makes at a time.

One number for all ways to run, as the last bits of an embedding depend on which faces go through a network together.
"""

_FORMAT = 1  # of the parts: another number once the same photos and networks give other numbers
_UNREADABLE = "unreadable"
_PHOTOS, _PIXELS = 16, 1 << 24  # bounds on photos that are searched together
_FACES = 8  # that go through a network together; more of them are slower on a CPU
_AHEAD = 4  # photos that are read while the networks work

_Item = TypeVar("_Item")
_Place = tuple[int, float, float]  # size, zoom and drop: recognizers that agree in them see the same crop


def embed_faces(
    table: FaceTable,
    recognizers: Sequence[Recognizer],
    *,
    detector: Detector | None = None,
    which: WhichFace = "central",
    parts: Path | None = None,
    executor: Executor | None = None,
    on_photo: Callable[[int], None] = lambda count: None,
) -> Embeddings:
    """Find the faces of photos and embed them, each as `recognizer.embed(*view_of_face(photo, landmarks))` would.

    Args:
        table: the photos; its identities and groups are carried over to their faces.
        recognizers: who embeds; those that want the same crop share it.
        detector: finds the faces; by default the pretrained one, for faces of `MINIMUM_FACE` pixels and more.
        which: which faces of a photo count.
        parts: a folder for finished parts of `PART` photos. What it already holds is not made again, and processes
            that are given one folder share the work. Without it nothing is kept.
        executor: where parts are made, such as a Ray cluster whose machines see the photos and the folder of parts;
            by default here. A part whose worker dies or fails does not stop the others.
        on_photo: called with the number of photos that are done, whenever there are more.

    Returns:
        One row a face, in the order of the table and, within a photo, largest face first.

    Raises:
        FairveilError: there are no photos or recognizers; a recognizer is named like another or like a column; the
            parts cannot be written, or are not seen here; workers died or failed; or no photo at all can be read, or in
            none a face is found.
    """
    _check(table, recognizers, which)
    if parts is None:
        with TemporaryDirectory(prefix="fairveil-") as folder:
            return embed_faces(
                table,
                recognizers,
                detector=detector,
                which=which,
                parts=Path(folder),
                executor=executor,
                on_photo=on_photo,
            )
    if which == "aligned":
        detector = None
    elif detector is None:
        detector = Detector.pretrained(minimum_face=MINIMUM_FACE)
    provenance = Provenance(
        fairveil=__version__,
        data=table.name,
        detector=detector and _fingerprint_of_detector(detector),
        which=which,
        recognizers={recognizer.name: fingerprint(recognizer) for recognizer in recognizers},
        thresholds={r.name: r.threshold.similarity for r in recognizers if r.threshold},
    )
    starts = range(0, len(table), PART)
    pieces = [table.take(range(start, min(start + PART, len(table)))) for start in starts]
    names = [f"{number:05d}-{_key(piece, provenance)}.parquet" for number, piece in enumerate(pieces)]
    work = dict(zip(names, pieces, strict=True))
    if executor is not None:
        _make_elsewhere(parts, work, (tuple(recognizers), detector), which, executor, on_photo)
    else:
        _make_parts(parts, work, recognizers, detector, which, on_photo)
    return _joined(table, [parts / name for name in names], starts, provenance)


def faces_that_count(photo: Tensor, detector: Detector | None, which: WhichFace) -> Faces:
    """The faces of one photo, uint8, (3, H, W), that `embed_faces` would embed; no detector for an aligned crop."""
    return _counted(detector.detect([photo])[0] if detector else _whole(photo), photo, which)


def fingerprint(recognizer: Recognizer) -> str:
    """A hash of all that an embedding depends on beside the photo: the file, the weights, the crop."""
    output = getattr(recognizer.network, "output", "")
    digest = hashlib.sha256(repr((recognizer.name, recognizer.sha256, recognizer.framing, output)).encode())
    _add_weights(digest, recognizer)
    return digest.hexdigest()


def _fingerprint_of_detector(detector: Detector) -> str:
    digest = hashlib.sha256(repr(detector.settings).encode())
    for net in (detector.pnet, detector.rnet, detector.onet):
        _add_weights(digest, net)
    return f"MTCNN, faces from {detector.minimum_face:g} px, {digest.hexdigest()}"


def _add_weights(digest: "hashlib._Hash", network: nn.Module) -> None:
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())


def _check(table: FaceTable, recognizers: Sequence[Recognizer], which: WhichFace) -> None:
    if which not in get_args(WhichFace):
        raise FairveilError(f"Which faces count is one of {', '.join(get_args(WhichFace))}, not {which!r}.")
    if not len(table):
        raise FairveilError(f"There are no photos in {table.name}.")
    if not recognizers:
        raise FairveilError("Without a recognizer there is nothing to embed faces with.")
    check_names(recognizers)
    for recognizer in recognizers:
        if recognizer.name in {*table.frame.columns, *FACE_SCHEMA}:
            raise FairveilError(f"A recognizer cannot be called {recognizer.name!r}, like a column of the table.")


def _key(table: FaceTable, provenance: Provenance) -> str:
    """A hash of all that a part depends on. Labels are not among it: they are joined to the finished parts."""
    archive = file_state(table.root) if table.root.is_file() else None
    images = [(image, archive or file_state(table.root / image)) for image in table.frame["image"]]
    about = [_FORMAT, images, provenance.detector, provenance.which, provenance.recognizers]
    return content_key(about, digits=24)


@dataclass(frozen=True)
class _Face:
    """A face on its way from a photo, the one of `row` in its part, to its embeddings."""

    row: int
    box: Tensor
    score: float
    landmarks: Tensor
    crops: dict[_Place, Tensor]


@torch.no_grad()
def _make_part(
    target: Path,
    *,
    table: FaceTable,
    recognizers: Sequence[Recognizer],
    detector: Detector | None,
    which: WhichFace,
    on_photo: Callable[[int], None],
) -> None:
    """Embed the faces in the photos of one part and write them to a file, with the reasons why some have none."""
    framings = {_place(recognizer.framing): recognizer.framing for recognizer in recognizers}
    unreadable: dict[int, str] = {}
    photos = _readable(table, unreadable, square=which == "aligned")
    faces: list[_Face] = []
    vectors: dict[str, list[Tensor]] = {recognizer.name: [] for recognizer in recognizers}
    for group in _grouped(_found(photos, detector, which, framings, on_photo), _FACES):
        for recognizer in recognizers:
            crops = torch.cat([face.crops[_place(recognizer.framing)] for face in group])
            vectors[recognizer.name].append(recognizer.embed_crops(crops.to(recognizer.device)).cpu())
        faces += [replace(face, crops={}) for face in group]
    frame = pl.DataFrame(
        {
            "row": [face.row for face in faces],
            "box": [face.box.tolist() for face in faces],
            "detection_score": [face.score for face in faces],
            "landmarks": [face.landmarks.flatten().tolist() for face in faces],
        },
        schema={"row": pl.UInt32, **FACE_SCHEMA},
    )
    if faces:
        frame = frame.with_columns(vector_column(name, torch.cat(some).numpy()) for name, some in vectors.items())
    write_parquet(frame, target, {_UNREADABLE: json.dumps(unreadable)})


def _make_parts(
    parts: Path,
    pieces: Mapping[str, FaceTable],
    recognizers: Sequence[Recognizer],
    detector: Detector | None,
    which: WhichFace,
    on_photo: Callable[[int], None] = lambda count: None,
) -> None:
    """Make parts in this process, beside all others that make them; all of them are there in the end."""

    def told(before: int, count: int) -> None:
        on_photo(before + count)

    total = sum(map(len, pieces.values()))
    makers = {
        name: partial(
            _make_part,
            table=piece,
            recognizers=recognizers,
            detector=detector,
            which=which,
            on_photo=partial(told, number * PART),
        )
        for number, (name, piece) in enumerate(pieces.items())
    }
    try:
        make_files(parts, makers, on_file=lambda count: on_photo(min(count * PART, total)))
    except OSError as error:
        raise FairveilError(f"{shown(parts)} cannot be written to: {error.strerror or error}.") from error


def _make_elsewhere(
    parts: Path,
    pieces: Mapping[str, FaceTable],
    tools: tuple[Sequence[Recognizer], Detector | None],
    which: WhichFace,
    executor: Executor,
    on_photo: Callable[[int], None],
) -> None:
    """Have parts made where there is room. What killed its workers is not tried here, as it might kill us too."""
    names = list(pieces)
    shared = executor.share(tools)
    calls = ((_make_one, shared, parts, name, piece, which) for name, piece in pieces.items())
    done = 0
    lost: list[str] = []
    reason = ""
    for number, future in executor.in_turn(calls):
        error = future.exception()
        if isinstance(error, FairveilError):
            raise error
        piece = pieces[names[number]]
        if error is not None:
            lost += map(shown, piece.frame["image"])
            reason = why_ended(error)
            continue
        if not is_seen(parts / names[number]):
            raise FairveilError(
                f"{shown(parts)} lacks what a worker says it put there: give all machines of the cluster this folder, "
                "under the same path."
            )
        done += len(piece)
        on_photo(done)
    if lost:
        raise FairveilError(
            f"{len(lost)} photos were not embedded, as the workers that were at them died or failed ({reason}). One of "
            f"them may be the cause: take it away, or run again to try these once more: {listed(lost)}."
        )


def _make_one(
    tools: tuple[Sequence[Recognizer], Detector | None], parts: Path, name: str, table: FaceTable, which: WhichFace
) -> None:
    _make_parts(parts, {name: table}, *tools, which)


def _place(framing: Framing) -> _Place:
    return framing.size, framing.zoom, framing.drop


def _readable(table: FaceTable, unreadable: dict[int, str], *, square: bool) -> Iterator[tuple[int, Tensor]]:
    """The photos and their rows. What cannot be read, or is not square, goes to `unreadable`, with the reason."""
    for row, photo in enumerate(_read_ahead(table)):
        if isinstance(photo, FairveilError):
            unreadable[row] = str(photo)
        elif square and photo.shape[1] != photo.shape[2]:
            size = f"{photo.shape[2]}×{photo.shape[1]}"
            unreadable[row] = f"{shown(table.frame['image'][row])} has {size} pixels, so it is no aligned square crop."
        else:
            yield row, photo


def _read_ahead(table: FaceTable) -> Iterator[Tensor | FairveilError]:
    """The photos of a table in order, or why one cannot be read; another thread reads a few ahead."""

    def read(row: int) -> Tensor | FairveilError:
        try:
            return table.photo(row)
        except FairveilError as error:
            return error

    with ThreadPoolExecutor(1) as reader:
        waiting: deque[Future[Tensor | FairveilError]] = deque()
        for row in range(len(table)):
            waiting.append(reader.submit(read, row))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _found(
    photos: Iterable[tuple[int, Tensor]],
    detector: Detector | None,
    which: WhichFace,
    framings: dict[_Place, Framing],
    on_photo: Callable[[int], None],
) -> Iterator[_Face]:
    """The faces that count, with the crops that recognizers want of them."""
    for group in _grouped(photos, _PHOTOS, weigh=lambda item: item[1][0].numel(), heaviest=_PIXELS):
        rows, pictures = zip(*group, strict=True)
        found = detector.detect(pictures) if detector else [_whole(picture) for picture in pictures]
        for row, picture, faces in zip(rows, pictures, found, strict=True):
            counted = _counted(faces, picture, which)
            for box, score, landmarks in zip(counted.boxes, counted.scores, counted.landmarks, strict=True):
                # One by one: warping faces together would sample all of them as finely as the largest.
                view = view_of_face(picture, landmarks)
                crops = {place: framing.crop(*view) for place, framing in framings.items()}
                yield _Face(row, box, float(score), landmarks, crops)
        on_photo(rows[-1] + 1)


def _whole(picture: Tensor) -> Faces:
    """The one face of an aligned square crop: five points where the template has them."""
    size = len(picture[0])
    box = torch.tensor([[-0.5, -0.5, size - 0.5, size - 0.5]])
    return Faces(box, torch.ones(1), Framing(size=size).landmarks[None])


def _counted(faces: Faces, picture: Tensor, which: WhichFace) -> Faces:
    """Those faces of a photo that count."""
    if which != "central" or len(faces) < 2:
        return faces[:1] if which == "largest" else faces
    height, width = picture.shape[1:]
    center = torch.tensor([width - 1, height - 1]) / 2
    return faces[[int((faces.landmarks.mean(1) - center).norm(dim=1).argmin())]]


def _grouped(
    items: Iterable[_Item], most: int, *, weigh: Callable[[_Item], int] = lambda item: 0, heaviest: int = 0
) -> Iterator[list[_Item]]:
    """Items in lists of up to `most`, none of which weighs more than `heaviest` unless one item does."""
    group: list[_Item] = []
    weight = 0
    for item in items:
        if group and (len(group) == most or weight + weigh(item) > heaviest):
            yield group
            group, weight = [], 0
        group.append(item)
        weight += weigh(item)
    if group:
        yield group


def _joined(table: FaceTable, files: Sequence[Path], starts: Sequence[int], provenance: Provenance) -> Embeddings:
    """The parts, the first photo of each given, as one table, with the identities and groups of the photos."""
    parts: list[pl.DataFrame] = []
    unreadable: dict[int, str] = {}
    images = table.frame["image"]
    for start, file in zip(starts, files, strict=True):
        rows = pl.read_parquet(file, glob=False).with_columns(pl.col("row") + start)
        if len(rows):
            parts.append(rows)
        reasons = json.loads(pl.read_parquet_metadata(file)[_UNREADABLE])
        unreadable |= {start + int(row): reason for row, reason in reasons.items()}
    if len(unreadable) == len(table):
        raise FairveilError(f"None of the {len(table)} photos of {table.name} can be read. {unreadable[0]}")
    if not parts:
        raise FairveilError(
            f"In none of the {len(table)} photos of {table.name} a face was found: look for smaller ones, or say that "
            "the photos are aligned crops of faces."
        )
    faces = pl.concat(parts)
    labels = [name for name in ("image", "identity", *table.groups) if name in table.frame.columns]
    frame = table.frame.select(labels)[faces["row"]].hstack(faces.drop("row"))
    with_face = {*faces["row"].unique().to_list(), *unreadable}
    return Embeddings(
        frame,
        without_face=tuple(image for row, image in enumerate(images) if row not in with_face),
        unreadable={images[row]: reason for row, reason in unreadable.items()},
        provenance=provenance,
    )
