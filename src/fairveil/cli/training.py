"""The command `fairveil train`."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.cli.faces import PersonFolder, photos_of
from fairveil.cli.studies import check_device
from fairveil.cli.terminal import named_path, progress_bar, results, talk

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from rich.progress import Progress

    from fairveil.data.face_crops import FaceCrops
    from fairveil.data.table import FaceTable
    from fairveil.training import Epoch


class TrainedFace(StrEnum):
    """Which face of a photo is the labelled one."""

    central = "central"
    largest = "largest"
    aligned = "aligned"


class HeadName(StrEnum):
    """Which margin."""

    cosface = "cosface"
    arcface = "arcface"


class LossName(StrEnum):
    """Of the logits."""

    cross_entropy = "cross-entropy"
    focal = "focal"


class TrainingPreset(StrEnum):
    """How long and with which settings."""

    small = "small"
    paper = "paper"


def train(
    photos: Annotated[
        str,
        typer.Argument(metavar="FOLDER|CSV|PACK", help="Photos with identities: a folder each, or a column identity."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", parser=named_path, help="New file for the weights (safetensors)."),
    ],
    backbone: Annotated[
        str, typer.Option(help="mobilefacenet for two cores; resnet-18, resnet-50, resnet-152, ir-50, ...")
    ] = "mobilefacenet",
    head: Annotated[HeadName, typer.Option(help="The margin: off the cosine, or onto the angle.")] = HeadName.cosface,
    preset: Annotated[
        TrainingPreset, typer.Option(help="small: minutes on two cores; paper: the published settings.")
    ] = TrainingPreset.small,
    epochs: Annotated[int | None, typer.Option(min=1, help="By default the preset's, as the next two.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=1e-6, max=10, help="The highest.")] = None,
    loss: Annotated[LossName, typer.Option(help="Of the logits.")] = LossName.cross_entropy,
    margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="By default 0.35 for cosface and 0.5 for arcface.")
    ] = None,
    balanced: Annotated[
        bool, typer.Option("--balanced/--as-they-are", help="Draw identities equally often, or every image once.")
    ] = True,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Record how many people and images of each value of this column were trained on; repeatable. All "
            "columns of groups by default."
        ),
    ] = None,
    face: Annotated[
        TrainedFace, typer.Option(help="The face nearest the centre, the largest; or photos are aligned crops already.")
    ] = TrainedFace.central,
    person_folder: PersonFolder = None,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the crops in pixels, a multiple of 16.")] = 112,
    validation: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the identities held out to measure accuracy; 0 for none.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of everything drawn.")] = 0,
    device: Annotated[str, typer.Option(help="Where to train, as torch names it: cpu, cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Train a face recogniser from scratch and save it; a stopped run goes on where it was.

    Every command that takes a --recognizer takes the file. Accuracy is rank-1 among the images of people held out:
    how often the nearest other image is of the same person.

    Example: fairveil train celeba/ --backbone mobilefacenet --head cosface -o model.safetensors
    """
    from fairveil.base.errors import shown
    from fairveil.faces.recognition import PAPER, SMALL, train_recognizer
    from fairveil.faces.trained import ModelCard, save_trained

    _check(out, backbone, size, device)
    asked = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    chosen = {name: value for name, value in asked.items() if value is not None}
    base = {TrainingPreset.small: SMALL, TrainingPreset.paper: PAPER}[preset]
    # a warm-up longer than a run of few epochs is cut to it
    warmup = min(base.warmup, (epochs or base.epochs) / 2)
    training = base.model_validate(base.model_dump() | chosen | {"warmup": warmup, "seed": seed})
    kept = out.with_name(f".{out.name}.crops")
    table = photos_of(photos, person_folder)
    table.check_people()
    crops = cut_with_progress(_grouped(table, group), size, face, kept)
    held: FaceCrops | None = None
    if validation and len(crops.classes) > 1:  # one identity alone is told of below
        crops, held = crops.hold_out(validation, seed=seed)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    with progress_bar() as progress:
        on_step = epoch_bar(progress, f"{backbone}, {head.value}", training.epochs, len(crops))
        try:
            recognizer, history = train_recognizer(
                crops,
                training,
                backbone=backbone,
                head=head.value,
                margin=margin,
                balanced=balanced,
                loss=loss.value,
                validation=held,
                checkpoint=checkpoint,
                on_epoch=_tell,
                on_step=on_step,
                device=device,
                name=out.stem,
            )
        except KeyboardInterrupt:
            talk.print("Stopped. Finished epochs are kept; the same command goes on from there.")
            raise typer.Exit(130) from None
    card = ModelCard.of(
        crops,
        training,
        history,
        backbone=backbone,
        head=head.value,
        margin=margin,
        balanced=balanced,
        loss=loss.value,
    )
    save_trained(out, recognizer, card)
    checkpoint.unlink(missing_ok=True)
    shutil.rmtree(kept, ignore_errors=True)
    if as_json:
        record = {
            "file": str(out),
            **card.model_dump(),
            "losses": [epoch.loss for epoch in history.epochs],
            "scores": [epoch.score for epoch in history.epochs],
            "held_out": None if held is None else {"identities": len(held.classes), "images": len(held)},
            "left_out": dict(crops.left_out),
        }
        typer.echo(json.dumps(record, indent=1))
        return
    told = f"{shown(out)}: {backbone} with {head.value}, trained on {_counted(crops)}."
    if held is not None:
        told += f" Of {_counted(held)} held out, {card.rank1:.1%} of images have one of the same person nearest."
    results.print(Text(told), soft_wrap=True)


def _counted(crops: "FaceCrops") -> str:
    return f"{len(crops):,} images of {len(crops.classes):,} people"


def new_model_file(out: Path) -> None:
    """Refuse a file that weights cannot be written to, or that commands would not know for weights.

    Raises:
        FairveilError: it already exists, or its folder is not.
    """
    from fairveil.base.errors import shown

    if out.suffix != ".safetensors":  # by which --recognizer tells it from names
        raise typer.BadParameter(
            f"{shown(out)} does not end in .safetensors: name a file that does.", param_hint="--out"
        )
    if out.exists():
        raise FairveilError(f"{shown(out)} already exists: choose another name.")
    if not out.parent.is_dir():
        raise FairveilError(f"{shown(out)} cannot be written: there is no folder {shown(out.parent)}.")


def _check(out: Path, backbone: str, size: int, device: str) -> None:
    """Find out before the work what would make it useless."""
    from fairveil.faces.backbones import build_backbone

    new_model_file(out)
    check_device(device)
    import torch

    with torch.device("meta"):
        build_backbone(backbone, seed=0, size=size)


def _grouped(table: "FaceTable", groups: list[str] | None) -> "FaceTable":
    """The table with some of its columns of groups only, if asked for."""
    from fairveil.base.errors import shown

    for group in groups or ():
        if group not in table.groups:
            hint = did_you_mean(group, table.groups)
            there = ", ".join(table.groups) or "none"
            raise FairveilError(f"{shown(table.name)} has no groups {group!r}.{hint} It has {there}.")
    return table if groups is None else replace(table, groups=tuple(dict.fromkeys(groups)))


def cut_with_progress(table: "FaceTable", size: int, face: TrainedFace, folder: Path) -> "FaceCrops":
    """`cut_crops` with a progress bar, and a word on what it left out."""
    from fairveil.faces.cropping import cut_crops

    with progress_bar() as progress:
        task = progress.add_task(escape(table.name), total=len(table))
        try:
            crops = cut_crops(
                table,
                size=size,
                which=face.value,
                folder=folder,
                on_photo=lambda count: progress.update(task, completed=count),
            )
        except KeyboardInterrupt:
            talk.print("Stopped before training, so nothing is kept.")
            raise typer.Exit(130) from None
    if crops.left_out:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in crops.left_out.items())
        talk.print(Text(f"{sum(crops.left_out.values()):,} of {len(table):,} photos are left out ({reasons})."))
    return crops


def epoch_bar(progress: "Progress", name: str, epochs: int, images: int) -> Callable[[float, float], None]:
    """A bar of epochs, to be told of each step how many are done and the loss."""
    name = escape(name)
    task = progress.add_task(name, total=epochs)
    before, moment = None, time.perf_counter()

    def told(done: float, loss: float) -> None:
        nonlocal before, moment
        now, speed = time.perf_counter(), ""
        if before is not None:  # of the first step nobody knows where it began
            speed = f", {(done - before) * images / (now - moment):.0f} images/s"
        before, moment = done, now
        progress.update(task, completed=done, description=f"{name}: loss {loss:.2f}{speed}")

    return told


def _tell(epoch: "Epoch") -> None:
    score = "" if epoch.score is None else f", rank-1 of people held out {epoch.score:.1%}"
    talk.print(Text(f"Epoch {epoch.number}: loss {epoch.loss:.2f}{score}, {epoch.seconds:.0f} s"))
