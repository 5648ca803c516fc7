"""The commands `fairveil sanitize rehearse|train`."""

import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from fairveil.cli.studies import PresetName, check_device
from fairveil.cli.terminal import named_path, progress_bar, results, talk
from fairveil.errors import FairveilError

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.data.images import LabelledImages

sanitize_app = typer.Typer(
    no_args_is_help=True, help="Train on data you did not collect: augmentations that defuse poison, and a fire drill."
)


class AttackName(StrEnum):
    """What is rehearsed."""

    backdoor = "backdoor"
    gradient_matching = "gradient-matching"
    both = "both"


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
Device = Annotated[str, typer.Option(help="Where networks are trained, as torch names it: cpu, cuda.")]


@sanitize_app.command()
def rehearse(
    data: Data,
    attack: Annotated[AttackName, typer.Option(help="Patches, or one picture turned by unseen changes.")] = (
        AttackName.both
    ),
    defense: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Defence to try; repeatable. All augmentations by default.")
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Attack networks like yours on your own data, and see which defence holds and what it costs in accuracy.

    Example: fairveil sanitize rehearse --data cifar10 --attack backdoor --defense CutMix
    """
    from fairveil.report.rendering import to_terminal
    from fairveil.report.study import write_report
    from fairveil.sanitize.rehearsal_report import section_of, table_of
    from fairveil.sanitize.set_ups import SET_UPS, Kind, rehearsals

    if page.exists() and not overwrite:
        raise FairveilError(f"{page} is there already: allow --overwrite, or choose another --page.")
    _check_parent(page)
    check_device(device)
    train, test = _read(data, size)
    kinds: list[Kind] = ["backdoor", "gradient-matching"] if attack is AttackName.both else [attack.value]  # type: ignore[list-item]
    drills = []
    with progress_bar() as progress:
        progress.add_task("getting ready", total=None)
        for kind in kinds:
            drills += rehearsals(
                kind,
                train,
                SET_UPS[preset.value],
                test=test,
                defenses=defense or (),
                trials=trials,
                seed=seed,
                folder=folder,
                device=device,
            )
        costs = [drill.cost() for drill in drills]
    for drill, cost in zip(drills, costs, strict=True):
        talk.print(
            f"{drill.attack.name}: {drill.trials} trials at the most, {cost.victims} victims, {cost.clean} clean "
            f"networks, {cost.poisons} poisons: at most about {_minutes(cost.seconds)}, less where the folder has "
            "some.",
            soft_wrap=True,
        )
    sections, verdicts = [], []
    with progress_bar() as progress:
        for drill in drills:
            task = progress.add_task(drill.attack.name, total=drill.trials)
            try:
                done = drill.run(on_trial=lambda count, _, task=task: progress.update(task, completed=count))  # type: ignore[misc]
            except KeyboardInterrupt:
                talk.print("Stopped. Finished trials are kept; the same command goes on from there.")
                raise typer.Exit(130) from None
            progress.remove_task(task)
            verdicts.append(done.verdict)
            sections.append(section_of(drill, done, preset=preset.value))
            if not as_json:
                for part in to_terminal(table_of(done.verdict), width=results.width):
                    results.print(part)
                results.print(Text(done.verdict.recommendation), soft_wrap=True)
    today = datetime.now().astimezone().date().isoformat()
    write_report(page, sections, title=f"Poison rehearsed on {train.name}", date=today, overwrite=overwrite)
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(one) | {"recommendation": one.recommendation} for one in verdicts], indent=1))
    else:
        results.print(str(page), soft_wrap=True)


@sanitize_app.command()
def train(
    data: Data,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", parser=named_path, help="New file for the weights (safetensors)."),
    ],
    augment: Annotated[
        str, typer.Option(help="The defence: cutmix, mixup, ...; baseline is flips and crops.")
    ] = "CutMix",
    network: Annotated[str, typer.Option(help="resnet-8-fast for two cores, resnet-18, ...")] = "resnet-8-fast",
    epochs: Annotated[int, typer.Option(min=1, help="How often the pictures are gone through.")] = 30,
    size: Size = 32,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of everything drawn.")] = 0,
    device: Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Train a classifier with a defence, and save it; a stopped run goes on where it was.

    Accuracy is measured on a fifth of the pictures that is put aside, or on CIFAR-10's own test pictures.

    Example: fairveil sanitize train --data photos/ --augment cutmix -o model.safetensors
    """
    from fairveil.sanitize.defenses import defense
    from fairveil.training import Training, build_network, evaluate
    from fairveil.training import train as train_network
    from fairveil.training.saved_networks import save_network

    if out.exists():
        raise FairveilError(f"{out} is there already: choose another name.")
    _check_parent(out)
    check_device(device)
    pictures, test = _read(data, size)
    if test is None:
        pictures, test = pictures.split(0.2, seed=seed)
    under = defense(augment, size=min(pictures.images.shape[2:]))
    model = build_network(network, len(pictures.classes), seed=seed, channels=pictures.images.shape[1])
    settings = Training(epochs=epochs, precision="bf16", seed=seed)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
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


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
