"""The commands `fairveil sanitize list|rehearse|train`."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table as TerminalTable
from rich.text import Text

from fairveil.base.errors import FairveilError
from fairveil.cli.studies import PresetName, check_device
from fairveil.cli.terminal import named_path, progress_bar, results, talk

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from collections.abc import Sequence

    from fairveil.data.images import LabelledImages
    from fairveil.report.study import StudySection
    from fairveil.sanitize.rehearsal import Cost, Rehearsal, Rehearsed
    from fairveil.sanitize.verdict import Conclusion

sanitize_app = typer.Typer(
    no_args_is_help=True, help="Train on data you did not collect: augmentations that defuse poison, and a fire drill."
)


_EVERY_ATTACK = "both"

Data = Annotated[
    str,
    typer.Option(
        metavar="FOLDER|cifar10",
        help="A folder with a folder of pictures for each class; or cifar10, found by FAIRVEIL_DATA.",
    ),
]
Size = Annotated[
    int, typer.Option(min=8, max=512, help="Height and width that the pictures of a folder are brought to.")
]
Device = Annotated[str, typer.Option(help="Where networks are trained, as torch names it: cpu, cuda, cuda:1.")]


@sanitize_app.command("list")
def list_entries(
    as_json: Annotated[bool, typer.Option("--json", help="Print both lists as JSON.")] = False,
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
        typer.Option(metavar="NAME|both", help="Attack to rehearse (see `fairveil sanitize list`); both by default."),
    ] = "both",
    defense: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Defense to try (see `fairveil sanitize list`), repeatable; all augmentations by default.",
        ),
    ] = None,
    preset: Annotated[
        PresetName, typer.Option(help="smoke: to see that it runs; small: two cores; paper: the published size.")
    ] = PresetName.small,
    trials: Annotated[int | None, typer.Option(min=1, help="At the most; by default the preset's.")] = None,
    size: Size = 32,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of everything drawn.")] = 0,
    folder: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", parser=named_path, help="Keeps what is finished: run again to go on."
        ),
    ] = Path("fairveil-rehearsal"),
    page: Annotated[Path, typer.Option(metavar="FILE", parser=named_path, help="The report to write.")] = Path(
        "rehearsal.html"
    ),
    overwrite: Annotated[bool, typer.Option(help="Replace a report that is there already.")] = False,
    device: Device = "cpu",
    least_effect: Annotated[
        float, typer.Option(min=0, max=1, help="How far success must fall before a defense is recommended (share).")
    ] = 0.1,
    most_lost: Annotated[
        float, typer.Option(min=0, max=1, help="How much accuracy a recommended defense may cost at most (share).")
    ] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Attack networks like yours on your own data, and see which defense holds and what it costs in accuracy.

    A defense is recommended if success clearly falls by --least-effect or more and no more accuracy than --most-lost
    is lost, by the ends of paired 95 % intervals. The price is that of networks trained on clean data.

    Example: fairveil sanitize rehearse --data cifar10 --attack backdoor --defense CutMix
    """
    from fairveil.report.study import write_report
    from fairveil.sanitize.attacks import ATTACKS, attack_entry
    from fairveil.sanitize.drills import check_defenses, rehearsals
    from fairveil.sanitize.report import section_of_all
    from fairveil.sanitize.verdict import Conclusion

    if page.exists() and not overwrite:
        raise FairveilError(f"{page} already exists: allow --overwrite, or choose another --page.")
    _check_parent(page)
    check_device(device)
    entries = ATTACKS.values() if attack == _EVERY_ATTACK else [attack_entry(attack)]
    planned = [entry.drills[preset.value] for entry in entries]
    for drill in planned:
        check_defenses(drill, defense or ())
    train, test = _read(data, size)
    drills: list[Rehearsal] = []
    try:
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
            held = [_held(one, progress, preset.value, quiet=as_json) for one in drills]
    except KeyboardInterrupt:
        talk.print("Stopped. Finished networks and trials are kept; the same command goes on from there.")
        raise typer.Exit(130) from None
    conclusion = Conclusion(tuple(done.verdict for done, _ in held))
    sections = [section for _, section in held]
    if len(held) > 1:
        sections.insert(0, section_of_all(conclusion, preset=preset.value))
    today = datetime.now().astimezone().date().isoformat()
    write_report(page, sections, title=f"Poison rehearsed on {train.name}", date=today, overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(_as_json(conclusion), indent=1))
        return
    if len(held) > 1:
        results.print(Text(conclusion.recommendation), soft_wrap=True)
    results.print(str(page), soft_wrap=True)


def _foretell(drills: "Sequence[Rehearsal]", costs: "Sequence[Cost]") -> None:
    """What rehearsals will take, and why they may be in vain."""
    for drill, cost in zip(drills, costs, strict=True):
        talk.print(
            f"{drill.attack.name}: {drill.trials} trials at the most, {cost.victims} victims, {cost.clean} clean "
            f"networks, {cost.poisons} poisons: at most about {_minutes(cost.seconds)}, less where the folder has "
            "some.",
            soft_wrap=True,
        )
    for warning in dict.fromkeys(warning for drill in drills for warning in drill.warnings):
        talk.print(f"Warning: {warning}", soft_wrap=True)


def _held(drill: "Rehearsal", progress: Progress, preset: str, *, quiet: bool) -> "tuple[Rehearsed, StudySection]":
    """Hold one rehearsal and print what came of it; gives it, and its section of the page."""
    from fairveil.report.rendering import to_terminal
    from fairveil.sanitize.report import mixed_versions, section_of, table_of

    task = progress.add_task(drill.attack.name, total=drill.trials)
    done = drill.run(on_trial=lambda count, _: progress.update(task, completed=count))
    progress.remove_task(task)
    if len(done.versions) > 1:
        talk.print(mixed_versions(done), soft_wrap=True)
    if not quiet:
        for part in to_terminal(table_of(done.verdict), width=results.width):
            results.print(part)
        results.print(Text(done.verdict.recommendation), soft_wrap=True)
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
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", parser=named_path, help="New file for the weights (safetensors)."),
    ],
    augment: Annotated[
        str, typer.Option(help="The defense: cutmix, mixup, ...; baseline is flips and crops.")
    ] = "CutMix",
    network: Annotated[str, typer.Option(help="resnet-8-fast for two cores, resnet-18, ...")] = "resnet-8-fast",
    epochs: Annotated[int, typer.Option(min=1, help="How often the pictures are gone through.")] = 30,
    size: Size = 32,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of everything drawn.")] = 0,
    device: Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Train a classifier with a defense, and save it; a stopped run goes on where it was.

    Accuracy is measured on a fifth of the pictures that is put aside, or on CIFAR-10's own test pictures.

    Example: fairveil sanitize train --data photos/ --augment cutmix -o model.safetensors
    """
    from fairveil.sanitize.defenses import defense
    from fairveil.training import Training, build_network, evaluate
    from fairveil.training import train as train_network
    from fairveil.training.saved_networks import save_network

    if out.exists():
        raise FairveilError(f"{out} already exists: choose another name.")
    _check_parent(out)
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
        talk.print(_what_is_kept(checkpoint), soft_wrap=True)
        raise typer.Exit(130) from None
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
    results.print(
        f"{escape(str(out))}: {network} with {under.name}, right about {accuracy:.1%} of {len(test)} pictures it was "
        "not trained on.",
        soft_wrap=True,
    )


def _read(data: str, size: int) -> "tuple[LabelledImages, LabelledImages | None]":
    """Pictures to train on, and those to test with if they are apart already."""
    from fairveil.data.cifar10 import read_cifar10
    from fairveil.data.images import read_image_folder

    if data == "cifar10":
        train, test = read_cifar10(split="train"), read_cifar10(split="test")
    else:
        train, test = read_image_folder(named_path(data), size=size), None
    classes = ", ".join(f"{name} ({count:,})" for name, count in train.counts.items())
    talk.print(
        Text(f"{train.name}: {len(train):,} pictures of {len(train.classes)} classes: {classes}."), soft_wrap=True
    )
    return train, test


def _check_parent(file: Path) -> None:
    """Before hours of work are done for it."""
    if not file.parent.is_dir():
        raise FairveilError(f"{file.parent} is not a folder: make it first, or choose another place.")


def _what_is_kept(checkpoint: Path) -> str:
    """What somebody who stopped training finds, and how to go on."""
    from fairveil.training.checkpoints import finished_epochs

    done = finished_epochs(checkpoint)
    if not done:
        return "Stopped before the first epoch was finished: nothing is kept."
    many = f"{done} epochs are" if done > 1 else "1 epoch is"
    return f"Stopped. {many} kept in {escape(str(checkpoint))}; the same command goes on from there."


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
