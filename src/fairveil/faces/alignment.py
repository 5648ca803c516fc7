"""From five landmarks to the crop a recognizer expects, differentiably, and back.

Coordinates are (x, y) in pixels with pixel centers at integers: the center of the top-left pixel is (0, 0).
A transform is a (2, 3) matrix that maps a point of the source picture to a point of the crop.
"""

import math

import torch
import torch.nn.functional as F
from kornia.geometry.transform import warp_affine
from torch import Tensor

TEMPLATE_SIZE = 112
"""Side of the square crop, in pixels, that `TEMPLATE` belongs to."""

TEMPLATE = torch.tensor([
    [38.2946, 51.6963],  # left eye, as seen in the picture
    [73.5318, 51.5014],  # right eye
    [56.0252, 71.7366],  # nose
    [41.5493, 92.3655],  # left corner of the mouth
    [70.7299, 92.2041],  # right corner of the mouth
])  # fmt: skip
"""Where the five landmarks lie in a 112×112 crop (Deng et al. 2019, ArcFace): shape (5, 2), in pixels."""


def similarity_transform(source: Tensor, target: Tensor) -> Tensor:
    """The rotation, scaling and shift that bring `source` closest to `target` in the least-squares sense.

    In the plane this is linear regression over the complex numbers, target ≈ a·source + b, whose solution is closed
    (the two-dimensional case, without reflection, of Umeyama 1991).

    Args:
        source: points, shape (B, P, 2), in pixels.
        target: the points they should reach, shape (B, P, 2) or (P, 2), in pixels.

    Returns:
        Transforms of shape (B, 2, 3).

    >>> face = TEMPLATE[None] * 2 + 5
    >>> torch.allclose(transform_points(face, similarity_transform(face, TEMPLATE)), TEMPLATE, atol=1e-4)
    True
    """
    target = target.to(source).expand_as(source)
    source_mean, target_mean = source.mean(-2, keepdim=True), target.mean(-2, keepdim=True)
    (x, y), (u, v) = (source - source_mean).unbind(-1), (target - target_mean).unbind(-1)
    spread = (x * x + y * y).sum(-1)
    cosine = (x * u + y * v).sum(-1) / spread
    sine = (x * v - y * u).sum(-1) / spread
    rotation = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)  # (B, 2, 2)
    shift = target_mean.mT - rotation @ source_mean.mT  # (B, 2, 1)
    return torch.cat([rotation, shift], -1)


def inverse_transform(transform: Tensor) -> Tensor:
    """The exact inverse of affine transforms: shape (B, 2, 3) to (B, 2, 3)."""
    linear = torch.linalg.inv(transform[:, :, :2])
    return torch.cat([linear, -linear @ transform[:, :, 2:]], -1)


def transform_points(points: Tensor, transform: Tensor) -> Tensor:
    """Map points of shape (B, P, 2) by transforms of shape (B, 2, 3)."""
    return points @ transform[:, :, :2].mT + transform[:, :, 2].unsqueeze(-2)


def warp(images: Tensor, transform: Tensor, size: int, *, antialias: bool = True) -> Tensor:
    """Cut transformed square crops out of images: differentiable, and without aliasing when the crop shrinks.

    Each crop pixel is the mean of k×k bilinear samples spread evenly over its area, where k is the factor, rounded up,
    by which the crop shrinks the image. So all pixels of a large face reach a small crop, whatever its rotation,
    and the gradient reaches all of them. Outside the image is black.

    Args:
        images: shape (B, C, H, W), or (1, C, H, W) to cut several crops out of one image.
        transform: image to crop, shape (B, 2, 3).
        size: side of the crops in pixels.
        antialias: whether crop pixels are such means, or a single bilinear sample each.

    Returns:
        Crops of shape (B, C, size, size).
    """
    shrinkage = float(torch.linalg.det(transform[:, :, :2].detach()).abs().min()) ** -0.5
    samples = max(1, math.ceil(shrinkage - 0.01)) if antialias else 1
    # Sample v of k·size lies at (v + 1/2) / k - 1/2 in the crop.
    finer = torch.cat([samples * transform[:, :, :2], samples * transform[:, :, 2:] + (samples - 1) / 2], -1)
    images = images.expand(len(transform), -1, -1, -1)
    crops = warp_affine(images, finer.to(images), (samples * size, samples * size), align_corners=True)
    return F.avg_pool2d(crops, samples) if samples > 1 else crops
