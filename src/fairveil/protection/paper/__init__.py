"""The studies of chapter 3: its tables and figures, and what goes beyond them."""

from fairveil.protection.paper.chapter import CHAPTER_3
from fairveil.protection.paper.detection import DETECTION
from fairveil.protection.paper.handling import HANDLED
from fairveil.protection.paper.runtime import RUNTIME

STUDIES = (*CHAPTER_3, DETECTION, HANDLED, RUNTIME)
"""In the order in which they are listed."""
