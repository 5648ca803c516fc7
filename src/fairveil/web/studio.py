"""Where the work is done: faces found, veiled and measured, for one page after the other."""

import logging
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Self

import torch

from fairveil.base.errors import FairveilError
from fairveil.faces.by_hand import GUESSED, Frame, check_frames, with_frames
from fairveil.faces.detection import Detector
from fairveil.faces.recognizers import Recognizer
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, load_recognizer
from fairveil.images import Photo, copy_photo, read_photo, suffix_for, write_photo
from fairveil.images.decoding import decode_photo
from fairveil.images.formats import Format, suffix_fits
from fairveil.protection.lowkey import PRESETS, LowKey
from fairveil.protection.perceptual import LPIPS
from fairveil.protection.protecting import SMALLEST_FACE, protect_pixels
from fairveil.protection.report import write_receipt
from fairveil.protection.verification import FaceReceipt, verify
from fairveil.web.fair_queue import FairQueue, Job
from fairveil.web.limits import Limits
from fairveil.web.pictures import picture_of, picture_of_face
from fairveil.web.tabs import Tab
from fairveil.web.uploaded import Result, Stage, UploadedPhoto

STRENGTHS = {name: PRESETS[name] for name in ("low", "medium", "high")}
"""The strengths the page offers: those whose time does not grow with the photo."""

# Share of a photo's time, measured as 0.88 for small faces and 0.74 for large ones; the rest goes into the receipt.
_ATTACK_SHARE = 0.8
_WITHOUT_FACE = 0.05  # how much work a photo without a face to veil is, against one face


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The person, or the closing of the page, ended the work on a photo."""


@dataclass(frozen=True)
class Tools:
    """What finds, attacks and judges.

    Attributes:
        detector: finds the faces.
        ensemble: the recognizers that are attacked.
        judges: those that are asked whether they still recognize a face.
        strengths: settings of the attack by the names that the page offers.
    """

    detector: Detector
    ensemble: Sequence[Recognizer]
    judges: Sequence[Recognizer]
    strengths: Mapping[str, LowKey]

    @classmethod
    def pretrained(cls) -> Self:
        """What `fairveil protect --receipts` uses too; weights are fetched on first use.

        Raises:
            FairveilError: the weights cannot be had.
        """
        for backbone in ("alexnet", "vgg16"):  # now, so that nothing is fetched once photos are here
            LPIPS.pretrained(backbone)
        return cls(
            Detector.pretrained(minimum_face=SMALLEST_FACE),
            [load_recognizer(name) for name in DEFAULT_ENSEMBLE],
            [load_recognizer(name) for name in ZOO],
            STRENGTHS,
        )


class Studio:
    """One thread looks for faces, which is quick and should wait for nobody's veil; others veil and measure.

    Args:
        tools: to work with.
        limits: on what is worked on.
        workers: how many photos are veiled at once. They share the networks of this process.
    """

    def __init__(self, tools: Tools, limits: Limits, workers: int = 1) -> None:
        self.tools, self._limits = tools, limits
        # A thread takes over how many threads networks have when it first asks, which must not be while another one
        # has set it to one.
        self._looking = FairQueue("fairveil-looking", prepare=torch.get_num_threads)
        self._veiling = FairQueue("fairveil-veiling", workers, prepare=torch.get_num_threads)

    def look(self, tab: Tab, photo: UploadedPhoto) -> None:
        """Find the faces of a photo that has arrived, when its turn comes."""
        with tab.changing():
            photo.stage = Stage.looking
        self._looking.put(tab.id, self._attempt(tab, photo, self._look))

    def veil(
        self,
        tab: Tab,
        choice: Mapping[str, Sequence[int]],
        strength: str,
        frames: Mapping[str, Sequence[Frame]] = MappingProxyType({}),
    ) -> None:
        """Veil the faces chosen in each photo, when its turn comes; a photo without any loses its metadata only.

        Args:
            tab: whose photos they are.
            choice: which faces of which photos, by the photos' ids.
            strength: by name.
            frames: around more faces of these photos, which the person framed by hand.

        Raises:
            FairveilError: there is no such photo, face or strength, a frame is too small or outside of its photo, a
                photo is not ready, or others are being veiled.
        """
        if strength not in self.tools.strengths:
            raise FairveilError(f"There is no strength {strength!r}: choose one of {', '.join(self.tools.strengths)}.")
        with tab.changing():
            if tab.working():
                raise FairveilError("Photos of this page are being veiled already: wait until they are done, or stop.")
            photos = [tab.photos.get(id) for id in choice]
            if not frames.keys() <= choice.keys():
                raise FairveilError("A face was framed in a photo that is not to be veiled: reload the page.")
            for photo, chosen in zip(photos, choice.values(), strict=True):
                if photo is None or photo.stage not in (Stage.ready, Stage.done) or photo.faces is None:
                    raise FairveilError("One of these photos is not ready: wait until its faces were found.")
                if not all(0 <= face < len(photo.faces) for face in chosen):
                    raise FairveilError(f"{photo.name} has no such face: reload the page.")
                assert photo.size is not None  # since its faces were found
                check_frames(frames.get(photo.id, ()), width=photo.size[0], height=photo.size[1])
            tab.run_began = None
            for photo in tab.photos.values():  # those of earlier runs do not count into the time left
                photo.weight = 0.0
            for photo, chosen in zip(filter(None, photos), choice.values(), strict=True):
                # Its own event: one that an earlier attempt still looks at must stay set.
                photo.stage, photo.progress, photo.problem, photo.stop = Stage.waiting, 0.0, None, Event()
                drawn = tuple(frames.get(photo.id, ()))
                photo.weight = len(chosen) + len(drawn) or _WITHOUT_FACE
                work = partial(self._veil, chosen=tuple(sorted(set(chosen))), frames=drawn, strength=strength)
                self._veiling.put(tab.id, self._attempt(tab, photo, work))

    def close(self) -> None:
        """End the work for everybody."""
        for queue in (self._looking, self._veiling):
            queue.close()

    def _attempt(self, tab: Tab, photo: UploadedPhoto, work: Callable[[Tab, UploadedPhoto, Event], None]) -> Job:
        """A piece of work for a thread to do; what goes wrong is told beside the photo."""
        stop = photo.stop  # of this attempt: the next one gets another

        def job() -> None:
            problem = None
            try:
                if not stop.is_set():
                    work(tab, photo, stop)
                    photo.weigh()
            except Stopped:
                pass
            except FairveilError as error:
                problem = re.sub(rf"{re.escape(str(photo.folder))}[\w./\\]*", lambda _: photo.name, str(error))
            except Exception as error:
                if isinstance(error, MemoryError) or "allocate memory" in str(error):  # torch's is a RuntimeError
                    problem = f"{photo.name} needs more memory than there is: make it smaller first."
                else:
                    if not stop.is_set():  # else its files went while it was worked on
                        logging.getLogger(__name__).exception("A photo could not be worked on.")
                    problem = f"{photo.name} could not be worked on, by a fault of fairveil: its terminal says more."
            tab.sweep(photo)
            with tab.changing():
                if problem and not stop.is_set():
                    photo.problem = problem
                    photo.stage = Stage.refused if photo.faces is None else Stage.done if photo.result else Stage.ready

        return job

    def _read(self, photo: UploadedPhoto) -> Photo:
        decoded = decode_photo(photo.original.read_bytes(), photo.name, max_pixels=self._limits.photo_pixels)
        return replace(decoded, source=photo.original)

    def _look(self, tab: Tab, photo: UploadedPhoto, stop: Event) -> None:
        read = self._read(photo)
        faces = self.tools.detector.detect([read.pixels])[0]
        (photo.folder / "before.jpg").write_bytes(picture_of(read))
        for number, box in enumerate(faces.boxes):
            (photo.folder / f"before-{number}.jpg").write_bytes(picture_of_face(read, box))
        with tab.changing():
            if stop.is_set():
                raise Stopped
            photo.size = (read.pixels.shape[2], read.pixels.shape[1])
            photo.faces, photo.stage = faces, Stage.ready

    def _veil(
        self,
        tab: Tab,
        photo: UploadedPhoto,
        stop: Event,
        *,
        chosen: tuple[int, ...],
        frames: tuple[Frame, ...],
        strength: str,
    ) -> None:
        def move(stage: Stage, progress: float) -> None:
            with tab.changing():
                if stop.is_set():
                    raise Stopped
                tab.run_began = tab.run_began or time.monotonic()
                photo.stage, photo.progress = stage, progress

        move(Stage.veiling, 0.0)
        number = 1 + max((int(run.name[3:]) for run in photo.folder.glob("run*")), default=0)
        folder = photo.folder / f"run{number}"
        folder.mkdir()
        try:
            result = self._result(photo, chosen, frames, strength, folder, move)
            with tab.changing():
                move(Stage.done, 1.0)
                earlier, photo.result = photo.result, result
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if earlier:
            shutil.rmtree(earlier.folder, ignore_errors=True)

    def _result(
        self,
        photo: UploadedPhoto,
        chosen: tuple[int, ...],
        frames: tuple[Frame, ...],
        strength: str,
        folder: Path,
        move: Callable[[Stage, float], None],
    ) -> Result:
        """Veil, save, and measure on what was saved."""
        assert photo.faces is not None  # or it would not be here
        read = self._read(photo)
        framed = with_frames(read.pixels, photo.faces[list(chosen)], frames, self.tools.detector)
        faces, found = framed.faces, len(photo.faces)
        chosen += tuple(found + frames.index(frame) for frame in framed.frames if frame)
        file = folder / f"protected{suffix_for(read.format)}"
        if chosen:
            work = protect_pixels(
                read.pixels,
                self.tools.strengths[strength],
                recognizers=self.tools.ensemble,
                faces=faces,
                on_step=lambda done, total: move(Stage.veiling, _ATTACK_SHARE * done / total),
            )
            notes = write_photo(replace(read, pixels=work.pixels), file)
        else:
            notes = copy_photo(read, file)
        finished = read_photo(file)
        (folder / "after.jpg").write_bytes(picture_of(finished))
        for face, box in zip(chosen, faces.boxes, strict=True):
            (folder / f"after-{face}.jpg").write_bytes(picture_of_face(finished, box))
            if face >= found:
                (folder / f"before-{face}.jpg").write_bytes(picture_of_face(read, box))
        receipts: tuple[FaceReceipt, ...] = ()
        remarks: tuple[str, ...] = ()
        if chosen:
            move(Stage.measuring, _ATTACK_SHARE)
            receipt = verify(
                read.pixels,
                finished.pixels,
                self.tools.judges,
                attacked=[recognizer.name for recognizer in self.tools.ensemble],
                detector=self.tools.detector,
                faces=framed,
                on_look=lambda done, total: move(Stage.measuring, _ATTACK_SHARE + (1 - _ATTACK_SHARE) * done / total),
            )
            write_receipt(folder / "receipt.html", receipt, read.pixels, finished.pixels, title=photo.name)
            receipts, remarks = receipt.faces, receipt.remarks
        return Result(
            folder=folder,
            file=file,
            name=protected_name(photo.name, read.format),
            strength=strength,
            chosen=chosen,
            frames=frames,
            notes=(
                *(note.replace(str(file), photo.name) for note in (*read.notes, *notes)),
                *(
                    GUESSED.format(f"of face {face + 1}")
                    for face, seen in zip(chosen, framed.seen, strict=True)
                    if not seen
                ),
            ),
            receipts=receipts,
            remarks=remarks,
        )


def protected_name(name: str, format: Format) -> str:
    """What a protected photo is called when it is downloaded: not like the original, which may lie beside it.

    >>> protected_name("holiday.JPG", "JPEG"), protected_name("holiday.png", "JPEG")
    ('holiday-protected.JPG', 'holiday-protected.jpg')
    """
    path = Path(name)
    return f"{path.stem}-protected{path.suffix if suffix_fits(path, format) else suffix_for(format)}"
