"""The command `fairveil train`."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.cli.faces import photos_of
from fairveil.cli.options import (
    AsJson,
    Data,
    Device,
    Epochs,
    ModelFile,
    PersonFolder,
    Seed,
    TrainedFace,
    TrainedFaceChoice,
    TrainingLength,
    TrainingPreset,
    check_device,
)
from fairveil.cli.outputs import check_new_recognizer
from fairveil.cli.terminal import print_sentence, progress_bar, say, stopped_by_ctrl_c

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from rich.progress import Progress

    from fairveil.data.face_crops import FaceCrops
    from fairveil.data.table import FaceTable
    from fairveil.training import Epoch


EPOCHS_KEPT = "Finished epochs are kept; the same command goes on from there."
"""What somebody who stopped training is told."""


class HeadName(StrEnum):
    """What kind of margin."""

    cosface = "cosface"
    arcface = "arcface"


class LossName(StrEnum):
    """The loss of the logits."""

    cross_entropy = "cross-entropy"
    focal = "focal"


def train(
    photos: Data,
    out: ModelFile,
    backbone: Annotated[
        str,
        typer.Option(help="Network: mobilefacenet suits two cores; also resnet-18, resnet-50, resnet-152, ir-50, ..."),
    ] = "mobilefacenet",
    head: Annotated[
        HeadName, typer.Option(help="Head: cosface takes a margin off the cosine, arcface adds one to the angle.")
    ] = HeadName.cosface,
    preset: TrainingLength = TrainingPreset.small,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images in each step, by default the preset's.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-6, max=10, help="Highest learning rate, by default the preset's.")
    ] = None,
    loss: Annotated[LossName, typer.Option(help="Loss of the logits.")] = LossName.cross_entropy,
    margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="Margin, by default 0.35 for cosface and 0.5 for arcface.")
    ] = None,
    balanced: Annotated[
        bool,
        typer.Option("--balanced/--as-they-are", help="Draw all identities equally often, or every image once."),
    ] = True,
    group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of groups of which to record how many people and images were trained on; repeatable. By "
            "default all columns of groups.",
        ),
    ] = None,
    face: TrainedFaceChoice = TrainedFace.central,
    person_folder: PersonFolder = None,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the crops in pixels, a multiple of 16.")] = 112,
    validation: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of the identities held out to measure accuracy; 0 holds out none."),
    ] = 0.1,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train a face recognizer from scratch and save it. A stopped run goes on from where it was.

    Every command with the option --recognizer takes the file. Accuracy is the rank-1 accuracy among the images of the
    people held out: how often the nearest other image is of the same person.

    Example: fairveil train celeba/ --backbone mobilefacenet --head cosface -o model.safetensors
    """
    from fairveil.base.errors import shown
    from fairveil.faces.recognizer_training import PAPER, SMALL, train_recognizer
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
    how: dict[str, Any] = {"backbone": backbone, "head": head.value, "loss": loss.value}
    how |= {"margin": margin, "balanced": balanced}
    with stopped_by_ctrl_c(EPOCHS_KEPT), progress_bar() as progress:
        recognizer, history = train_recognizer(
            crops,
            training,
            **how,
            validation=held,
            checkpoint=checkpoint,
            on_epoch=_tell,
            on_step=epoch_bar(progress, f"{backbone}, {head.value}", training.epochs, len(crops)),
            device=device,
            name=out.stem,
        )
    card = ModelCard.of(crops, training, history, **how)
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
    print_sentence(told)


def _counted(crops: "FaceCrops") -> str:
    return f"{len(crops):,} images of {len(crops.classes):,} people"


def _check(out: Path, backbone: str, size: int, device: str) -> None:
    """Find out before the work what would make it useless."""
    from fairveil.faces.backbones import build_backbone

    check_new_recognizer(out)
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

    with stopped_by_ctrl_c("Training has not begun, so nothing is kept."), progress_bar() as progress:
        task = progress.add_task(escape(table.name), total=len(table))
        crops = cut_crops(
            table,
            size=size,
            which=face.value,
            folder=folder,
            on_photo=lambda count: progress.update(task, completed=count),
        )
    if crops.left_out:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in crops.left_out.items())
        say(f"{sum(crops.left_out.values()):,} of {len(table):,} photos are left out ({reasons}).")
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
    say(f"Epoch {epoch.number}: loss {epoch.loss:.2f}{score}, {epoch.seconds:.0f} s")
