"""What every intervention of chapter 6 is: settings, and what they change in training.

Nothing here imports torch when it is imported, so that commands can list interventions and their options at once.
"""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny

from fairveil.base.errors import FairveilError

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fairveil.fair.adversarial import Removal, Removed
    from fairveil.fair.groups import Groups

Task = Literal["recognition", "findings"]
"""What is learned: whose face it is, among many classes, or which of several findings an X-ray shows."""

HEAVIEST = 1e6
"""The largest α: beyond it nothing is learned, and numbers overflow."""

NAMES_A_GROUP = object()
GroupName = Annotated[str, NAMES_A_GROUP]
"""The type of settings that name a group."""


KINDS: "dict[str, type[Intervention]]" = {}
"""Every intervention by its kind, in the order of the chapter."""


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

    losses: "Tensor"
    groups: "Tensor"
    group_count: int
    logits: "Tensor | None" = None
    targets: "Tensor | None" = None
    known: "Tensor | None" = None
    across_processes: bool = False

    def grouping(self) -> dict[str, Any]:
        """Groups and options for `fairveil.fair.penalties`: the trainer counts the batches that lack a group."""
        return {
            "groups": self.groups,
            "group_count": self.group_count,
            "known": self.known,
            "absent": "skip",
            "across_processes": self.across_processes,
        }

    def mean_loss(self) -> "Tensor":
        """L, over all samples and known labels."""
        if self.known is None:
            return self.losses.mean()
        return self.losses.where(self.known, 0.0).sum() / self.known.sum().clamp_min(1)

    def labels(self) -> "tuple[Tensor, Tensor]":
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
    """What is done for fairness; each method is a place of training where something can be done, and does nothing.

    A subclass with a default `kind` is known to all commands, trainers and cards by it, once it is imported. Its fields
    are its options: their descriptions, ranges and defaults are what `--help` tells of them.

    Attributes:
        kind: what commands call it.
        source: where it is from: section and equation of the dissertation, or author and year. Interventions are
            listed in the order of the numbers in it.
        tasks: which it can be used for.
        compares: whether it compares groups within a batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: ClassVar[str]
    tasks: ClassVar[frozenset[Task]] = frozenset(get_args(Task))
    compares: ClassVar[bool] = False

    if TYPE_CHECKING:
        kind: str = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Make a finished intervention known."""
        if "kind" in cls.model_fields:
            register(cls)

    @property
    def name(self) -> str:
        """What commands and reports call it, strength included."""
        return self.kind

    @property
    def on_holdout(self) -> bool:
        """Whether it compares groups on a holdout set, which is put aside for it."""
        return False

    @classmethod
    def candidates(cls, task: Task, *, better: str, worse: str, weight: float) -> Sequence[Self]:
        """The forms in which it is compared with others, where nobody asks for another strength.

        Args:
            task: one of its tasks.
            better: the better-off group.
            worse: the group that is worse off.
            weight: α, of interventions that add a penalty.
        """
        return [cls()]

    def baseline(self) -> "Intervention":
        """What it is compared with: training on the same data without it."""
        return Baseline()

    @property
    def network(self) -> "Intervention":
        """Under which the network itself is trained: another one where this one only changes a finished network."""
        return self

    def loss(self, outputs: Outputs, holdout: Outputs | None = None) -> "Tensor":
        """What a step lowers, from what the network makes of its batch, and of one of the holdout set."""
        return outputs.mean_loss()

    def targets(self, targets: "Tensor", groups: "Tensor", names: Sequence[str], generator: "Generator") -> "Tensor":
        """The binary labels that are learned in place of those of a batch."""
        return targets

    def identities(self, labels: "Tensor", groups: "Groups", generator: "Generator") -> "Tensor":
        """The identities that are learned in place of those of the train set."""
        return labels

    def margins(self, of_identities: "Tensor", groups: "Groups", usual: float) -> "Tensor | None":
        """A margin for each identity, (K,), from the number of its group; None for the usual one."""
        return None

    def project(
        self, embeddings: "Tensor", labels: "Tensor", groups: "Groups", settings: "Removal"
    ) -> "Removed | None":
        """What is to project the embeddings of the finished network; None to leave them as they are."""
        return None

    @classmethod
    def group_settings(cls) -> tuple[str, ...]:
        """The settings that name a group."""
        return tuple(name for name, field in cls.model_fields.items() if NAMES_A_GROUP in field.metadata)

    def regrouped(self, names: Mapping[str, str]) -> Self:
        """The same for other groups, by what the former are called."""
        return self.model_copy(update={field: names[getattr(self, field)] for field in self.group_settings()})

    def check(self, task: Task, groups: "Groups | None" = None) -> None:
        """Refuse what could not be trained.

        Args:
            task: what is learned.
            groups: which there are; None where they do not matter yet.

        Raises:
            FairveilError: it is for another task, or names a group that there is not.
        """
        if task not in self.tasks:
            raise FairveilError(f"{self.name} is for {' and '.join(sorted(self.tasks))}, not for {task}: leave it out.")
        for field in self.group_settings() if groups is not None else ():
            groups.number(getattr(self, field))  # type: ignore[union-attr]


def register(entry: "type[Intervention]") -> None:
    """Make an intervention known by the default of its `kind`, in its place by the numbers of its `source`.

    Raises:
        FairveilError: another one is called so already.
    """
    kind = entry.model_fields["kind"].default
    former = KINDS.get(kind, entry)
    if (former.__module__, former.__qualname__) != (entry.__module__, entry.__qualname__):
        raise FairveilError(
            f"{entry.__qualname__} and {former.__qualname__} are both the intervention {kind!r}: rename one of them."
        )
    every = sorted([*({**KINDS, kind: entry}.values())], key=_place)
    KINDS.clear()
    KINDS.update({one.model_fields["kind"].default: one for one in every})


def _place(entry: "type[Intervention]") -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", entry.source)], entry.__qualname__


def from_record(value: Any) -> Any:
    """An intervention from its record, told apart by the kind; anything else as it is.

    Raises:
        ValueError: there is no such kind, or it has no such settings.
    """
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if kind not in KINDS:
        raise ValueError(f"kind has to be one of {', '.join(KINDS)}")
    return KINDS[kind].model_validate(value)


AnyIntervention = Annotated[SerializeAsAny[Intervention], BeforeValidator(from_record)]
"""The type of fields of records that hold an intervention, of whatever kind."""


class Baseline(Intervention):
    """Training as usual (section 6.4)."""

    source: ClassVar[str] = "section 6.4"
    kind: Literal["baseline"] = "baseline"


class Penalty(Intervention):
    """α times a gap between groups is added to the loss.

    Attributes:
        weight: α.
        on: what the gap is taken on: the batch that is trained on, or one of the holdout set.
    """

    compares: ClassVar[bool] = True
    weight: float = Field(1.0, ge=0, le=HEAVIEST, description="Weight α of the penalty")
    on: Literal["train", "holdout"] = Field("train", description="What the penalty is taken on")

    @property
    def name(self) -> str:
        """The kind, α, and where."""
        return f"{self.kind} {self.weight:g}{' on holdout' * self.on_holdout}"

    @property
    def on_holdout(self) -> bool:
        """Whether the gap is taken on the holdout set."""
        return self.on == "holdout"

    @classmethod
    def candidates(cls, task: Task, *, better: str, worse: str, weight: float) -> Sequence[Self]:
        """On the train set and on a holdout set."""
        return [cls.model_validate({"weight": weight, "on": place}) for place in ("train", "holdout")]

    def baseline(self) -> Intervention:
        """Training without the penalty; with images of a holdout set put aside likewise."""
        return KINDS["equal-loss"].model_validate({"weight": 0.0, "on": "holdout"}) if self.on_holdout else Baseline()

    def loss(self, outputs: Outputs, holdout: Outputs | None = None) -> "Tensor":
        """L + α · the gap."""
        return outputs.mean_loss() + self.weight * self.penalty(outputs if holdout is None else holdout)

    @abstractmethod
    def penalty(self, outputs: Outputs) -> "Tensor":
        """The gap, which counts as none in a batch with fewer than two groups."""
