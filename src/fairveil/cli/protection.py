"""The commands `fairveil protect` and `fairveil check`."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from fairveil.cli.terminal import progress_bar, results, talk
from fairveil.errors import FairveilError

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.faces.recognizers import Recognizer
    from fairveil.protection.folders import Outcome
    from fairveil.protection.lowkey import LowKey
    from fairveil.protection.verification import Receipt


class WhichFaces(StrEnum):
    """Which faces of a photo to protect."""

    all = "all"
    largest = "largest"


def protect(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO|FOLDER...", help="Photos, or folders of photos.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder; or a file, for a single photo.")],
    strength: Annotated[
        str, typer.Option(help="low, medium, high; lowkey and small are the dissertation's.")
    ] = "medium",
    recognizer: Annotated[
        list[str] | None, typer.Option(help="Attack this one: a name of the zoo or an ONNX file; repeatable.")
    ] = None,
    faces: Annotated[WhichFaces, typer.Option(help="Which faces to protect.")] = WhichFaces.all,
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer is faster and weaker.")] = None,
    max_lpips: Annotated[
        float | None, typer.Option(min=0.0001, help="Quality budget: LPIPS stays at or below it.")
    ] = None,
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
        int, typer.Option(min=0, max=2**63 - 1, help="Of the starting noise: the same seed gives the same photo.")
    ] = 0,
) -> None:
    """Change the faces in photos so that face recognition no longer matches them.

    The originals are never touched. What was done before is not done again.

    Example: fairveil protect holiday/ portrait.jpg -o protected/ --report
    """
    from fairveil.faces.detection import Detector
    from fairveil.photos import Saving, shown
    from fairveil.photos.formats import format_of_name
    from fairveil.protection.folders import goes_to_file, plan, protect_file
    from fairveil.protection.protecting import SMALLEST_FACE

    saving = Saving(
        format=format or (format_of_name(out) if goes_to_file(photos, out) else None),
        quality=quality,
        max_size=_bytes(max_size) if max_size else None,
        keep_metadata=keep_metadata,
        overwrite=overwrite,
    )
    settings = _settings(strength, steps=steps, max_lpips=max_lpips, stop_below=stop_below)
    jobs = plan(photos, out, saving)
    detector, ensemble = Detector.pretrained(minimum_face=SMALLEST_FACE), _load(recognizer, everything=False)
    failed = []
    with progress_bar() as progress:
        task = progress.add_task("", total=len(jobs))

        def advance(finished: int, done: int, total: int) -> None:
            progress.update(task, completed=finished + done / total)

        for number, job in enumerate(jobs):
            progress.update(task, description=escape(shown(job.source.name)), completed=number)
            try:
                outcome = protect_file(
                    job,
                    settings,
                    ensemble,
                    detector,
                    saving,
                    faces=faces.value,
                    seed=seed,
                    on_step=partial(advance, number),
                )
                results.print(Text(_summary(outcome, ensemble)), soft_wrap=True)
                if report and outcome.entry.record.faces:
                    page = job.target.with_name(f"{job.target.name}.report.html")
                    _report(page, job.source, job.target, _load(None, everything=True), [], overwrite=True)
            except KeyboardInterrupt:
                talk.print("Stopped. Finished photos are whole; the one under way was not written.")
                raise typer.Exit(130) from None
            except FairveilError as error:
                talk.print(Text(str(error), "red"), soft_wrap=True)
                failed.append(job.source)
        progress.update(task, completed=len(jobs))
    if failed:
        names = ", ".join(map(shown, failed))
        raise FairveilError(f"{len(failed)} of {len(jobs)} photos could not be protected: {names}.")


def check(
    original: Annotated[Path, typer.Argument(help="The photo as it was.")],
    protected: Annotated[Path, typer.Argument(help="The photo as `protect` made it.")],
    probe: Annotated[
        list[Path] | None, typer.Option(help="Another photo of the same people, as a search would use; repeatable.")
    ] = None,
    recognizer: Annotated[
        list[str] | None, typer.Option(help="Ask only this one: a name of the zoo or an ONNX file; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the receipt as one HTML page.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a report that is there already.")] = False,
) -> None:
    """Measure who still recognises a protected photo, and how much it changed.

    Example: fairveil check portrait.jpg protected/portrait.jpg --probe other.jpg --report receipt.html
    """
    from fairveil.report.receipt import receipt_tables

    receipt = _report(report, original, protected, _load(recognizer, everything=True), probe or [], overwrite=overwrite)
    if as_json:
        typer.echo(receipt.model_dump_json(indent=1))
        return
    for part in receipt_tables(receipt):
        results.print(part)
    results.print(receipt.caution, soft_wrap=True)


def _report(
    page: Path | None,
    original: Path,
    protected: Path,
    recognizers: list["Recognizer"],
    probes: list[Path],
    *,
    overwrite: bool,
) -> "Receipt":
    """Verify a protected photo, and write the page if one is asked for."""
    from fairveil.faces.zoo import DEFAULT_ENSEMBLE
    from fairveil.photos import read_photo, shown
    from fairveil.protection.folders import entry_of
    from fairveil.protection.verification import verify
    from fairveil.report.receipt import write_receipt

    if page is not None and page.resolve() in {photo.resolve() for photo in (original, protected, *probes)}:
        raise FairveilError(f"{shown(page)} is one of the photos and is never overwritten: choose another name.")
    before, after = read_photo(original).pixels, read_photo(protected).pixels
    entry = entry_of(protected)
    if entry is None:
        talk.print(
            Text(f"Nothing is noted of how {shown(protected)} was made: taken as the default ensemble."), soft_wrap=True
        )
    receipt = verify(
        before,
        after,
        recognizers,
        attacked=entry.record.recognizers if entry else DEFAULT_ENSEMBLE,
        probes={shown(name): read_photo(path).pixels for name, path in _told_apart(probes).items()},
    )
    if page is not None:
        write_receipt(page, receipt, before, after, title=shown(original.name), overwrite=overwrite)
    return receipt


def _told_apart(photos: list[Path]) -> dict[str, Path]:
    """Photos by their names, or by their whole paths where several have one name."""
    names = [photo.name for photo in photos]
    return {photo.name if names.count(photo.name) == 1 else str(photo): photo for photo in photos}


def _settings(strength: str, **given: float | None) -> "LowKey":
    """The settings of a strength, with those replaced that were given."""
    from fairveil.protection.lowkey import preset

    return preset(strength).model_copy(update={name: value for name, value in given.items() if value is not None})


def _load(names: list[str] | None, *, everything: bool) -> list["Recognizer"]:
    """Recognisers by name or file; by default those of the zoo that protect attacks, or all of it."""
    from fairveil.faces.recognizers import Recognizer
    from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, load_recognizer

    chosen = dict.fromkeys(names or (ZOO if everything else DEFAULT_ENSEMBLE))
    return [Recognizer.from_onnx(name) if name.endswith(".onnx") else load_recognizer(name) for name in chosen]


def _summary(outcome: "Outcome", recognizers: list["Recognizer"]) -> str:
    """One line that says what became of a photo."""
    from fairveil.photos import shown

    name = shown(outcome.job.target)
    record = outcome.entry.record
    notes = " ".join(("", *outcome.entry.notes))
    when = "done before" if outcome.status == "done before" else f"{outcome.seconds:.1f} s"
    if not record.faces:
        return f"{name}: no face found, copied unchanged, metadata included ({when}).{notes}"
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
    lpips = max(face.lpips for face in record.faces)
    return f"{name}: {count}, LPIPS {lpips:.3f}, {verdict} ({when}).{notes}"


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
        raise typer.BadParameter(f"{size!r} is no file size; write it like 500kB or 2MB.") from None
