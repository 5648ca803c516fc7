"""The commands `fairveil sanitize list|rehearse|train`."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table as TerminalTable

from fairveil.cli.options import (
    AsJson,
    Device,
    ModelFile,
    Overwrite,
    Preset,
    PresetName,
    ReportFile,
    Seed,
    check_device,
    folder_option,
)
from fairveil.cli.outputs import check_new_recognizer, json_beside, write_json
from fairveil.cli.terminal import (
    INTERRUPTED,
    named_path,
    print_sentence,
    print_table,
    progress_bar,
    results,
    say,
    stopped_by_ctrl_c,
)

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from collections.abc import Sequence

    from fairveil.data.images import LabeledImages
    from fairveil.report.study import StudySection
    from fairveil.sanitize.rehearsal import Cost, Rehearsal, Rehearsed
    from fairveil.sanitize.verdict import Conclusion

sanitize_app = typer.Typer(
    no_args_is_help=True, help="Train on data you did not collect: rehearse attacks, and train with a defense."
)


_EVERY_ATTACK = "both"


Data = Annotated[
    str,
    typer.Option(
        metavar="FOLDER|cifar10",
        help="Pictures: a folder that holds a folder for each class; or cifar10, in the folder that FAIRVEIL_DATA "
        "names.",
        show_default=False,
    ),
]
Size = Annotated[
    int, typer.Option(min=8, max=512, help="Height and width to which the pictures of a folder are scaled.")
]


@sanitize_app.command("list")
def list_entries(
    as_json: AsJson = False,
) -> None:
    """Show the attacks and the defenses that can be rehearsed: what they do, and where they come from.

    Example: fairveil sanitize list
    """
    from fairveil.sanitize.attacks import ATTACKS
    from fairveil.sanitize.defenses import DEFENSES

    known = {"attack": ATTACKS, "defense": DEFENSES}
    fields = ("name", "what", "source")
    if as_json:
        found = {
            f"{kind}s": [{field: getattr(one, field) for field in fields} for one in entries.values()]
            for kind, entries in known.items()
        }
        typer.echo(json.dumps(found, indent=1))
        return
    for kind, entries in known.items():
        table = TerminalTable(kind, "what it does", "source")
        for one in entries.values():
            table.add_row(*(escape(getattr(one, field)) for field in fields))
        results.print(table)


@sanitize_app.command()
def rehearse(
    data: Data,
    attack: Annotated[
        str,
        typer.Option(metavar="NAME|both", help="Attack to rehearse (see `fairveil sanitize list`), or both."),
    ] = "both",
    defense: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Defense to try (see `fairveil sanitize list`); repeatable. By default all augmentations.",
        ),
    ] = None,
    preset: Preset = PresetName.small,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Greatest number of trials, by default the preset's.")
    ] = None,
    size: Size = 32,
    seed: Seed = 0,
    folder: Annotated[
        Path, folder_option("Folder that keeps what is finished: the same command goes on from there.")
    ] = Path("fairveil-rehearsal"),
    report: ReportFile = Path("rehearsal.html"),
    overwrite: Overwrite = False,
    device: Device = "cpu",
    least_effect: Annotated[
        float,
        typer.Option(min=0, max=1, help="Fall of the success rate that a recommended defense must reach, 0 to 1."),
    ] = 0.1,
    most_lost: Annotated[
        float, typer.Option(min=0, max=1, help="Accuracy that a recommended defense may cost, 0 to 1.")
    ] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Attack networks like yours on your own data, and see which defense holds and what it costs in accuracy.

    A defense is recommended if the attack's success rate falls by at least --least-effect and the accuracy by at most
    --most-lost, both by the ends of paired 95 % intervals. The accuracy is that of networks trained on clean data.

    Example: fairveil sanitize rehearse --data cifar10 --attack backdoor --defense CutMix
    """
    from fairveil.report.study import write_report
    from fairveil.sanitize.attacks import ATTACKS, attack_entry
    from fairveil.sanitize.drills import check_defenses, rehearsals
    from fairveil.sanitize.report import section_of_all
    from fairveil.sanitize.verdict import Conclusion

    machines = json_beside(report, overwrite=overwrite)
    check_device(device)
    entries = ATTACKS.values() if attack == _EVERY_ATTACK else [attack_entry(attack)]
    planned = [entry.drills[preset.value] for entry in entries]
    for drill in planned:
        check_defenses(drill, defense or ())
    train, test = _read(data, size)
    drills: list[Rehearsal] = []
    with stopped_by_ctrl_c("Finished networks and trials are kept; the same command goes on from there."):
        with progress_bar() as progress:
            progress.add_task("getting ready", total=None)
            for drill in planned:
                drills += rehearsals(
                    drill,
                    train,
                    test=test,
                    defenses=defense or (),
                    trials=trials,
                    seed=seed,
                    folder=folder,
                    device=device,
                    least_effect=least_effect,
                    most_lost=most_lost,
                )
            costs = [one.cost() for one in drills]
        _foretell(drills, costs)
        with progress_bar() as progress:
            held = [_held(drill, progress, preset.value, quiet=as_json) for drill in drills]
    conclusion = Conclusion(tuple(done.verdict for done, _ in held))
    sections = [section for _, section in held]
    if len(held) > 1:
        sections.insert(0, section_of_all(conclusion, preset=preset.value))
    today = datetime.now().astimezone().date().isoformat()
    write_report(report, sections, title=f"Poison rehearsed on {train.name}", date=today, overwrite=overwrite)
    write_json(machines, _as_json(conclusion), overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(_as_json(conclusion), indent=1))
        return
    if len(held) > 1:
        print_sentence(conclusion.recommendation)
    print_sentence(f"{report}, {machines}")


def _foretell(drills: "Sequence[Rehearsal]", costs: "Sequence[Cost]") -> None:
    """Say before the work what rehearsals will cost, and why they may show nothing."""
    for drill, cost in zip(drills, costs, strict=True):
        say(
            f"{drill.attack.name}: at most {drill.trials} trials, {cost.victims} victims, {cost.clean} clean networks, "
            f"and {cost.poisons} poisons, which take at most about {_minutes(cost.seconds)}, and less where the folder "
            "holds some of them."
        )
    for warning in dict.fromkeys(warning for drill in drills for warning in drill.warnings):
        say(f"Warning: {warning}")


def _held(drill: "Rehearsal", progress: Progress, preset: str, *, quiet: bool) -> "tuple[Rehearsed, StudySection]":
    """Hold one rehearsal and print what came of it; gives it, and its section of the page."""
    from fairveil.sanitize.report import mixed_versions, section_of, table_of

    task = progress.add_task(drill.attack.name, total=drill.trials)
    done = drill.run(on_trial=lambda count, _: progress.update(task, completed=count))
    progress.remove_task(task)
    if len(done.versions) > 1:
        say(mixed_versions(done))
    if not quiet:
        print_table(table_of(done.verdict))
        print_sentence(done.verdict.recommendation)
    return done, section_of(drill, done, preset=preset)


def _as_json(conclusion: "Conclusion") -> dict[str, Any]:
    """One verdict over all attacks, and each attack's own."""
    from fairveil.base.estimate import recorded

    attacks = [
        recorded(one) | {"best": one.best and one.best.name, "recommendation": one.recommendation}
        for one in conclusion.verdicts
    ]
    return {"best": conclusion.best, "recommendation": conclusion.recommendation, "attacks": attacks}


@sanitize_app.command()
def train(
    data: Data,
    out: ModelFile,
    augment: Annotated[
        str, typer.Option(metavar="NAME", help="Defense: cutmix, mixup, ...; baseline is flips and crops.")
    ] = "CutMix",
    network: Annotated[
        str, typer.Option(metavar="NAME", help="Network: resnet-8-fast suits two cores; also resnet-18, ...")
    ] = "resnet-8-fast",
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs.")] = 30,
    size: Size = 32,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train a classifier with a defense, and save it. A stopped run goes on from where it was.

    Accuracy is measured on a fifth of the pictures, which is put aside, or on CIFAR-10's own test pictures.

    Example: fairveil sanitize train --data photos/ --augment cutmix -o model.safetensors
    """
    from fairveil.sanitize.defenses import defense
    from fairveil.training import Training, build_network, evaluate
    from fairveil.training import train as train_network
    from fairveil.training.saved_networks import save_network

    check_new_recognizer(out)
    check_device(device)
    pictures, test = _read(data, size)
    if test is None:
        pictures, test = pictures.split(0.2, seed=seed)
    under = defense(augment, size=min(pictures.images.shape[2:]))
    model = build_network(network, len(pictures.classes), seed=seed, channels=pictures.images.shape[1])
    settings = Training(epochs=epochs, precision="bf16", seed=seed)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    try:
        with progress_bar() as progress:
            task = progress.add_task(under.name, total=epochs)
            train_network(
                model,
                pictures,
                settings,
                objective=under.objective,
                gradients=under.gradients,
                checkpoint=checkpoint,
                on_epoch=lambda epoch: progress.update(task, completed=epoch.number),
                device=device,
            )
    except KeyboardInterrupt:
        say(_what_is_kept(checkpoint))
        raise typer.Exit(INTERRUPTED) from None
    model.cpu()
    accuracy = evaluate(model, test)
    about = {
        "defense": under.name,
        "training": settings.model_dump(mode="json"),
        "data": {"name": pictures.name, "pictures": len(pictures), "sha256": pictures.fingerprint()},
        "accuracy": accuracy,
        "tested on": len(test),
    }
    save_network(out, model, network, pictures.classes, about)
    checkpoint.unlink(missing_ok=True)
    if as_json:
        typer.echo(json.dumps({"file": str(out), **about}, indent=1))
        return
    print_sentence(
        f"{out}: {network} with {under.name}, right about {accuracy:.1%} of {len(test)} pictures it was not trained on."
    )


def _read(data: str, size: int) -> "tuple[LabeledImages, LabeledImages | None]":
    """Pictures to train on, and those to test with if the data set keeps them apart."""
    from fairveil.data.cifar10 import read_cifar10
    from fairveil.data.images import read_image_folder

    if data == "cifar10":
        train, test = read_cifar10(split="train"), read_cifar10(split="test")
    else:
        train, test = read_image_folder(named_path(data), size=size), None
    classes = ", ".join(f"{name} ({count:,})" for name, count in train.counts.items())
    say(f"{train.name}: {len(train):,} pictures of {len(train.classes)} classes: {classes}.")
    return train, test


def _what_is_kept(checkpoint: Path) -> str:
    """What somebody who stopped training finds, and how to go on."""
    from fairveil.training.checkpoints import finished_epochs

    done = finished_epochs(checkpoint)
    if not done:
        return "Stopped before the first epoch was finished: nothing is kept."
    many = f"{done} epochs are" if done > 1 else "1 epoch is"
    return f"Stopped. {many} kept in {checkpoint}; the same command goes on from there."


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
