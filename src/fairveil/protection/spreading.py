"""Protecting photos wherever there is room: here, in several processes, or on the machines of a Ray cluster."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

from PIL import Image

from fairveil.base.errors import FairveilError, shown
from fairveil.base.executors import Executor, free_memory, usable_cores, why_ended
from fairveil.base.sharing import is_seen
from fairveil.faces.detection import Detector
from fairveil.faces.recognizers import Recognizer
from fairveil.images import Saving
from fairveil.protection.folders import PhotoJob, ProtectedFile, protect_file
from fairveil.protection.lowkey import LowKey
from fairveil.protection.protecting import FaceChoice

FEWEST = 4
"""From how many photos on several processes pay: each takes seconds to import torch and to read the models."""

# Measured as 605, 849 and 1,420 MB at the peak for photos of 0.3, 12 and 48 million pixels with small faces, and about
# 3 GB for a face that fills 50 million; with the whole photo as the canvas, 954, 1,816 and 2,393 MB for 0.3, 1.9, 4.3.
_MEMORY = 700_000_000
_MEMORY_OF_PIXEL = {"face": 50, "photo": 500}
_USUAL_PIXELS = 12_000_000  # of a photo whose header does not tell


def protect_spread(
    jobs: Sequence[PhotoJob],
    settings: LowKey,
    recognizers: Sequence[Recognizer],
    detector: Detector,
    saving: Saving,
    executor: Executor,
    *,
    faces: FaceChoice = "all",
    seed: int = 0,
    on_step: Callable[[int, int, int], None] = lambda number, done, total: None,
) -> Iterator[tuple[PhotoJob, ProtectedFile | FairveilError]]:
    """Protect photos as `protect_file` does, each somewhere.

    Where a worker is killed, another finds in the ledger what is done and makes the rest.

    Args:
        jobs: photos, in folders that all workers see.
        settings: of the attack.
        recognizers: the ensemble.
        detector: that finds the faces.
        saving: how photos are written.
        executor: where to work.
        faces: which faces of a photo.
        seed: of the starting noise.
        on_step: called with a photo's number, steps done and steps in all, where the work is done in this process.

    Yields:
        Each photo, as it is finished, with what became of it, be it an error.
    """
    tools = executor.share((tuple(recognizers), detector))
    calls = (
        (_protect, tools, job, settings, saving, faces, seed, partial(on_step, number) if executor.here else None)
        for number, job in enumerate(jobs)
    )
    for number, future in executor.in_turn(calls):
        yield jobs[number], _outcome(jobs[number], future, here=executor.here)


def sensible_workers(photos: Sequence[Path], canvas: Literal["face", "photo"]) -> int:
    """How many processes to protect photos with: one for each core, as far as there is memory for the largest photos.

    Few photos are done sooner in one process.

    Args:
        photos: those to be done.
        canvas: of the attack; the whole photo takes more memory than a face.
    """
    if len(photos) < FEWEST:
        return 1
    return workers_for(max(map(_pixels, photos)), canvas, most=len(photos))


def workers_for(pixels: int, canvas: Literal["face", "photo"], *, most: int) -> int:
    """As many as there are cores, up to `most`, and as there is memory for photos of so many pixels; one at the least.

    >>> workers_for(10**15, "face", most=8)
    1
    """
    in_memory = free_memory() // (_MEMORY + pixels * _MEMORY_OF_PIXEL[canvas])
    return max(1, min(usable_cores(), in_memory, most))


def _pixels(photo: Path) -> int:
    """How many a photo has, by its header; WebP and HEIC photos are opened by decoding them, so they are not opened."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")  # of sizes that are judged where photos are read
        if not photo.is_file():  # opening a pipe would wait for ever
            return _USUAL_PIXELS
        try:
            with Image.open(photo, formats=["JPEG", "PNG", "TIFF"]) as opened:
                return opened.width * opened.height
        except Image.DecompressionBombError:
            return 2 * (Image.MAX_IMAGE_PIXELS or _USUAL_PIXELS)  # as many at the least
    return _USUAL_PIXELS


def _outcome(job: PhotoJob, future: "Future[ProtectedFile]", *, here: bool) -> ProtectedFile | FairveilError:
    """What became of a photo; an error that a person can mend is told as it is here."""
    error = future.exception()
    if isinstance(error, FairveilError):
        return error
    if error is not None and here:
        raise error
    if error is not None:
        return FairveilError(
            f"{shown(job.source)} was not protected, as its worker died or failed ({why_ended(error)})."
        )
    if not is_seen(job.target):
        return FairveilError(
            f"{shown(job.target)} was made by a worker and is not seen here: give all machines of the cluster this "
            "folder, under the same path."
        )
    return future.result()


def _protect(
    tools: tuple[Sequence[Recognizer], Detector],
    job: PhotoJob,
    settings: LowKey,
    saving: Saving,
    faces: FaceChoice,
    seed: int,
    on_step: Callable[[int, int], None] | None,
) -> ProtectedFile:
    recognizers, detector = tools
    told = on_step or (lambda done, total: None)
    return protect_file(job, settings, recognizers, detector, saving, faces=faces, seed=seed, on_step=told)
