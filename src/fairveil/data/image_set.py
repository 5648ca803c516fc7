"""Pictures of one size with labels, as one tensor: what all sets of images have in common."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, ClassVar, Self, TypeVar

import polars as pl
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError, shown
from fairveil.base.sharing import make_files
from fairveil.base.tensor_files import read_tensors, write_tensors

Kind = TypeVar("Kind", bound="NamedImages")
Known = TypeVar("Known")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Pictures of one size, each of one class: `training.Examples`.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), each at least 0 and less than the number of classes.
        classes: what the classes are called.
        name: what reports call the data set.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    what: ClassVar[str] = "images"
    """What error messages call the images."""
    channels: ClassVar[int | None] = None
    """How many channels the images must have, which must then be square; None: any, of any shape."""

    def __post_init__(self) -> None:
        """Refuse what no training could use.

        Raises:
            FairveilError: images have another type or shape than they must, or images and labels do not fit each other.
        """
        shape = tuple(self.images.shape)
        fits = len(shape) == 4 and (self.channels is None or shape[1:] == (self.channels, shape[2], shape[2]))
        if self.images.dtype != torch.uint8 or not fits:
            wanted = "(N, C, H, W)" if self.channels is None else f"(N, {self.channels}, S, S)"
            raise FairveilError(
                f"The {self.what} of {self.name} are {kind_of(self.images)}: they must be uint8 of shape {wanted}."
            )
        self._check_labels()

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.images)

    def take(self, rows: Tensor | Sequence[int]) -> Self:
        """Those of some rows, in that order; the classes stay as they are."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        return replace(self, images=self.images[chosen], labels=self.labels[chosen], **self._rows_of(chosen.tolist()))

    def parted(self, aside: Tensor) -> tuple[Self, Self]:
        """The rest, and those put aside, rows in their old order.

        Args:
            aside: which are put aside, bool (N,).
        """
        return self.take((~aside).nonzero().flatten()), self.take(aside.nonzero().flatten())

    def fingerprint(self) -> str:
        """A SHA-256 of the images and of all that is known of each: equal if and only if these are."""
        digest = hashlib.sha256(self._words())
        # NaN has many bit patterns, all of which mean the same here
        for tensor in (self.images, self.labels.nan_to_num(nan=-1)):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def _check_labels(self) -> None:
        if self.labels.dtype != torch.int64 or tuple(self.labels.shape) != (len(self),):
            raise FairveilError(
                f"The labels of {self.name} are {kind_of(self.labels)}: they must be int64, one for each of its "
                f"{len(self)} {self.what}."
            )
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise FairveilError(
                f"The labels of {self.name} run from {int(self.labels.min())} to {int(self.labels.max())}, but with "
                f"{len(self.classes)} classes they must lie between 0 and {len(self.classes) - 1}."
            )

    def _rows_of(self, places: Sequence[int]) -> dict[str, Any]:
        """What else is known of some rows, by field."""
        return {}

    def _words(self) -> bytes:
        """What the fingerprint is of, beside images and labels."""
        return repr((tuple(self.images.shape), self.classes)).encode()


@dataclass(frozen=True, eq=False)
class NamedImages(ImageSet):
    """Square images with names and groups, that can be written to a file.

    Attributes:
        image_names: what each image is called.
        groups: values of the group columns, one an image, by column; None where unknown.
        left_out: why rows of the data set gave no image, and how many each.
    """

    image_names: tuple[str, ...]
    groups: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    format: ClassVar[str]
    """What files say that they hold, and in which version."""
    columns: ClassVar[Mapping[str, str]] = {"image": "image_names"}
    """Fields that have a value for each image, by their columns in `frame`."""
    reserved: ClassVar[tuple[str, ...]] = ("image",)
    """Columns of `frame`, which no column of groups may be called."""

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            FairveilError: as `ImageSet`; or not every image has a value in each column.
        """
        super().__post_init__()
        for column, values in self._by_column().items():
            if len(values) != len(self):
                raise FairveilError(
                    f"{self.name} has {len(self)} {self.what}, but {len(values)} values of {column}: give each one."
                )
        if taken := {*self.reserved} & {*self.groups}:
            raise FairveilError(f"A column of groups of {self.name} is called {taken.pop()!r}: give it another name.")

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[-1])

    @property
    def frame(self) -> pl.DataFrame:
        """One row an image, with what is known of it."""
        columns = self._by_column()
        return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))

    def write(self, path: Path) -> None:
        """Write everything to one new safetensors file, whole or not at all.

        Raises:
            FairveilError: the file already exists or cannot be written.
        """
        words = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("images", "labels")}
        dumped = {
            name: json.dumps(dict(value) if isinstance(value, Mapping) else value) for name, value in words.items()
        }
        write_tensors(path, {"images": self.images, "labels": self.labels}, dumped, format=self.format)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote. Pixels stay in the file until they are used, so that processes share them.

        Raises:
            FairveilError: it does not exist, is damaged, or holds something else.
        """
        maker = f"{cls.__name__}.write"
        with read_tensors(path, format=cls.format, what=cls.what, maker=maker) as (tensors, metadata):
            words = {key: _with_tuples(json.loads(value)) for key, value in metadata.items() if key != "format"}
            return cls(tensors["images"], tensors["labels"], **words)

    def _by_column(self) -> dict[str, tuple[str | None, ...]]:
        return {column: getattr(self, name) for column, name in self.columns.items()} | dict(self.groups)

    def _rows_of(self, places: Sequence[int]) -> dict[str, Any]:
        def of(values: tuple[str | None, ...]) -> tuple[str | None, ...]:
            return tuple(values[place] for place in places)

        groups = {column: of(values) for column, values in self.groups.items()}
        return {name: of(getattr(self, name)) for name in self.columns.values()} | {"groups": groups}


def made_image_by_image(
    kind: type[Kind],
    write: Callable[[IO[bytes]], Known],
    label: Callable[[Tensor, Known], Kind],
    *,
    folder: Path | None,
    key: Callable[[], str],
) -> Kind:
    """Make a set of images out of pixels that come one image after another.

    Args:
        kind: of the set.
        write: writes the pixels to a file, and gives what is known of them.
        label: makes the set out of all pixels, uint8 (N · C · H · W,), and what is known of them.
        folder: keeps the set in a file, from which pixels are read as they are used. What it already holds is not
            made again, and processes that are given one folder share the file. Without it the set is in memory.
        key: gives the name of that file: a hash of all that the set depends on.

    Raises:
        FairveilError: the folder cannot be written to.
    """
    if folder is None:
        memory = BytesIO()
        known = write(memory)
        return label(torch.frombuffer(memory.getbuffer(), dtype=torch.uint8), known)

    def make(target: Path) -> None:
        with NamedTemporaryFile(dir=target.parent) as pixels:  # there may be more of them than memory holds
            known = write(pixels)
            pixels.flush()
            mapped = torch.from_file(pixels.name, size=pixels.tell(), dtype=torch.uint8)
            target.unlink()  # its name was kept for it
            label(mapped, known).write(target)

    try:
        return kind.read(make_files(folder, {f"{key()}.safetensors": make})[0])
    except OSError as error:
        raise FairveilError(f"{shown(folder)} cannot be written to: {error.strerror or error}.") from error


def check_share(share: float, what: str) -> None:
    """Refuse a share of which nothing or everything would be put aside.

    Raises:
        FairveilError: it is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise FairveilError(f"A share of {share:g} of the {what} cannot be put aside: give one between 0 and 1.")


def kind_of(tensor: Tensor) -> str:
    """Type and shape of a tensor, for complaints."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _with_tuples(value: Any) -> Any:
    """What JSON holds, its lists as tuples."""
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value
