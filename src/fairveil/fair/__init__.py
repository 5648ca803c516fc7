"""Interventions for fairer networks, and the test of whether they worked (chapter 6).

In any training loop:

    from fairveil.fair import equal_loss
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    loss = losses.mean() + 1.0 * equal_loss(losses, groups, group_count=2)
"""

from fairveil.fair.adversarial import Removal, remove_sensitive
from fairveil.fair.comparing import Comparison, compare
from fairveil.fair.interventions import KINDS, everything, intervention
from fairveil.fair.label_flipping import flip_identities, flip_labels
from fairveil.fair.margins import angles
from fairveil.fair.penalties import disparate_impact, equal_loss, equalized_odds, worst_group_loss

__all__ = [
    "KINDS",
    "Comparison",
    "Removal",
    "angles",
    "compare",
    "disparate_impact",
    "equal_loss",
    "equalized_odds",
    "everything",
    "flip_identities",
    "flip_labels",
    "intervention",
    "remove_sensitive",
    "worst_group_loss",
]
