"""Equalized odds: groups are to have as many false positives and false negatives."""

from typing import TYPE_CHECKING, ClassVar, Literal

from fairveil.fair.interventions.base import Outputs, Penalty, Task

if TYPE_CHECKING:
    from torch import Tensor


class EqualizedOdds(Penalty):
    """Equalized odds: min L + α(fpr + fnr) (equations 6.4 to 6.6)."""

    source: ClassVar[str] = "section 6.4.1, equations 6.4 to 6.6"
    tasks: ClassVar[frozenset[Task]] = frozenset({"findings"})
    kind: Literal["equalized-odds"] = "equalized-odds"

    def penalty(self, outputs: Outputs) -> "Tensor":
        """Fpr + fnr."""
        from fairveil.fair.penalties import equalized_odds

        return equalized_odds(*outputs.labels(), **outputs.grouping())
