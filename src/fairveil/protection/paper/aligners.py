"""Defenders who align faces in another way than the attack did."""

import math
import zlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fairveil.faces.alignment import TEMPLATE, TEMPLATE_SIZE
from fairveil.faces.detection import Detector, Faces

Aligner = Literal["landmarks", "box", "shifted"]
"""By the detector's landmarks, as the attack does; by its box alone; or by landmarks that are moved aside."""

# Over the longer side of MTCNN's box: the side of the aligned square, and how far its center lies above the box's;
# medians over 200 photos of Labeled Faces in the Wild.
_SIDE, _LIFT = 1.04, 0.07
_SHIFT = 0.05  # of the longer side of the box


class OtherAligner(Detector):
    """A detector whose boxes are another's, and whose landmarks are not.

    Args:
        detector: what finds the faces.
        aligner: "box" puts the landmarks where the standard crop has them in an upright square around the box, as
            those do who have no landmarks; "shifted" moves all five by 5 % of the box's longer side, in a direction
            that is drawn anew for each photo, by its content.
    """

    def __init__(self, detector: Detector, aligner: Aligner) -> None:
        super().__init__(
            detector.pnet,
            detector.rnet,
            detector.onet,
            minimum_face=detector.minimum_face,
            thresholds=detector.thresholds,
            factor=detector.factor,
            at_border=detector.at_border,
        )
        self.aligner = aligner

    def detect(self, photos: Sequence[Tensor] | Tensor) -> list[Faces]:
        """See `Detector.detect`."""
        found = super().detect(photos)
        return [self._aligned(photo, faces) for photo, faces in zip(photos, found, strict=True)]

    def _aligned(self, photo: Tensor, faces: Faces) -> Faces:
        if self.aligner == "landmarks" or not len(faces):
            return faces
        move = in_box if self.aligner == "box" else shifted
        return Faces(faces.boxes, faces.scores, move(photo, faces))


def in_box(photo: Tensor, faces: Faces) -> Tensor:
    """Landmarks (F, 5, 2) where the standard crop has them in an upright square about each face's box."""
    corners, ends = faces.boxes[:, None, :2], faces.boxes[:, None, 2:]
    longer = (ends - corners).amax(2, keepdim=True)  # (F, 1, 1)
    center = (corners + ends) / 2 - longer * longer.new_tensor([0.0, _LIFT])
    template = (TEMPLATE.to(longer) - (TEMPLATE_SIZE - 1) / 2) / TEMPLATE_SIZE
    return center + template * _SIDE * longer


def shifted(photo: Tensor, faces: Faces) -> Tensor:
    """Landmarks (F, 5, 2) moved by 5 % of the longer side of each face's box, in one direction for a photo."""
    seed = zlib.crc32(photo.cpu().contiguous().numpy().tobytes())
    angle = 2 * math.pi * float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
    direction = faces.boxes.new_tensor([math.cos(angle), math.sin(angle)])
    longer = (faces.boxes[:, 2:] - faces.boxes[:, :2]).amax(1)
    return faces.landmarks + _SHIFT * longer[:, None, None] * direction
