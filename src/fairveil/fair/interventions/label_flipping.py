"""Label flipping: some labels of the better-off group are made wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from fairveil.fair.interventions.base import GroupName, Intervention, Task

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fairveil.fair.groups import Groups


class LabelFlipping(Intervention):
    """A share of the better-off group's labels made wrong (section 6.6).

    Attributes:
        group: the better-off one.
        share: p.
    """

    source: ClassVar[str] = "section 6.6"
    kind: Literal["label-flipping"] = "label-flipping"
    group: GroupName = Field(description="Better-off group, whose labels are flipped")
    share: float = Field(0.3, ge=0, le=1, description="Share p of that group's labels")

    @property
    def name(self) -> str:
        """The share and whose."""
        return f"{self.kind} {self.group}={self.share:g}"

    @classmethod
    def candidates(cls, task: Task, *, better: str, worse: str, weight: float) -> Sequence[Self]:
        """For the better-off group, with shares from the middle of tables 6.6 and 6.10."""
        return [cls(group=better, share=0.3 if task == "recognition" else 0.05)]

    def targets(self, targets: "Tensor", groups: "Tensor", names: Sequence[str], generator: "Generator") -> "Tensor":
        """Turned around for a share of the group's samples."""
        from fairveil.fair.label_flipping import flip_labels

        return flip_labels(targets, groups, names.index(self.group), self.share, generator)

    def identities(self, labels: "Tensor", groups: "Groups", generator: "Generator") -> "Tensor":
        """Somebody else's of the group for a share of its images."""
        from fairveil.fair.label_flipping import flip_identities

        return flip_identities(labels, groups.numbers, groups.number(self.group), self.share, generator)
