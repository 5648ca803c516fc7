"""Chest X-rays with findings: the data and the network of chapter 6's medical task."""

from fairveil.data.xrays.cells import AGE_EDGES
from fairveil.data.xrays.densenet import DenseNet121, load_imagenet
from fairveil.data.xrays.images import FINDINGS, Xrays
from fairveil.data.xrays.preparation import Preparation, random_affine
from fairveil.data.xrays.reading import read_xrays
from fairveil.data.xrays.synthetic import SyntheticXrays

__all__ = [
    "AGE_EDGES",
    "FINDINGS",
    "DenseNet121",
    "Preparation",
    "SyntheticXrays",
    "Xrays",
    "load_imagenet",
    "random_affine",
    "read_xrays",
]
