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
from rich.text import Text

from fairveil.base.errors import FairveilError
from fairveil.cli.cluster import OnRay, RayAddress, cluster_address
from fairveil.cli.recognizers import Channels, Mean, OnnxOptions, Output, Scale, Size, load_recognizers
from fairveil.cli.terminal import as_options, named_path, progress_bar, results, talk

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from torch import Tensor

    from fairveil.faces.by_hand import Frame, FramedFaces
    from fairveil.faces.detection import Detector
    from fairveil.faces.recognizers import Recognizer
    from fairveil.images import Saving
    from fairveil.protection.folders import Entry, Job, Outcome
    from fairveil.protection.lowkey import LowKey
    from fairveil.protection.protecting import FaceChoice, ProtectionRecord
    from fairveil.protection.verification import Receipt, ReceiptFile


_FRAME = "X,Y,WIDTH,HEIGHT"

MaxMegapixels = Annotated[
    int,
    typer.Option(
        min=1,
        max=2000,
        metavar="MILLIONS",
        help="Pixels a photo may have, in millions; each takes 20 to 60 MB of memory, more where faces are large.",
    ),
]


class WhichFaces(StrEnum):
    """Which faces of a photo to protect."""

    all = "all"
    largest = "largest"
    none = "none"


def protect(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO|FOLDER...", parser=named_path, help="Photos, or folders of photos.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PATH", parser=named_path, help="A folder; a file for one photo.")
    ],
    strength: Annotated[
        str,
        typer.Option(
            help="low, medium, high; lowkey and small are the dissertation's own: large photos take many minutes."
        ),
    ] = "medium",
    recognizer: Annotated[
        list[str] | None, typer.Option(help="Attack this one: a name of the zoo or an ONNX file; repeatable.")
    ] = None,
    faces: Annotated[
        WhichFaces, typer.Option(help="Which of the faces that are found to protect; none goes with --face only.")
    ] = WhichFaces.all,
    face: Annotated[
        list[str] | None,
        typer.Option(metavar=_FRAME, help="Protect the face in this frame too, where it was missed; repeatable."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer is faster and weaker.")] = None,
    max_lpips: Annotated[
        float | None, typer.Option(min=0.0001, help="Quality budget: LPIPS stays at or below it.")
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
            help="Protect several photos of one person so that they also match each other less. Give a clean photo of "
            "yours to nobody all the same."
        ),
    ] = False,
    stop_below: Annotated[
        float | None,
        typer.Option(min=0, metavar="MARGIN", help="Stop once every recogniser is below its threshold by this much."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="JPEG, PNG, WEBP or TIFF; the photo's own by default.")] = None,
    quality: Annotated[int, typer.Option(min=60, max=100, help="Of JPEG and WebP files.")] = 95,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Lower the quality so that no file is larger, e.g. 500kB.")
    ] = None,
    keep_metadata: Annotated[bool, typer.Option(help="Keep location, serial numbers and the like.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace protected photos that are there already.")] = False,
    report: Annotated[bool, typer.Option(help="Also measure who still recognises each photo, as a web page.")] = False,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**63 - 1, help="Of all that is drawn: the same seed gives the same photo."),
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes on this machine. By default one for fewer than four photos, and for more as many as it has "
            "cores and memory for.",
            show_default=False,
        ),
    ] = None,
    ray: OnRay = False,
    ray_address: RayAddress = None,
    max_megapixels: MaxMegapixels = 120,
    mean: Mean = None,
    scale: Scale = None,
    channels: Channels = None,
    size: Size = None,
    output: Output = None,
) -> None:
    """Change the faces in photos so that face recognition no longer matches them.

    The originals are never touched. What was done before is not done again.

    A photo without a face keeps its pixels, but loses location and serial numbers too.

    --face 310,120,80,100 says that a face lies in a frame of 80 × 100 pixels, 310 from the left and 120 from the top.

    Example: fairveil protect holiday/ portrait.jpg -o protected/ --report
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
    choice = _choice(faces, _frames(face))
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
        talk.print(Text(_told_of_passed_over(passed_over)), soft_wrap=True)
    if face and len(jobs) > 1:
        raise FairveilError(
            f"--face says where a face lies in one photo, but {len(jobs)} are to be protected: name that photo alone."
        )
    onnx = OnnxOptions(mean, scale, channels, size, output)
    ensemble = load_recognizers(recognizer, everything=False, onnx=onnx)
    detector = Detector.pretrained(minimum_face=SMALLEST_FACE)
    failed: list[Path] = []
    without_report: list[Path] = []
    address = cluster_address(ray, ray_address)
    work = _protect_all(
        jobs, settings, ensemble, detector, saving, faces=choice, seed=seed, workers=workers, address=address
    )
    try:
        # Closed, else workers would finish what is under way, wherever in the loop it ends.
        with _told_to_end_as_by_ctrl_c(), closing(work):
            for job, outcome in work:
                if isinstance(outcome, FairveilError):
                    talk.print(Text(as_options(str(outcome)), "red"), soft_wrap=True)
                    failed.append(job.source)
                    continue
                results.print(Text(_summary(outcome, ensemble, saving)), soft_wrap=True)
                if report and outcome.entry.record.faces and not _write_report_of(job, ensemble, detector):
                    without_report.append(job.source)
    except KeyboardInterrupt:
        talk.print("Stopped. Finished photos are whole; what was under way was not written.")
        raise typer.Exit(130) from None
    sentences = []
    if failed:
        names = ", ".join(map(shown, failed))
        sentences.append(f"{len(failed)} of {len(jobs)} photos could not be protected: {names}.")
    if without_report:
        names = ", ".join(map(shown, without_report))
        sentences.append(f"Protected, but without a report: {names}.")
    if sentences:
        raise FairveilError(" ".join(sentences))


def check(
    original: Annotated[Path, typer.Argument(parser=named_path, help="The photo as it was.")],
    protected: Annotated[Path, typer.Argument(parser=named_path, help="The photo as `protect` made it.")],
    probe: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTO",
            parser=named_path,
            help="Another photo of the same people, as a search would use; repeatable.",
        ),
    ] = None,
    recognizer: Annotated[
        list[str] | None, typer.Option(help="Ask only this one: a name of the zoo or an ONNX file; repeatable.")
    ] = None,
    face: Annotated[
        list[str] | None,
        typer.Option(
            metavar=_FRAME,
            help="Measure the face in this frame of the original too; repeatable. By default the frames that `protect` "
            "was given.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=named_path, help="Write the receipt as one HTML page.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a report that is there already.")] = False,
    max_megapixels: MaxMegapixels = 120,
    mean: Mean = None,
    scale: Scale = None,
    channels: Channels = None,
    size: Size = None,
    output: Output = None,
) -> None:
    """Measure who still recognises a protected photo, and how much it changed.

    Example: fairveil check portrait.jpg protected/portrait.jpg --probe other.jpg --report receipt.html
    """
    from fairveil.protection.report import receipt_tables

    onnx = OnnxOptions(mean, scale, channels, size, output)
    recognizers = load_recognizers(recognizer, everything=True, onnx=onnx)
    receipt = _report(
        report,
        original,
        protected,
        recognizers,
        probe or [],
        frames=_frames(face),
        overwrite=overwrite,
        max_pixels=max_megapixels * 10**6,
    )
    if as_json:
        typer.echo(receipt.model_dump_json(indent=1))
        return
    for part in receipt_tables(receipt):
        results.print(part)
    results.print(receipt.caution, soft_wrap=True)


@contextmanager
def _told_to_end_as_by_ctrl_c() -> Iterator[None]:
    """A run that a system or a supervisor ends removes what is half-written, too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _protect_all(
    jobs: "Sequence[Job]",
    settings: "LowKey",
    recognizers: "Sequence[Recognizer]",
    detector: "Detector",
    saving: "Saving",
    *,
    faces: "FaceChoice",
    seed: int,
    workers: int | None,
    address: str | None,
) -> "Generator[tuple[Job, Outcome | FairveilError], None, None]":
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


def _write_report_of(job: "Job", ensemble: list["Recognizer"], detector: "Detector") -> bool:
    """Write the page beside a protected photo, and give whether that could be done; what went wrong is told."""
    page = job.target.with_name(f"{job.target.name}.report.html")
    try:
        judges = _all_with(ensemble)
        _report(page, job.source, job.target, judges, [], overwrite=True, detector=detector, max_pixels=job.max_pixels)
    except FairveilError as error:
        talk.print(Text(as_options(str(error)), "red"), soft_wrap=True)
        return False
    return True


def _report(
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
    from fairveil.base.files import replaceable
    from fairveil.faces.detection import Detector
    from fairveil.faces.zoo import DEFAULT_ENSEMBLE
    from fairveil.images import read_photo
    from fairveil.protection.folders import entry_of
    from fairveil.protection.report import write_receipt
    from fairveil.protection.verification import verify

    if page is not None and page.resolve() in {photo.resolve() for photo in (original, protected, *probes)}:
        raise FairveilError(f"{shown(page)} is one of the photos and is never overwritten: choose another name.")
    if page is not None and not replaceable(page):  # before the work rather than after it
        raise FairveilError(f"{shown(page)} is not an ordinary file and is never replaced: choose another name.")
    read = partial(read_photo, max_pixels=max_pixels)
    before, after = read(original).pixels, read(protected).pixels
    entry, named_probes = entry_of(protected), _told_apart(probes)
    if entry is None:
        talk.print(
            Text(f"Nothing is noted of how {shown(protected)} was made: taken as the default ensemble."), soft_wrap=True
        )
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
    original: "Tensor", entry: "Entry | None", frames: "tuple[Frame, ...]", detector: "Detector"
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


def _choice(faces: WhichFaces, frames: "tuple[Frame, ...]") -> "FaceChoice":
    """Which faces to protect; what is written of it without frames is as it was before there were any."""
    from fairveil.faces.by_hand import FacesByHand

    if frames:
        return FacesByHand(frames, faces.value)
    if faces is WhichFaces.none:
        raise typer.BadParameter("none goes with --face only: without it nothing is protected.", param_hint="--faces")
    return "largest" if faces is WhichFaces.largest else "all"


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


def _summary(outcome: "Outcome", recognizers: list["Recognizer"], saving: "Saving") -> str:
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
    verdict = f"still matched by {', '.join(matching)}" if matching else "no recogniser attacked still matches"
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
