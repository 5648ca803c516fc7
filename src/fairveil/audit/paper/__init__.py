"""The studies of chapter 5: its tables and figures, and what goes beyond them."""

from fairveil.audit.paper.galleries import GALLERY_IDENTITIES, GALLERY_IMAGES, RANDOM_EXTRACTORS
from fairveil.audit.paper.human_agreement import HUMAN_AGREEMENT
from fairveil.audit.paper.train_sets import (
    MATCHED_IDENTITIES,
    MATCHED_IMAGES,
    TRAIN_IDENTITIES,
    TRAIN_IMAGES,
    WITHOUT_BALANCED_SAMPLING,
)

STUDIES = (
    TRAIN_IDENTITIES,
    TRAIN_IMAGES,
    GALLERY_IDENTITIES,
    GALLERY_IMAGES,
    MATCHED_IDENTITIES,
    MATCHED_IMAGES,
    RANDOM_EXTRACTORS,
    WITHOUT_BALANCED_SAMPLING,
    HUMAN_AGREEMENT,
)
"""In the order in which they are listed."""
