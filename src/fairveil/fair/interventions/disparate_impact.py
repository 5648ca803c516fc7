"""Disparate impact: groups are to be given a label equally often, right or wrong."""

from typing import TYPE_CHECKING, ClassVar, Literal

from fairveil.fair.interventions.base import Outputs, Penalty, Task

if TYPE_CHECKING:
    from torch import Tensor


class DisparateImpact(Penalty):
    """Disparate impact: min L + α·di (equations 6.8 and 6.9)."""

    source: ClassVar[str] = "section 6.4.1, equations 6.8 and 6.9"
    tasks: ClassVar[frozenset[Task]] = frozenset({"findings"})
    kind: Literal["disparate-impact"] = "disparate-impact"

    def penalty(self, outputs: Outputs) -> "Tensor":
        """Di, from −1 for groups alike to 0."""
        from fairveil.fair.penalties import disparate_impact

        return disparate_impact(outputs.labels()[0], **outputs.grouping())
