"""The commands `fairveil protect` and `fairveil check`."""

import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from fairveil.base.errors import FairveilError
from fairveil.cli.cluster import ClusterOptions
from fairveil.cli.option_groups import with_option_groups
from fairveil.cli.options import AsJson, Overwrite, Report, Seed, recognizer_option
from fairveil.cli.outputs import json_beside, write_json
from fairveil.cli.recognizers import OnnxOptions, load_recognizers
from fairveil.cli.terminal import (
    as_options,
    named_path,
    print_sentence,
    progress_bar,
    results,
    say,
    stopped_by_ctrl_c,
)

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from torch import Tensor

    from fairveil.faces.by_hand import Frame, FramedFaces
    from fairveil.faces.detection import Detector
    from fairveil.faces.recognizers import Recognizer
    from fairveil.images import Saving
    from fairveil.protection.folders import LogEntry, PhotoJob, ProtectedFile
    from fairveil.protection.lowkey import LowKey
    from fairveil.protection.protecting import FaceChoice, ProtectionRecord
    from fairveil.protection.verification import Receipt, ReceiptFile


MaxMegapixels = Annotated[
    int,
    typer.Option(
        min=1,
        max=2000,
        metavar="MILLIONS",
        help="Greatest number of pixels of a photo, in millions; each million takes 20 to 60 MB of memory, and more "
        "where faces are large.",
    ),
]
Frames = Annotated[
    list[str] | None,
    typer.Option(
        "--face",
        metavar="X,Y,WIDTH,HEIGHT",
        help="Frame of a face that was missed, in pixels of the photo: 310,120,80,100 is 80 × 100 pixels, 310 from the "
        "left and 120 from the top; repeatable.",
    ),
]


class WhichFaces(StrEnum):
    """Which faces of a photo to protect."""

    all = "all"
    largest = "largest"
    none = "none"


@with_option_groups
def protect(
    *,
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO|FOLDER", parser=named_path, help="Photos, or folders of photos.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            parser=named_path,
            help="Folder for the protected photos; for one photo also a file.",
            show_default=False,
        ),
    ],
    strength: Annotated[
        str,
        typer.Option(
            help="Strength of the protection: low, medium, or high; also lowkey and small, the dissertation's own "
            "settings, which take many minutes for large photos."
        ),
    ] = "medium",
    recognizer: Annotated[list[str] | None, recognizer_option(default="the ensemble of the zoo")] = None,
    faces: Annotated[
        WhichFaces,
        typer.Option("--faces", help="Faces to protect, of those that are found; none goes with --face only."),
    ] = WhichFaces.all,
    frame: Frames = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Number of steps, by default that of the strength; fewer are faster and weaker."),
    ] = None,
    max_lpips: Annotated[
        float | None, typer.Option(min=0.0001, help="Quality budget: the LPIPS of each face stays at or below it.")
    ] = None,
    max_change: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            metavar="ΔE",
            help="Visibility budget: the mean color difference of a face and its surroundings (with lowkey and small "
            "of the whole photo) stays at or below it, before the photo is saved: a JPEG adds about 0.2 to 0.4. "
            "1 is just noticeable; medium is about 0.8, and no budget makes it more.",
        ),
    ] = None,
    apart: Annotated[
        bool,
        typer.Option(
            "--apart",
            help="Protect several photos of one person so that they also match each other less. Even so, give nobody "
            "an unprotected photo of yours.",
        ),
    ] = False,
    stop_below: Annotated[
        float | None,
        typer.Option(min=0, metavar="MARGIN", help="Stop once every recognizer is below its threshold by this margin."),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Format: JPEG, PNG, WEBP or TIFF; by default the photo's own.")
    ] = None,
    quality: Annotated[int, typer.Option(min=60, max=100, help="Quality of JPEG and WebP files.")] = 95,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Lower the quality so that no file is larger than this, such as 500kB."),
    ] = None,
    keep_metadata: Annotated[
        bool, typer.Option("--keep-metadata", help="Keep location, serial numbers and the like.")
    ] = False,
    overwrite: Overwrite = False,
    receipts: Annotated[
        bool,
        typer.Option(
            "--receipts",
            help="Also measure who still recognizes each photo, and write it as a web page beside the protected photo.",
        ),
    ] = False,
    seed: Seed = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of processes on this machine. By default one for fewer than four photos; for more, as many as "
            "there are cores and memory for.",
            show_default=False,
        ),
    ] = None,
    cluster: ClusterOptions,
    max_megapixels: MaxMegapixels = 120,
    onnx: OnnxOptions,
) -> None:
    """Change the faces in photos so that face recognition no longer matches them.

    The originals are never changed. Photos that are already protected in the same way are not protected again.

    A photo without a face keeps its pixels, but also loses location and serial numbers.

    Example: fairveil protect holiday/ portrait.jpg -o protected/ --receipts
    """
    from fairveil.base.errors import shown
    from fairveil.faces.detection import Detector
    from fairveil.images import Saving
    from fairveil.protection.folders import plan
    from fairveil.protection.lowkey import APART
    from fairveil.protection.protecting import SMALLEST_FACE

    saving = Saving(
        format=_known_format(format) if format is not None else _format_of_file(photos, out),
        quality=quality,
        max_size=_bytes(max_size) if max_size is not None else None,
        keep_metadata=keep_metadata,
        overwrite=overwrite,
    )
    choice = _choice(faces, _frames(frame))
    settings = _settings(
        strength,
        steps=steps,
        max_lpips=max_lpips,
        max_change=max_change,
        stop_below=stop_below,
        apart=APART if apart else None,
    )
    passed_over: list[tuple[Path, str]] = []
    jobs = plan(photos, out, saving, on_skip=lambda path, reason: passed_over.append((path, reason)))
    jobs = [replace(job, max_pixels=max_megapixels * 10**6) for job in jobs]
    if passed_over:
        say(_told_of_passed_over(passed_over))
    if frame and len(jobs) > 1:
        raise FairveilError(
            f"--face says where a face lies in one photo, but {len(jobs)} are to be protected: name that photo alone."
        )
    ensemble = load_recognizers(recognizer, everything=False, onnx=onnx)
    detector = Detector.pretrained(minimum_face=SMALLEST_FACE)
    failed: list[Path] = []
    without_receipt: list[Path] = []
    work = _protect_all(
        jobs, settings, ensemble, detector, saving, faces=choice, seed=seed, workers=workers, address=cluster.address
    )
    # The work is closed, else workers would finish what is under way, wherever in the loop it ends.
    kept = "Finished photos are whole; unfinished ones were not written."
    with stopped_by_ctrl_c(kept), _told_to_end_as_by_ctrl_c(), closing(work):
        for job, outcome in work:
            if isinstance(outcome, FairveilError):
                say(as_options(str(outcome)), "red")
                failed.append(job.source)
                continue
            print_sentence(_summary(outcome, ensemble, saving))
            if receipts and outcome.entry.record.faces and not _write_receipt_of(job, ensemble, detector):
                without_receipt.append(job.source)
    sentences = []
    if failed:
        names = ", ".join(map(shown, failed))
        sentences.append(f"{len(failed)} of {len(jobs)} photos could not be protected: {names}.")
    if without_receipt:
        names = ", ".join(map(shown, without_receipt))
        sentences.append(f"Protected, but without a receipt: {names}.")
    if sentences:
        raise FairveilError(" ".join(sentences))


@with_option_groups
def check(
    *,
    original: Annotated[
        Path,
        typer.Argument(
            metavar="ORIGINAL", parser=named_path, help="Photo before it was protected.", show_default=False
        ),
    ],
    protected: Annotated[
        Path,
        typer.Argument(
            metavar="PROTECTED", parser=named_path, help="Photo that `fairveil protect` made of it.", show_default=False
        ),
    ],
    probe: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTO",
            parser=named_path,
            help="Another photo of the same people, as a search would use; repeatable.",
        ),
    ] = None,
    recognizer: Annotated[list[str] | None, recognizer_option(default="all of the zoo")] = None,
    frame: Frames = None,
    report: Report = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    max_megapixels: MaxMegapixels = 120,
    onnx: OnnxOptions,
) -> None:
    """Measure who still recognizes a protected photo, and how much it changed.

    Frames of faces that were given to `fairveil protect` need not be given again.

    Example: fairveil check portrait.jpg protected/portrait.jpg --probe other.jpg --report receipt.html
    """
    from fairveil.protection.report import receipt_tables

    photos = [original, protected, *(probe or ())]
    machines = None if report is None else _check_report(report, photos, overwrite=overwrite)
    recognizers = load_recognizers(recognizer, everything=True, onnx=onnx)
    receipt = _receipt(
        report,
        original,
        protected,
        recognizers,
        probe or [],
        frames=_frames(frame),
        overwrite=overwrite,
        max_pixels=max_megapixels * 10**6,
    )
    if machines is not None:
        write_json(machines, receipt.model_dump(mode="json"), overwrite=overwrite)
    if as_json:
        typer.echo(receipt.model_dump_json(indent=1))
        return
    for part in receipt_tables(receipt):
        results.print(part)
    print_sentence(receipt.caution)
    if report is not None:
        print_sentence(f"{report}, {machines}")


def _check_report(report: Path, photos: list[Path], *, overwrite: bool) -> Path:
    """Where the JSON of a report goes; neither file may be one of the photos."""
    from fairveil.base.errors import shown

    for file in (report, report.with_suffix(".json")):
        if file.resolve() in {photo.resolve() for photo in photos}:
            raise FairveilError(f"{shown(file)} is one of the photos and is never overwritten: choose another name.")
    return json_beside(report, overwrite=overwrite)


@contextmanager
def _told_to_end_as_by_ctrl_c() -> Iterator[None]:
    """A run that a system or a supervisor ends removes what is half-written, too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _protect_all(
    jobs: "Sequence[PhotoJob]",
    settings: "LowKey",
    recognizers: "Sequence[Recognizer]",
    detector: "Detector",
    saving: "Saving",
    *,
    faces: "FaceChoice",
    seed: int,
    workers: int | None,
    address: str | None,
) -> "Generator[tuple[PhotoJob, ProtectedFile | FairveilError], None, None]":
    """Protect photos in this process, whose steps the bar shows, or in several or on a Ray cluster: it shows photos."""
    from fairveil.base.errors import shown
    from fairveil.base.executors import executor
    from fairveil.protection.folders import done_before
    from fairveil.protection.spreading import protect_spread, sensible_workers

    with progress_bar() as progress:
        task = progress.add_task("", total=len(jobs))
        left = []
        for job in jobs:
            if outcome := done_before(job, settings, recognizers, saving, faces=faces, seed=seed):
                progress.advance(task)
                yield job, outcome
            else:
                left.append(job)
        finished = len(jobs) - len(left)

        def advance(number: int, done: int, total: int) -> None:
            name = escape(shown(left[number].source.name))
            progress.update(task, description=name, completed=finished + number + done / total)

        processes = min(workers or sensible_workers([job.source for job in left], settings.canvas), max(len(left), 1))
        with executor(workers=processes, ray=address) as place:
            if not place.here:
                progress.update(task, description=f"{place.capacity} at once")
            spread = protect_spread(
                left, settings, recognizers, detector, saving, place, faces=faces, seed=seed, on_step=advance
            )
            for count, result in enumerate(spread, start=finished + 1):
                progress.update(task, completed=count)
                yield result


def _write_receipt_of(job: "PhotoJob", ensemble: list["Recognizer"], detector: "Detector") -> bool:
    """Write the page beside a protected photo, and return whether that was possible; what went wrong is told."""
    page = job.target.with_name(f"{job.target.name}.report.html")
    try:
        judges = _all_with(ensemble)
        _receipt(page, job.source, job.target, judges, [], overwrite=True, detector=detector, max_pixels=job.max_pixels)
    except FairveilError as error:
        say(as_options(str(error)), "red")
        return False
    return True


def _receipt(
    page: Path | None,
    original: Path,
    protected: Path,
    recognizers: list["Recognizer"],
    probes: list[Path],
    *,
    overwrite: bool,
    max_pixels: int,
    frames: "tuple[Frame, ...]" = (),
    detector: "Detector | None" = None,
) -> "Receipt":
    """Verify a protected photo, and write the page if one is asked for."""
    from fairveil.base.errors import shown
    from fairveil.faces.detection import Detector
    from fairveil.faces.zoo import DEFAULT_ENSEMBLE
    from fairveil.images import read_photo
    from fairveil.protection.folders import entry_of
    from fairveil.protection.report import write_receipt
    from fairveil.protection.verification import verify

    read = partial(read_photo, max_pixels=max_pixels)
    before, after = read(original).pixels, read(protected).pixels
    entry, named_probes = entry_of(protected), _told_apart(probes)
    if entry is None:
        say(f"There is no record of how {shown(protected)} was made: the default ensemble is taken for attacked.")
    detector = detector or Detector.pretrained()
    receipt = verify(
        before,
        after,
        recognizers,
        attacked=entry.record.recognizers if entry else DEFAULT_ENSEMBLE,
        probes={shown(name): read(path).pixels for name, path in named_probes.items()},
        detector=detector,
        faces=_framed(before, entry, frames, detector),
    )
    files = [_file("original", original), _file("protected", protected)]
    files += [_file("probe", path, shown(name)) for name, path in named_probes.items()]
    receipt = receipt.model_copy(update={"files": tuple(files)})
    if page is not None:
        write_receipt(page, receipt, before, after, title=shown(original.name), overwrite=overwrite)
    return receipt


def _framed(
    original: "Tensor", entry: "LogEntry | None", frames: "tuple[Frame, ...]", detector: "Detector"
) -> "FramedFaces | None":
    """The faces of the original with those in frames, given now or to `protect`; None where there are no frames."""
    from fairveil.faces.by_hand import FacesByHand
    from fairveil.protection.protecting import choose_faces

    if not frames and entry:
        frames = tuple(face.by_hand for face in entry.record.faces if face.by_hand)
    return choose_faces(original, FacesByHand(frames, "all"), detector)[1] if frames else None


def _told_apart(photos: list[Path]) -> dict[str, Path]:
    """Photos by their names, or by their whole paths where several have one name."""
    names = [photo.name for photo in photos]
    return {photo.name if names.count(photo.name) == 1 else str(photo): photo for photo in photos}


def _file(role: Literal["original", "protected", "probe"], path: Path, name: str | None = None) -> "ReceiptFile":
    from fairveil.base.errors import shown
    from fairveil.base.files import sha256_of
    from fairveil.protection.verification import ReceiptFile

    return ReceiptFile(role=role, name=name or shown(path.name), sha256=sha256_of(path))


def _told_of_passed_over(passed_over: list[tuple[Path, str]]) -> str:
    """How many files of folders are not protected, and the first five of them, each with the reason."""
    from fairveil.base.errors import shown

    named = ", ".join(f"{shown(path)} ({reason})" for path, reason in passed_over[:5])
    more = f", and {len(passed_over) - 5} more" if len(passed_over) > 5 else ""
    return f"Passed over {len(passed_over)} in the folders given: {named}{more}."


def _frames(given: list[str] | None) -> "tuple[Frame, ...]":
    """Frames as a person writes them: left, top, width and height in pixels."""
    frames = []
    for text in given or []:
        try:
            left, top, width, height = (int(number) for number in text.split(","))
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is no frame: write left, top, width and height in whole pixels, like 310,120,80,100.",
                param_hint="--face",
            ) from None
        frames.append((left, top, width, height))
    return tuple(frames)


def _choice(which: WhichFaces, frames: "tuple[Frame, ...]") -> "FaceChoice":
    """Which faces to protect; what is written of it without frames is as it was before there were any."""
    from fairveil.faces.by_hand import FacesByHand

    if frames:
        return FacesByHand(frames, which.value)
    if which is WhichFaces.none:
        raise typer.BadParameter("none goes with --face only: without it nothing is protected.", param_hint="--faces")
    return "largest" if which is WhichFaces.largest else "all"


def _known_format(name: str) -> str:
    from fairveil.images.formats import format_named

    try:
        return format_named(name)
    except FairveilError as error:
        raise typer.BadParameter(str(error), param_hint="--format") from None


def _format_of_file(photos: list[Path], out: Path) -> str | None:
    """The format that the name of the one protected photo promises, if it is a file's name."""
    from fairveil.images.formats import format_of_name
    from fairveil.protection.folders import goes_to_file

    return format_of_name(out) if goes_to_file(photos, out) else None


def _settings(strength: str, **given: float | None) -> "LowKey":
    """The settings of a strength, with those replaced that were given."""
    from pydantic import ValidationError

    from fairveil.protection.lowkey import LowKey, preset

    try:
        chosen = preset(strength)
    except FairveilError as error:
        raise typer.BadParameter(str(error), param_hint="--strength") from None
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        return LowKey.model_validate(chosen.model_dump() | changes)
    except ValidationError as error:
        wrong = error.errors()[0]
        option = f"--{wrong['loc'][0]}".replace("_", "-")
        raise typer.BadParameter(f"{wrong['input']}: {wrong['msg']}.", param_hint=option) from None


def _all_with(ensemble: list["Recognizer"]) -> list["Recognizer"]:
    """The zoo, and those of an ensemble that are not of it."""
    zoo = load_recognizers(None, everything=True)
    return [*zoo, *(r for r in ensemble if r.name not in {known.name for known in zoo})]


def _summary(outcome: "ProtectedFile", recognizers: list["Recognizer"], saving: "Saving") -> str:
    """One line that says what became of a photo."""
    from fairveil.base.errors import shown

    name = shown(outcome.job.target)
    record = outcome.entry.record
    notes = " ".join(("", *outcome.entry.notes))
    when = "done before" if outcome.status == "done before" else f"{outcome.seconds:.1f} s"
    if not record.faces:
        rest = "metadata kept" if saving.keep_metadata else "location, serial numbers and the like left out"
        return f"{name}: no face found, so nothing was protected; {rest} ({when}).{notes}"
    count = f"{len(record.faces)} face{'s' if len(record.faces) > 1 else ''}"
    matching = [
        recognizer.name
        for recognizer in recognizers
        if recognizer.threshold
        and any(face.similarity[recognizer.name][-1] >= recognizer.threshold.similarity for face in record.faces)
    ]
    unknown = [recognizer.name for recognizer in recognizers if not recognizer.threshold]
    verdict = f"still matched by {', '.join(matching)}" if matching else "no attacked recognizer still matches"
    if unknown:  # its match threshold is not known, so nothing can be said of it
        verdict = f"still matched by {', '.join(matching)}, and " if matching else ""
        verdict += f"whether {', '.join(unknown)} still matches is not known"
    return f"{name}: {count}, {_change(record)}, {verdict} ({when}).{notes}"


def _change(record: "ProtectionRecord") -> str:
    """How much the face changed that changed most."""
    changes = [face.change for face in record.faces if face.change is not None]
    if changes:
        return f"ΔE {max(changes):.2f}"
    return f"LPIPS {max(face.lpips for face in record.faces):.3f}"  # a record of an older version


def _bytes(size: str) -> int:
    """The number of bytes that "500kB", "2 MB" or "300000" stand for."""
    units = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "kib": 2**10, "mib": 2**20}
    number = size.strip().rstrip("kKmMiIbB ")
    unit = size.strip()[len(number) :].strip().lower()
    try:
        if (count := int(float(number) * units[unit])) < 1:
            raise ValueError
        return count
    except (ValueError, KeyError, OverflowError):
        raise typer.BadParameter(
            f"{size!r} is no file size; write it like 500kB or 2MB.", param_hint="--max-size"
        ) from None
