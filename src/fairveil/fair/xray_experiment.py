"""Networks that find what X-rays show, trained under an intervention, and how well they rank each group (6.3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.data.xrays import DenseNet121, Preparation, Xrays, load_imagenet, random_affine
from fairveil.fair.experiments import Callbacks, TrainingExperiment
from fairveil.fair.interventions import KINDS, Intervention, Outputs, Penalty, Task
from fairveil.fair.scores import MEAN, RESAMPLES, auc_scores, positive_scores, shared_labels, single_score
from fairveil.fair.xray_classifier import SMALL, XraySettings, build_xray_network, save_xray_classifier
from fairveil.training import Batch
from fairveil.training.batches import Batches, in_sequence
from fairveil.training.checkpoints import weights_fingerprint

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
        for first, second in combinations(parts, 2):
            if both := {*parts[first].patients} & {*parts[second].patients}:
                raise FairveilError(
                    f"{len(both)} patients, such as {min(both)}, are in {first} and in {second}, so that what is "
                    "learned from them would be judged by them: split by patient."
                )

    @property
    def parts(self) -> dict[str, Xrays]:
        """All three, by the names of the splits."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def fingerprints(self) -> list[str]:
        """Of all three."""
        return [part.fingerprint() for part in self.parts.values()]


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


@dataclass(frozen=True)
class FittedXrays:
    """A network that was trained under an intervention.

    Attributes:
        network: from prepared X-rays to a logit for each finding.
        skipped_fraction: of the batches, in which fewer than two groups were there to be compared.
    """

    network: nn.Module
    skipped_fraction: float


@dataclass(frozen=True, eq=False)
class XrayExperiment(TrainingExperiment):
    """Findings under interventions.

    Attributes:
        pretrained: a file of torchvision's ImageNet weights, which a DenseNet-121 starts from; None for random ones.
    """

    splits: XraySplits
    settings: XraySettings = SMALL
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what nothing could be told of, before anything is trained.

        Raises:
            FairveilError: a part has too few patients of two groups, or no finding can be compared.
        """
        super().__post_init__()
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

    def _people(self, part: Xrays) -> Sequence[str]:
        return part.patients

    def _more(self) -> Sequence[str]:
        return [weights_fingerprint(self._network(0))]  # may be pretrained

    def _fit(self, intervention: Intervention, seed: int, callbacks: Callbacks) -> FittedXrays:
        settings, network = self.settings, self._network(seed)
        task = Finding(intervention, self.groups.names, self._weights, settings.preparation, settings.augment)
        parts = self.splits
        skipped = self._train(network, parts.train, task, intervention, parts.validation, seed, callbacks)
        return FittedXrays(network.eval(), skipped)

    def save(
        self, path: Path, fitted: FittedXrays, intervention: Intervention, scores: pl.DataFrame, *, seed: int
    ) -> None:
        """See `TrainingExperiment.save` and `load_xray_classifier`."""
        xrays = self.splits.train
        about = {"intervention": intervention.model_dump(mode="json"), "seed": seed, "data": xrays.name}
        save_xray_classifier(path, fitted.network, self.settings, xrays.classes, size=xrays.size, about=about)

    def score(self, fitted: FittedXrays) -> pl.DataFrame:
        """Areas under the ROC curve, of every split, finding and group: rows of `fairveil.fair.scores.SCORES`.

        There are also counts of positives, and the values of the penalties (table 6.1), of everybody. On the train
        set, which is no sample of anything else, areas have no intervals.
        """
        rows = []
        for split, xrays in self.splits.parts.items():
            logits, resamples = self._logits(fitted.network, xrays), 0 if split == "train" else RESAMPLES
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
        groups, rows = self.groups_in(xrays), []
        for penalty in (entry() for entry in KINDS.values() if issubclass(entry, Penalty) and self.task in entry.tasks):
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

    def _network(self, seed: int) -> nn.Module:
        network = build_xray_network(self.settings, len(self.splits.train.classes), seed=seed)
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
