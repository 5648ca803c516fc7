"""Networks that find what X-rays show, trained under an intervention, and how well they rank each group (6.3.2)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fairveil.errors import FairveilError
from fairveil.fair.experiments import SILENT, Measured, Told
from fairveil.fair.groups import Groups, check_people, groups_of
from fairveil.fair.interventions import AnyIntervention, Baseline, EqualLoss, Intervention, Outputs, Task
from fairveil.fair.objective import Aside, FairObjective
from fairveil.fair.scores import LEAST_PEOPLE, auc_scores
from fairveil.training import NETWORKS, Batch, Training, build_network, shuffled, train
from fairveil.training.batches import Batches, in_sequence
from fairveil.training.checkpoints import weights_fingerprint
from fairveil.training.sampling import GroupStratified
from fairveil.xrays import DenseNet121, Preparation, Xrays, random_affine

PAPER = Training(
    epochs=20,
    batch_size=56,
    learning_rate=1e-4,
    optimizer="adam",
    weight_decay=0.0,
    schedule="steps",
    milestones=tuple(epoch / 20 for epoch in range(1, 20)),
    decay=0.1,
)
"""The settings of section 6.9.1: after five of its twenty epochs the learning rate is next to nothing."""

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
        preparation: of X-rays, after the augmentation.
        augment: whether they are turned, scaled and shifted at random (section 6.9.1).
        weighted: whether the loss of a finding's presence is weighed by how many more are absent, up to 20 times.
        dropout: of "densenet-121".
        training: the rest; its seed is replaced.
        stratified: whether every batch holds each group in proportion to its share, rather than by chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = "densenet-121"
    preparation: Preparation = Preparation(channels=3)
    augment: bool = True
    weighted: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)
    training: Training = PAPER
    stratified: bool = False


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
        pretrained: gives a network weights to start from that are not random, such as ImageNet's.
        device: where to train.
    """

    splits: XraySplits
    column: str
    settings: XraySettings
    pretrained: Callable[[nn.Module], None] = lambda network: None
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

    @property
    def task(self) -> Task:
        """Findings."""
        return "findings"

    @property
    def measures(self) -> dict[str, str]:
        """The area under the ROC curve, on every split."""
        return dict.fromkeys(("train", "validation", "test"), "AUC")

    @cached_property
    def groups(self) -> Groups:
        """Of the X-rays trained on."""
        return groups_of(self.splits.train.groups, self.column)

    def fingerprint(self) -> str:
        """Equal if and only if data and settings are."""
        about = [part.fingerprint() for part in self.splits.parts.values()] + [
            self.column,
            self.settings.model_dump_json(),
        ]
        about.append(weights_fingerprint(self._network(0)))  # which may be pretrained
        return hashlib.sha256("\n".join(about).encode()).hexdigest()

    def baseline_of(self, intervention: AnyIntervention) -> AnyIntervention:
        """Training as usual, or while X-rays of the validation set (table 6.8) pass through the network likewise."""
        return EqualLoss(weight=0.0, on="holdout") if intervention.place == "holdout" else Baseline()

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
        weights = _presence_weights(xrays.labels) if settings.weighted else torch.ones(len(xrays.classes))
        task = Finding(intervention, self.groups.names, weights, settings.preparation, settings.augment)
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
        return network.cpu().eval(), objective.lacking / max(objective.steps, 1)

    def score(self, network: nn.Module) -> pl.DataFrame:
        """Areas under the ROC curve, of every split, finding and group: rows of `fairveil.fair.scores.SCORES`."""
        rows = []
        for split, xrays in self.splits.parts.items():
            _, patients = np.unique(np.array(xrays.patients), return_inverse=True)
            rows.append(
                auc_scores(
                    self._logits(network, xrays), xrays.labels, xrays.classes, torch.from_numpy(patients),
                    xrays.groups, split=split,
                )
            )  # fmt: skip
        return pl.concat(rows)

    def measure(self, intervention: AnyIntervention, *, seed: int, told: Told = SILENT) -> Measured:
        """Train and score."""
        network, lacking = self.fit(intervention, seed=seed, told=told)
        return Measured(self.score(network), lacking)

    def _network(self, seed: int) -> nn.Module:
        settings, findings = self.settings, len(self.splits.train.classes)
        channels: Literal[1, 3] = settings.preparation.channels
        if settings.network == "densenet-121":
            network: nn.Module = DenseNet121(findings, channels=channels, seed=seed, drop_rate=settings.dropout)
        elif settings.network in NETWORKS:
            network = build_network(settings.network, findings, seed=seed, channels=channels)
        else:
            raise FairveilError(
                f"There is no network {settings.network!r}: choose from densenet-121, {', '.join(NETWORKS)}."
            )
        self.pretrained(network)
        return network

    @torch.no_grad()
    def _logits(self, network: nn.Module, xrays: Xrays) -> Tensor:
        batches = Batches(xrays, _TOGETHER, order=in_sequence)
        prepare = self.settings.preparation
        return torch.cat([network(prepare(batch.images)) for batch in batches.epoch(torch.Generator())])


def _presence_weights(labels: Tensor) -> Tensor:
    """How many more X-rays lack each finding than have it, (K,), at most 20 and at least one to one."""
    present, absent = (labels == 1).sum(0), (labels == 0).sum(0)
    return (absent / present.clamp_min(1)).clamp(1, _HEAVIEST)
