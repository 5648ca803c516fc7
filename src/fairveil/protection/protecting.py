"""From a picture to a protected picture: find the faces, attack each on its canvas, put the results back."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.threads import one_thread
from fairveil.faces.boxes import overlaps
from fairveil.faces.by_hand import SAME_FACE_OVERLAP, FacesByHand, Frame, FramedFaces, check_frames, with_frames
from fairveil.faces.canvas import Canvas, view_of_face
from fairveil.faces.detection import Detector, Faces
from fairveil.faces.recognizers import Recognizer
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, recognizers_of
from fairveil.images import as_image, read_photo
from fairveil.protection.dispersion import generator_of
from fairveil.protection.lowkey import LowKey, Trace, attack, preset
from fairveil.report.display import DisplayMixin
from fairveil.report.tables import Cell, Table, Unit
from fairveil.version import __version__

FACES_AT_ONCE = 4
"""How many faces share a batch: enough to be fast, few enough for a small machine's memory."""

SMALLEST_FACE = 40
"""Faces below this many pixels are left alone: their landmarks are too uncertain to protect, or to recognize, them."""

FaceChoice = Literal["all", "largest"] | FacesByHand
"""Which faces of a photo to protect: every face found, only the largest, or faces framed by hand."""

Picture = TypeVar("Picture", Image.Image, NDArray[np.uint8], Tensor)

PictureOrPath = Image.Image | NDArray[np.uint8] | Tensor | str | os.PathLike[str]
"""A picture in memory, or where a photo is."""


class FaceRecord(BaseModel):
    """What was done to one face.

    Attributes:
        box: x0, y0, x1, y1 in photo pixels.
        detection_score: the detector's confidence, 0 to 1.
        by_hand: left, top, width and height of the frame by which a person gave the face; None if it was found.
        landmarks_seen: whether the detector's networks see landmarks in that frame; else they were guessed from it.
        steps: how many steps were taken.
        lpips: LPIPS (AlexNet) of the face's canvas.
        change: mean ΔE of the face's canvas (see `perceptual.delta_e`); None in records of older versions.
        similarity: for each recognizer attacked, the cosine between the clean and the protected face: as it fell, look
            by look, on the canvas; and last, as the recognizer sees the face in the finished photo.
    """

    model_config = ConfigDict(frozen=True)

    box: tuple[float, float, float, float]
    detection_score: float
    # These two came later, and are written only where they are not the default: older records stay valid.
    by_hand: Frame | None = Field(None, exclude_if=lambda frame: frame is None)
    landmarks_seen: bool = Field(True, exclude_if=lambda seen: seen)
    steps: int
    lpips: float
    change: float | None = None
    similarity: dict[str, list[float]]


class ProtectionRecord(DisplayMixin, BaseModel):
    """What was done to a picture, enough to do it again.

    Attributes:
        version: of fairveil.
        settings: of the attack.
        recognizers: the names of the ensemble.
        seed: of all that was drawn: the noise, the jitter of landmarks and, with the photo, the goals of `apart`.
        faces: one record per protected face: those found, largest first, then those framed by hand.
        faces_found: how many faces the detector found in all.
        seconds: what it took, without reading and writing.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    settings: LowKey
    recognizers: tuple[str, ...]
    seed: int
    faces: tuple[FaceRecord, ...]
    faces_found: int
    seconds: float

    def _sentences(self) -> Iterator[str]:
        count = len(self.faces)
        if not count:
            yield "No face was protected, so nothing was changed."
            return
        faces = "1 face was" if count == 1 else f"{count} faces were"
        yield f"{faces} protected against {', '.join(self.recognizers)} in {self.seconds:.1f} s."

    def _tables(self) -> Iterator[Table]:
        if not self.faces:
            return
        rows = []
        for number, face in enumerate(self.faces, start=1):
            seen = [Cell.of(face.similarity[name][-1]) for name in self.recognizers]
            rows.append((f"face {number}", (Cell.of(face.change), Cell.of(face.lpips), *seen)))
        cosine: Unit = "cosine"
        yield Table(
            title="What was changed, and how alike each recognizer still finds the face",
            columns=("ΔE", "LPIPS", *self.recognizers),
            rows=tuple(rows),
            unit=("ΔE", "LPIPS", *(cosine,) * len(self.recognizers)),
            caption="ΔE: mean color difference of the face, of which 1 is just noticeable. The others are cosines "
            "between the face before and after; these recognizers were attacked, so ask others as well, with verify.",
            row_name="face",
        )

    def _rows(self) -> Iterator[dict[str, Any]]:
        for number, face in enumerate(self.faces, start=1):
            for name in self.recognizers:
                yield {
                    "face": number,
                    "recognizer": name,
                    "similarity": face.similarity[name][-1],
                    "delta_e": face.change,
                    "lpips": face.lpips,
                    "steps": face.steps,
                }


@overload
def protect(
    picture: str | os.PathLike[str],
    strength: str | LowKey = "medium",
    *,
    recognizers: Sequence[Recognizer | str] | None = None,
    faces: FaceChoice | Sequence[Frame] | Faces = "all",
    detector: Detector | None = None,
    seed: int = 0,
    on_step: Callable[[int, int], None] = ...,
) -> tuple[Image.Image, ProtectionRecord]: ...


@overload
def protect(
    picture: Picture,
    strength: str | LowKey = "medium",
    *,
    recognizers: Sequence[Recognizer | str] | None = None,
    faces: FaceChoice | Sequence[Frame] | Faces = "all",
    detector: Detector | None = None,
    seed: int = 0,
    on_step: Callable[[int, int], None] = ...,
) -> tuple[Picture, ProtectionRecord]: ...


def protect(
    picture: Any,
    strength: str | LowKey = "medium",
    *,
    recognizers: Sequence[Recognizer | str] | None = None,
    faces: FaceChoice | Sequence[Frame] | Faces = "all",
    detector: Detector | None = None,
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Any, ProtectionRecord]:
    """Change the faces of a picture so that face recognition no longer matches them (LowKey, equation 3.1).

    Args:
        picture: a Pillow image with 8 bits a channel, a uint8 array (H, W, 3), a uint8 tensor (3, H, W), or the path of
            a photo. It is not changed.
        strength: the name of a preset (see `PRESETS`), or settings of your own.
        recognizers: the ensemble to attack, themselves or their names; by default `DEFAULT_ENSEMBLE` of the zoo.
        faces: every face found, only the largest, or faces that were found before; or frames (left, top, width, height)
            in pixels around the faces to protect, for those that the detector misses. `FacesByHand` takes frames and
            faces found together.
        detector: finds the faces; by default MTCNN for faces of 40 pixels and more.
        seed: of all that is drawn; the same seed gives the same picture.
        on_step: called with (steps done, steps in all) as the work goes on.

    Returns:
        The protected picture, of the kind and size that was given, and the record of what was done. A path comes back
        as a Pillow image, upright and without metadata. A Pillow image of a mode other than RGB, L and these with
        alpha comes back as RGB or RGBA. A picture without a face comes back unchanged, with a record that has no faces.

    Raises:
        FairveilError: an unknown strength or choice of faces, a frame outside of the picture or too small, a picture of
            another kind, recognizers of one name, or one that gives no usable vectors.
        UnreadableFileError: there is no photo at the path that can be read.
    """
    picture = opened(picture)
    photo = pixels_of(picture, "protect")
    work = protect_pixels(
        photo, strength, recognizers=recognizers, faces=faces, detector=detector, seed=seed, on_step=on_step
    )
    return _like(work.pixels, picture, changed=bool(work.record.faces)), work.seen(work.pixels)


@dataclass(frozen=True, eq=False)
class Protection:
    """A photo whose faces were just protected.

    Attributes:
        original: as it was, uint8, (3, H, W).
        pixels: as it is now, of the same shape.
        faces: those protected, as they were found in the original.
        recognizers: those attacked.
        detector: what found the faces; None if they were given.
        record: what was done.
    """

    original: Tensor
    pixels: Tensor
    faces: Faces
    recognizers: Sequence[Recognizer]
    detector: Detector | None
    record: ProtectionRecord

    @one_thread()
    @torch.no_grad()
    def seen(self, finished: Tensor) -> ProtectionRecord:
        """The record, with the last similarities measured on the finished photo (3, H, W) as `verify` does it.

        What was measured on the canvas is replaced: enlarging, rounding and compressing change the face once more, and
        a recognizer finds it where it now is.
        """
        if not len(self.faces):
            return self.record
        found = self.detector.detect([finished])[0] if self.detector else self.faces
        records = []
        for record, box, points in zip(self.record.faces, self.faces.boxes, self.faces.landmarks, strict=True):
            clean = view_of_face(self.original, points)
            protected = view_of_face(finished, landmarks_now(box, points, found)[0])
            similarity = {
                r.name: [*record.similarity[r.name][:-1], float((r.embed(*clean) * r.embed(*protected)).sum())]
                for r in self.recognizers
            }
            records.append(record.model_copy(update={"similarity": similarity}))
        return self.record.model_copy(update={"faces": tuple(records)})


def landmarks_now(box: Tensor, landmarks: Tensor, found: Faces) -> tuple[Tensor, bool]:
    """Where a face lies after its photo was changed.

    A recognizer detects in what it is given, so a face has its new landmarks where it is found again, and its old ones
    where it is not.

    Args:
        box: of the face in the photo as it was, shape (4,).
        landmarks: of the face there, shape (5, 2).
        found: the faces of the photo as it is now.

    Returns:
        Landmarks (5, 2), and whether the face was found again.
    """
    if not len(found):
        return landmarks, False
    share, index = overlaps(box[None], found.boxes)[0].max(0)
    again = bool(share > SAME_FACE_OVERLAP)
    return (found.landmarks[index] if again else landmarks), again


def protect_pixels(
    photo: Tensor,
    strength: str | LowKey,
    *,
    recognizers: Sequence[Recognizer | str] | None = None,
    faces: FaceChoice | Sequence[Frame] | Faces = "all",
    detector: Detector | None = None,
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Protection:
    """What `protect` does, for a uint8 tensor (3, H, W), up to the moment the photo is finished or saved.

    Raises:
        FairveilError: as `protect`.
    """
    if not isinstance(faces, Faces | FacesByHand | str) or (isinstance(faces, str) and faces not in ("all", "largest")):
        faces = _frames_given(faces)
    if recognizers is not None:
        if not recognizers:
            raise FairveilError("There is no recognizer to attack: give one or more, or None for the default ensemble.")
        recognizers = recognizers_of(recognizers)
    settings = preset(strength) if isinstance(strength, str) else strength
    started = time.perf_counter()
    with one_thread() as cores:  # so that the same seed gives the same photo on any number of cores
        if isinstance(faces, Faces):
            found, choice = faces, FramedFaces.of(faces)
        else:
            detector = detector or Detector.pretrained(minimum_face=SMALLEST_FACE)
            found, choice = choose_faces(photo, faces, detector)
        chosen = choice.faces
        if recognizers is None:
            recognizers = recognizers_of(DEFAULT_ENSEMBLE) if len(chosen) else []
        apart = generator_of(photo, seed) if settings.apart else None
        by = partial(attack, apart=apart, cores=cores)
        pixels, records = perturb_faces(photo, chosen, recognizers, settings, seed, on_step, by=by)
    records = [
        record.model_copy(update={"by_hand": frame, "landmarks_seen": seen})
        for record, frame, seen in zip(records, choice.frames, choice.seen, strict=True)
    ]
    return Protection(
        photo,
        pixels,
        chosen,
        recognizers,
        None if isinstance(faces, Faces) else detector,
        ProtectionRecord(
            version=__version__,
            settings=settings,
            recognizers=tuple(recognizer.name for recognizer in recognizers),
            seed=seed,
            faces=tuple(records),
            faces_found=len(found),
            seconds=time.perf_counter() - started,
        ),
    )


def choose_faces(photo: Tensor, choice: FaceChoice, detector: Detector) -> tuple[Faces, FramedFaces]:
    """The faces found in a photo (3, H, W), uint8, and those of them, or framed by hand, that a choice takes.

    Raises:
        FairveilError: a frame is too small, or not at least half of it lies on the photo.
    """
    by_hand = choice if isinstance(choice, FacesByHand) else FacesByHand((), choice)
    check_frames(by_hand.frames, width=photo.shape[2], height=photo.shape[1])  # before the work rather than after it
    found = detector.detect([photo])[0]
    beside = found[: {"all": len(found), "largest": 1, "none": 0}[by_hand.beside]]
    return found, with_frames(photo, beside, by_hand.frames, detector)


def _frames_given(faces: Any) -> FacesByHand:
    """Frames as a caller writes them."""
    try:
        frames = tuple((round(x), round(y), round(width), round(height)) for x, y, width, height in faces)
    except (TypeError, ValueError, OverflowError):
        frames = ()
    if not frames:
        raise FairveilError(
            "faces is 'all', 'largest', faces found before, or frames (left, top, width, height) in pixels, "
            f"not {faces!r}."
        )
    return FacesByHand(frames)


class OnCanvas(Protocol):
    """What settings of any attack say of the canvas it works on and of how long it takes; see `LowKey`."""

    @property
    def steps(self) -> int:
        """How many steps are taken."""

    @property
    def canvas(self) -> Literal["face", "photo"]:
        """A square around each face, or the whole photo."""

    @property
    def canvas_size(self) -> int:
        """Side of the face canvas in pixels, at the most."""

    @property
    def margin(self) -> float:
        """Side of the face canvas over the side of the standard aligned crop."""


def perturb_faces(
    photo: Tensor,
    faces: Faces,
    recognizers: Sequence[Recognizer],
    settings: OnCanvas,
    seed: int,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    *,
    by: Callable[..., Trace] = attack,
) -> tuple[Tensor, list[FaceRecord]]:
    """Attack every face on its canvas and put the results together on a copy of the photo.

    Args:
        photo: uint8, (3, H, W).
        faces: those to protect.
        recognizers: the ensemble to attack.
        settings: of the attack.
        seed: of all that the attack draws.
        on_step: called with (steps done, steps in all) as the work goes on.
        by: the attack, called as `lowkey.attack` is.

    Returns:
        The photo after the attack, uint8, (3, H, W), and a record of each face.
    """
    batches = _batches(photo, faces, settings)
    total = len(batches) * settings.steps
    gray = bool((photo[0] == photo[1]).all() and (photo[0] == photo[2]).all())
    generator = torch.Generator().manual_seed(seed)

    def advance(before: int, steps: int) -> None:
        on_step(before + steps, total)

    protected = photo.clone()
    records: list[FaceRecord] = []
    for number, (canvases, members) in enumerate(batches):
        trace = by(
            torch.stack([canvas.cut(photo) for canvas in canvases]),
            torch.stack([canvas.to_canvas(points) for canvas, points in _pairs(canvases, members.landmarks)]),
            recognizers,
            settings,
            window=torch.stack([canvas.window(photo) for canvas in canvases]).to(photo.device),
            gray=gray,
            generator=generator,
            on_step=partial(advance, number * settings.steps),
        )
        for canvas, perturbation in zip(canvases, trace.perturbation, strict=True):
            canvas.paste(protected, perturbation)
        records += _records(members, trace)
        advance(number * settings.steps, settings.steps)
    return protected, records


def _batches(photo: Tensor, faces: Faces, settings: OnCanvas) -> list[tuple[list[Canvas], Faces]]:
    """Canvases and the faces they show, in batches that share a canvas size."""
    if not len(faces):
        return []
    if settings.canvas == "photo":
        return [([Canvas.of_whole_photo(photo)], faces)]
    canvases = [
        Canvas.around_face(points, margin=settings.margin, largest=settings.canvas_size) for points in faces.landmarks
    ]
    batches = []
    # Faces come largest first, so those of one size stand together.
    for _, run in groupby(range(len(faces)), key=lambda index: canvases[index].size):
        members = list(run)
        for start in range(0, len(members), FACES_AT_ONCE):
            chosen = members[start : start + FACES_AT_ONCE]
            batches.append(([canvases[index] for index in chosen], faces[chosen]))
    return batches


def _pairs(canvases: list[Canvas], landmarks: Tensor) -> list[tuple[Canvas, Tensor]]:
    """Each face's landmarks beside the canvas that shows it; one canvas may show them all."""
    return list(zip(canvases * len(landmarks) if len(canvases) == 1 else canvases, landmarks, strict=True))


def _records(faces: Faces, trace: Trace) -> list[FaceRecord]:
    return [
        FaceRecord(
            box=tuple(box),
            detection_score=score,
            steps=int(trace.steps[index]),
            lpips=float(trace.lpips[index]),
            change=float(trace.change[index]),
            similarity={name: [float(look[index]) for look in looks] for name, looks in trace.similarity.items()},
        )
        for index, (box, score) in enumerate(zip(faces.boxes.tolist(), faces.scores.tolist(), strict=True))
    ]


def opened(picture: Any) -> Any:
    """A picture in memory as it is; of a path the photo there, as a Pillow image, upright.

    Raises:
        UnreadableFileError: there is no photo that can be read.
    """
    if not isinstance(picture, str | os.PathLike):
        return picture
    photo = read_photo(Path(picture))
    image = as_image(photo.pixels)
    if photo.gray:
        image = image.convert("L")
    if photo.alpha is not None:
        image.putalpha(Image.fromarray(photo.alpha[0].numpy()))
    return image


def pixels_of(picture: Any, function: str) -> Tensor:
    """A picture as a uint8 tensor (3, H, W).

    Args:
        picture: a Pillow image with 8 bits a channel, a uint8 array (H, W, 3), or a uint8 tensor (3, H, W).
        function: what was called with it, for complaints.

    Raises:
        FairveilError: it is none of these.
    """
    if isinstance(picture, Image.Image) and picture.mode[0] not in "IF":  # their 16 and 32 bits would be clipped
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return torch.from_numpy(picture.copy()).permute(2, 0, 1)  # torch takes no reversed and no read-only arrays
    if isinstance(picture, Tensor) and picture.dtype == torch.uint8 and picture.dim() == 3 and len(picture) == 3:
        return picture
    raise FairveilError(
        f"{function}() takes a Pillow image with 8 bits a channel, a uint8 array of shape (height, width, 3), a uint8 "
        f"tensor of shape (3, height, width), or the path of a photo, not {_describe(picture)}."
    )


def _describe(picture: Any) -> str:
    if isinstance(picture, Image.Image):
        return f"a Pillow image of mode {picture.mode}"
    shape = getattr(picture, "shape", None)
    return type(picture).__name__ if shape is None else f"{picture.dtype} of shape {tuple(shape)}"


def _like(photo: Tensor, picture: Any, *, changed: bool) -> Any:
    """A uint8 tensor (3, H, W) as the kind of picture that was given."""
    if isinstance(picture, np.ndarray):
        return photo.movedim(0, -1).contiguous().numpy()
    if isinstance(picture, Image.Image):
        if not changed:
            return picture.copy()
        image = as_image(photo)
        if picture.has_transparency_data:
            image.putalpha(picture.convert("RGBA").getchannel("A"))
        return image.convert("LA" if "A" in image.getbands() else "L") if picture.mode in ("L", "LA") else image
    return photo
