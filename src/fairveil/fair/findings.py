"""Networks that find what X-rays show, trained under an intervention, and how well they rank each group (6.3.2)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.data.xrays import DenseNet121, Preparation, Xrays, load_imagenet, random_affine
from fairveil.fair.experiments import SILENT, Measured, Told
from fairveil.fair.groups import Groups, check_people, groups_of
from fairveil.fair.interventions import (
    AnyIntervention,
    DisparateImpact,
    EqualizedOdds,
    EqualLoss,
    Intervention,
    Outputs,
    Task,
)
from fairveil.fair.objective import Aside, FairObjective
from fairveil.fair.scores import LEAST_PEOPLE, MEAN, RESAMPLES, auc_scores, positive_scores, shared_labels, single_score
from fairveil.training import NETWORKS, Batch, Training, build_network, shuffled, train
from fairveil.training.batches import Batches, in_sequence
from fairveil.training.checkpoints import weights_fingerprint
from fairveil.training.sampling import GroupStratified

PAPER = Training(
    epochs=20,
    batch_size=56,
    learning_rate=1e-4,
    optimizer="adam",
    weight_decay=1e-4,
    schedule="steps",
    milestones=tuple(epoch / 20 for epoch in range(1, 20)),
    decay=0.1,
)
"""The settings of section 6.9.1: after five of its twenty epochs the learning rate is next to nothing.

Section 6.4.1 says that all models are trained with weight decay and dropout, and no section how much of either: they
are those of the DenseNet's authors (Huang et al. 2017). The code that the text refers to has none of both.
"""

PAPER_DROPOUT = 0.2
"""See `PAPER`."""

MEASURES = dict.fromkeys(("train", "validation", "test"), "AUC")
"""What is measured on each split: the area under the ROC curve."""

_TOGETHER = 256  # X-rays that are ranked together


@dataclass(frozen=True, eq=False)
class XraySplits:
    """What is trained on and judged by.

    Attributes:
        train: X-rays to train on.
        validation: of other patients; a penalty on a holdout is taken of them, as in table 6.8.
        test: of yet others.
    """

    train: Xrays
    validation: Xrays
    test: Xrays

    def __post_init__(self) -> None:
        """Refuse what leaks, and what does not belong together.

        Raises:
            FairveilError: a patient is in two parts, or findings or sizes differ.
        """
        parts = self.parts
        if len({(part.classes, part.size) for part in parts.values()}) > 1:
            raise FairveilError("The parts have other findings or sizes: read all of them alike.")
        names = list(parts)
        for first, second in [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]:
            if both := {*parts[first].patients} & {*parts[second].patients}:
                raise FairveilError(
                    f"{len(both)} patients, such as {min(both)}, are in {first} and in {second}, so that what is "
                    "learned from them would be judged by them: split by patient."
                )

    @property
    def parts(self) -> dict[str, Xrays]:
        """All three, by the names of the splits."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split_xrays(xrays: Xrays, *, validation: float = 0.2, test: float = 0.2, seed: int = 0) -> XraySplits:
    """Split X-rays by patient.

    Args:
        xrays: all of them.
        validation: share of the patients.
        test: share of the patients.
        seed: of the drawing.

    Raises:
        FairveilError: there are too few patients.
    """
    rest, tested = xrays.split(test, seed=seed)
    trained, validated = rest.split(validation / (1 - test), seed=seed + 1)
    return XraySplits(trained, validated, tested)


class XraySettings(BaseModel):
    """How a network is trained to find.

    Attributes:
        network: "densenet-121", or one of `fairveil.training.NETWORKS`.
        width: channels of the first stage of the latter, if not as usual.
        preparation: of X-rays, after the augmentation.
        augment: whether they are turned, scaled and shifted at random (section 6.9.1).
        weighted: whether the loss of a finding's presence is weighed by how many more are absent, up to 20 times.
        dropout: of "densenet-121".
        training: the rest; its seed is replaced.
        stratified: whether every batch holds each group in proportion to its share, rather than by chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = "densenet-121"
    width: int | None = Field(None, ge=8, le=512)
    preparation: Preparation = Preparation(channels=3)
    augment: bool = True
    weighted: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)
    training: Training = PAPER
    stratified: bool = False


PUBLISHED = XraySettings(dropout=PAPER_DROPOUT, training=PAPER)
"""What table 6.1 trains, as far as the text tells."""

SMALL = XraySettings(
    network="resnet-8-fast",
    preparation=Preparation(),
    training=Training(epochs=12, batch_size=56, learning_rate=2e-3, optimizer="adam", weight_decay=0.0),
    stratified=True,
)
"""What two processor cores train in a minute, on X-rays of 32 to 64 pixels."""


def build_finder(settings: XraySettings, findings: int, *, seed: int) -> nn.Module:
    """An untrained network from prepared X-rays to a logit for each finding.

    Raises:
        FairveilError: there is no such network.
    """
    channels: Literal[1, 3] = settings.preparation.channels
    if settings.network == "densenet-121":
        return DenseNet121(findings, channels=channels, seed=seed, drop_rate=settings.dropout)
    if settings.network in NETWORKS:
        return build_network(settings.network, findings, seed=seed, channels=channels, width=settings.width)
    raise FairveilError(f"There is no network {settings.network!r}: choose from densenet-121, {', '.join(NETWORKS)}.")


_HEAVIEST = 20.0


class Finding(nn.Module):
    """The binary cross entropy of every finding, as what a `FairObjective` is made of.

    Args:
        intervention: may change targets.
        names: of the groups.
        weights: of presence, (K,).
        preparation: of X-rays.
        augment: whether they are varied first.
    """

    def __init__(
        self,
        intervention: Intervention,
        names: tuple[str, ...],
        weights: Tensor,
        preparation: Preparation,
        augment: bool,
    ) -> None:
        super().__init__()
        self.intervention, self.names, self.preparation, self.augment = intervention, names, preparation, augment
        self.register_buffer("weights", weights)

    weights: Tensor

    def forward(self, network: nn.Module, batch: Batch, groups: Tensor, generator: torch.Generator) -> Outputs:
        """Losses (B, K), and the rest of what penalties take."""
        images = random_affine(batch.images, generator) if self.augment else batch.images
        logits = network(self.preparation(images)).float()
        known = ~batch.targets.isnan()
        targets = self.intervention.targets(batch.targets, groups, self.names, generator).nan_to_num(0.0)
        losses = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.weights, reduction="none")
        return Outputs(losses, groups, len(self.names), logits, targets, known)

    def extra_repr(self) -> str:
        """What checkpoints tell tasks apart by, beside the weights."""
        return f"{self.preparation!r}, augment={self.augment}"


@dataclass(frozen=True, eq=False)
class XrayExperiment:
    """Findings under interventions: an `Experiment`.

    Attributes:
        splits: what is trained on and judged by.
        column: of the groups that are to be treated alike.
        settings: how networks are trained.
        pretrained: a file of torchvision's ImageNet weights, which a DenseNet-121 starts from; None for random ones.
        device: where to train.
    """

    splits: XraySplits
    column: str
    settings: XraySettings = SMALL
    pretrained: Path | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Refuse what nothing could be told of, before anything is trained.

        Raises:
            FairveilError: a part has too few patients of two groups.
        """
        for use, part in (("train", self.splits.train), ("validate", self.splits.validation),
                          ("test", self.splits.test)):  # fmt: skip
            groups = groups_of(part.groups, self.column, self.groups.names)
            check_people(groups, part.patients, use, least=LEAST_PEOPLE)
        if not bool(self.compared_findings.any()):
            raise FairveilError(
                f"No finding is both present and absent in every group of {self.column} on train, validation and test "
                "alike, so that groups could not be compared: add patients, or findings that are less rare."
            )

    @cached_property
    def compared_findings(self) -> Tensor:
        """Which findings means are of, bool (K,): those that every group has on every split, present and absent."""
        parts = self.splits.parts.values()
        return shared_labels(((one.labels, _numbered(one.patients), one.groups) for one in parts), self.column)

    @property
    def task(self) -> Task:
        """Findings."""
        return "findings"

    @property
    def measures(self) -> dict[str, str]:
        """See `MEASURES`."""
        return MEASURES

    @cached_property
    def groups(self) -> Groups:
        """Of the X-rays trained on."""
        return groups_of(self.splits.train.groups, self.column)

    @cached_property
    def fingerprint(self) -> str:
        """Equal if and only if data and settings are."""
        about = [part.fingerprint() for part in self.splits.parts.values()] + [
            self.column,
            self.settings.model_dump_json(),
        ]
        about.append(weights_fingerprint(self._network(0)))  # may be pretrained
        return hashlib.sha256("\n".join(about).encode()).hexdigest()

    def fit(self, intervention: AnyIntervention, *, seed: int, told: Told = SILENT) -> tuple[nn.Module, float]:
        """Train a network under an intervention: gives it, and the share of batches that could not be compared.

        Raises:
            FairveilError: the intervention is not for findings, a group is unknown, or training fails.
        """
        if self.task not in intervention.tasks:
            raise FairveilError(
                f"{intervention.name} is for the margins of recognisers, not for findings: leave it out."
            )
        settings, xrays = self.settings, self.splits.train
        if "group" in type(intervention).model_fields:
            self.groups.number(intervention.group)  # type: ignore[union-attr]
        network = self._network(seed)
        aside = None
        if intervention.place == "holdout":
            held = self.splits.validation
            aside = Aside(held, groups_of(held.groups, self.column, self.groups.names))
        task = Finding(intervention, self.groups.names, self._weights, settings.preparation, settings.augment)
        objective = FairObjective(task, intervention, self.groups, aside=aside)
        train(
            network,
            xrays,
            settings.training.model_copy(update={"seed": seed}),
            objective=objective,
            order=GroupStratified(self.groups.numbers) if settings.stratified else shuffled,
            checkpoint=told.checkpoint,
            on_epoch=told.on_epoch,
            on_step=told.on_step,
            device=self.device,
        )
        return network.eval(), objective.lacking_share

    def score(self, network: nn.Module) -> pl.DataFrame:
        """Areas under the ROC curve, of every split, finding and group: rows of `fairveil.fair.scores.SCORES`.

        There are also counts of positives, and the values of the penalties (table 6.1), of everybody. On the train
        set, which is no sample of anything else, areas have no intervals.
        """
        rows = []
        for split, xrays in self.splits.parts.items():
            logits, resamples = self._logits(network, xrays), 0 if split == "train" else RESAMPLES
            rows.append(
                auc_scores(
                    logits, xrays.labels, xrays.classes, _numbered(xrays.patients), xrays.groups, split=split,
                    resamples=resamples, mean_over=self.compared_findings,
                )
            )  # fmt: skip
            rows.append(
                positive_scores(xrays.labels, xrays.classes, _numbered(xrays.patients), xrays.groups, split=split)
            )
            rows.append(self._penalty_scores(logits, xrays, split))
        return pl.concat(rows)

    def _penalty_scores(self, logits: Tensor, xrays: Xrays, split: str) -> pl.DataFrame:
        """What each penalty comes to over a whole split, by finding and on average (equations 6.2, 6.4 and 6.9)."""
        known = ~xrays.labels.isnan()
        targets = xrays.labels.nan_to_num(0.0)
        losses = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=self._weights, reduction="none")
        groups = groups_of(xrays.groups, self.column, self.groups.names)
        rows = []
        for penalty in (EqualLoss(), EqualizedOdds(), DisparateImpact()):
            values = []
            for finding in range(len(xrays.classes)):
                one = (slice(None), slice(finding, finding + 1))
                outputs = Outputs(losses[one], groups.numbers, len(groups.names), logits[one], targets[one], known[one])
                values.append(float(penalty.penalty(outputs)))
            for label, value in zip((*xrays.classes, MEAN), (*values, float(np.mean(values))), strict=True):
                rows.append(single_score(split, penalty.kind, value, len(xrays.patients), label=label))
        return pl.concat(rows)

    @cached_property
    def _weights(self) -> Tensor:
        """Of the presence of each finding, (K,)."""
        xrays = self.splits.train
        return _presence_weights(xrays.labels) if self.settings.weighted else torch.ones(len(xrays.classes))

    def measure(self, intervention: AnyIntervention, *, seed: int, told: Told = SILENT) -> Measured:
        """Train and score."""
        network, lacking = self.fit(intervention, seed=seed, told=told)
        return Measured(self.score(network), lacking)

    def _network(self, seed: int) -> nn.Module:
        network = build_finder(self.settings, len(self.splits.train.classes), seed=seed)
        if self.pretrained is not None:
            if not isinstance(network, DenseNet121):
                raise FairveilError(
                    f"ImageNet weights are of a DenseNet-121, and the network is {self.settings.network}: train "
                    "densenet-121, or leave the weights out."
                )
            load_imagenet(network, self.pretrained)
        return network

    @torch.no_grad()
    def _logits(self, network: nn.Module, xrays: Xrays) -> Tensor:
        device = next(network.parameters()).device
        batches = Batches(xrays, _TOGETHER, order=in_sequence, device=device)
        prepare = self.settings.preparation
        return torch.cat([network(prepare(batch.images)).cpu() for batch in batches.epoch(torch.Generator())])


def _numbered(people: Sequence[str]) -> Tensor:
    """People as numbers, int64 (N,)."""
    return torch.from_numpy(np.unique(np.array(people), return_inverse=True)[1])


def _presence_weights(labels: Tensor) -> Tensor:
    """How many more X-rays lack each finding than have it, (K,), at most 20 and at least one to one."""
    present, absent = (labels == 1).sum(0), (labels == 0).sum(0)
    return (absent / present.clamp_min(1)).clamp(1, _HEAVIEST)
