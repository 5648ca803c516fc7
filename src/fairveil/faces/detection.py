"""Where the faces are: the MTCNN cascade (Zhang et al. 2016) over photos of any size, on one or many at a time.

Inside this file boxes are in edge coordinates: pixel 0 reaches from 0 to 1, so a photo of width W from 0 to W, and
shrinking it by s divides all coordinates by s. What is handed out has pixel centers at integers, as everywhere else.

A face that the border cuts is seen worse the more of it is missing, since the cascade never looks at a window that
reaches out of the photo. So windows that do are proposed too, with gray around the photo, and go through the cascade
on their own: what they find is added to what was found without them, of which nothing changes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil import assets
from fairveil.base.errors import FairveilError
from fairveil.faces.boxes import areas, cut, overlaps, regress, sides, square, suppress
from fairveil.faces.mtcnn import OutputNet, ProposalNet, RefinementNet

_CELL, _STRIDE = ProposalNet.CELL, ProposalNet.STRIDE
_OUT = 6  # pixels by which windows reach out of the photo at the most: half a window, so that half of it is left to see
# What is put around the photo. The networks were trained with black around it. For a face that the border cuts, gray,
# which they read as 0, finds more than black, repeated or mirrored pixels, and mirrors give faces with four eyes.
_BLACK, _GRAY = 0, 128
_SCALES, _SHIFTS = (0.5, 0.75, 1.0, 1.25), (-0.125, 0.0, 0.125)  # of the squares about a box that a person drew
_SAME_PLACE = 0.5  # share of the smaller of that box and of the box of a face in it
_SAME_FACE = 0.5  # share of the smaller box, from which a face at the border is one that was found without it
# Bounds on memory: pixels of a batch of photos, of a strip under P-net, and crops under R-net or O-net at a time.
_BATCH_PIXELS, _STRIP_PIXELS, _CROPS = 1 << 22, 1 << 18, 256
# Bounds on time, per photo: how many windows of one level, and how many in all, may go on to the next stage; so many of
# those within the photo, and as many of those that reach out of it. The best-scored do. A photo of a crowd stays below
# them; noise and texture do not.
_WINDOWS_OF_LEVEL, _WINDOWS = 4096, 4096


@dataclass(frozen=True)
class Faces:
    """The faces of one photo, largest first, in pixels of the photo with pixel centers at integers.

    Attributes:
        boxes: x0, y0, x1, y1 of the four sides, shape (F, 4). A box may reach out of the photo, and so may landmarks:
            of a face that the border cuts they are where the missing part would be.
        scores: how sure the detector is, in [0, 1], shape (F,).
        landmarks: (x, y) of left eye, right eye, nose, left and right corner of the mouth, left and right as seen in
            the picture, shape (F, 5, 2).
    """

    boxes: Tensor
    scores: Tensor
    landmarks: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: slice | list[int] | Tensor) -> "Faces":
        """Some of the faces, by a slice, positions or a mask.

        >>> faces = Faces(torch.zeros(3, 4), torch.ones(3), torch.zeros(3, 5, 2))
        >>> len(faces[:2]), len(faces[[0]]), len(faces[faces.scores > 1])
        (2, 1, 0)
        """
        return Faces(self.boxes[index], self.scores[index], self.landmarks[index])


class Detector:
    """MTCNN: three networks, each of which looks closer at fewer places.

    Args:
        pnet: P-net, which proposes windows on a pyramid of ever smaller copies of the photo.
        rnet: R-net, which rejects most of them.
        onet: O-net, which decides, and finds the landmarks.
        minimum_face: side in pixels of the smallest face looked for. Half of it takes up to four times as long.
        thresholds: the score a box needs to pass each of the three stages.
        factor: how much smaller each level of the pyramid is than the one before.
        at_border: whether faces are looked for in windows that reach out of the photo, too.
    """

    def __init__(
        self,
        pnet: ProposalNet,
        rnet: RefinementNet,
        onet: OutputNet,
        *,
        minimum_face: float = 24,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
        at_border: bool = True,
    ) -> None:
        if not minimum_face >= _CELL:
            raise FairveilError(f"The smallest face to look for cannot be {minimum_face} px: choose {_CELL} or more.")
        self.pnet, self.rnet, self.onet = pnet, rnet, onet
        for net in (pnet, rnet, onet):
            net.eval().requires_grad_(False)
        self.minimum_face, self.thresholds, self.factor = minimum_face, thresholds, factor
        self.at_border = at_border

    @classmethod
    def pretrained(cls, *, minimum_face: float = 24) -> "Detector":
        """The detector with its published weights, fetched on first use.

        Raises:
            FairveilError: the weights cannot be had.
        """
        pnet, rnet, onet = ProposalNet(), RefinementNet(), OutputNet()
        for net, name in ((pnet, "mtcnn-pnet"), (rnet, "mtcnn-rnet"), (onet, "mtcnn-onet")):
            net.load_state_dict(torch.load(assets.path(name), map_location="cpu", weights_only=True))
        return cls(pnet, rnet, onet, minimum_face=minimum_face)

    @property
    def settings(self) -> tuple[float, tuple[float, float, float], float, bool]:
        """All that decides beside the weights which faces are found, to tell apart what was found with other ones."""
        return self.minimum_face, self.thresholds, self.factor, self.at_border

    @torch.no_grad()
    def detect(self, photos: Sequence[Tensor] | Tensor) -> list[Faces]:
        """Find the faces of each photo.

        Args:
            photos: RGB, each of shape (3, H, W), uint8 or floats in [0, 1]; a sequence, in which sizes may differ,
                or a batch (B, 3, H, W). Photos of one size go through the networks together.

        Returns:
            One `Faces` per photo, on the photo's device.

        Raises:
            FairveilError: a photo is not of shape (3, H, W), or neither bytes nor floats.
        """
        _check(photos)
        found: dict[int, Faces] = {}
        for positions in _batches(photos):
            batch = torch.stack([_as_bytes(photos[position]) for position in positions])
            found.update(zip(positions, self._detect(batch), strict=True))
        return [found[position] for position in range(len(photos))]

    @torch.no_grad()
    def look_at(self, photo: Tensor, boxes: Tensor) -> Faces:
        """The likeliest face in each box, however unlikely it is, as R-net and O-net see it in squares about there.

        Args:
            photo: RGB, of shape (3, H, W), uint8 or floats in [0, 1].
            boxes: x0, y0, x1, y1 with pixel centers at integers, shape (N, 4), as a person draws them: the squares
                tried are up to a quarter larger and up to half smaller, and shifted by up to an eighth.

        Returns:
            A face per box, in the order of the boxes. Its score is 0 where none lies in the box by more than half.

        Raises:
            FairveilError: the photo is not of shape (3, H, W), or neither bytes nor floats.
        """
        _check([photo])
        if not len(boxes):
            return Faces(boxes, boxes[:, 0], boxes.new_zeros(0, 5, 2))
        self._move_to(photo.device)
        levels, drawn = _halvings(_as_bytes(photo)[None]), boxes + 0.5
        squares = torch.cat([_about(square(drawn), *change) for change in product(_SCALES, _SHIFTS, _SHIFTS)])
        which = torch.zeros(len(squares), dtype=torch.long, device=photo.device)
        _, offsets = _look(self.rnet, levels, squares, which, RefinementNet.SIZE, _GRAY)
        squares = square(regress(squares, offsets))
        scores, offsets, landmarks = _look(self.onet, levels, squares, which, OutputNet.SIZE, _GRAY)
        landmarks = squares[:, None, :2] + landmarks * sides(squares)[:, None]
        faces = regress(squares, offsets)
        shares = overlaps(faces, drawn, of_smaller=True).view(-1, len(drawn), len(drawn))
        there = shares.diagonal(dim1=1, dim2=2) > _SAME_PLACE
        scores = scores.view(-1, len(drawn)) * there  # (tries, N)
        best, tried = scores.max(0)
        chosen = tried * len(drawn) + torch.arange(len(drawn), device=photo.device)
        return Faces(faces[chosen] - 0.5, best, landmarks[chosen] - 0.5)

    def _move_to(self, device: torch.device) -> None:
        for net in (self.pnet, self.rnet, self.onet):
            net.to(device)

    def _detect(self, photos: Tensor) -> list[Faces]:
        """The cascade on photos of one size: (B, 3, H, W) bytes."""
        self._move_to(photos.device)
        levels = _halvings(photos)
        within, at_border = self._propose(levels)
        boxes, photo, scores, landmarks = self._judge(levels, within, _BLACK)
        if self.at_border:
            more = self._judge(levels, at_border, _GRAY)
            known = overlaps(more[0], boxes, of_smaller=True) * (more[1][:, None] == photo) > _SAME_FACE
            new = ~known.any(1)
            boxes, photo, scores, landmarks = _concatenated(
                [(boxes, photo, scores, landmarks), tuple(column[new] for column in more)]
            )
        # From edge coordinates to pixel centers at integers.
        boxes, landmarks = boxes - 0.5, landmarks - 0.5
        largest_first = areas(boxes).argsort(descending=True, stable=True)
        every = Faces(boxes, scores, landmarks)[largest_first]
        return [every[photo[largest_first] == position] for position in range(len(photos))]

    def _propose(self, levels: list[Tensor]) -> tuple["_Windows", "_Windows"]:
        """P-net on the pyramid: windows within the photos, and windows that reach out of them."""
        height, width = levels[0].shape[-2:]
        within = [_Windows.none(levels[0].device)]
        at_border = list(within)
        # The border may cut a face that is larger than the photo, of which the photo then holds half.
        smallest = _CELL - _OUT if self.at_border else _CELL
        for scale in pyramid_scales(height, width, self.minimum_face, self.factor, smallest=smallest):
            level_height, level_width = math.ceil(height * scale), math.ceil(width * scale)
            # The smallest copy that is still larger, so that the whole pyramid costs little more than its base.
            source = next(x for x in reversed(levels) if x.shape[-2] >= level_height and x.shape[-1] >= level_width)
            pictures = _resize(source, level_height, level_width)
            across, down = width / level_width, height / level_height
            if min(height, width) * scale >= _CELL:
                windows = _slide(self.pnet, pictures, self.thresholds[0])
                within.append(_thinned(windows).enlarged(across, down))
            if self.at_border:
                windows = _slide_over_border(self.pnet, pictures, self.thresholds[0])
                at_border.append(_thinned(windows).enlarged(across, down))
        return _Windows.joined(within), _Windows.joined(at_border)

    def _judge(self, levels: list[Tensor], windows: "_Windows", outside: int) -> tuple[Tensor, ...]:
        """R-net and O-net on windows: boxes (N, 4), photos (N,), scores (N,) and landmarks (N, 5, 2) of faces."""
        windows = windows[_best(windows.scores, windows.photo, _WINDOWS)]
        windows = windows[suppress(windows.boxes, windows.scores, windows.photo, 0.7)]
        boxes, photo = square(regress(windows.boxes, windows.offsets)), windows.photo
        boxes, photo = self._refine(levels, boxes, photo, outside)
        return self._decide(levels, boxes, photo, outside)

    def _refine(self, levels: list[Tensor], boxes: Tensor, photo: Tensor, outside: int) -> tuple[Tensor, Tensor]:
        """R-net on the boxes: fewer and better square boxes, and their photos."""
        scores, offsets = _look(self.rnet, levels, boxes, photo, RefinementNet.SIZE, outside)
        kept = (scores > self.thresholds[1]).nonzero().flatten()
        kept = kept[suppress(boxes[kept], scores[kept], photo[kept], 0.7)]
        return square(regress(boxes[kept], offsets[kept])), photo[kept]

    def _decide(self, levels: list[Tensor], boxes: Tensor, photo: Tensor, outside: int) -> tuple[Tensor, ...]:
        """O-net on the boxes: final boxes, their photos, scores and landmarks."""
        scores, offsets, landmarks = _look(self.onet, levels, boxes, photo, OutputNet.SIZE, outside)
        landmarks = boxes[:, None, :2] + landmarks * sides(boxes)[:, None]
        boxes = regress(boxes, offsets)
        kept = (scores > self.thresholds[2]).nonzero().flatten()
        kept = kept[suppress(boxes[kept], scores[kept], photo[kept], 0.7, of_smaller=True)]
        return boxes[kept], photo[kept], scores[kept], landmarks[kept]


def _check(photos: Sequence[Tensor] | Tensor) -> None:
    """Refuse what is no photo."""
    for position, photo in enumerate(photos):
        if photo.ndim != 3 or len(photo) != 3:
            raise FairveilError(
                f"Photo {position} has shape {tuple(photo.shape)}; "
                "the detector takes RGB photos of shape (3, height, width)."
            )
        if photo.dtype != torch.uint8 and not photo.is_floating_point():
            raise FairveilError(
                f"Photo {position} is of type {photo.dtype}; the detector takes uint8 or floats in [0, 1]."
            )


def _about(squares: Tensor, scale: float, right: float, down: float) -> Tensor:
    """Squares (N, 4), scaled about their centers and shifted by shares of their sides."""
    centers, halves = (squares[:, :2] + squares[:, 2:]) / 2, sides(squares) / 2
    centers = centers + 2 * halves * squares.new_tensor([right, down])
    return torch.cat([centers - scale * halves, centers + scale * halves], 1)


def pyramid_scales(
    height: int, width: int, minimum_face: float, factor: float, *, smallest: float = _CELL
) -> list[float]:
    """By how much to shrink a photo for each level of the pyramid, largest first.

    On the first level the smallest face fills P-net's window; on the last the photo's shorter side has just `smallest`
    pixels, by default as many as a window. A photo that holds no window on the first level has no levels.

    >>> [round(scale, 3) for scale in pyramid_scales(48, 100, minimum_face=24, factor=0.5)]
    [0.5, 0.25]
    >>> [round(scale, 3) for scale in pyramid_scales(48, 100, minimum_face=24, factor=0.5, smallest=6)]
    [0.5, 0.25, 0.125]
    """
    scales, scale = [], _CELL / minimum_face
    if min(height, width) * scale < _CELL:
        return []
    while min(height, width) * scale >= smallest:
        scales.append(scale)
        scale *= factor
    return scales


@dataclass(frozen=True)
class _Windows:
    """Places where P-net sees a face: box (N, 4), score (N,), photo (N,) and how to move the box (N, 4)."""

    boxes: Tensor
    scores: Tensor
    photo: Tensor
    offsets: Tensor

    @classmethod
    def none(cls, device: torch.device) -> "_Windows":
        no_boxes = torch.zeros(0, 4, device=device)
        return cls(no_boxes, no_boxes[:, 0], no_boxes[:, 0].long(), no_boxes)

    @classmethod
    def joined(cls, parts: list["_Windows"]) -> "_Windows":
        return cls(*_concatenated([(part.boxes, part.scores, part.photo, part.offsets) for part in parts]))

    def __getitem__(self, index: Tensor) -> "_Windows":
        return _Windows(self.boxes[index], self.scores[index], self.photo[index], self.offsets[index])

    def enlarged(self, across: float, down: float) -> "_Windows":
        scales = self.boxes.new_tensor([across, down, across, down])
        return _Windows(self.boxes * scales, self.scores, self.photo, self.offsets)

    def moved(self, right: float, down: float) -> "_Windows":
        shift = self.boxes.new_tensor([right, down, right, down])
        return _Windows(self.boxes + shift, self.scores, self.photo, self.offsets)


def _slide(pnet: ProposalNet, pictures: Tensor, threshold: float) -> _Windows:
    """The windows of pictures (B, 3, H, W) of bytes that pass P-net, in the pictures' pixels; strip by strip."""
    count, _, height, width = pictures.shape
    windows = [_Windows.none(pictures.device)]
    # Neighboring strips share ten rows of pixels, so thin ones would be wasteful.
    rows = max(16, _STRIP_PIXELS // (count * width * _STRIDE))
    # Windows start at every other pixel, and the last ones reach one pixel out where the picture ends on an odd one.
    all_rows = (height - _CELL + 1) // _STRIDE + 1
    for first in range(0, all_rows, rows):
        strip = pictures[:, :, _STRIDE * first : _STRIDE * (min(first + rows, all_rows) - 1) + _CELL]
        scores, offsets = pnet(_normalized(strip))
        photo, row, column = (scores >= threshold).nonzero(as_tuple=True)
        corners = torch.stack([column, row + first], 1) * float(_STRIDE)
        boxes = torch.cat([corners, corners + _CELL], 1)
        windows.append(_Windows(boxes, scores[photo, row, column], photo, offsets[photo, :, row, column]))
    return _Windows.joined(windows)


def _slide_over_border(pnet: ProposalNet, pictures: Tensor, threshold: float) -> _Windows:
    """The windows that reach out of pictures (B, 3, H, W) of bytes, by up to half of a window, and pass P-net."""
    height, width = pictures.shape[-2:]
    framed = F.pad(pictures, (_OUT,) * 4, value=_GRAY)
    thick = _OUT - _STRIDE + _CELL  # holds windows that reach out by 6, 4 and 2 pixels
    bottom, right = height + 2 * _OUT - thick, width + 2 * _OUT - thick
    # First and last row and column of the four bands, in the framed picture; the first two take the corners.
    bands = [(0, thick, 0, width + 2 * _OUT), (bottom, height + 2 * _OUT, 0, width + 2 * _OUT)]
    if min(height, width) >= _CELL:
        bands += [(_OUT, _OUT + height, 0, thick), (_OUT, _OUT + height, right, width + 2 * _OUT)]
    return _Windows.joined(
        [
            _slide(pnet, framed[:, :, top:end, left:last], threshold).moved(left - _OUT, top - _OUT)
            for top, end, left, last in bands
        ]
    )


def _thinned(windows: _Windows) -> _Windows:
    """The best windows of one level, of those that overlap one."""
    windows = windows[_best(windows.scores, windows.photo, _WINDOWS_OF_LEVEL)]
    return windows[suppress(windows.boxes, windows.scores, windows.photo, 0.5)]


def _look(
    net: Callable[[Tensor], tuple[Tensor, ...]],
    levels: list[Tensor],
    boxes: Tensor,
    photo: Tensor,
    size: int,
    outside: int,
) -> list[Tensor]:
    """What a network says of crops of `size` pixels cut out at square boxes (N, 4): its outputs, each (N, …).

    Each box is cut from the halving of its photo in which it is between one and two times as large as the crop.
    `outside` is what lies around the photos.
    """
    height, width = levels[0].shape[-2:]
    halving = (sides(boxes)[:, 0] / size).log2().floor().long().clamp(0, len(levels) - 1)
    order, answers = halving.argsort(), []
    for number, level in enumerate(levels):
        here = boxes.new_tensor([level.shape[-1] / max(1, width), level.shape[-2] / max(1, height)]).repeat(2)
        for part in torch.split(order[halving[order] == number], _CROPS):
            answers.append(net(_normalized(cut(level, boxes[part] * here, photo[part], size, outside=outside))))
    return [answer[order.argsort()] for answer in _concatenated(answers)]


def _best(scores: Tensor, photo: Tensor, limit: int) -> Tensor:
    """Positions of the up to `limit` best-scored of each photo; of all, in their order, where none has more."""
    if len(scores) <= limit:
        return torch.arange(len(scores), device=scores.device)
    order = scores.argsort(descending=True, stable=True)
    order = order[photo[order].argsort(stable=True)]
    counts = photo.bincount()
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[photo[order]]
    return order[rank < limit]


def _batches(photos: Sequence[Tensor] | Tensor) -> Iterator[list[int]]:
    """Positions of photos that go together: of one size, as many as the bound on pixels allows."""
    by_size: dict[torch.Size, list[int]] = {}
    for position, photo in enumerate(photos):
        by_size.setdefault(photo.shape, []).append(position)
    for shape, positions in by_size.items():
        together = max(1, _BATCH_PIXELS // max(1, shape[-2] * shape[-1]))
        for start in range(0, len(positions), together):
            yield positions[start : start + together]


def _as_bytes(photo: Tensor) -> Tensor:
    """A photo in bytes: the networks cannot tell, and it is a quarter of the memory. NaN becomes black."""
    if photo.dtype == torch.uint8:
        return photo
    return (photo * 255).nan_to_num_(0).round_().clamp_(0, 255).to(torch.uint8)


def _halvings(photos: Tensor) -> list[Tensor]:
    """The photos (B, 3, H, W), at half the size, at a quarter, … until they fit into R-net's crop."""
    levels = [photos]
    while max(levels[-1].shape[-2:]) > RefinementNet.SIZE:
        height, width = levels[-1].shape[-2:]
        levels.append(_resize(levels[-1], max(1, height // 2), max(1, width // 2)))
    return levels


def _resize(pictures: Tensor, height: int, width: int) -> Tensor:
    """Shrink pictures of bytes without aliasing."""
    # Only the CPU resizes bytes as they are.
    numbers = pictures if pictures.device.type == "cpu" else pictures.float()
    resized = F.interpolate(numbers, (height, width), mode="bilinear", antialias=True)
    return resized if resized.dtype == torch.uint8 else resized.round_().clamp_(0, 255).to(torch.uint8)


def _normalized(pictures: Tensor) -> Tensor:
    # Channels last: pooling, the dearest step of P-net on a CPU, is several times faster.
    return pictures.to(torch.float32, memory_format=torch.channels_last).sub(127.5).div_(128)


def _concatenated(parts: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    return [torch.cat(column) for column in zip(*parts, strict=True)]
