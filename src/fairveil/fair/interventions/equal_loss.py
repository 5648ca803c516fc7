"""Equal loss: the mean losses of groups are to be alike."""

from typing import TYPE_CHECKING, ClassVar, Literal

from fairveil.fair.interventions.base import Outputs, Penalty

if TYPE_CHECKING:
    from torch import Tensor


class EqualLoss(Penalty):
    """Equal loss: min L + α|L(a+) − L(a−)| (equation 6.2)."""

    source: ClassVar[str] = "section 6.4.1, equation 6.2"
    kind: Literal["equal-loss"] = "equal-loss"

    def penalty(self, outputs: Outputs) -> "Tensor":
        """|L(a+) − L(a−)|."""
        from fairveil.fair.penalties import equal_loss

        return equal_loss(outputs.losses, **outputs.grouping())
