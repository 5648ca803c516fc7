"""Chest X-rays with findings: the data and the network of chapter 6's medical task."""

from typing import TYPE_CHECKING

from fairveil.base.lazy import lazy_exports

if TYPE_CHECKING:
    from fairveil.data.xrays.cells import AGE_EDGES as AGE_EDGES
    from fairveil.data.xrays.densenet import DenseNet121 as DenseNet121
    from fairveil.data.xrays.densenet import load_imagenet as load_imagenet
    from fairveil.data.xrays.images import FINDINGS as FINDINGS
    from fairveil.data.xrays.images import Xrays as Xrays
    from fairveil.data.xrays.preparation import Preparation as Preparation
    from fairveil.data.xrays.preparation import random_affine as random_affine
    from fairveil.data.xrays.reading import read_xrays as read_xrays
    from fairveil.data.xrays.synthetic import SyntheticXrays as SyntheticXrays

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "cells": "AGE_EDGES",
        "densenet": "DenseNet121 load_imagenet",
        "images": "FINDINGS Xrays",
        "preparation": "Preparation random_affine",
        "reading": "read_xrays",
        "synthetic": "SyntheticXrays",
    },
)
