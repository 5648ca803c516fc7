"""Faces with labels, from wherever they come."""

from fairveil.data.layouts import has_pack, open_table, read_celeba, read_facescrub, read_lfw, read_pack, read_umdfaces
from fairveil.data.splits import split_probes
from fairveil.data.table import FaceTable

__all__ = [
    "FaceTable",
    "has_pack",
    "open_table",
    "read_celeba",
    "read_facescrub",
    "read_lfw",
    "read_pack",
    "read_umdfaces",
    "split_probes",
]
