"""The commands `fairveil fair train` and `fairveil fair compare`."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from fairveil.base.errors import FairveilError
from fairveil.cli.fair_data import Asked
from fairveil.cli.option_groups import with_option_groups
from fairveil.cli.options import AsJson, ModelFile, Overwrite, Report, Seed, check_device
from fairveil.cli.outputs import check_new_recognizer, json_beside, write_json
from fairveil.cli.terminal import (
    named_path,
    print_sentence,
    print_table,
    progress_bar,
    say,
    stopped_by_ctrl_c,
)
from fairveil.cli.training import EPOCHS_KEPT, epoch_bar

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.fair.comparing import Comparison
    from fairveil.fair.experiments import Told
    from fairveil.fair.findings import XrayExperiment
    from fairveil.fair.interventions import AnyIntervention
    from fairveil.fair.recognition import FaceExperiment

fair_app = typer.Typer(
    no_args_is_help=True, help="Train networks with interventions for fairness, and see whether they worked."
)


class Where(StrEnum):
    """The images on which a penalty is computed."""

    train = "train"
    holdout = "holdout"


@fair_app.command()
@with_option_groups
def train(
    *,
    asked: Asked,
    out: ModelFile,
    intervention: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Intervention: baseline, equal-loss, equalized-odds, disparate-impact, min-max, margins, "
            "label-flipping, or fair-features. An option that it does not take is refused.",
        ),
    ] = "equal-loss",
    weight: Annotated[float | None, typer.Option(min=0, help="Weight α of a penalty or of fair-features.")] = None,
    on: Annotated[Where | None, typer.Option(help="Images on which a penalty is computed.")] = None,
    whose: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            help="Group whose margin is raised (margins), whose labels are flipped (label-flipping), or that all "
            "others are to resemble (fair-features).",
        ),
    ] = None,
    margin: Annotated[float | None, typer.Option(min=0, max=1, help="Margin of the group.")] = None,
    share: Annotated[float | None, typer.Option(min=0, max=1, help="Share of the group's labels to flip.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train one network with one intervention, save it, and print how it does for each group.

    A recognizer can be used by every command with the option --recognizer; a network for X-rays is read by
    fairveil.fair.trained_findings.load_finder. A stopped run goes on from where it was.

    Example: fairveil fair train faces.csv --group gender --intervention equal-loss --weight 0.5 -o model.safetensors
    """
    from fairveil.base.errors import shown
    from fairveil.fair.experiments import Told
    from fairveil.fair.report import single_record, single_table

    check_new_recognizer(out)
    check_device(asked.device)
    given = {"--weight": weight, "--on": on, "--whose": whose, "--margin": margin, "--share": share}
    chosen = _read(intervention, {option: value for option, value in given.items() if value is not None}, asked.group)
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
        scores, about = _fitted(experiment, chosen, seed, out, Told(checkpoint=checkpoint, on_step=on_step))
    checkpoint.unlink(missing_ok=True)
    shutil.rmtree(kept, ignore_errors=True)
    if as_json:
        typer.echo(
            json.dumps({"file": str(out), "data": told_of, **about, **single_record(experiment, scores)}, indent=1)
        )
        return
    print_sentence(f"{shown(out)}: {chosen.name}. {told_of}")
    print_table(single_table(experiment, scores))
    if about["lacking"]:
        print_sentence(
            f"{about['lacking']:.0%} of the batches had fewer than two groups, so nothing was compared in them."
        )
    print_sentence(
        "One run says little about an intervention: `fairveil fair compare` sets several runs beside a baseline."
    )


def _read(kind: str, given: dict[str, Any], column: str) -> "AnyIntervention":
    """The intervention that options ask for, each of which it has to take."""
    from fairveil.fair.interventions import KINDS, intervention

    if kind not in KINDS:
        intervention(kind)  # says which there are
    fields = {name: f"--{name}" for name in KINDS[kind].model_fields if name != "kind"}
    fields |= dict.fromkeys({"group", "toward"} & fields.keys(), "--whose")
    for option in given:
        if option not in fields.values():
            takes = " and ".join(fields.values()) or "no options of its own"
            raise FairveilError(f"{kind} does not take {option}, but {takes}: leave it out.")
    if "--whose" in fields.values() and "--whose" not in given:
        raise FairveilError(f"{kind} needs to be told whose: name a group of {column} with --whose.")
    return intervention(kind, **{name: given[option] for name, option in fields.items() if option in given})


def _fitted(
    experiment: "FaceExperiment | XrayExperiment", chosen: "AnyIntervention", seed: int, out: Path, told: "Told"
) -> tuple[Any, dict[str, Any]]:
    """Train and save: the scores, and what the file says of the network."""
    from fairveil.fair.recognition import FaceExperiment

    about: dict[str, Any] = {"intervention": chosen.model_dump(mode="json"), "seed": seed}
    if isinstance(experiment, FaceExperiment):
        from fairveil.faces.trained import save_trained

        fitted = experiment.fit(chosen, seed=seed, told=told)
        scores = experiment.score(fitted)
        save_trained(out, fitted.whole(), experiment.pedigree(fitted, chosen, scores))
        return scores, about | {"settings": experiment.settings.model_dump(mode="json"), "lacking": fitted.lacking}
    from fairveil.fair.trained_findings import save_finder

    network, lacking = experiment.fit(chosen, seed=seed, told=told)
    scores = experiment.score(network)
    xrays = experiment.splits.train
    save_finder(out, network, experiment.settings, xrays.classes, size=xrays.size, about=about | {"data": xrays.name})
    return scores, about | {"settings": experiment.settings.model_dump(mode="json"), "lacking": lacking}


@fair_app.command()
@with_option_groups
def compare(
    *,
    asked: Asked,
    interventions: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Interventions: all, or some with commas between them: equal-loss, equalized-odds, disparate-impact, "
            "min-max, margins, label-flipping, fair-features.",
        ),
    ] = "all",
    weight: Annotated[float, typer.Option(min=0, help="Weight α of the penalties.")] = 1.0,
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
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", parser=named_path, help="Folder that keeps the results of finished runs."
        ),
    ] = Path("fairveil-fair"),
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
    experiment: "FaceExperiment | XrayExperiment",
    names: str,
    ends: tuple[str | None, str | None],
    weight: float,
    seeds: int,
    folder: Path,
) -> "Comparison":
    """Every intervention and its baseline, with a progress bar; a baseline tells the groups that are not named."""
    from fairveil.fair.comparing import compare as compare_all
    from fairveil.fair.comparing import planned
    from fairveil.fair.experiments import Told
    from fairveil.fair.interventions import Baseline

    better, worse = ends
    groups = experiment.groups.names
    for name in filter(None, ends):
        experiment.groups.number(name)
    if better is not None and better == worse:
        raise FairveilError(f"{better} cannot be better and worse off at once: name another group, or leave one out.")
    _chosen(experiment, names, groups[0], groups[1], weight)  # says before the work what cannot be done
    with progress_bar() as progress:
        bar = progress.add_task("comparing", total=None)

        def telling(name: str, seed: int) -> Told:
            what, epochs = f"{name}, run {seed + 1}", experiment.settings.training.epochs
            progress.update(bar, description=escape(what))
            on_step: Callable[[float, float], None] = lambda done, loss: progress.update(  # noqa: E731
                bar, description=escape(f"{what}, {done / epochs:.0%}, loss {loss:.2f}")
            )
            return Told(on_step=on_step)

        if better is None or worse is None:
            alone = compare_all(experiment, [Baseline()], seeds=seeds, folder=folder, told=telling)
            best, worst = alone.ends
            better = better or (best if best != worse else worst)
            worse = worse or (worst if worst != better else best)
            taken = (
                f"{worse} is taken for the group that is worse off, and {better} for the one that is better off: name "
                "others with --worse and --better."
            )
            if alone.tied:
                say(f"By the baseline all groups of {experiment.column} fare alike, so none is better off. {taken}")
            elif not alone.gap("baseline", "validation").told:
                say(
                    f"By the means of the baseline on validation {alone.ends[0]} fares best and {alone.ends[1]} worst, "
                    f"which these runs cannot tell from chance. {taken}"
                )
        chosen = [Baseline(), *_chosen(experiment, names, better, worse, weight)]
        progress.update(bar, total=len(planned(experiment, chosen)) * seeds, completed=0)
        return compare_all(
            experiment,
            chosen,
            seeds=seeds,
            folder=folder,
            on_run=lambda name, seed: progress.advance(bar),
            told=telling,
        )


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
    if all(one.kind == "baseline" for one in chosen):
        raise typer.BadParameter(
            "Name at least one intervention; the baseline is there anyway.", param_hint="--interventions"
        )
    return chosen
