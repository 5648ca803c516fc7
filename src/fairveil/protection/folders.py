"""Protecting many photos: where each goes, what was done before, and what is remembered of it."""

import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fairveil.base.errors import AlreadyExistsError, FairveilError, shown
from fairveil.base.files import atomic_path, move_into_place, sha256_of
from fairveil.base.keys import content_key
from fairveil.base.sharing import claimed
from fairveil.faces.by_hand import GUESSED
from fairveil.faces.detection import Detector
from fairveil.faces.recognizers import Recognizer
from fairveil.images import MAX_PIXELS, Photo, Saving, check_target, copy_photo, find_photos, read_photo, write_photo
from fairveil.images.formats import format_named, format_of_content, suffix_fits, suffix_for
from fairveil.protection.lowkey import LowKey
from fairveil.protection.protecting import FaceChoice, ProtectionRecord, protect_pixels

LEDGER = ".fairveil"
"""Name of the folder, beside protected photos, that remembers how each was made."""

_PATIENCE = 0.1  # seconds between looks at what another process is making


@dataclass(frozen=True)
class PhotoJob:
    """One photo, and where its protected version goes."""

    source: Path
    target: Path
    max_pixels: int = MAX_PIXELS


class LogEntry(BaseModel):
    """What the ledger says of one photo.

    Attributes:
        source: name of the photo.
        target: name of the protected photo.
        target_sha256: of its content.
        notes: what reading and writing had to say, in sentences.
        record: what was done to the faces.
        max_pixels: how many pixels the photo may have.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    target: str
    target_sha256: str
    notes: tuple[str, ...]
    record: ProtectionRecord


@dataclass(frozen=True)
class ProtectedFile:
    """What became of one photo.

    Attributes:
        job: which photo.
        status: "protected"; "no face", saved with its pixels as they came; or "done before".
        entry: what the ledger says of it.
        seconds: from opening the photo to having written it.
    """

    job: PhotoJob
    status: Literal["protected", "no face", "done before"]
    entry: LogEntry
    seconds: float


def goes_to_file(inputs: Sequence[Path], out: Path) -> bool:
    """Whether `out` is the name of the protected photo itself, rather than of a folder for it."""
    return len(inputs) == 1 and not _is_folder(inputs[0]) and bool(out.suffix) and not _is_folder(out)


def plan(
    inputs: Sequence[Path],
    out: Path,
    saving: Saving,
    *,
    on_skip: Callable[[Path, str], None] = lambda path, reason: None,
) -> list[PhotoJob]:
    """Decide where each photo goes, before any work is done.

    The photos of a folder keep their places below `out`, with a suffix that fits what they hold. Those that lie in an
    `out` within the folder are passed over, and those in other folders below it that fairveil made. A single photo
    goes to `out` itself if that has a suffix and is no folder.

    Args:
        inputs: photos, and folders of photos.
        out: a folder, or the name of the one protected photo.
        saving: how photos are written.
        on_skip: called with all that is passed over in a folder, but for `out`, and the reason in a few words.

    Raises:
        FairveilError: no photo is found, two would go to one file, or one onto an original.
    """
    jobs = []
    for given in inputs:
        if _is_folder(given):
            within = given.resolve() in out.resolve().parents
            for photo in find_photos(given, on_skip=_unless_ours(on_skip, out)):
                if within and out.resolve() in photo.resolve().parents:
                    continue
                if photo.parent != given and (photo.parent / LEDGER).is_dir():
                    on_skip(photo, "protected before")
                else:
                    jobs.append(_job(photo, out / photo.relative_to(given), saving))
        elif goes_to_file(inputs, out):
            jobs.append(PhotoJob(given, out))
        else:
            jobs.append(_job(given, out / given.name, saving))
    jobs = list(dict.fromkeys(jobs))
    if not jobs:
        raise FairveilError(f"There is no photo in {', '.join(map(shown, inputs))}.")
    sources = {job.source.resolve() for job in jobs}
    targets: dict[Path, Path] = {}
    for job in jobs:
        if job.target.resolve() in sources:
            raise FairveilError(
                f"{shown(job.target)} is an original and is never overwritten: choose another place with -o."
            )
        if targets.setdefault(job.target, job.source) != job.source:
            raise FairveilError(
                f"{shown(targets[job.target])} and {shown(job.source)} would both become {shown(job.target)}: "
                "protect them one by one."
            )
    return jobs


def _output_of(recognizer: Recognizer) -> tuple[str, ...]:
    """Which output of a user's file is attacked; those of the zoo have one."""
    output = getattr(recognizer.network, "output", None)
    return (output,) if recognizer.sha256 is not None and output is not None else ()


def protect_file(
    job: PhotoJob,
    settings: LowKey,
    recognizers: Sequence[Recognizer],
    detector: Detector,
    saving: Saving,
    *,
    faces: FaceChoice = "all",
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> ProtectedFile:
    """Protect one photo, or find in the ledger that this was done before, with the same settings.

    Raises:
        FairveilError: the photo cannot be read, or its protected version cannot be written.
    """
    started = time.perf_counter()
    photo = read_photo(job.source, max_pixels=job.max_pixels)
    ledger = _ledger(job, settings, recognizers, saving, faces, seed)
    if done := _done_before(ledger, job.target):
        return ProtectedFile(job, "done before", done, time.perf_counter() - started)
    with _alone_at(job.target):
        if done := _done_before(ledger, job.target):  # by the process that was waited for
            return ProtectedFile(job, "done before", done, time.perf_counter() - started)
        _check_place(photo, job, saving)  # before the work rather than after it
        work = protect_pixels(
            photo.pixels, settings, recognizers=recognizers, faces=faces, detector=detector, seed=seed, on_step=on_step
        )
        # The ledger comes before the photo: killed between the two, the next run finds no photo and makes it again,
        # where a photo that the ledger does not know would stand in its way.
        staged = ledger.with_suffix(job.target.suffix)
        try:
            with _told_of(job.target):
                changed = bool(work.record.faces)
                notes = _stage(replace(photo, pixels=work.pixels), staged, job.target, saving, changed=changed)
                entry = LogEntry(
                    source=shown(job.source.name),
                    target=shown(job.target.name),
                    target_sha256=sha256_of(staged),
                    notes=(*_misnamed(job, photo), *photo.notes, *notes, *_guessed(work.record)),
                    record=work.seen(read_photo(staged, max_pixels=job.max_pixels).pixels) if changed else work.record,
                )
                with atomic_path(ledger, overwrite=True) as temporary:
                    temporary.write_text(entry.model_dump_json(indent=1), encoding="utf-8")
                move_into_place(staged, job.target, overwrite=saving.overwrite)
        finally:
            staged.unlink(missing_ok=True)
    return ProtectedFile(job, "protected" if changed else "no face", entry, time.perf_counter() - started)


def done_before(
    job: PhotoJob,
    settings: LowKey,
    recognizers: Sequence[Recognizer],
    saving: Saving,
    *,
    faces: FaceChoice = "all",
    seed: int = 0,
) -> ProtectedFile | None:
    """What `protect_file` gives for a photo that was done before, without decoding it; None for any other."""
    started = time.perf_counter()
    try:
        if not (job.target.is_file() and job.source.is_file()):  # opening a pipe would wait for ever
            return None
        done = _done_before(_ledger(job, settings, recognizers, saving, faces, seed), job.target)
    except OSError:  # protecting it will say so
        return None
    return ProtectedFile(job, "done before", done, time.perf_counter() - started) if done else None


def entry_of(protected: Path) -> LogEntry | None:
    """What the ledger beside a protected photo says of it; None if it says nothing."""
    digest = sha256_of(protected)
    for file in sorted((protected.parent / LEDGER).glob("*.json")):
        entry = _read_entry(file)
        if entry and entry.target_sha256 == digest:
            return entry
    return None


def _ledger(
    job: PhotoJob, settings: LowKey, recognizers: Sequence[Recognizer], saving: Saving, faces: FaceChoice, seed: int
) -> Path:
    """The file that remembers a photo made so; its name depends on all that the protected photo depends on."""
    # A name alone does not tell a recognizer: a file may be replaced, and framed in another way.
    attacked = [(r.name, r.sha256, r.framing, *_output_of(r)) for r in recognizers]
    recipe = (settings, saving.model_copy(update={"overwrite": False}), attacked, faces, seed)
    key = content_key(f"{sha256_of(job.source)} {job.target.name} {recipe!r}", digits=32)
    return job.target.parent / LEDGER / f"{key}.json"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long: reading or writing it will say so
        return False


def _unless_ours(on_skip: Callable[[Path, str], None], out: Path) -> Callable[[Path, str], None]:
    """Nobody need be told that a ledger is passed over, or what lies where the photos go."""

    def skip(path: Path, reason: str) -> None:
        if path.name != LEDGER and out.resolve() not in path.absolute().parents:
            on_skip(path, reason)

    return skip


def _job(source: Path, target: Path, saving: Saving) -> PhotoJob:
    """A photo on its way into a folder: there its suffix follows the format, and the format what it really holds."""
    format = format_named(saving.format) if saving.format else format_of_content(_first_bytes(source))
    if format and not suffix_fits(target, format):
        target = target.with_suffix(suffix_for(format))
    return PhotoJob(source, target)


def _first_bytes(file: Path) -> bytes:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for ever
            return b""
        with file.open("rb") as opened:
            return opened.read(256)
    except OSError:  # reading the photo will say so
        return b""


def _misnamed(job: PhotoJob, photo: Photo) -> tuple[str, ...]:
    if suffix_fits(job.source, photo.format):
        return ()
    return (f"{shown(job.source.name)} holds a {photo.format}, whatever its name says.",)


def _guessed(record: ProtectionRecord) -> tuple[str, ...]:
    """What to say of frames in which nothing but the person saw a face."""
    frames = [face.by_hand for face in record.faces if face.by_hand and not face.landmarks_seen]
    return tuple(GUESSED.format(",".join(map(str, frame))) for frame in frames)


@contextmanager
def _alone_at(target: Path) -> Iterator[None]:
    """Wait until no other process is at work on a photo; the ledger's folder is then there."""
    # By a hash, since a lock's name is longer than the photo's, which may be as long as names can be.
    slot = target.parent / LEDGER / content_key(target.name, digits=32)
    while True:
        with ExitStack() as held:
            with _told_of(slot.parent):
                mine = held.enter_context(claimed(slot))
            if mine:
                yield
                return
        time.sleep(_PATIENCE)


def _check_place(photo: Photo, job: PhotoJob, saving: Saving) -> None:
    """Refuse to write where something is in the way, and say so if that is an earlier protected photo."""
    target = job.target
    if not saving.overwrite and target.is_file() and entry_of(target):
        raise AlreadyExistsError(
            f"{shown(target)} was protected with other settings, or from another state of {shown(job.source.name)}: "
            "replace it with `overwrite=True`, or choose another place."
        )
    check_target(photo, target, saving)


def _stage(photo: Photo, staged: Path, target: Path, saving: Saving, *, changed: bool) -> tuple[str, ...]:
    """Write a photo to where it waits for its name; what is said of it calls it by that name."""
    try:
        notes = (write_photo if changed else copy_photo)(photo, staged, saving.model_copy(update={"overwrite": True}))
    except FairveilError as error:
        raise FairveilError(str(error).replace(shown(staged), shown(target))) from error
    return tuple(note.replace(shown(staged), shown(target)) for note in notes)


def _done_before(ledger: Path, target: Path) -> LogEntry | None:
    entry = _read_entry(ledger)
    return entry if entry and target.is_file() and sha256_of(target) == entry.target_sha256 else None


def _read_entry(ledger: Path) -> LogEntry | None:
    try:
        return LogEntry.model_validate_json(ledger.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):  # absent, or of another version: the work is done again
        return None


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Turn what the file system answers into a sentence."""
    try:
        yield
    except FileExistsError:
        raise AlreadyExistsError(f"{shown(path)} already exists and is not replaced: choose another place.") from None
    except OSError as error:
        raise FairveilError(f"{shown(path)} could not be written: {error.strerror or error}.") from error
