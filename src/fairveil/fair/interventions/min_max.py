"""Min-max: only the group with the highest loss counts."""

from typing import TYPE_CHECKING, ClassVar, Literal

from fairveil.fair.interventions.base import Intervention, Outputs

if TYPE_CHECKING:
    from torch import Tensor


class MinMax(Intervention):
    """The worst group's loss: min max{L(a+), L(a−)} (equation 6.11)."""

    source: ClassVar[str] = "section 6.4.3, equation 6.11"
    compares: ClassVar[bool] = True
    kind: Literal["min-max"] = "min-max"

    def loss(self, outputs: Outputs, holdout: Outputs | None = None) -> "Tensor":
        """max{L(a+), L(a−)}; the mean loss where nobody's group is known."""
        from fairveil.fair.penalties import worst_group_loss

        return worst_group_loss(outputs.losses, **outputs.grouping())
