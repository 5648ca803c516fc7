"""The part of a photo that matters to a face: a square around it, no larger than it need be.

Recognizers see a face at 112 to 224 pixels, however large the photo. So a face is protected on a canvas of at
most 224 pixels, and the perturbation is enlarged and added to the photo at the end: the work does not grow with
the photo, and since the perturbation is smooth at the photo's own scale, it survives whatever resampling a
recognizer uses.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.faces.alignment import TEMPLATE, TEMPLATE_SIZE, similarity_transform, transform_points

CONTEXT = 1.5
"""Side of the square around a face that recognizers are shown and that is compared, over the side of the standard
aligned crop."""

SMALLEST = 64
"""Side of the smallest canvas, in pixels: below it, LPIPS's network has nothing left to compare."""

_GRAIN = 32  # canvases below the full size come in steps of this, so that faces of similar size share a batch
_FEATHER = 0.12  # share of a canvas's side over which the perturbation fades out at each edge


@dataclass(frozen=True)
class Canvas:
    """A rectangle of a photo, and the size at which it is worked on.

    Attributes:
        left: first column of the rectangle in the photo; may lie outside.
        top: first row.
        width: of the rectangle, in photo pixels.
        height: of the rectangle, in photo pixels.
        size: rows and columns of the canvas.
        feather: whether the perturbation fades out toward the edges.
    """

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]
    feather: bool = True

    @classmethod
    def around_face(cls, landmarks: Tensor, *, margin: float, largest: int) -> "Canvas":
        """A square canvas around one face.

        Args:
            landmarks: shape (5, 2), in photo pixels.
            margin: side of the canvas over the side of the standard aligned crop.
            largest: side of the canvas in pixels at the most.
        """
        to_photo = similarity_transform(TEMPLATE[None].to(landmarks), landmarks[None])
        middle = TEMPLATE.new_full((1, 1, 2), (TEMPLATE_SIZE - 1) / 2).to(landmarks)
        x, y = transform_points(middle, to_photo)[0, 0].tolist()
        side = margin * TEMPLATE_SIZE * float(torch.linalg.det(to_photo[0, :, :2])) ** 0.5
        if side < largest:  # grow to the next size that others may share; at this size one pixel is one pixel
            size = side = min(largest, max(SMALLEST, -int(-side // _GRAIN) * _GRAIN))
        else:
            size, side = largest, round(side)
        return cls(round(x - (side - 1) / 2), round(y - (side - 1) / 2), side, side, (size, size))

    @classmethod
    def of_whole_photo(cls, photo: Tensor) -> "Canvas":
        """The photo (3, H, W) itself at full resolution, as in the dissertation."""
        height, width = photo.shape[1:]
        return cls(0, 0, width, height, (height, width), feather=False)

    def cut(self, photo: Tensor) -> Tensor:
        """What the canvas shows of a uint8 photo (3, H, W): float in [0, 1], (3, *size), edges repeated outside."""
        rows = torch.arange(self.top, self.top + self.height).clamp(0, photo.shape[1] - 1)
        columns = torch.arange(self.left, self.left + self.width).clamp(0, photo.shape[2] - 1)
        view = photo[:, rows][:, :, columns].float()[None] / 255
        if self.size != (self.height, self.width):
            view = F.interpolate(view, self.size, mode="bilinear", antialias=True)
        return view[0]

    def to_canvas(self, points: Tensor) -> Tensor:
        """Points (..., 2) of the photo, in the canvas's pixels."""
        corner = points.new_tensor([self.left, self.top])
        scale = points.new_tensor([self.size[1] / self.width, self.size[0] / self.height])
        return (points - corner + 0.5) * scale - 0.5

    def window(self, photo: Tensor) -> Tensor:
        """How much of a perturbation is kept, per pixel: (1, *size), 0 to 1, and 0 outside the photo (3, H, W)."""
        profiles = []
        for start, length, size, limit in (
            (self.top, self.height, self.size[0], photo.shape[1]),
            (self.left, self.width, self.size[1], photo.shape[2]),
        ):
            place = (torch.arange(size) + 0.5) / size  # 0 to 1 along the canvas
            profile = torch.ones(size)
            if self.feather:
                toward_edge = (torch.minimum(place, 1 - place) / _FEATHER).clamp(0, 1)
                profile = 0.5 - 0.5 * torch.cos(torch.pi * toward_edge)
            inside = start + place * length
            profiles.append(profile * ((inside >= 0) & (inside <= limit)))
        return torch.outer(*profiles)[None]

    def paste(self, photo: Tensor, perturbation: Tensor) -> None:
        """Add a perturbation (C, *size), on the scale of [0, 1], to a uint8 photo (3, H, W), in place."""
        if self.size != (self.height, self.width):
            perturbation = F.interpolate(
                perturbation[None], (self.height, self.width), mode="bicubic", align_corners=False
            )[0]
        top, left = max(0, self.top), max(0, self.left)
        bottom, right = min(photo.shape[1], self.top + self.height), min(photo.shape[2], self.left + self.width)
        inside = perturbation[:, top - self.top : bottom - self.top, left - self.left : right - self.left]
        region = photo[:, top:bottom, left:right]
        region.copy_((region + inside * 255).round().clamp(0, 255))


def view_of_face(photo: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """The surroundings of a face at full resolution, (1, 3, S, S) in [0, 1], and its landmarks there, (1, 5, 2)."""
    canvas = Canvas.around_face(landmarks, margin=CONTEXT, largest=max(photo.shape))
    return canvas.cut(photo)[None], canvas.to_canvas(landmarks)[None]
