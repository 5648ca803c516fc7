"""Interventions for fairer networks, and the test of whether they worked (chapter 6).

In any training loop:

    from fairveil.fair import equal_loss
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    loss = losses.mean() + 1.0 * equal_loss(losses, groups)
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "adversarial": ("Removal", "remove_sensitive"),
    "comparing": ("Comparison", "compare"),
    "interventions": ("KINDS", "everything", "intervention"),
    "label_flipping": ("flip_identities", "flip_labels"),
    "margins": ("angles",),
    "penalties": ("disparate_impact", "equal_loss", "equalized_odds", "worst_group_loss"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]  # noqa: PLE0604 - all are names


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: importing torch takes seconds, `--help` should not."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fairveil.fair' has no attribute {name!r}")
    return getattr(import_module(f"fairveil.fair.{_HOME_OF[name]}"), name)
