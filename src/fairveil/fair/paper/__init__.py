"""The studies of chapter 6: its tables and figures, and what goes beyond them."""

from fairveil.fair.paper.face_studies import FACE_STUDIES
from fairveil.fair.paper.xray_studies import XRAY_STUDIES

STUDIES = (*FACE_STUDIES, *XRAY_STUDIES)
"""In the order in which they are listed."""
