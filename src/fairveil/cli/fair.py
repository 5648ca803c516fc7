"""The commands `fairveil fair train` and `fairveil fair compare`."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from fairveil.base.errors import FairveilError
from fairveil.cli.fair_data import TrainingRequest
from fairveil.cli.interventions import (
    CHOSEN,
    ListsInterventions,
    One,
    Several,
    TakesInterventionOptions,
    chosen_one,
    chosen_ones,
)
from fairveil.cli.option_groups import with_option_groups
from fairveil.cli.options import AsJson, ModelFile, Overwrite, Report, Seed, check_device, folder_option
from fairveil.cli.outputs import check_new_recognizer, json_beside, write_json
from fairveil.cli.terminal import print_sentence, print_table, progress_bar, say, stopped_by_ctrl_c
from fairveil.cli.training import EPOCHS_KEPT, epoch_bar

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.fair.comparing import Comparison
    from fairveil.fair.experiments import TrainingExperiment

fair_app = typer.Typer(
    no_args_is_help=True, help="Train networks with interventions for fairness, and see whether they worked."
)


@fair_app.command(cls=TakesInterventionOptions)
@with_option_groups
def train(
    *,
    context: typer.Context,
    asked: TrainingRequest,
    out: ModelFile,
    intervention: One = "equal-loss",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train one network with one intervention, save it, and print how it does for each group.

    A recognizer can be used by every command with the option --recognizer; a network for X-rays is read by
    fairveil.fair.load_xray_classifier. A stopped run goes on from where it was.

    Example: fairveil fair train faces.csv --group gender --intervention equal-loss --weight 0.5 -o model.safetensors
    """
    from fairveil.base.errors import shown
    from fairveil.fair.experiments import Callbacks
    from fairveil.fair.report import single_record, single_table

    check_new_recognizer(out)
    check_device(asked.device)
    chosen = chosen_one(intervention, context.meta[CHOSEN], asked.group)
    kept = out.with_name(f".{out.name}.data")
    try:
        experiment, told_of = asked.open(kept)
    except FairveilError:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    with stopped_by_ctrl_c(EPOCHS_KEPT), progress_bar() as progress:
        on_step = epoch_bar(
            progress, chosen.name, experiment.settings.training.epochs, len(experiment.splits.train.image_names)
        )
        fitted = experiment.fit(chosen, seed=seed, callbacks=Callbacks(checkpoint=checkpoint, on_step=on_step))
        scores = experiment.score(fitted)
        experiment.save(out, fitted, chosen, scores, seed=seed)
    checkpoint.unlink(missing_ok=True)
    shutil.rmtree(kept, ignore_errors=True)
    if as_json:
        record = {
            "file": str(out),
            "data": told_of,
            "intervention": chosen.model_dump(mode="json"),
            "seed": seed,
            "settings": experiment.settings.model_dump(mode="json"),
            "lacking": fitted.skipped_fraction,
            **single_record(experiment, scores),
        }
        typer.echo(json.dumps(record, indent=1))
        return
    print_sentence(f"{shown(out)}: {chosen.name}. {told_of}")
    print_table(single_table(experiment, scores))
    if fitted.skipped_fraction:
        print_sentence(
            f"{fitted.skipped_fraction:.0%} of the batches had fewer than two groups, so nothing was compared in them."
        )
    print_sentence(
        "One run says little about an intervention: `fairveil fair compare` sets several runs beside a baseline."
    )


@fair_app.command(cls=ListsInterventions)
@with_option_groups
def compare(
    *,
    asked: TrainingRequest,
    interventions: Several = "all",
    weight: Annotated[float, typer.Option(min=0, max=1e6, help="Weight α of the penalties.")] = 1.0,
    better: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            help="Group that is better off, whose labels are flipped; by default the best of the baseline.",
        ),
    ] = None,
    worse: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            help="Group that is worse off, whose margin is raised; by default the worst of the baseline.",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of runs of each intervention; three or more give intervals.")
    ] = 3,
    out: Annotated[Path, folder_option("Folder that keeps the results of finished runs.")] = Path("fairveil-fair"),
    report: Report = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a generalization card: does an intervention's fairness hold beyond the train set, and who pays for it?

    Every intervention is trained once for each seed, beside its baseline. Finished runs are kept. A stopped comparison
    goes on from there, and a stopped run from its last epoch.

    Example: fairveil fair compare faces.csv --group gender --interventions all --report card.html
    """
    from fairveil.fair.report import card_record, left_out, reading, tables_of, write_card

    machines = None if report is None else json_beside(report, overwrite=overwrite)
    check_device(asked.device)
    experiment, told_of = asked.open(out)
    with stopped_by_ctrl_c("Finished runs are kept; the same command goes on from there."):
        found = _compared(experiment, interventions, (better, worse), weight, seeds, out / "runs")
    if report is not None and machines is not None:
        today = datetime.now().astimezone().date().isoformat()
        title = f"Fairness by {asked.group}: did it carry over?"
        write_card(report, found, title=title, date=today, data=told_of, overwrite=overwrite)
        write_json(machines, card_record(found), overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(card_record(found), indent=1))
        return
    for table in tables_of(found):
        print_table(table)
    for sentence in (*(reading(found, name) for name in found.interventions), *left_out(found)):
        print_sentence(f"- {sentence}")
    if report is not None:
        print_sentence(f"{report}, {machines}")
    print_sentence(
        "Intervals are over runs on the same people and say nothing about other people, except in the table whose "
        "title says so."
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
            taken = (
                f"{worse} is taken for the group that is worse off, and {better} for the one that is better off: name "
                "others with --worse and --better."
            )
            if alone.tied:
                say(f"By the baseline all groups of {experiment.column} fare alike, so none is better off. {taken}")
            elif not alone.gap("baseline", "validation").excludes(0):
                say(
                    f"By the means of the baseline on validation {best} fares best and {worst} worst, which these runs "
                    f"cannot tell from chance. {taken}"
                )
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
