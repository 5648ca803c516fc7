"""Labeled pictures, kept as one tensor: what classifiers are trained on."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError, shown
from fairveil.data.folders import is_housekeeping
from fairveil.data.image_set import ImageSet, check_share
from fairveil.images import find_photos, read_photo


@dataclass(frozen=True, eq=False)
class LabeledImages(ImageSet):
    """Pictures of one size, each of one class.

    >>> images = LabeledImages(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([1, 0]), ("cat", "dog"), "two")
    >>> len(images), images.take([0]).labels
    (2, tensor([1]))
    """

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures there are of each class."""
        numbers = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, numbers, strict=True))

    def split(self, share: float, *, seed: int) -> tuple["LabeledImages", "LabeledImages"]:
        """Put a share of each class aside at random: the rest, and what was put aside, rows in their old order.

        Of a class of two or more pictures at least one is put aside and one left.

        Args:
            share: above 0 and below 1.
            seed: of what is drawn.

        Raises:
            FairveilError: the share is out of range.
        """
        check_share(share, "pictures")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        aside = torch.zeros(len(self), dtype=torch.bool)
        for label in range(len(self.classes)):
            rows = order[self.labels[order] == label]
            count = min(max(1, round(share * len(rows))), max(0, len(rows) - 1))
            aside[rows[:count]] = True
        return self.parted(aside)


_SPLITS = re.compile(
    r"(?:(?:\w*[_\- ])?(?:train|training|val|valid|validation|dev|test|testing|eval|evaluation|holdout)"
    r"(?:[_\- ]?(?:set|data|dataset|images?|imgs?|pics|photos|split|\d+))*|(?:cv|fold|split|part)[_\- ]?\d+)"
)
"""What folders of the parts of a data set are called, in small letters."""


def read_image_folder(folder: Path | str, *, size: int | None = None) -> LabeledImages:
    """Read pictures that lie in one folder a class, as `folder/class/picture.jpg`.

    Args:
        folder: where the folders of the classes are.
        size: the height and width to bring every picture to (its middle square is resized); by default all of them
            must be of one size.

    Raises:
        FairveilError: there are fewer than two classes, a class has no picture, the folders are parts of a data set
            (train, val) rather than classes, one holds folders instead of pictures, a picture cannot be read, or sizes
            differ and no `size` is given.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FairveilError(f"{shown(folder)} is not a folder: give one that has a folder of pictures for each class.")
    if size is not None and size < 1:
        raise FairveilError(f"Pictures cannot be brought to a size of {size} pixels: give at least 1.")
    homes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_no_class(entry.name))
    if len(homes) < 2:
        has = f"has one class only, {homes[0].name}" if homes else "has no folders of classes"
        raise FairveilError(f"{shown(folder)} {has}: training needs a folder of pictures for each of two classes.")
    found = {home: _pictures_of(home) for home in homes}
    _refuse_splits(folder, found)
    names = tuple(unicodedata.normalize("NFC", home.name) for home in homes)
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FairveilError(
            f"{shown(folder)} has two folders {twice!r}, whose names differ only in how accents are written: put their "
            "pictures into one."
        )
    pictures: list[Tensor] = []
    labels: list[int] = []
    first: Path | None = None
    for label, (home, paths) in enumerate(found.items()):
        if not paths:
            raise FairveilError(f"{shown(home)} has no pictures: put some there, or take the folder away.")
        for path in paths:
            picture = read_photo(path).pixels
            if size is not None:
                picture = _resized_middle(picture, size)
            if first is None:
                first = path
            elif picture.shape != pictures[0].shape:
                raise FairveilError(
                    f"{shown(path)} has {picture.shape[2]} × {picture.shape[1]} pixels, but {shown(first)} "
                    f"{pictures[0].shape[2]} × {pictures[0].shape[1]}: give a size to bring them all to."
                )
            pictures.append(picture)
            labels.append(label)
    return LabeledImages(torch.stack(pictures), torch.tensor(labels), names, folder.resolve().name)


def _is_no_class(name: str) -> bool:
    return is_housekeeping(name) and not name.lower().startswith("thumb")  # which is a gesture, too


def _pictures_of(home: Path) -> list[Path]:
    """The pictures of a class, without those in folders of housekeeping."""
    photos = sorted(find_photos([home]))
    return [photo for photo in photos if not any(map(is_housekeeping, photo.relative_to(home).parts[:-1]))]


def _refuse_splits(folder: Path, found: Mapping[Path, Sequence[Path]]) -> None:
    """Refuse folders, of these pictures each, that are no classes: parts of a data set, and folders of folders."""
    parts = [home for home in found if _SPLITS.fullmatch(home.name.lower())]
    if len(parts) >= 2:
        raise FairveilError(
            f"{shown(folder)} has the folders {', '.join(shown(home.name) for home in parts)}, which are parts of a "
            f"data set and not classes: give the folder of one part, such as {shown(parts[0])}."
        )
    for home, pictures in found.items():
        if pictures and not any(picture.parent == home for picture in pictures):
            raise FairveilError(
                f"{shown(home)} holds folders and no pictures, so it may be no class: give the folder whose folders "
                "hold the pictures of one class each."
            )


def synthetic_images(
    count: int, *, classes: int = 4, size: int = 16, noise: float = 0.1, seed: int = 0
) -> LabeledImages:
    """Draw colored stripes whose slant is the class: small data for tests, demonstrations and timings.

    Class k's stripes slant by πk/K; phase, width, contrast and color vary from picture to picture.

    Args:
        count: how many pictures; the classes take turns.
        classes: how many classes, K.
        size: height and width in pixels.
        noise: standard deviation of the noise on each value, pixels running from 0 to 1.
        seed: of everything drawn.

    >>> synthetic_images(6, classes=3).labels
    tensor([0, 1, 2, 0, 1, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    angle = (labels * pi / classes)[:, None, None]
    phase, width, contrast = torch.rand(3, count, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    across = x * angle.cos() + y * angle.sin()  # (N, H, W)
    stripes = torch.sin(2 * pi * (across / (4 + 4 * width) + phase)) * (0.15 + 0.25 * contrast)
    colors = 0.5 + torch.rand(count, 3, 1, 1, generator=generator)
    pixels = 0.5 + stripes[:, None] * colors + noise * torch.randn(count, 3, size, size, generator=generator)
    names = tuple(f"slant {180 * label / classes:.0f}°" for label in range(classes))
    return LabeledImages((pixels.clamp(0, 1) * 255).round().byte(), labels, names, f"stripes of {classes} slants")


def _resized_middle(picture: Tensor, size: int) -> Tensor:
    """The middle square of a picture, uint8 (C, H, W), brought to (C, size, size)."""
    _, height, width = picture.shape
    side = min(height, width)
    if (height, width) == (size, size):
        return picture
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[:, top : top + side, left : left + side].float()
    resized = F.interpolate(square[None], size=(size, size), mode="bilinear", antialias=True, align_corners=False)[0]
    return resized.round().clamp(0, 255).byte()
