"""Embedded faces as a table: who, in which photo and where, and one column of unit vectors a recognizer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from fairveil.base.errors import AlreadyExistsError, FairveilError, UnreadableFileError, clipped, listed, shown
from fairveil.base.files import atomic_path
from fairveil.data.folders import people_of
from fairveil.data.labels import tidy_columns, tidy_labels
from fairveil.faces.foreign_tables import vector_columns

FACE_SCHEMA: dict[str, pl.DataType] = {
    "box": pl.Array(pl.Float32, 4),
    "detection_score": pl.Float32(),
    "landmarks": pl.Array(pl.Float32, 10),
}
"""What is known of a face beside its embeddings: the columns and their types."""

_KEYED = 1 << 14  # rows whose keys are made at a time

_MATCHED = "name of the image as labels have it"

_METADATA = "fairveil"  # the key under which a file says what made it


class Provenance(BaseModel):
    """How embeddings came about.

    Attributes:
        fairveil: version of the program.
        data: name of the data set.
        detector: what found the faces; None where photos were aligned crops already.
        which: which faces of a photo count.
        recognizers: a hash of each recognizer by its name, so that nobody compares vectors of different networks.
        thresholds: from which similarity on each takes two faces for one person, where that is known.
    """

    model_config = ConfigDict(frozen=True)

    fairveil: str
    data: str
    detector: str | None
    which: str
    recognizers: dict[str, str]
    thresholds: dict[str, float]


class _About(BaseModel):
    """What a file says beside its rows; nothing, if another program wrote it."""

    without_face: tuple[str, ...] = ()
    unreadable: dict[str, str] = {}
    provenance: Provenance | None = None


@dataclass(frozen=True)
class Embeddings:
    """Faces and their embeddings.

    Attributes:
        frame: one row a face: `image`, `identity` if known, group columns; `box` (x0, y0, x1, y1), `detection_score`
            and `landmarks` (x, y of five points) where a photo was looked at, in its pixels; and a column of unit
            vectors for each recognizer, named like it, of type `pl.Array(pl.Float32, D)`.
        without_face: images in which no face was found.
        unreadable: images that could not be read, and why.
        provenance: how the embeddings came about; None for those of unknown origin.
        notes: what was taken for what when a table of another program was read, in sentences.
    """

    frame: pl.DataFrame
    without_face: tuple[str, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)
    provenance: Provenance | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def recognizers(self) -> tuple[str, ...]:
        """Names of the recognizers whose embeddings there are."""
        return tuple(
            name
            for name, kind in self.frame.schema.items()
            if isinstance(kind, pl.Array) and name not in FACE_SCHEMA  # nothing else in the table is an array
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the group columns."""
        others = {"image", "identity", *FACE_SCHEMA, *self.recognizers}
        return tuple(name for name in self.frame.columns if name not in others)

    def vectors(self, recognizer: str | None = None) -> Tensor:
        """The unit vectors of one recognizer, which may go unnamed where there is only one: shape (N, D).

        Raises:
            FairveilError: there are none of this name, or several and none is named.
        """
        if recognizer is None and len(self.recognizers) != 1:
            raise FairveilError(f"There are embeddings of {', '.join(self.recognizers)}: say which are meant.")
        name = recognizer or self.recognizers[0]
        if name not in self.recognizers:
            raise FairveilError(
                f"There are no embeddings of a recognizer {name!r}, but of {', '.join(self.recognizers)}."
            )
        return torch.from_numpy(self.frame[name].to_numpy(writable=True))

    def of_people(self, level: int | None) -> "Embeddings":
        """The same faces where folders named the people: with those of one level, which has to be said if several may.

        Args:
            level: which folder of an image's path names the person, see `people_of`.

        Raises:
            FairveilError: folders lie in folders, each path counts as a person so far, and no level is given.
        """
        if "identity" not in self.frame.columns or self.provenance is None:
            return self
        images = self.frame["image"].to_list()
        whole = people_of(images)
        if whole.nested is None or list(whole.identities) != self.frame["identity"].to_list():
            return self
        if level is None:
            raise FairveilError(f"{self.provenance.data}: {whole.nested}")
        names = pl.Series("identity", people_of(images, level=level).identities, dtype=pl.String)
        return replace(self, frame=self.frame.with_columns(names))

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write all of it to a Parquet file.

        Raises:
            FairveilError: the file already exists and is not to be replaced, or it cannot be written.
        """
        about = _About(without_face=self.without_face, unreadable=self.unreadable, provenance=self.provenance)
        try:
            with atomic_path(path, overwrite=overwrite) as temporary:
                write_parquet(self.frame, temporary, {_METADATA: about.model_dump_json()})
        except FileExistsError:
            raise AlreadyExistsError(
                f"{shown(path)} already exists: allow `overwrite=True`, or choose another name."
            ) from None
        except OSError as error:
            raise FairveilError(f"{shown(path)} cannot be written: {error.strerror or error}.") from error

    @classmethod
    def read(cls, path: Path) -> "Embeddings":
        """Read what `write` wrote, or any Parquet file with a column of embeddings.

        Such a column holds a list or array of floats in each row, all of one length, or one number of each vector
        (f0, f1, …); it counts as the recognizer of its name, and its vectors are brought to unit length. `image`,
        `identity` and groups are taken where present; where a face is (`bbox`, `kps`, …), pandas' index, and other
        columns of lists, structures or bytes are left out, see `foreign_tables`.

        Raises:
            FairveilError: there is no such file, it is no Parquet file, it has no column of embeddings or no rows, its
                images or identities are no text or numbers, or a vector is missing, shorter than others, not finite or
                zero.
        """
        name = shown(path)
        try:
            frame = pl.read_parquet(path, glob=False)
            metadata = pl.read_parquet_metadata(path)
        except FileNotFoundError:
            raise UnreadableFileError(f"{name} is not there.") from None
        except (Exception, pl.exceptions.PanicException) as error:  # a damaged file can make Polars panic
            raise UnreadableFileError(f"{name} cannot be read as a Parquet file: {_first_line(error)}.") from error
        frame, columns, notes = vector_columns(frame, metadata, tuple(FACE_SCHEMA))
        if not columns:
            raise FairveilError(
                f"{name} has no column of embeddings, that is a list or array of floats in each row; "
                f"its columns are {listed(frame.columns)}."
            )
        if not len(frame):
            raise FairveilError(f"{name} has no rows.")
        frame = frame.with_columns(_checked(frame[column], name) for column in columns)
        odd = [label for label, kind in frame.schema.items() if _is_no_label(kind) and label not in FACE_SCHEMA]
        odd = [label for label in odd if label not in columns]
        for label in ("image", "identity"):
            if label in odd:
                raise FairveilError(f"{name}: the column {label!r} holds {frame.schema[label]}: make it text.")
        frame = frame.drop(odd)
        labels = [label for label in frame.columns if label not in ("image", *columns, *FACE_SCHEMA)]
        frame = tidy_columns(frame, labels)
        rows = pl.Series("image", [f"row {row}" for row in range(len(frame))])
        if "image" in frame.columns:
            frame = frame.with_columns(pl.col("image").cast(pl.String).fill_null(rows))
        else:
            frame = frame.insert_column(0, rows)
        try:
            about = _About.model_validate_json(metadata.get(_METADATA, "{}"))
        except ValidationError as error:
            raise FairveilError(f"{name} is of another version of fairveil: embed the photos anew.") from error
        return cls(frame, about.without_face, about.unreadable, about.provenance, tuple(notes))

    @classmethod
    def from_array(cls, path: Path, labels: pl.DataFrame) -> "Embeddings":
        """Read vectors (N, D) from a NumPy file whose rows the labels are of, in the same order.

        The recognizer is called like the file. Nothing is unpickled.

        Raises:
            FairveilError: the file is not there or holds no rows of numbers, there are not as many labels, or a vector
                is not finite or zero.
        """
        name = shown(path)
        try:
            # Mapped, a file that claims more than it holds is refused before any memory is taken for it. Of archives,
            # which hold several arrays, NumPy would leave the file open.
            vectors = np.lib.format.open_memmap(path, mode="r")
        except FileNotFoundError:
            raise UnreadableFileError(f"{name} is not there.") from None
        except Exception as error:  # NumPy's readers raise whatever a damaged file leads them to
            raise UnreadableFileError(f"{name} cannot be read as an array of numbers: {_first_line(error)}.") from error
        return cls._labeled(vectors, labels, recognizer=path.stem, name=name)

    @classmethod
    def of_vectors(
        cls,
        vectors: Tensor | NDArray[np.floating[Any]],
        labels: Mapping[str, Iterable[object]],
        *,
        recognizer: str = "vectors",
    ) -> "Embeddings":
        """Vectors and what is known of them, both in memory.

        Args:
            vectors: one for each face, floating-point numbers, (N, D).
            labels: `identity`, `image` and groups, as far as they are known: N names or numbers each, None for unknown.
            recognizer: what the column of vectors is to be called.

        Raises:
            FairveilError: there are no rows of numbers or not as many labels, or a vector is not finite or zero.

        >>> Embeddings.of_vectors(torch.eye(2), {"identity": ["Ada", "Bo"]}).recognizers
        ('vectors',)
        """
        rows = vectors.detach().cpu().float().numpy() if isinstance(vectors, Tensor) else np.asarray(vectors)
        lists = {name: values.tolist() if hasattr(values, "tolist") else [*values] for name, values in labels.items()}
        for name, values in lists.items():
            if len(values) != len(rows):
                raise FairveilError(f"There are {len(rows):,} vectors and {len(values):,} of {name}: give one each.")
        frame = pl.DataFrame([pl.Series(name, values, strict=False) for name, values in lists.items()])
        return cls._labeled(rows, frame, recognizer=recognizer, name=f"The array {recognizer!r}")

    @classmethod
    def _labeled(cls, vectors: Any, labels: pl.DataFrame, *, recognizer: str, name: str) -> "Embeddings":
        """Vectors (N, D) beside the labels of their rows; complaints call them by the name."""
        if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
            raise FairveilError(f"{name} holds no rows of floating-point numbers: give an array of shape (N, D).")
        if len(vectors) != len(labels):
            raise FairveilError(
                f"{name} has {len(vectors):,} rows and there are {len(labels):,} labels: give one each."
            )
        if not len(vectors):
            raise FairveilError(f"{name} has no rows.")
        column = _checked(vector_column(recognizer, vectors.astype(np.float32)), name)
        if "image" not in labels.columns:
            labels = labels.insert_column(0, pl.Series("image", [f"row {row}" for row in range(len(labels))]))
        labels = tidy_columns(labels, [name for name in labels.columns if name != "image"])
        return cls(labels.with_columns(column))

    def with_labels(self, labels: pl.DataFrame, name: str) -> "Embeddings":
        """The same faces with identities and groups from another table, by the column image.

        Args:
            labels: strings; a row for each image.
            name: what complaints call it.

        Raises:
            FairveilError: the labels have no column image or an image twice, or a face's image is not among them.
        """
        if "image" not in labels.columns or labels["image"].is_duplicated().any():
            raise FairveilError(f"{name} needs a column image, in which no image comes twice, to find labels by.")
        labels = tidy_columns(labels, labels.columns)
        frame = self.frame.with_columns(tidy_labels(self.frame["image"]).alias(_MATCHED))
        absent = frame.filter(~pl.col(_MATCHED).is_in(labels["image"].implode()))["image"]
        if len(absent):
            raise FairveilError(f"{len(absent):,} images have no labels in {name}, such as {shown(absent[0])}.")
        bare = frame.drop("identity", *self.groups, strict=False)
        joined = bare.join(labels, left_on=_MATCHED, right_on="image", how="left", maintain_order="left")
        return replace(self, frame=joined.drop(_MATCHED))


def vector_column(name: str, vectors: NDArray[np.float32]) -> pl.Series:
    """A column of vectors (N, D).

    >>> vector_column("tiny", np.eye(2, dtype=np.float32)).dtype
    Array(Float32, shape=(2,))
    """
    return pl.Series(name, vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))


def content_order(vectors: Tensor, identities: Tensor) -> Tensor:
    """Rows by identity and then by what their vectors are, so that nothing hangs on the order of a file.

    Args:
        vectors: (N, D).
        identities: numbers, (N,).

    Returns:
        The rows in an order that is the same however they were shuffled, but for rows of one identity and one vector,
        (N,), int64.

    >>> content_order(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([5, 5, 3]))[0]
    tensor(2)
    """
    directions = np.random.default_rng(0).normal(size=vectors.shape[1])
    rows = vectors.numpy(force=True)
    keys = [  # sums over one row each, which do not depend on where in the file it is, as a product of matrices may
        (rows[start : start + _KEYED].astype(np.float64) * directions).sum(1) for start in range(0, len(rows), _KEYED)
    ]
    return torch.from_numpy(np.lexsort((np.concatenate(keys), identities.numpy(force=True))))


def write_parquet(frame: pl.DataFrame, path: Path, metadata: dict[str, str]) -> None:
    """Write a Parquet file such that a full disk is an `OSError`; Polars would speak of a broken format."""
    written = BytesIO()
    frame.write_parquet(written, metadata=metadata)
    path.write_bytes(written.getbuffer())


def _is_no_label(kind: pl.DataType) -> bool:
    return kind.is_nested() or kind == pl.Binary


def _checked(column: pl.Series, name: str) -> pl.Series:
    """A column of unit vectors, of one length and float32."""

    def refuse(row: int, what: str) -> None:
        raise FairveilError(f"{name}: row {row} of the column {column.name!r} {what}: mend or leave out such rows.")

    if column.null_count():
        refuse(int(column.is_null().arg_max() or 0), "has no embedding")
    if isinstance(column.dtype, pl.List):
        lengths = column.list.len()
        if lengths.n_unique() > 1:
            usual = lengths.mode()[0]
            row = int((lengths != usual).arg_max() or 0)
            refuse(row, f"has {lengths[row]} numbers where others have {usual}")
        column = column.list.to_array(lengths[0])
    if isinstance(column.dtype, pl.Array) and column.dtype.inner not in (pl.Float32, pl.Float64):
        column = column.cast(pl.Array(pl.Float32, column.dtype.shape))
    vectors = column.to_numpy(allow_copy=True)  # (N, D); a missing number is NaN
    if vectors.shape[1] < 2:
        refuse(0, "has one number, which has no direction" if vectors.shape[1] else "has no numbers")
    lengths_of_vectors = np.linalg.norm(vectors.astype(np.float64), axis=1)
    for wrong, what in (
        (~np.isfinite(lengths_of_vectors), "has numbers that are missing or not finite"),
        (lengths_of_vectors == 0, "is all zeros, which has no direction"),
    ):
        if wrong.any():
            refuse(int(wrong.argmax()), what)
    if np.abs(lengths_of_vectors - 1).max() > 1e-5:  # those that are of unit length stay bit for bit as they are
        vectors = vectors / lengths_of_vectors[:, None]
    return vector_column(column.name, vectors.astype(np.float32))


def _first_line(error: BaseException) -> str:
    return clipped(str(error).strip().split("\n", maxsplit=1)[0].rstrip("."), 300) or type(error).__name__
