"""The studies of chapter 4: its tables and figures, and what goes beyond them."""

from fairveil.sanitize.paper.backdoors import BACKDOOR_DEFENSES, BACKDOOR_RECALL
from fairveil.sanitize.paper.matching import GRADIENT_MATCHING_DEFENSES, TRANSFER_DEFENSES
from fairveil.sanitize.paper.trigger_map import TRIGGER_MAP

STUDIES = (BACKDOOR_DEFENSES, BACKDOOR_RECALL, GRADIENT_MATCHING_DEFENSES, TRIGGER_MAP, TRANSFER_DEFENSES)
"""In the order in which they are listed."""
