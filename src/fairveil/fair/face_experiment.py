"""Recognizers trained under an intervention, and how often each group is recognized (section 6.3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import polars as pl
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fairveil.base.sharing import make_files
from fairveil.base.tensor_files import read_tensors, write_tensors
from fairveil.data.face_crops import FaceCrops
from fairveil.faces.backbones import Projected, build_backbone
from fairveil.faces.heads import MARGINS, HeadKind, MarginHead
from fairveil.faces.identification import identify
from fairveil.faces.recognizer_training import PAPER, Loss, Recognition, embed_all
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.faces.trained import ModelCard, save_trained
from fairveil.fair.adversarial import Removal, Removed
from fairveil.fair.experiments import Callbacks, TrainingExperiment, run_name
from fairveil.fair.face_splits import FaceSplits, group_of_each, relabeled
from fairveil.fair.groups import Groups
from fairveil.fair.interventions import Baseline, Intervention, Outputs, Task
from fairveil.fair.margins import angles
from fairveil.fair.scores import share_scores, single_score
from fairveil.training import Batch, Training

MEASURES = {"train": "classification", "validation": "rank-1", "test": "rank-1"}
"""What is measured on each split: by the classifier on the train set, else by nearest neighbors."""

_FORMAT, _NETWORK = "fairveil fair recogniser 1", "network."


class FaceSettings(BaseModel):
    """How a recognizer is trained.

    Attributes:
        backbone: one of `fairveil.faces.backbones.BACKBONES`.
        head: which margin.
        dimension: of the embeddings.
        loss: of the logits.
        training: the rest; its seed is replaced.
        stratified: whether every batch holds each group in proportion to its share, rather than by chance.
        removal: how features are made fair; its seed and weight are replaced.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str = "resnet-18"
    head: HeadKind = "cosface"
    dimension: int = Field(512, ge=2)
    loss: Loss = "focal"
    training: Training = PAPER
    stratified: bool = False
    removal: Removal = Removal()


SMALL = FaceSettings(
    backbone="resnet-8",
    dimension=128,
    training=Training(epochs=12, batch_size=32, learning_rate=0.02, nesterov=False, warmup=1.0),
    stratified=True,
    removal=Removal(epochs=60, batch_size=128),
)
"""What two processor cores train in a minute or two, on crops of 64 pixels."""


@dataclass(frozen=True)
class FittedFaces:
    """A recognizer that was trained under an intervention.

    Attributes:
        recognizer: gives embeddings of crops.
        head: of the identities trained on, in their order.
        removed: what makes features fair, where that is the intervention.
        skipped_fraction: of the batches, in which fewer than two groups were there to be compared.
    """

    recognizer: Recognizer
    head: MarginHead
    removed: Removed | None
    skipped_fraction: float

    def embed(self, crops: FaceCrops) -> Tensor:
        """Unit vectors, (N, D)."""
        vectors = embed_all(self.recognizer, crops)
        return vectors if self.removed is None else self.removed.project(vectors)

    def whole(self) -> Recognizer:
        """The recognizer with what makes its features fair, as one."""
        if self.removed is None:
            return self.recognizer
        network = Projected(cast(nn.Module, self.recognizer.network).cpu(), self.removed.network)
        return Recognizer.from_module(network, name=self.recognizer.name, framing=self.recognizer.framing)


@dataclass(frozen=True, eq=False)
class FaceExperiment(TrainingExperiment):
    """Face recognition under interventions.

    Attributes:
        folder: where baselines are kept, which fair features start from; None to train one whenever it is needed.
    """

    splits: FaceSplits
    settings: FaceSettings = SMALL
    folder: Path | None = None

    @property
    def task(self) -> Task:
        """Recognition."""
        return "recognition"

    @property
    def measures(self) -> dict[str, str]:
        """See `MEASURES`."""
        return MEASURES if self.splits.bystanders is None else MEASURES | {"bystanders": "rank-1"}

    def _people(self, part: FaceCrops) -> Sequence[str]:
        return part.frame["identity"].to_list()

    def _fit(self, intervention: Intervention, seed: int, callbacks: Callbacks) -> FittedFaces:
        fitted = self._fit_network(intervention.network, seed, callbacks)
        if intervention.network is intervention:
            return fitted
        crops = self.splits.learned()
        settings = self.settings.removal.model_copy(update={"seed": seed})
        embeddings = embed_all(fitted.recognizer, crops)
        return replace(fitted, removed=intervention.project(embeddings, crops.labels, self.groups_in(crops), settings))

    def _fit_network(self, intervention: Intervention, seed: int, callbacks: Callbacks) -> FittedFaces:
        """A recognizer whose network is trained under an intervention; a baseline's is taken from the folder."""
        if self.folder is None or intervention != Baseline():
            return self._fit_anew(intervention, seed, callbacks)
        name = f"baseline-{run_name(self.fingerprint, intervention, seed)}.safetensors"
        return self._read(make_files(self.folder, {name: partial(self._write, seed=seed, callbacks=callbacks)})[0])

    def _fit_anew(self, intervention: Intervention, seed: int, callbacks: Callbacks) -> FittedFaces:
        settings, crops = self.settings, self.splits.learned(without_holdout=intervention.on_holdout)
        groups, framing = self.groups_in(crops), Framing(size=crops.size)
        labels = intervention.identities(crops.labels, groups, torch.Generator().manual_seed(seed))
        margin = intervention.margins(group_of_each(crops, groups), groups, MARGINS[settings.head])
        network = self._network(seed)
        head = MarginHead(len(crops.classes), settings.dimension, settings.head, margin=margin, seed=seed)
        skipped = self._train(
            network,
            replace(crops, labels=labels),
            _Recognized(Recognition(head, framing, settings.loss), len(groups.names)),
            intervention,
            relabeled(self.splits.holdout, crops.classes),
            seed,
            callbacks,
        )
        recognizer = Recognizer.from_module(network, name=intervention.name, framing=framing)
        return FittedFaces(recognizer, head.cpu(), None, skipped)

    def _network(self, seed: int) -> nn.Module:
        settings = self.settings
        return build_backbone(settings.backbone, seed=seed, dimension=settings.dimension, size=self.splits.train.size)

    def score(self, fitted: FittedFaces) -> pl.DataFrame:
        """How often faces are recognized, on every split and of every group: rows of `SCORES`.

        Crops trained on are classified among the identities; others are looked for among their split's (rank-1). On
        validation and test there are angles too (section 6.4.4), and the accuracy of the sensitive head where there is
        one.
        """
        rows = []
        whole = self.splits.learned()
        head = fitted.head if fitted.removed is None else fitted.removed.identities
        for split, crops in (("train", whole), ("validation", self.splits.validation), ("test", self.splits.test)):
            vectors = fitted.embed(crops)
            if split != "test":
                right = _classified(vectors, head, crops, whole.classes)
                rows.append(share_scores(right, crops.labels, crops.groups, split=split, measure="classification"))
            if split == "train":
                continue
            rows.append(_rank1_scores(vectors, crops, split))
            rows.append(_angle_scores(vectors, crops, self.groups_in(crops), split))
        if self.splits.bystanders is not None:
            rows.append(_rank1_scores(fitted.embed(self.splits.bystanders), self.splits.bystanders, "bystanders"))
        if fitted.removed is not None:
            crops = self.splits.test
            numbers = self.groups_in(crops).numbers
            accuracy = fitted.removed.sensitive_accuracy(embed_all(fitted.recognizer, crops), numbers)
            rows.append(single_score("test", "sensitive accuracy", accuracy, len(crops)))
        return pl.concat(rows)

    def save(
        self, path: Path, fitted: FittedFaces, intervention: Intervention, scores: pl.DataFrame, *, seed: int
    ) -> None:
        """See `TrainingExperiment.save` and `fairveil.faces.trained`; the accuracy is that on the test."""
        settings, crops = self.settings, self.splits.learned(without_holdout=intervention.on_holdout)
        raised = bool((fitted.head.margin != MARGINS[settings.head]).any())
        card = ModelCard.of(
            crops,
            settings.training,
            None,
            backbone=settings.backbone,
            head=settings.head,
            margin=fitted.head.margin if raised else None,
            balanced=False,
            loss=settings.loss,
            dimension=settings.dimension,
        )
        on_test = scores.filter(split="test", measure=self.measures["test"], group="")
        also = {
            "projected": fitted.removed is not None,
            "rank1": on_test["value"][0],
            "intervention": intervention.model_dump(mode="json"),
        }
        save_trained(path, fitted.whole(), card.model_copy(update=also))

    def _write(self, target: Path, *, seed: int, callbacks: Callbacks) -> None:
        base = self._fit_anew(Baseline(), seed, callbacks)
        target.unlink()  # a name that was kept for it
        network = {_NETWORK + name: value for name, value in base.recognizer.state_dict().items()}
        write_tensors(target, network | {"head": base.head.weight}, {}, format=_FORMAT)

    def _read(self, file: Path) -> FittedFaces:
        crops = self.splits.train
        recognizer = Recognizer.from_module(self._network(0), name="baseline", framing=Framing(size=crops.size))
        head = MarginHead(len(crops.classes), self.settings.dimension, self.settings.head, seed=0)
        with read_tensors(file, format=_FORMAT, what="a baseline", maker="FaceExperiment") as (tensors, _):
            recognizer.load_state_dict(
                {name.removeprefix(_NETWORK): value for name, value in tensors.items() if name.startswith(_NETWORK)}
            )
            head.load_state_dict({"weight": tensors["head"], "margin": head.margin})
        return FittedFaces(recognizer, head, None, 0.0)


class _Recognized(nn.Module):
    """Recognition as the task of a `FairObjective`; a module, so that its head is trained."""

    def __init__(self, recognition: Recognition, group_count: int) -> None:
        super().__init__()
        self.recognition, self.group_count = recognition, group_count

    def forward(self, network: nn.Module, batch: Batch, groups: Tensor, generator: torch.Generator) -> Outputs:
        return Outputs(self.recognition.losses(network, batch, generator), groups, self.group_count)


def _classified(vectors: Tensor, head: MarginHead, crops: FaceCrops, classes: tuple[str, ...]) -> Tensor:
    """Whether the nearest of the identities' weights is the right one, bool (N,)."""
    with torch.no_grad():
        told = (F.normalize(vectors) @ F.normalize(head.weight).T).argmax(1)
    return told == relabeled(crops, classes).labels


def _rank1_scores(vectors: Tensor, crops: FaceCrops, split: str) -> pl.DataFrame:
    """How often the nearest other crop is of the same person, for those who have one, by group."""
    outcome = identify(vectors, vectors, crops.labels, crops.labels, exclude=torch.arange(len(vectors)))[0]
    looked = outcome.rank > 0
    columns = {
        column: [value for value, one in zip(values, looked.tolist(), strict=True) if one]
        for column, values in crops.groups.items()
    }
    return share_scores(outcome.rank[looked] == 1, crops.labels[looked], columns, split=split, measure="rank-1")


def _angle_scores(vectors: Tensor, crops: FaceCrops, groups: Groups, split: str) -> pl.DataFrame:
    """Mean angles of the identities of each group (table 6.3), in degrees."""
    found, own = angles(vectors, crops.labels), group_of_each(crops, groups)
    rows = []
    for number, name in enumerate(groups.names):
        of_group = own[found.identities] == number
        if not bool(of_group.any()):
            continue
        for measure, values in (("intra-class angle", found.intra), ("inter-class angle", found.inter)):
            mean, count = float(values[of_group].mean()), int(of_group.sum())
            rows.append(single_score(split, measure, mean, count, column=groups.column, group=name))
    return pl.concat(rows)
