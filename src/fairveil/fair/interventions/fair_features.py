"""Fair features: the group is removed from the features of a finished network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from fairveil.fair.interventions.base import HEAVIEST, Baseline, GroupName, Intervention, Task

if TYPE_CHECKING:
    from torch import Tensor

    from fairveil.fair.adversarial import Removal, Removed
    from fairveil.fair.groups import Groups


class FairFeatures(Intervention):
    """Features of a finished network, from which the group is removed (sections 6.5 and 6.9.2).

    Attributes:
        toward: the group that everybody is to look like.
        weight: α, of the adversarial term.
    """

    source: ClassVar[str] = "section 6.5"
    tasks: ClassVar[frozenset[Task]] = frozenset({"recognition"})
    kind: Literal["fair-features"] = "fair-features"
    toward: GroupName = Field(description="Group that everybody is made to look like")
    weight: float = Field(2.0, ge=0, le=HEAVIEST, description="Weight α of the adversary")

    @property
    def name(self) -> str:
        """Whom all are to look like, and α."""
        return f"{self.kind} {self.toward}={self.weight:g}"

    @classmethod
    def candidates(cls, task: Task, *, better: str, worse: str, weight: float) -> Sequence[Self]:
        """Toward the group that is worse off."""
        return [cls(toward=worse)]

    def baseline(self) -> "FairFeatures":
        """Features projected likewise, without an adversary."""
        return self.model_copy(update={"weight": 0.0})

    @property
    def network(self) -> Intervention:
        """Trained as usual."""
        return Baseline()

    def project(self, embeddings: "Tensor", labels: "Tensor", groups: "Groups", settings: "Removal") -> "Removed":
        """By a removal network."""
        from fairveil.fair.adversarial import remove_sensitive

        settings = settings.model_copy(update={"weight": self.weight})
        toward = groups.number(self.toward)
        return remove_sensitive(embeddings, labels, groups.numbers, toward=toward, settings=settings)
