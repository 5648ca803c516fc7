"""The interventions of chapter 6, each of which changes a loss, labels, margins or features, and nothing else."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.fair.label_flipping import flip_labels
from fairveil.fair.margins import ADJUSTED
from fairveil.fair.penalties import disparate_impact, equal_loss, equalized_odds, worst_group_loss

Task = Literal["recognition", "findings"]
"""What is learned: whose face it is, among many classes, or which of several findings a picture shows."""

HEAVIEST = 1e6
"""The largest α: beyond it nothing is learnt, and numbers overflow."""

Place = Literal["train", "holdout"]
"""What a penalty is taken on: the batch that is trained on, or one of data put aside for it."""


@dataclass(frozen=True)
class Outputs:
    """What a network makes of a batch.

    Attributes:
        losses: of each sample, (B,), or of each of its labels, (B, K).
        groups: int64 (B,), -1 where unknown.
        group_count: G.
        logits: of binary labels, (B, K); None where the task is another.
        targets: of binary labels, 0 or 1, (B, K).
        known: which of them are known, bool (B, K).
        across_processes: whether groups are compared over the batches of all processes that train together, each of
            which then has to compare at the same step.
    """

    losses: Tensor
    groups: Tensor
    group_count: int
    logits: Tensor | None = None
    targets: Tensor | None = None
    known: Tensor | None = None
    across_processes: bool = False

    def about(self) -> dict[str, Any]:
        """What all penalties are told beside their numbers: a batch that lacks a group is counted by who trains."""
        return {"known": self.known, "absent": "skip", "across_processes": self.across_processes}

    def mean_loss(self) -> Tensor:
        """L, over all samples and known labels."""
        if self.known is None:
            return self.losses.mean()
        return self.losses.where(self.known, 0.0).sum() / self.known.sum().clamp_min(1)

    def labels(self) -> tuple[Tensor, Tensor]:
        """Probabilities and targets of binary labels, (B, K) each.

        Raises:
            FairveilError: the task has others.
        """
        if self.logits is None or self.targets is None:
            raise FairveilError(
                "This penalty is for binary and multi-label outputs, and recognition has many classes: use equal-loss."
            )
        return self.logits.sigmoid(), self.targets


class Intervention(BaseModel):
    """What is done for fairness; the base does nothing, which is the dissertation's baseline.

    Attributes:
        kind: which.
        tasks: which it can be used for.
        compares: whether it compares groups within a batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: ClassVar[frozenset[Task]] = frozenset({"recognition", "findings"})
    compares: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What commands and reports call it, strength included."""

    @property
    def place(self) -> Place:
        """Whether it needs data put aside."""
        return "train"

    def loss(self, outputs: Outputs, aside: Outputs | None = None) -> Tensor:
        """What a step lowers, from what the network makes of its batch, and of one of the data put aside."""
        return outputs.mean_loss()

    def targets(self, targets: Tensor, groups: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """The binary labels that are learned in place of those of a batch."""
        return targets


class Baseline(Intervention):
    """Training as usual (section 6.4)."""

    kind: Literal["baseline"] = "baseline"

    @property
    def name(self) -> str:
        """Baseline."""
        return self.kind


class _Penalty(Intervention):
    """α times a gap between groups is added to the loss.

    Attributes:
        weight: α.
        on: what the gap is taken on.
    """

    compares: ClassVar[bool] = True
    weight: float = Field(1.0, ge=0, le=HEAVIEST)
    on: Place = "train"

    @property
    def name(self) -> str:
        """The kind, α, and where."""
        return f"{self.kind} {self.weight:g}{' on holdout' * (self.on == 'holdout')}"  # type: ignore[attr-defined]

    @property
    def place(self) -> Place:
        """As asked."""
        return self.on

    def loss(self, outputs: Outputs, aside: Outputs | None = None) -> Tensor:
        """L + α · the gap."""
        return outputs.mean_loss() + self.weight * self.penalty(outputs if aside is None else aside)

    @abstractmethod
    def penalty(self, outputs: Outputs) -> Tensor:
        """The gap, which counts as none in a batch with fewer than two groups."""


class EqualLoss(_Penalty):
    """Equal loss: min L + α|L(a+) − L(a−)| (equation 6.2)."""

    kind: Literal["equal-loss"] = "equal-loss"

    def penalty(self, outputs: Outputs) -> Tensor:
        """|L(a+) − L(a−)|."""
        return equal_loss(outputs.losses, outputs.groups, outputs.group_count, **outputs.about())


class EqualizedOdds(_Penalty):
    """Equalized odds: min L + α(fpr + fnr) (equations 6.4 to 6.6)."""

    tasks: ClassVar[frozenset[Task]] = frozenset({"findings"})
    kind: Literal["equalized-odds"] = "equalized-odds"

    def penalty(self, outputs: Outputs) -> Tensor:
        """Fpr + fnr."""
        probabilities, targets = outputs.labels()
        return equalized_odds(probabilities, targets, outputs.groups, outputs.group_count, **outputs.about())


class DisparateImpact(_Penalty):
    """Disparate impact: min L + α·di (equations 6.8 and 6.9)."""

    tasks: ClassVar[frozenset[Task]] = frozenset({"findings"})
    kind: Literal["disparate-impact"] = "disparate-impact"

    def penalty(self, outputs: Outputs) -> Tensor:
        """Di, from −1 for groups alike to 0."""
        probabilities, _ = outputs.labels()
        return disparate_impact(probabilities, outputs.groups, outputs.group_count, **outputs.about())


class MinMax(Intervention):
    """The worst group's loss: min max{L(a+), L(a−)} (equation 6.11)."""

    compares: ClassVar[bool] = True
    kind: Literal["min-max"] = "min-max"

    @property
    def name(self) -> str:
        """min-max."""
        return self.kind

    def loss(self, outputs: Outputs, aside: Outputs | None = None) -> Tensor:
        """max{L(a+), L(a−)}; the mean loss where nobody's group is known."""
        return worst_group_loss(outputs.losses, outputs.groups, outputs.group_count, **outputs.about())


class GroupMargins(Intervention):
    """A larger margin for the identities of one group (section 6.4.4).

    Attributes:
        group: whose.
        margin: theirs; the others have the head's usual one.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"recognition"})
    kind: Literal["margins"] = "margins"
    group: str
    margin: float = Field(ADJUSTED, ge=0, le=1)

    @property
    def name(self) -> str:
        """Margins, whose, and how large."""
        return f"{self.kind} {self.group}={self.margin:g}"


class LabelFlipping(Intervention):
    """A share of the better-off group's labels made wrong (section 6.6).

    Attributes:
        group: the better-off one.
        share: p.
    """

    kind: Literal["label-flipping"] = "label-flipping"
    group: str
    share: float = Field(0.3, ge=0, le=1)

    @property
    def name(self) -> str:
        """The share and whose."""
        return f"{self.kind} {self.group}={self.share:g}"

    def targets(self, targets: Tensor, groups: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Turned around for a share of the group's samples."""
        return flip_labels(targets, groups, names.index(self.group), self.share, generator)


class FairFeatures(Intervention):
    """Features of a finished network, from which the group is removed (sections 6.5 and 6.9.2).

    Attributes:
        toward: the group that everybody is to look like.
        weight: α, of the adversarial term.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"recognition"})
    kind: Literal["fair-features"] = "fair-features"
    toward: str
    weight: float = Field(2.0, ge=0, le=HEAVIEST)

    @property
    def name(self) -> str:
        """Whom all are to look like, and α."""
        return f"{self.kind} {self.toward}={self.weight:g}"


AnyIntervention = Annotated[
    Baseline | EqualLoss | EqualizedOdds | DisparateImpact | MinMax | GroupMargins | LabelFlipping | FairFeatures,
    Field(discriminator="kind"),
]
"""For settings: any of them, told apart by its kind."""

_READ: TypeAdapter[AnyIntervention] = TypeAdapter(AnyIntervention)

KINDS: dict[str, type[Intervention]] = {
    "baseline": Baseline,
    "equal-loss": EqualLoss,
    "equalized-odds": EqualizedOdds,
    "disparate-impact": DisparateImpact,
    "min-max": MinMax,
    "margins": GroupMargins,
    "label-flipping": LabelFlipping,
    "fair-features": FairFeatures,
}
"""By what commands call them."""


def intervention(kind: str, **settings: object) -> AnyIntervention:
    """An intervention by its kind.

    Args:
        kind: one of `KINDS`.
        settings: of it, such as a weight.

    Raises:
        FairveilError: there is no such intervention, or it has no such setting.

    >>> intervention("equal-loss", weight=0.5, on="holdout").name
    'equal-loss 0.5 on holdout'
    """
    if kind not in KINDS:
        raise FairveilError(
            f"There is no intervention {kind!r}: choose from {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}"
        )
    try:
        return _READ.validate_python({"kind": kind, **settings})
    except ValidationError as error:
        fields = [name for name in KINDS[kind].model_fields if name != "kind"]
        first = error.errors()[0]
        where = first["loc"][-1]
        raise FairveilError(
            f"{kind} does not take {where}={settings.get(str(where))!r} ({first['msg'].lower()}): it takes "
            f"{', '.join(fields) or 'nothing'}."
        ) from None


def baseline_of(intervention: Intervention) -> AnyIntervention:
    """What an intervention is to be compared with: training on the same data, with features projected likewise."""
    if isinstance(intervention, FairFeatures):
        return intervention.model_copy(update={"weight": 0.0})
    if intervention.place == "holdout":
        return EqualLoss(weight=0.0, on="holdout")
    return Baseline()


def everything(task: Task, *, better: str, worse: str, weight: float = 1.0) -> list[AnyIntervention]:
    """One of every kind that a task allows, penalties on the train set and on a holdout.

    Args:
        task: which.
        better: the better-off group, whose labels are flipped.
        worse: the group that is worse off, whose margin is raised and whom all are to look like.
        weight: α of the penalties.
    """
    penalties = [
        kind.model_validate({"weight": weight, "on": place})
        for kind in (EqualLoss, EqualizedOdds, DisparateImpact)
        for place in ("train", "holdout")
    ]
    others = [
        MinMax(),
        GroupMargins(group=worse),
        LabelFlipping(group=better, share=0.3 if task == "recognition" else 0.05),
        FairFeatures(toward=worse),
    ]
    return [one for one in (Baseline(), *penalties, *others) if task in one.tasks]  # type: ignore[misc]
