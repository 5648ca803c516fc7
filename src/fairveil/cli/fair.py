"""The command `fairveil fair compare`."""

import json
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from fairveil.cli.faces import photos_of
from fairveil.cli.reports import json_beside, write_json
from fairveil.cli.studies import check_device
from fairveil.cli.terminal import named_path, progress_bar, results, talk
from fairveil.cli.training import TrainedFace
from fairveil.errors import FairveilError

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.fair.experiments import Told
    from fairveil.fair.findings import XrayExperiment
    from fairveil.fair.interventions import AnyIntervention
    from fairveil.fair.recognition import FaceExperiment
    from fairveil.training import Training
    from fairveil.xrays import Xrays

fair_app = typer.Typer(no_args_is_help=True, help="Interventions for fairer networks, and whether they worked.")


class TaskName(StrEnum):
    """What is learned."""

    recognition = "recognition"
    findings = "findings"


class FairPreset(StrEnum):
    """How long and with which settings."""

    small = "small"
    paper = "paper"


@fair_app.command()
def compare(
    data: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|CSV|PACK",
            help="Faces with identities, or with --task findings X-rays (CheXpert, ChestX-ray14, or a CSV).",
        ),
    ],
    group: Annotated[str, typer.Option(help="The column whose groups are to be treated alike.")],
    interventions: Annotated[
        str, typer.Option(metavar="NAMES", help="all, or some of their names with commas between them.")
    ] = "all",
    task: Annotated[TaskName, typer.Option(help="Whose face it is, or what an X-ray shows.")] = TaskName.recognition,
    weight: Annotated[float, typer.Option(min=0, help="Of the penalties: α.")] = 1.0,
    better: Annotated[
        str | None,
        typer.Option(help="The group that is better off, whose labels are flipped; by default a baseline says which."),
    ] = None,
    worse: Annotated[
        str | None, typer.Option(help="The group that is worse off, whose margin is raised; as above.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each; three give intervals.")] = 3,
    preset: Annotated[
        FairPreset, typer.Option(help="small: minutes a model on two cores; paper: the published settings.")
    ] = FairPreset.small,
    epochs: Annotated[int | None, typer.Option(min=1, help="By default the preset's.")] = None,
    size: Annotated[int | None, typer.Option(min=16, max=1024, help="Side of pictures in pixels.")] = None,
    face: Annotated[
        TrainedFace, typer.Option(help="The face nearest the centre, the largest; or photos are aligned crops already.")
    ] = TrainedFace.central,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", parser=named_path, help="Keeps what runs came to."),
    ] = Path("fairveil-fair"),
    report: Annotated[
        Path | None,
        typer.Option(metavar="HTML", parser=named_path, help="Write the card here, and JSON of all of it beside it."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace reports that are there already.")] = False,
    device: Annotated[str, typer.Option(help="Where to train, as torch names it: cpu, cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """The generalisation card: did an intervention's fairness survive off the train set, and who paid for it.

    Every intervention is trained once a seed, beside its baseline. Runs that are finished are kept, and a stopped
    comparison goes on from there.

    Example: fairveil fair compare faces.csv --group gender --interventions all --report card.html
    """
    from fairveil.fair.comparing import compare as compare_all
    from fairveil.fair.comparing import planned
    from fairveil.fair.interventions import Baseline
    from fairveil.report.generalisation import card_record, reading, tables_of, write_card
    from fairveil.report.rendering import to_terminal

    machines = None if report is None else json_beside(report, overwrite=overwrite)
    check_device(device)
    make: Callable[..., tuple[FaceExperiment | XrayExperiment, str]] = (
        _faces if task == TaskName.recognition else _xrays
    )
    experiment, told_of = make(data, group, preset, epochs, size, face, out, device)
    names = experiment.groups.names
    for name in filter(None, (better, worse)):
        experiment.groups.number(name)
    _chosen(experiment, interventions, names[0], names[1], weight)  # says before the work what cannot be done
    with progress_bar() as progress:
        bar = progress.add_task("comparing", total=None)

        def telling(name: str, seed: int) -> "Told":
            from fairveil.fair.experiments import Told

            progress.update(bar, description=escape(f"{name}, run {seed + 1}"))
            return Told()

        try:
            if better is None or worse is None:
                best, worst = compare_all(experiment, [Baseline()], seeds=seeds, folder=out / "runs", told=telling).ends
                better, worse = better or best, worse or worst
            chosen = _chosen(experiment, interventions, better, worse, weight)
            progress.update(bar, total=len(planned(experiment, chosen)) * seeds, completed=0)
            found = compare_all(
                experiment,
                chosen,
                seeds=seeds,
                folder=out / "runs",
                on_run=lambda name, seed: progress.advance(bar),
                told=telling,
            )
        except KeyboardInterrupt:
            talk.print("Stopped. Finished runs are kept; the same command goes on from there.")
            raise typer.Exit(130) from None
    if report is not None and machines is not None:
        today = datetime.now().astimezone().date().isoformat()
        title = f"Fairness by {group}: did it carry over?"
        write_card(report, found, title=title, date=today, data=told_of, overwrite=overwrite)
        write_json(machines, card_record(found), overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(card_record(found), indent=1))
        return
    for table in tables_of(found):
        for part in to_terminal(table, width=results.width):
            results.print(part)
    for name in found.interventions:
        results.print(Text(f"- {reading(found, name)}"), soft_wrap=True)


def _chosen(
    experiment: "FaceExperiment | XrayExperiment", names: str, better: str, worse: str, weight: float
) -> "list[AnyIntervention]":
    """Interventions by their kinds or names; all of a kind where only the kind is given."""
    from fairveil.fair.interventions import KINDS, everything, intervention

    every = everything(experiment.task, better=better, worse=worse, weight=weight)
    if names == "all":
        return every
    chosen: list[AnyIntervention] = []
    for name in filter(None, map(str.strip, names.split(","))):
        if name not in KINDS:
            intervention(name)  # says which there are
        fitting = [one for one in every if one.kind == name]
        if not fitting:
            raise FairveilError(f"{name} is not for {experiment.task}: leave it out, or choose another task.")
        chosen += fitting
    if not chosen:
        raise typer.BadParameter("Name at least one intervention, or all.", param_hint="--interventions")
    return chosen


def _faces(
    data: str,
    group: str,
    preset: FairPreset,
    epochs: int | None,
    size: int | None,
    face: TrainedFace,
    out: Path,
    device: str,
) -> "tuple[FaceExperiment, str]":
    """Recognition of a table's faces."""
    from fairveil.cli.training import cut_with_progress
    from fairveil.faces.recognition import PAPER
    from fairveil.fair.face_splits import split_faces
    from fairveil.fair.recognition import FaceExperiment, FaceSettings
    from fairveil.training import Training

    small = Training(epochs=12, batch_size=32, learning_rate=0.02, nesterov=False, warmup=1.0)
    settings = (
        FaceSettings(training=_with(PAPER, epochs))
        if preset == FairPreset.paper
        else FaceSettings(backbone="resnet-8", dimension=128, training=_with(small, epochs), stratified=True)
    )
    crops = cut_with_progress(photos_of(data), size or (112 if preset == FairPreset.paper else 64), face, out / "crops")
    splits = split_faces(crops, group)
    told = (
        f"{crops.name}: {len(splits.train) + len(splits.aside):,} images of {len(splits.train.classes):,} people to "
        f"train on, {len(splits.test):,} of {len(splits.test.classes):,} others to test with. Penalties on a holdout "
        "are taken of other images of the people trained on, as published."
    )
    return FaceExperiment(splits, group, settings, folder=out / "baselines", device=device), told


def _xrays(
    data: str,
    group: str,
    preset: FairPreset,
    epochs: int | None,
    size: int | None,
    face: TrainedFace,
    out: Path,
    device: str,
) -> "tuple[XrayExperiment, str]":
    """Findings of a list's X-rays."""
    from fairveil.fair.findings import PAPER, XrayExperiment, XraySettings, split_xrays
    from fairveil.training import Training
    from fairveil.xrays import Preparation

    small = Training(epochs=12, batch_size=56, learning_rate=0.05)
    settings = (
        XraySettings(training=_with(PAPER, epochs))
        if preset == FairPreset.paper
        else XraySettings(
            network="resnet-8-fast", preparation=Preparation(), training=_with(small, epochs), stratified=True
        )
    )
    xrays = _read_xrays(data, size or (256 if preset == FairPreset.paper else 64), out / "xrays")
    splits = split_xrays(xrays)
    told = (
        f"{xrays.name}: {len(splits.train):,} X-rays to train on, {len(splits.validation):,} to validate with, "
        f"{len(splits.test):,} to test with, all of other patients. Penalties on a holdout are taken of the "
        "validation set."
    )
    return XrayExperiment(splits, group, settings, device=device), told


def _read_xrays(data: str, size: int, folder: Path) -> "Xrays":
    from fairveil.xrays import SyntheticXrays, read_xrays

    if data == "synthetic":
        return SyntheticXrays(patients=1000, size=min(size, 512), seed=0, hardness={"F": 0.6}).draw()
    with progress_bar() as progress:
        task = progress.add_task("reading X-rays", total=None)
        xrays = read_xrays(
            data, size=size, folder=folder, on_image=lambda count: progress.update(task, completed=count)
        )
    if xrays.left_out:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in xrays.left_out.items())
        talk.print(Text(f"{sum(xrays.left_out.values()):,} rows are left out ({reasons})."))
    return xrays


def _with(training: "Training", epochs: int | None) -> "Training":
    if epochs is None:
        return training
    return training.model_copy(update={"epochs": epochs, "warmup": min(training.warmup, epochs / 2)})
