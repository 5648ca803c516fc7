"""Protecting photos wherever there is room, such as on the machines of a Ray cluster that see the same folders."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from fairveil.errors import FairveilError
from fairveil.executors import Executor, why_ended
from fairveil.faces.detection import Detector
from fairveil.faces.recognizers import Recognizer
from fairveil.photos import Saving, shown
from fairveil.protection.folders import Job, Outcome, protect_file
from fairveil.protection.lowkey import LowKey
from fairveil.protection.protecting import FaceChoice
from fairveil.sharing import is_seen


def protect_spread(
    jobs: Sequence[Job],
    settings: LowKey,
    recognizers: Sequence[Recognizer],
    detector: Detector,
    saving: Saving,
    executor: Executor,
    *,
    faces: FaceChoice = "all",
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
    calls = ((_protect, tools, job, settings, saving, faces, seed) for job in jobs)
    for number, future in executor.in_turn(calls):
        yield jobs[number], _outcome(jobs[number], future)


def _outcome(job: Job, future: "Future[Outcome]") -> Outcome | FairveilError:
    """What became of a photo; an error that a person can mend is told as it is here."""
    error = future.exception()
    if isinstance(error, FairveilError):
        return error
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
    job: Job,
    settings: LowKey,
    saving: Saving,
    faces: FaceChoice,
    seed: int,
) -> Outcome:
    recognizers, detector = tools
    return protect_file(job, settings, recognizers, detector, saving, faces=faces, seed=seed)
