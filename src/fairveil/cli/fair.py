"""The commands `fairveil fair train` and `fairveil fair compare`."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from fairveil.base.errors import FairveilError
from fairveil.cli.fair_data import (
    Asked,
    Data,
    Device,
    Epochs,
    Face,
    Group,
    Preset,
    Size,
    Task,
    TaskName,
    UncertainFindings,
    Weights,
)
from fairveil.cli.interventions import CHOSEN, Listing, One, Several, Taking, chosen_one, chosen_ones
from fairveil.cli.reports import json_beside, write_json
from fairveil.cli.studies import check_device
from fairveil.cli.terminal import named_path, progress_bar, results, talk
from fairveil.cli.training import TrainedFace, TrainingPreset, epoch_bar, new_model_file

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.fair.comparing import Comparison
    from fairveil.fair.experiments import TrainingExperiment

fair_app = typer.Typer(no_args_is_help=True, help="Interventions for fairer networks, and whether they worked.")


@fair_app.command(cls=Taking)
def train(
    context: typer.Context,
    data: Data,
    group: Group,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", parser=named_path, help="New file for the weights (safetensors)."),
    ],
    intervention: One = "equal-loss",
    task: Task = TaskName.recognition,
    preset: Preset = TrainingPreset.small,
    epochs: Epochs = None,
    size: Size = None,
    face: Face = TrainedFace.central,
    weights: Weights = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of everything drawn.")] = 0,
    device: Device = "cpu",
    uncertain: UncertainFindings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Train one network under one intervention, save it, and say how it does for whom.

    A recogniser goes wherever a command takes --recognizer; a network for X-rays is read by
    fairveil.fair.xray_classifier.load_xray_classifier. A stopped run goes on where it was.

    Example: fairveil fair train faces.csv --group gender --intervention equal-loss --weight 0.5 -o model.safetensors
    """
    from fairveil.base.errors import shown
    from fairveil.fair.experiments import Callbacks
    from fairveil.fair.report import single_record, single_table
    from fairveil.report.rendering import to_terminal

    new_model_file(out)
    check_device(device)
    one = chosen_one(intervention, context.meta[CHOSEN], group)
    kept = out.with_name(f".{out.name}.data")
    try:
        experiment, told_of = Asked(data, group, task, preset, epochs, size, face, weights, device, uncertain).open(
            kept
        )
    except FairveilError:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    with progress_bar() as progress:
        on_step = epoch_bar(
            progress, one.name, experiment.settings.training.epochs, len(experiment.splits.train.image_names)
        )
        try:
            fitted = experiment.fit(one, seed=seed, callbacks=Callbacks(checkpoint=checkpoint, on_step=on_step))
            scores = experiment.score(fitted)
            experiment.save(out, fitted, one, scores, seed=seed)
        except KeyboardInterrupt:
            talk.print("Stopped. Finished epochs are kept; the same command goes on from there.")
            raise typer.Exit(130) from None
    checkpoint.unlink(missing_ok=True)
    shutil.rmtree(kept, ignore_errors=True)
    if as_json:
        record = {
            "file": str(out),
            "data": told_of,
            "intervention": one.model_dump(mode="json"),
            "seed": seed,
            "settings": experiment.settings.model_dump(mode="json"),
            "lacking": fitted.skipped_fraction,
            **single_record(experiment, scores),
        }
        typer.echo(json.dumps(record, indent=1))
        return
    results.print(Text(f"{shown(out)}: {one.name}. {told_of}"), soft_wrap=True)
    for part in to_terminal(single_table(experiment, scores), width=results.width):
        results.print(part)
    if fitted.skipped_fraction:
        skipped = f"{fitted.skipped_fraction:.0%}"
        results.print(f"In {skipped} of the batches fewer than two groups were there to be compared.")
    results.print("One run tells little of an intervention: `fairveil fair compare` has several beside a baseline.")


@fair_app.command(cls=Listing)
def compare(
    data: Data,
    group: Group,
    interventions: Several = "all",
    task: Task = TaskName.recognition,
    weight: Annotated[float, typer.Option(min=0, help="Of the penalties: α.")] = 1.0,
    better: Annotated[
        str | None,
        typer.Option(help="The group that is better off, whose labels are flipped; by default a baseline says which."),
    ] = None,
    worse: Annotated[
        str | None, typer.Option(help="The group that is worse off, whose margin is raised; as above.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each; three give intervals.")] = 3,
    preset: Preset = TrainingPreset.small,
    epochs: Epochs = None,
    size: Size = None,
    face: Face = TrainedFace.central,
    weights: Weights = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", parser=named_path, help="Keeps what runs came to."),
    ] = Path("fairveil-fair"),
    report: Annotated[
        Path | None,
        typer.Option(metavar="HTML", parser=named_path, help="Write the card here, and JSON of all of it beside it."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace reports that are there already.")] = False,
    device: Device = "cpu",
    uncertain: UncertainFindings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """The generalisation card: did an intervention's fairness survive off the train set, and who paid for it.

    Every intervention is trained once a seed, beside its baseline. Runs that are finished are kept, and a stopped
    comparison goes on from there, a stopped run from its last epoch.

    Example: fairveil fair compare faces.csv --group gender --interventions all --report card.html
    """
    from fairveil.fair.report import card_record, left_out, reading, tables_of, write_card
    from fairveil.report.rendering import to_terminal

    machines = None if report is None else json_beside(report, overwrite=overwrite)
    check_device(device)
    experiment, told_of = Asked(data, group, task, preset, epochs, size, face, weights, device, uncertain).open(out)
    try:
        found = _compared(experiment, interventions, (better, worse), weight, seeds, out / "runs")
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
    for sentence in (*(reading(found, name) for name in found.interventions), *left_out(found)):
        results.print(Text(f"- {sentence}"), soft_wrap=True)
    results.print(
        "Intervals are over runs on the same people and say nothing of other people, but for those of the table whose "
        "title says so.",
        soft_wrap=True,
    )


def _compared(
    experiment: "TrainingExperiment",
    names: str,
    ends: tuple[str | None, str | None],
    weight: float,
    seeds: int,
    folder: Path,
) -> "Comparison":
    """Every intervention and its baseline, with a progress bar; a baseline tells the groups that are not named."""
    from fairveil.fair.comparing import compare as compare_all
    from fairveil.fair.comparing import planned
    from fairveil.fair.experiments import Callbacks
    from fairveil.fair.interventions import Baseline

    better, worse = ends
    groups, task = experiment.groups.names, experiment.task
    for name in filter(None, ends):
        experiment.groups.number(name)
    if better is not None and better == worse:
        raise FairveilError(f"{better} cannot be better and worse off at once: name another group, or leave one out.")
    # says before the work what cannot be done
    chosen_ones(task, names, better=groups[0], worse=groups[1], weight=weight)
    with progress_bar() as progress:
        bar = progress.add_task("comparing", total=None)

        def callbacks(name: str, seed: int) -> Callbacks:
            what, epochs = f"{name}, run {seed + 1}", experiment.settings.training.epochs
            progress.update(bar, description=escape(what))
            on_step: Callable[[float, float], None] = lambda done, loss: progress.update(  # noqa: E731
                bar, description=escape(f"{what}, {done / epochs:.0%}, loss {loss:.2f}")
            )
            return Callbacks(on_step=on_step)

        if better is None or worse is None:
            alone = compare_all(experiment, [Baseline()], seeds=seeds, folder=folder, callbacks=callbacks)
            best, worst = alone.best_group, alone.worst_group
            better = better or (best if best != worse else worst)
            worse = worse or (worst if worst != better else best)
            found = f"By the means of the baseline on validation {best} fares best and {worst} worst, which these runs"
            if alone.tied or not alone.gap("baseline", "validation").excludes(0):
                why = (
                    f"By the baseline all groups of {experiment.column} fare alike, so none is better off."
                    if alone.tied
                    else f"{found} cannot tell from chance."
                )
                does = f"What is done for a group is done for {worse}, and what is done to the better one to {better}:"
                talk.print(Text(f"{why} {does} name others with --worse and --better."), soft_wrap=True)
        chosen = [Baseline(), *chosen_ones(task, names, better=better, worse=worse, weight=weight)]
        progress.update(bar, total=len(planned(experiment, chosen)) * seeds, completed=0)
        return compare_all(
            experiment,
            chosen,
            seeds=seeds,
            folder=folder,
            on_run=lambda name, seed: progress.advance(bar),
            callbacks=callbacks,
        )
