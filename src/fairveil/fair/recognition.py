"""Recognisers trained under an intervention, and how often each group is recognised (section 6.3.1)."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import polars as pl
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.base.sharing import make_files
from fairveil.base.tensor_files import read_tensors, write_tensors
from fairveil.faces.backbones import Projected, build_backbone
from fairveil.faces.crops import FaceCrops
from fairveil.faces.heads import MARGINS, HeadKind, MarginHead
from fairveil.faces.identification import identify
from fairveil.faces.recognition import PAPER, Loss, Recognition, embed_all
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.faces.trained import Pedigree
from fairveil.fair.adversarial import Removal, Removed, remove_sensitive
from fairveil.fair.experiments import SILENT, Measured, Told, run_name
from fairveil.fair.face_splits import FaceSplits, group_of_each, joined, relabelled
from fairveil.fair.groups import Groups, check_people, groups_of
from fairveil.fair.interventions import (
    AnyIntervention,
    Baseline,
    FairFeatures,
    GroupMargins,
    LabelFlipping,
    Outputs,
    Task,
)
from fairveil.fair.label_flipping import flip_identities
from fairveil.fair.margins import angles
from fairveil.fair.objective import Aside, FairObjective
from fairveil.fair.scores import LEAST_PEOPLE, share_scores, single_score
from fairveil.training import Batch, Training, shuffled, train
from fairveil.training.sampling import GroupStratified

MEASURES = {"train": "classification", "validation": "rank-1", "test": "rank-1"}
"""What is measured on each split: by the classifier on the train set, else by nearest neighbours."""

_FORMAT, _NETWORK = "fairveil fair recogniser 1", "network."


class FaceSettings(BaseModel):
    """How a recogniser is trained.

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
    """A recogniser that was trained under an intervention.

    Attributes:
        recognizer: gives embeddings of crops.
        head: of the identities trained on, in their order.
        removed: what makes features fair, where that is the intervention.
        lacking: share of the batches in which fewer than two groups were there to be compared.
    """

    recognizer: Recognizer
    head: MarginHead
    removed: Removed | None
    lacking: float

    def embed(self, crops: FaceCrops) -> Tensor:
        """Unit vectors, (N, D)."""
        vectors = embed_all(self.recognizer, crops)
        return vectors if self.removed is None else self.removed.project(vectors)

    def whole(self) -> Recognizer:
        """The recogniser with what makes its features fair, as one."""
        if self.removed is None:
            return self.recognizer
        network = Projected(cast(nn.Module, self.recognizer.network).cpu(), self.removed.network)
        return Recognizer.from_module(network, name=self.recognizer.name, framing=self.recognizer.framing)


@dataclass(frozen=True, eq=False)
class FaceExperiment:
    """Face recognition under interventions: an `Experiment`.

    Attributes:
        splits: who is trained on and judged by.
        column: of the groups that are to be treated alike.
        settings: how recognisers are trained.
        folder: where baselines are kept, which fair features start from; None to train one whenever it is needed.
        device: where to train.
    """

    splits: FaceSplits
    column: str
    settings: FaceSettings = SMALL
    folder: Path | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Refuse what nothing could be told of, before anything is trained.

        Raises:
            FairveilError: a part has too few people of two groups.
        """
        for use, part in (("train", self.splits.train), ("validate", self.splits.validation),
                          ("test", self.splits.test)):  # fmt: skip
            groups = groups_of(part.groups, self.column, self.groups.names)
            check_people(groups, part.frame["identity"].to_list(), use, least=LEAST_PEOPLE)

    @property
    def task(self) -> Task:
        """Recognition."""
        return "recognition"

    @property
    def measures(self) -> dict[str, str]:
        """See `MEASURES`."""
        return MEASURES if self.splits.bystanders is None else MEASURES | {"bystanders": "rank-1"}

    @cached_property
    def groups(self) -> Groups:
        """Of the crops trained on."""
        return groups_of(self.splits.train.groups, self.column)

    @cached_property
    def fingerprint(self) -> str:
        """Equal if and only if data and settings are."""
        parts = [self.splits.train, self.splits.aside, self.splits.validation, self.splits.test]
        if self.splits.bystanders is not None:
            parts.append(self.splits.bystanders)
        about = [part.fingerprint() for part in parts] + [self.column, self.settings.model_dump_json()]
        return hashlib.sha256("\n".join(about).encode()).hexdigest()

    def fit(self, intervention: AnyIntervention, *, seed: int, told: Told = SILENT) -> FittedFaces:
        """Train a recogniser under an intervention.

        Raises:
            FairveilError: it is not for recognition, a group is unknown, or training fails.
        """
        if self.task not in intervention.tasks:
            raise FairveilError(
                f"{intervention.name} is for binary and multi-label outputs, and recognition has many classes: use "
                "equal-loss."
            )
        if isinstance(intervention, FairFeatures):
            return self._with_fair_features(intervention, seed, told)
        if isinstance(intervention, Baseline) and self.folder is not None:
            return self._kept_baseline(self.folder, seed, told)
        return self._fit(intervention, seed, told)

    def _fit(self, intervention: AnyIntervention, seed: int, told: Told) -> FittedFaces:
        crops = self.splits.train
        if intervention.place == "train":  # nothing need be put aside
            crops = joined(crops, self.splits.aside)
        groups = groups_of(crops.groups, self.column, self.groups.names)
        margin: Tensor | None = None
        if isinstance(intervention, GroupMargins):
            raised = group_of_each(crops, groups) == groups.number(intervention.group)
            margin = torch.where(raised, intervention.margin, MARGINS[self.settings.head])
        data = crops
        if isinstance(intervention, LabelFlipping):
            generator = torch.Generator().manual_seed(seed)
            group = groups.number(intervention.group)
            flipped = flip_identities(crops.labels, groups.numbers, group, intervention.share, generator)
            data = replace(crops, labels=flipped)
        aside = None
        if intervention.place == "holdout":
            put = relabelled(self.splits.aside, crops.classes)
            aside = Aside(put, groups_of(put.groups, self.column, groups.names))
        return self._train(data, intervention, groups, margin, aside, seed, told)

    def _train(
        self,
        data: FaceCrops,
        intervention: AnyIntervention,
        groups: Groups,
        margin: Tensor | None,
        aside: Aside | None,
        seed: int,
        told: Told,
    ) -> FittedFaces:
        settings = self.settings
        framing = Framing(size=data.size)
        network = build_backbone(settings.backbone, seed=seed, dimension=settings.dimension, size=data.size)
        head = MarginHead(len(data.classes), settings.dimension, settings.head, margin=margin, seed=seed)
        objective = FairObjective(
            _Recognised(Recognition(head, framing, settings.loss), len(groups.names)), intervention, groups, aside=aside
        )
        train(
            network,
            data,
            settings.training.model_copy(update={"seed": seed}),
            objective=objective,
            order=GroupStratified(groups.numbers) if settings.stratified else shuffled,
            checkpoint=told.checkpoint,
            on_epoch=told.on_epoch,
            on_step=told.on_step,
            device=self.device,
        )
        recognizer = Recognizer.from_module(network, name=intervention.name, framing=framing)
        return FittedFaces(recognizer, head.cpu(), None, objective.lacking_share)

    def score(self, fitted: FittedFaces) -> pl.DataFrame:
        """How often faces are recognised, on every split and of every group: rows of `SCORES`.

        Crops trained on are classified among the identities; others are looked for among their split's (rank-1). On
        validation and test there are angles too (section 6.4.4), and the accuracy of the sensitive head where there is
        one.
        """
        rows = []
        whole = joined(self.splits.train, self.splits.aside)
        head = fitted.head if fitted.removed is None else fitted.removed.identities
        for split, crops in (("train", whole), ("validation", self.splits.validation), ("test", self.splits.test)):
            vectors = fitted.embed(crops)
            if split != "test":
                right = _classified(vectors, head, crops, whole.classes)
                rows.append(share_scores(right, crops.labels, crops.groups, split=split, measure="classification"))
            if split == "train":
                continue
            rows.append(_rank1_scores(vectors, crops, split))
            rows.append(_angle_scores(vectors, crops, groups_of(crops.groups, self.column, self.groups.names), split))
        if self.splits.bystanders is not None:
            rows.append(_rank1_scores(fitted.embed(self.splits.bystanders), self.splits.bystanders, "bystanders"))
        if fitted.removed is not None:
            crops = self.splits.test
            numbers = groups_of(crops.groups, self.column, self.groups.names).numbers
            accuracy = fitted.removed.sensitive_accuracy(embed_all(fitted.recognizer, crops), numbers)
            rows.append(single_score("test", "sensitive accuracy", accuracy, len(crops)))
        return pl.concat(rows)

    def pedigree(self, fitted: FittedFaces, intervention: AnyIntervention, scores: pl.DataFrame) -> Pedigree:
        """What a file is to say of a recogniser trained under an intervention, whose accuracy is that on the test."""
        settings = self.settings
        crops = self.splits.train
        if intervention.place == "train":
            crops = joined(crops, self.splits.aside)
        on_test = scores.filter(split="test", measure=self.measures["test"], group="")
        uniform = not isinstance(intervention, GroupMargins)
        return Pedigree(
            backbone=settings.backbone,
            dimension=settings.dimension,
            projected=fitted.removed is not None,
            size=crops.size,
            training=settings.training.model_dump(mode="json"),
            head=settings.head,
            margin=MARGINS[settings.head] if uniform else tuple(fitted.head.margin.tolist()),
            loss=settings.loss,
            balanced=False,
            data=crops.name,
            data_sha256=crops.fingerprint(),
            identities=len(crops.classes),
            images=len(crops),
            make_up=crops.make_up(),
            rank1=on_test["value"][0],
            intervention=intervention.model_dump(mode="json"),
        )

    def measure(self, intervention: AnyIntervention, *, seed: int, told: Told = SILENT) -> Measured:
        """Train and score."""
        fitted = self.fit(intervention, seed=seed, told=told)
        return Measured(self.score(fitted), fitted.lacking)

    def _with_fair_features(self, intervention: FairFeatures, seed: int, told: Told) -> FittedFaces:
        crops = joined(self.splits.train, self.splits.aside)
        groups = groups_of(crops.groups, self.column, self.groups.names)
        base = self.fit(Baseline(), seed=seed, told=told)
        removed = remove_sensitive(
            embed_all(base.recognizer, crops),
            crops.labels,
            groups.numbers,
            toward=groups.number(intervention.toward),
            settings=self.settings.removal.model_copy(update={"seed": seed, "weight": intervention.weight}),
        )
        return replace(base, removed=removed)

    def _kept_baseline(self, folder: Path, seed: int, told: Told) -> FittedFaces:
        """The baseline of a seed, from the folder if it is there."""
        name = f"baseline-{run_name(self.fingerprint, Baseline(), seed)}.safetensors"
        return self._read(make_files(folder, {name: partial(self._write, seed=seed, told=told)})[0])

    def _write(self, target: Path, *, seed: int, told: Told) -> None:
        base = self._fit(Baseline(), seed, told)
        target.unlink()  # a name that was kept for it
        network = {_NETWORK + name: value for name, value in base.recognizer.state_dict().items()}
        write_tensors(target, network | {"head": base.head.weight}, {}, format=_FORMAT)

    def _read(self, file: Path) -> FittedFaces:
        settings, crops = self.settings, self.splits.train
        network = build_backbone(settings.backbone, seed=0, dimension=settings.dimension, size=crops.size)
        recognizer = Recognizer.from_module(network, name="baseline", framing=Framing(size=crops.size))
        head = MarginHead(len(crops.classes), settings.dimension, settings.head, seed=0)
        with read_tensors(file, format=_FORMAT, what="a baseline", maker="FaceExperiment") as (tensors, _):
            recognizer.load_state_dict(
                {name.removeprefix(_NETWORK): value for name, value in tensors.items() if name.startswith(_NETWORK)}
            )
            head.load_state_dict({"weight": tensors["head"], "margin": head.margin})
        return FittedFaces(recognizer, head, None, 0.0)


class _Recognised(nn.Module):
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
    return told == relabelled(crops, classes).labels


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
            rows.append(
                single_score(
                    split,
                    measure,
                    float(values[of_group].mean()),
                    int(of_group.sum()),
                    column=groups.column,
                    group=name,
                )
            )
    return pl.concat(rows)
