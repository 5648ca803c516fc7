"""Faces with labels, from wherever they come."""

from fairveil.data.duplicates import drop_near_duplicates, near_duplicates, perceptual_hashes
from fairveil.data.layouts import (
    has_pack,
    open_table,
    read_balancedface,
    read_celeba,
    read_facescrub,
    read_lfw,
    read_pack,
    read_races,
    read_rfw,
    read_umdfaces,
)
from fairveil.data.splits import split_probes
from fairveil.data.table import FaceTable

__all__ = [
    "FaceTable",
    "drop_near_duplicates",
    "has_pack",
    "near_duplicates",
    "open_table",
    "perceptual_hashes",
    "read_balancedface",
    "read_celeba",
    "read_facescrub",
    "read_lfw",
    "read_pack",
    "read_races",
    "read_rfw",
    "read_umdfaces",
    "split_probes",
]
