"""Protecting photos wherever there is room, such as on the machines of a Ray cluster that see the same folders."""

from collections.abc import Iterator, Sequence
from typing import Literal

from fairveil.errors import FairveilError
from fairveil.executors import Executor
from fairveil.faces.detection import Detector
from fairveil.faces.recognizers import Recognizer
from fairveil.photos import Saving, shown
from fairveil.protection.folders import Job, Outcome, protect_file
from fairveil.protection.lowkey import LowKey


def protect_spread(
    jobs: Sequence[Job],
    settings: LowKey,
    recognizers: Sequence[Recognizer],
    detector: Detector,
    saving: Saving,
    executor: Executor,
    *,
    faces: Literal["all", "largest"] = "all",
    seed: int = 0,
) -> Iterator[tuple[Job, Outcome | FairveilError]]:
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

    Yields:
        Each photo, as it is finished, with what became of it, be it an error.
    """
    tools = executor.share((tuple(recognizers), detector))
    calls = ((_attempt, tools, job, settings, saving, faces, seed) for job in jobs)
    for number, future in executor.in_turn(calls):
        if (error := future.exception()) is None:
            yield jobs[number], future.result()
        else:
            reason = str(error).strip().partition("\n")[0]
            what = f"{shown(jobs[number].source)} was not protected, as its worker died or failed: {reason}"
            yield jobs[number], FairveilError(what)


def _attempt(
    tools: tuple[Sequence[Recognizer], Detector],
    job: Job,
    settings: LowKey,
    saving: Saving,
    faces: Literal["all", "largest"],
    seed: int,
) -> Outcome | FairveilError:
    """An error that a person can mend comes back as it is; Ray would wrap it in its own."""
    recognizers, detector = tools
    try:
        return protect_file(job, settings, recognizers, detector, saving, faces=faces, seed=seed)
    except FairveilError as error:
        return FairveilError(str(error))
