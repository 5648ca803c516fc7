"""Adjusted angular margins: recognizers have to be surer about people of one group."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from fairveil.fair.interventions.base import GroupName, Intervention, Task

if TYPE_CHECKING:
    from torch import Tensor

    from fairveil.fair.groups import Groups

ADJUSTED = 0.75
"""The margin of section 6.9.2 for the group that is worse off, where the others have 0.35."""


class GroupMargins(Intervention):
    """A larger margin for the identities of one group (section 6.4.4).

    Attributes:
        group: whose.
        margin: theirs; the others have the head's usual one.
    """

    source: ClassVar[str] = "section 6.4.4"
    tasks: ClassVar[frozenset[Task]] = frozenset({"recognition"})
    kind: Literal["margins"] = "margins"
    group: GroupName = Field(description="Group whose margin is raised")
    margin: float = Field(ADJUSTED, ge=0, le=1, description="Margin of that group")

    @property
    def name(self) -> str:
        """Margins, whose, and how large."""
        return f"{self.kind} {self.group}={self.margin:g}"

    @classmethod
    def candidates(cls, task: Task, *, better: str, worse: str, weight: float) -> Sequence[Self]:
        """For the group that is worse off."""
        return [cls(group=worse)]

    def margins(self, of_identities: "Tensor", groups: "Groups", usual: float) -> "Tensor":
        """The raised one for the group's identities."""
        import torch

        return torch.where(of_identities == groups.number(self.group), self.margin, usual)
