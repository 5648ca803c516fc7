"""Boxes: moving them, choosing among those that overlap, cutting them out of pictures.

A box is x0, y0, x1, y1 in edge coordinates: pixel 0 reaches from 0 to 1, so x1 - x0 is the box's width.
"""

import torch
from torch import Tensor


def regress(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Move the four sides of boxes (N, 4) by offsets (N, 4), given as shares of the boxes' own width and height."""
    return boxes + offsets * sides(boxes).repeat(1, 2)


def square(boxes: Tensor) -> Tensor:
    """The squares about the centers of boxes (N, 4) with their longer side, at least one pixel."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = sides(boxes).amax(1, keepdim=True).clamp(min=1) / 2
    return torch.cat([centers - halves, centers + halves], 1)


def overlaps(boxes: Tensor, others: Tensor, *, of_smaller: bool = False) -> Tensor:
    """How much each box (N, 4) overlaps each other one (M, 4), in [0, 1]: shape (N, M).

    The common area as a share of the union, or `of_smaller`: as a share of the smaller of the two ("Min").
    """
    upper = torch.maximum(boxes[:, None, :2], others[None, :, :2])  # (N, M, 2)
    lower = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = (lower - upper).clamp(min=0).prod(-1)  # (N, M)
    area, other_area = areas(boxes)[:, None], areas(others)[None]
    whole = torch.minimum(area, other_area) if of_smaller else area + other_area - common
    return common / whole.clamp(min=torch.finfo(boxes.dtype).tiny)


def suppress(
    boxes: Tensor, scores: Tensor, photo: Tensor, threshold: float, *, of_smaller: bool = False, block: int = 512
) -> Tensor:
    """Non-maximum suppression: of boxes that overlap in one photo by more than `threshold`, only the best-scored.

    The result is that of the greedy algorithm, which takes the best box, drops all that overlap it, and starts again.
    But a block of boxes is settled at once: assume that all stay, drop those that a staying one drops, and repeat
    until nothing changes. After round n the n best boxes are settled, and mostly all the others too.

    Args:
        boxes: shape (N, 4).
        scores: shape (N,).
        photo: which photo each box is in, shape (N,).
        threshold: the overlap above which the lower-scored box goes.
        of_smaller: measure overlap as a share of the smaller box.
        block: how many boxes are settled at once; bounds memory to block × N overlaps.

    Returns:
        Positions of the boxes that stay, best first.
    """

    def clash(some: Tensor, others: Tensor) -> Tensor:
        too_much = overlaps(boxes[some], boxes[others], of_smaller=of_smaller) > threshold
        return too_much & (photo[some][:, None] == photo[others])

    waiting = scores.argsort(descending=True, stable=True)
    kept = [waiting[:0]]
    while len(waiting):
        now, waiting = waiting[:block], waiting[block:]
        drops = clash(now, now).triu(1)
        stays = torch.ones_like(now, dtype=torch.bool)
        while not torch.equal(stays, settled := ~(drops & stays[:, None]).any(0)):
            stays = settled
        now = now[stays]
        waiting = waiting[~clash(now, waiting).any(0)]
        kept.append(now)
    return torch.cat(kept)


def sides(boxes: Tensor) -> Tensor:
    """Width and height of boxes: (N, 4) to (N, 2)."""
    return boxes[:, 2:] - boxes[:, :2]


def areas(boxes: Tensor) -> Tensor:
    """Areas of boxes, 0 where a box is turned inside out: (N, 4) to (N,)."""
    return sides(boxes).clamp(min=0).prod(-1)


def cut(pictures: Tensor, boxes: Tensor, picture: Tensor, size: int, *, outside: float = 0) -> Tensor:
    """Cut boxes out of pictures and resize them, without aliasing, all at once.

    A crop pixel is the mean over its own area where the crop shrinks the picture, and over one pixel's area (that is,
    linear interpolation) where it enlarges it.

    Args:
        pictures: shape (B, C, H, W), any type.
        boxes: shape (N, 4), in edge coordinates of the pictures.
        picture: which picture each box is in, shape (N,).
        size: side of the crops.
        outside: the value outside of the pictures; black, as it was when MTCNN's networks were trained, by default.

    Returns:
        Floats of shape (N, C, size, size), in the pictures' units.
    """
    rows, down = _spread(boxes[:, 1], boxes[:, 3], size, pictures.shape[-2])
    columns, across = _spread(boxes[:, 0], boxes[:, 2], size, pictures.shape[-1])
    channels = torch.arange(pictures.shape[1], device=pictures.device)
    patches = pictures[  # (N, C, P, Q)
        picture[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]
    crops = down[:, None] @ patches.to(boxes.dtype) @ across[:, None].mT
    if outside:
        covered = down.sum(2)[:, :, None] * across.sum(2)[:, None]  # (N, size, size): how much of a pixel is inside
        crops = crops + outside * (1 - covered)[:, None]
    return crops


def _spread(first: Tensor, last: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """Along one axis: which pixels of the picture make up a crop from `first` to `last` (N,), and by what weights.

    Returns:
        Pixels (N, P) and weights (N, size, P).
    """
    step = (last - first)[:, None] / size
    width = step.clamp(min=1)
    centers = first[:, None] + (torch.arange(size, device=first.device) + 0.5) * step  # (N, size)
    reach = int(step.max().ceil()) * size + 2 if len(step) else 0
    pixels = (first[:, None] - 0.5).floor() + torch.arange(reach, device=first.device)  # (N, P)
    left, right = (centers - width / 2)[:, :, None], (centers + width / 2)[:, :, None]
    common = torch.minimum(right, pixels[:, None] + 1) - torch.maximum(left, pixels[:, None])  # (N, size, P)
    inside = (pixels >= 0) & (pixels < length)
    return pixels.long().clamp(0, length - 1), common.clamp(min=0) / width[:, :, None] * inside[:, None]
