"""Embed the faces that a CSV with the columns image and identity lists, for the measurements beside this file."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector
from fairveil.faces.recognizers import Recognizer
from fairveil.photos import read_photo


@torch.no_grad()
def embed_labelled_faces(
    table: Path, root: Path, recognizers: Sequence[Recognizer], per_identity: int
) -> tuple[list[str], dict[str, Tensor]]:
    """Identities, and embeddings (N, D) by recogniser, of the face nearest the centre of each photo.

    Args:
        table: the CSV; rows whose column dup_group is filled, near-duplicates, are left out.
        root: the folder its paths start from.
        recognizers: who embeds.
        per_identity: how many photos of one identity to use at the most.
    """
    with table.open(newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if not row.get("dup_group")]
    detector = Detector.pretrained(minimum_face=40)
    taken: Counter[str] = Counter()
    identities: list[str] = []
    embeddings: dict[str, list[Tensor]] = {recognizer.name: [] for recognizer in recognizers}
    for row in track(rows, description="embedding"):
        if taken[row["identity"]] == per_identity:
            continue
        photo = read_photo(root / row["image"]).pixels
        faces = detector.detect([photo])[0]
        if not len(faces):
            continue
        centre = torch.tensor([photo.shape[2], photo.shape[1]]) / 2
        nearest = int((faces.landmarks.mean(1) - centre).norm(dim=1).argmin())
        taken[row["identity"]] += 1
        identities.append(row["identity"])
        view = view_of_face(photo, faces.landmarks[nearest])
        for recognizer in recognizers:
            embeddings[recognizer.name].append(recognizer.embed(*view))
    return identities, {name: torch.cat(rows_of_one) for name, rows_of_one in embeddings.items()}
