"""What the commands `fairveil fair train` and `fairveil fair compare` train on, and how."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairveil.cli.faces import photos_of
from fairveil.cli.options import Device, Epochs, TrainedFace, TrainedFaceChoice, TrainingLength, TrainingPreset
from fairveil.cli.terminal import named_path, progress_bar, say
from fairveil.cli.training import cut_with_progress

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.data.face_crops import FaceCrops
    from fairveil.fair.experiments import TrainingExperiment
    from fairveil.fair.face_experiment import FaceExperiment
    from fairveil.fair.xray_experiment import XrayExperiment, XraySplits
    from fairveil.training import Training


class TaskName(StrEnum):
    """What is learned."""

    recognition = "recognition"
    findings = "findings"


class UncertainRule(StrEnum):
    """What -1 counts as in lists of X-rays."""

    mixed = "mixed"
    zeros = "zeros"
    ones = "ones"
    ignore = "ignore"


@dataclass(frozen=True)
class TrainingRequest:
    """What a command was asked to train on, and how."""

    data: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|CSV|PACK",
            help="Faces with identities; with --task findings X-rays (CheXpert, ChestX-ray14, or a CSV); or synthetic, "
            "for generated ones.",
            show_default=False,
        ),
    ]
    group: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of the groups to be treated alike.", show_default=False)
    ]
    task: Annotated[TaskName, typer.Option(help="Task: recognition of faces, or findings in X-rays.")] = (
        TaskName.recognition
    )
    preset: TrainingLength = TrainingPreset.small
    epochs: Epochs = None
    size: Annotated[
        int | None, typer.Option(min=16, max=1024, help="Side of the pictures in pixels, by default the preset's.")
    ] = None
    face: TrainedFaceChoice = TrainedFace.central
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=named_path,
            help="ImageNet weights of torchvision's DenseNet-121 to start from, with --task findings --preset paper.",
        ),
    ] = None
    uncertain: Annotated[
        UncertainRule | None,
        typer.Option(
            help="Meaning of -1 in lists of X-rays, by default mixed for CheXpert and ignore (unknown) for plain lists."
        ),
    ] = None
    device: Device = "cpu"

    def open(self, folder: Path) -> "tuple[TrainingExperiment, str]":
        """The experiment, and what it is of in a sentence.

        Args:
            folder: keeps crops, X-rays and baselines.
        """
        return self._faces(folder) if self.task == TaskName.recognition else self._xrays(folder)

    def _faces(self, folder: Path) -> "tuple[FaceExperiment, str]":
        """Recognition of a table's faces."""
        import torch

        from fairveil.faces.backbones import build_backbone
        from fairveil.faces.recognizer_training import PAPER
        from fairveil.fair.face_experiment import SMALL, FaceExperiment, FaceSettings
        from fairveil.fair.face_splits import split_faces
        from fairveil.fair.paper.face_trials import TESTED

        if self.weights is not None:
            raise typer.BadParameter("ImageNet weights are for X-rays: leave them out.", param_hint="--weights")
        settings = FaceSettings(training=PAPER) if self.preset == TrainingPreset.paper else SMALL
        settings = settings.model_copy(update={"training": self._with_epochs(settings.training)})
        size = self.size or (112 if self.preset == TrainingPreset.paper else 64)
        with torch.device("meta"):  # before any photo is looked at
            build_backbone(settings.backbone, seed=0, size=size)
        crops = self._crops(size, folder)
        splits = split_faces(crops, self.group, test=TESTED)
        told = (
            f"{crops.name}: {len(splits.train) + len(splits.holdout):,} images of {len(splits.train.classes):,} people "
            f"to train on, {len(splits.test):,} of {len(splits.test.classes):,} others to test with. Penalties on a "
            "holdout are taken of other images of the people trained on, as published."
        )
        return FaceExperiment(splits, self.group, settings, folder=folder / "baselines", device=self.device), told

    def _crops(self, size: int, folder: Path) -> "FaceCrops":
        from fairveil.experiment.study import SYNTHETIC
        from fairveil.experiment.subjects import crops_of

        if self.data != SYNTHETIC:
            from fairveil.data.face_crops import FaceCrops
            from fairveil.fair.face_splits import split_faces
            from fairveil.fair.groups import groups_of
            from fairveil.fair.paper.face_trials import TESTED

            table = photos_of(self.data)
            # complains before any photo is opened
            groups_of({name: table.frame[name].to_list() for name in table.groups}, self.group)
            split_faces(FaceCrops.without_pictures(table), self.group, test=TESTED)
            return cut_with_progress(table, size, self.face, folder / "crops")
        if not 64 <= size <= 224:
            raise typer.BadParameter("Generated faces have 64 to 224 pixels.", param_hint="--size")
        from fairveil.experiment.workbench import Workbench
        from fairveil.fair.paper.face_trials import GENERATED

        return crops_of(GENERATED.model_copy(update={"size": size}), Workbench(folder))

    def _xrays(self, folder: Path) -> "tuple[XrayExperiment, str]":
        """Findings of a list's X-rays."""
        from fairveil.fair.xray_classifier import PUBLISHED, SMALL
        from fairveil.fair.xray_experiment import XrayExperiment

        if self.face != TrainedFace.central:
            raise typer.BadParameter("X-rays have no faces to choose from: leave it out.", param_hint="--face")
        settings = PUBLISHED if self.preset == TrainingPreset.paper else SMALL
        settings = settings.model_copy(update={"training": self._with_epochs(settings.training)})
        splits = self._xray_splits(folder / "xrays")
        told = (
            f"{splits.train.name}: {len(splits.train):,} X-rays to train on, {len(splits.validation):,} to validate "
            f"with, {len(splits.test):,} to test with, all of other patients. Penalties on a holdout are taken of the "
            "validation set."
        )
        return XrayExperiment(splits, self.group, settings, pretrained=self.weights, device=self.device), told

    def _with_epochs(self, training: "Training") -> "Training":
        if self.epochs is None:
            return training
        return training.model_copy(update={"epochs": self.epochs, "warmup": min(training.warmup, self.epochs / 2)})

    def _xray_splits(self, folder: Path) -> "XraySplits":
        from fairveil.data.xrays import read_xrays
        from fairveil.experiment.study import SYNTHETIC
        from fairveil.fair.paper.xray_trials import Patients, splits_of
        from fairveil.fair.xray_experiment import split_xrays

        if self.data == SYNTHETIC:
            if self.size is not None and self.size > 512:
                raise typer.BadParameter("Generated X-rays have 512 pixels at most.", param_hint="--size")
            return splits_of(Patients() if self.size is None else Patients(size=self.size), folder)
        size = self.size or (256 if self.preset == TrainingPreset.paper else 64)
        with progress_bar() as progress:
            task = progress.add_task("reading X-rays", total=None)
            xrays = read_xrays(
                self.data,
                size=size,
                folder=folder,
                uncertain=None if self.uncertain is None else self.uncertain.value,
                on_image=lambda count: progress.update(task, completed=count),
            )
        for remark in xrays.remarks:
            say(remark)
        if xrays.left_out:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in xrays.left_out.items())
            say(f"{sum(xrays.left_out.values()):,} rows are left out ({reasons}).")
        return split_xrays(xrays)
