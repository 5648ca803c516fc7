"""Faces that a person frames by hand, since the detector missed them.

A frame is (left, top, width, height) in whole pixels of the photo as a viewer shows it: after its Exif orientation,
with (0, 0) at the top left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.faces.alignment import TEMPLATE, TEMPLATE_SIZE
from fairveil.faces.boxes import overlaps
from fairveil.faces.detection import Detector, Faces

Frame = tuple[int, int, int, int]
"""Left, top, width and height, in pixels."""

SMALLEST_FRAME = 32
"""Least width and height of a frame, in pixels. MTCNN's boxes are 3/4 as wide as high: that is a face of 40 pixels."""

SAME_FACE_OVERLAP = 0.3
"""Intersection over union from which two boxes are those of one face."""

GUESSED = (
    "In the frame {} the detector sees no face. It was protected as an upright face that looks into the camera and "
    "fills the frame from the chin to the forehead: if it does not fill it, frame it again, more closely."
)
"""What to tell a person of a frame in which the landmarks are a guess."""

# Where the standard aligned crop lies about MTCNN's box of a face: its side over the geometric mean of the box's sides,
# and its center as shares of them. Measured on 80 photos of Labeled Faces in the Wild; the side varies by 3 %.
_SIDE, _CENTER = 1.22, (0.5, 0.42)


@dataclass(frozen=True)
class FacesByHand:
    """Which faces of a photo count, some of them by their frames.

    Attributes:
        frames: the faces framed by hand.
        beside: which of the faces that the detector finds count too.
    """

    frames: tuple[Frame, ...]
    beside: Literal["all", "largest", "none"] = "none"


@dataclass(frozen=True, eq=False)
class FramedFaces:
    """Faces that were found, followed by those framed by hand.

    Attributes:
        faces: all of them.
        frames: for each, the frame it was given by; None if it was found.
        seen: for each, whether the detector's networks see a face there. Else its landmarks are a guess: those of an
            upright face that looks into the camera and fills the frame.
    """

    faces: Faces
    frames: tuple[Frame | None, ...]
    seen: tuple[bool, ...]

    @classmethod
    def of(cls, found: Faces) -> "FramedFaces":
        """Faces of which none was framed by hand."""
        return cls(found, (None,) * len(found), (True,) * len(found))


def with_frames(photo: Tensor, found: Faces, frames: Sequence[Frame], detector: Detector) -> FramedFaces:
    """Add the faces in frames to those that were found.

    R-net and O-net look into each frame and near it. Where they see no face, its landmarks are guessed.

    Args:
        photo: uint8, (3, H, W).
        found: faces of the photo. A frame around one of them adds nothing, and neither does a second one around a face.
        frames: around the faces to add.
        detector: whose networks look.

    Raises:
        FairveilError: a frame is too small, or not at least half of it lies on the photo.
    """
    check_frames(frames, width=photo.shape[2], height=photo.shape[1])
    if not frames:
        return FramedFaces.of(found)
    drawn = boxes_of(frames).to(photo.device)
    looked = detector.look_at(photo, drawn)
    seen = looked.scores > detector.thresholds[2]
    guessed = torch.stack([guessed_landmarks(box) for box in drawn])
    added = Faces(
        torch.where(seen[:, None], looked.boxes, drawn),
        looked.scores,
        torch.where(seen[:, None, None], looked.landmarks, guessed),
    )
    faces = Faces(*(torch.cat(pair) for pair in zip(_columns(found), _columns(added), strict=True)))
    new = list(range(len(found)))
    for position in range(len(found), len(faces)):
        if not new or overlaps(faces.boxes[[position]], faces.boxes[new]).max() <= SAME_FACE_OVERLAP:
            new.append(position)
    every = [None] * len(found) + list(frames)
    sure = [True] * len(found) + seen.tolist()
    return FramedFaces(faces[new], tuple(every[index] for index in new), tuple(sure[index] for index in new))


def check_frames(frames: Sequence[Frame], *, width: int, height: int) -> None:
    """Refuse frames in which nobody could protect a face of a photo of `width` × `height` pixels.

    Raises:
        FairveilError: a frame is too small, or not at least half of it lies on the photo.
    """
    for left, top, wide, high in frames:
        named = f"The frame {left},{top},{wide},{high} (left, top, width, height)"
        if min(wide, high) < SMALLEST_FRAME:
            raise FairveilError(
                f"{named} is too small: a face needs {SMALLEST_FRAME} pixels or more each way to be protected."
            )
        across = min(left + wide, width) - max(left, 0)
        down = min(top + high, height) - max(top, 0)
        if 2 * max(0, across) * max(0, down) < wide * high:
            raise FairveilError(
                f"{named} lies outside of the photo, of {width}×{height} pixels, or more than half of it does: "
                "count pixels from the top left, in the photo as a viewer shows it."
            )


def boxes_of(frames: Sequence[Frame]) -> Tensor:
    """Frames as boxes (N, 4) with pixel centers at integers."""
    corners = torch.tensor(list(frames), dtype=torch.float32).reshape(-1, 4)
    return torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1) - 0.5


def guessed_landmarks(box: Tensor) -> Tensor:
    """Landmarks (5, 2) of an upright face that looks into the camera and fills a box (4,)."""
    sides = box[2:] - box[:2]
    scale = _SIDE * sides.prod().sqrt() / TEMPLATE_SIZE
    center = box[:2] + sides * box.new_tensor(_CENTER)
    return (TEMPLATE.to(box) - (TEMPLATE_SIZE - 1) / 2) * scale + center


def _columns(faces: Faces) -> tuple[Tensor, Tensor, Tensor]:
    return faces.boxes, faces.scores, faces.landmarks
