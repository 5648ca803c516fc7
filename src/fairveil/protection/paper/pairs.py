"""What a defender who has LowKey too learns from: faces as they were and as it protected them itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fairveil.data import FaceTable
from fairveil.faces.canvas import CONTEXT, Canvas
from fairveil.faces.embedding import WhichFace, faces_that_count
from fairveil.protection.paper.protected import detector_for

SIDE = 128
"""Side in pixels of the squares around faces that a defender's networks look at."""


class Pairs(NamedTuple):
    """Faces in several versions, such as clean and protected.

    Attributes:
        views: squares around the faces, (N, V, 3, SIDE, SIDE), RGB in [0, 1].
        landmarks: five points of each face in its square, (N, 5, 2).
        rows: of the table, in which a face was found, (N,).
    """

    views: Tensor
    landmarks: Tensor
    rows: list[int]


def canvas_of(landmarks: Tensor) -> Canvas:
    """The square around a face, from its landmarks (5, 2), that a defender's networks look at in `SIDE` pixels."""
    return replace(Canvas.around_face(landmarks, margin=CONTEXT, largest=SIDE), size=(SIDE, SIDE))


@torch.no_grad()
def face_pairs(versions: Sequence[FaceTable], faces: WhichFace) -> Pairs:
    """The faces of photos in all their versions; each is looked for in the first, and left out where there is none."""
    views, landmarks, rows = [torch.empty(0, len(versions), 3, SIDE, SIDE)], [torch.empty(0, 5, 2)], []
    for row in range(len(versions[0])):
        photos = [table.photo(row) for table in versions]
        found = faces_that_count(photos[0], detector_for(faces), faces)
        if len(found):
            canvas = canvas_of(found.landmarks[0])
            views.append(torch.stack([canvas.cut(photo) for photo in photos])[None])
            landmarks.append(canvas.to_canvas(found.landmarks[:1]))
            rows.append(row)
    return Pairs(torch.cat(views), torch.cat(landmarks), rows)
