"""Model weights by name: where each comes from, fetched once, verified at every use.

>>> from fairveil import assets
>>> assets.CATALOGUE["mtcnn-pnet"].filename
'pnet.pt'
"""

from fairveil.assets.catalogue import CATALOGUE, Artifact, Package, select
from fairveil.assets.pickles import read_numpy_pickle
from fairveil.assets.store import copy_to, fetch, folder, locate, path

__all__ = [
    "CATALOGUE",
    "Artifact",
    "Package",
    "copy_to",
    "fetch",
    "folder",
    "locate",
    "path",
    "read_numpy_pickle",
    "select",
]
