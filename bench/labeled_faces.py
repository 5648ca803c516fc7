"""Embed the faces that a CSV with the columns image and identity lists, for the measurements beside this file."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from torch import Tensor

from fairveil.data import FaceTable
from fairveil.faces.embedding import embed_faces
from fairveil.faces.recognizers import Recognizer


def embed_labeled_faces(
    table: Path, root: Path, recognizers: Sequence[Recognizer], per_identity: int
) -> tuple[list[str], dict[str, Tensor]]:
    """Identities, and embeddings (N, D) by recognizer, of the face nearest the center of each photo.

    Args:
        table: the CSV; rows whose column dup_group is filled, near-duplicates, are left out.
        root: the folder or archive its paths start from.
        recognizers: who embeds.
        per_identity: how many photos of one identity to use at the most, of those that show a face.
    """
    photos = FaceTable.from_csv(table, root=root)
    if "dup_group" in photos.groups:
        photos = photos.filter(pl.col("dup_group").is_null())
    faces = embed_faces(photos, recognizers, which="central")
    chosen = faces.frame.select((pl.int_range(pl.len()).over("identity") < per_identity).alias("chosen"))["chosen"]
    identities = faces.frame.filter(chosen)["identity"].to_list()
    return identities, {name: faces.vectors(name)[chosen.to_torch()] for name in faces.recognizers}
