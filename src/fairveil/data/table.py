"""Faces with labels: a table with an image, an identity and any number of groups a row. Every data set becomes this."""

import csv
import hashlib
import io
import tarfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
from torch import Tensor

from fairveil.base.errors import FairveilError, clipped, did_you_mean, listed, shown
from fairveil.base.files import read_ordinary_file, sha256_of
from fairveil.data.folders import people_of
from fairveil.data.labels import INDEX, tidy_columns
from fairveil.images import Photo, find_photos, read_photo
from fairveil.images.decoding import GrayBits
from fairveil.images.formats import format_of_name

_ODD = r"(^|/)\.{0,2}(/|$)|:"
"""Paths that are not plainly below a root as they stand: with an empty part, ".", "..", or a colon."""

_LARGEST = 1 << 31
"""Bytes of a table; the labels of ten million photos have less."""

_MOST_COLUMNS = 10_000
"""Columns that a table may have. More of them would take memory and time out of all proportion to the file."""

_MOST_EMPTY = 10_000_000
"""Cells that the rows of a CSV may lack. Polars fills them, each with 16 bytes."""


@dataclass(frozen=True)
class FaceTable:
    """Photos and their labels.

    Attributes:
        frame: one row a photo: `image`, its path below the root with "/" between folders; `identity`, null where
            unknown; and group columns.
        root: a folder, or a tar archive whose members the paths name.
        name: what reports call the data set.
        groups: names of the group columns.
        notes: what was passed over or changed when folders and labels were read, in sentences that its users have to be
            told.
        nested: a question in a sentence, where folders lie in folders and either may be a person; see `people_of`.
    """

    frame: pl.DataFrame
    root: Path
    name: str
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    nested: str | None = None

    @classmethod
    def from_csv(
        cls,
        path: Path,
        *,
        root: Path | None = None,
        groups: Sequence[str] | None = None,
        name: str | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> "FaceTable":
        """Read a CSV with the column `image`, and where known `identity` and groups.

        Spaces around labels are dropped, and what is then empty counts as unknown.

        Args:
            path: the CSV.
            root: where its image paths start; by default the folder of the CSV, or the archive beside it that is
                called like it (faces.csv, faces.tar).
            groups: which columns are groups; by default all others.
            name: of the data set; by default the file's.
            rename: columns that go by other names here, old to new.

        Raises:
            FairveilError: the file or a column is missing, an image comes twice or lies outside the root, or there
                are no rows.
        """
        frame = read_strings(path)
        missing = [column for column in rename or {} if column not in frame.columns]
        if missing:
            raise FairveilError(
                f"{shown(path)} has no column {missing[0]!r} to rename; its columns are {listed(frame.columns)}."
            )
        names = [(rename or {}).get(column, column) for column in frame.columns]
        if (twice := _twice(names)) is not None:
            raise FairveilError(f"{shown(path)} would have two columns {clipped(twice)!r}: rename one of them.")
        frame.columns = names
        archive = path.with_suffix(".tar")
        root = root or (archive if archive.is_file() else path.parent)
        return cls.of(frame, root, name=name or path.stem, groups=groups)

    @classmethod
    def of(cls, frame: pl.DataFrame, root: Path, *, name: str, groups: Sequence[str] | None = None) -> "FaceTable":
        """Check a frame of strings and take it as a table; see `from_csv`."""
        if "image" not in frame.columns:
            raise FairveilError(f"{name} has no column 'image'; its columns are {listed(frame.columns)}.")
        if not len(frame):
            raise FairveilError(f"{name} has no rows.")
        others = [column for column in frame.columns if column not in ("image", "identity")]
        for group in groups or ():
            if group not in others:
                hint = did_you_mean(group, others)
                raise FairveilError(f"{name} has no column {group!r}.{hint} It has {listed(others) or 'no others'}.")
        chosen = tuple(others if groups is None else dict.fromkeys(groups))
        kept = frame.select("image", *(["identity"] if "identity" in frame.columns else []), *chosen)
        kept = tidy_columns(kept, [column for column in kept.columns if column != "image"])
        kept = kept.with_columns(pl.col("image").cast(pl.String).str.strip_chars().replace("", None))
        kept = kept.with_columns(pl.col("image").str.replace_all("\\", "/", literal=True))
        if kept["image"].null_count():
            raise FairveilError(f"Row {_first(kept['image'].is_null()) + 1} of {name} names no image.")
        odd = kept["image"].str.contains(_ODD)
        for row, image in zip(odd.arg_true(), kept["image"].filter(odd), strict=True):
            parts = PurePosixPath(image).parts
            if not parts or ".." in parts or PurePosixPath(image).is_absolute() or ":" in parts[0]:
                raise FairveilError(
                    f"Row {row + 1} of {name} names {shown(image)}, which is not below {shown(root)}: name one that is."
                )
        plain = [PurePosixPath(image).as_posix() for image in kept["image"].filter(odd)]
        kept = kept.with_columns(image=kept["image"].scatter(odd.arg_true(), plain))
        if kept["image"].is_duplicated().any():
            twice = kept["image"][_first(kept["image"].is_duplicated())]
            raise FairveilError(f"{name} lists {shown(twice)} more than once: keep one row of each image.")
        return cls(kept, root, name, chosen)

    @classmethod
    def from_folder(cls, folder: Path, *, name: str | None = None, level: int | None = None) -> "FaceTable":
        """Read a folder of photos: those in a folder of their own belong to the identity it is named after.

        Args:
            folder: where they are.
            name: of the data set; by default the folder's.
            level: which folder of a path names the person, see `people_of`.

        Raises:
            FairveilError: there is no such folder, or no photo in it.
        """
        images = [photo.relative_to(folder).as_posix() for photo in find_photos([folder])]
        return cls.of_images(images, folder, name=name or folder.name, level=level)

    def fingerprint(self) -> str:
        """A hash of names, labels and of the archive's bytes, or of the sizes of files in a folder.

        Raises:
            FairveilError: a photo is not there.
        """
        digest = hashlib.sha256(self.frame.write_csv().encode())
        if self.root.is_file():
            digest.update(sha256_of(self.root).encode())
            return digest.hexdigest()
        for image in self.frame["image"]:
            try:
                digest.update(f"{_as_written(self.root / image).stat().st_size},".encode())
            except OSError as error:
                raise FairveilError(f"{shown(self.root / image)} is not there.") from error
        return digest.hexdigest()

    @classmethod
    def from_archive(cls, archive: Path, *, name: str | None = None, level: int | None = None) -> "FaceTable":
        """Read an uncompressed tar archive of photos as `from_folder` reads a folder, without unpacking it.

        Raises:
            FairveilError: there is no such archive, or no photo in it.
        """
        if not archive.is_file():
            raise FairveilError(f"{shown(archive)} is not there.")
        members = sorted(_members(archive, archive.stat().st_mtime_ns))
        images = [member for member in members if format_of_name(Path(member)) and not _hidden(member)]
        return cls.of_images(images, archive, name=name or archive.stem, level=level)

    @classmethod
    def of_images(cls, images: Sequence[str], root: Path, *, name: str, level: int | None = None) -> "FaceTable":
        """Take photos by their paths below a root: those in a folder belong to the identity it is named after.

        Folders of servers' and systems' housekeeping are passed over, see `people_of`.

        Raises:
            FairveilError: there are none, or a name is not Unicode.
        """
        if not images:
            raise FairveilError(f"There are no photos in {shown(root)}.")
        for image in images:
            if not _is_unicode(image):  # bytes of another encoding, which no table can hold
                raise FairveilError(f"The name of {shown(image)} in {shown(root)} is not Unicode: rename it.")
        found = people_of(images, level=level)
        if not found.images:
            raise FairveilError(f"There are no photos in {shown(root)}. {' '.join(found.notes)}")
        columns: dict[str, Sequence[Any]] = {"image": found.images}
        if any(found.identities):
            columns["identity"] = found.identities
        frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
        # Names of real files, in which spaces, colons and backslashes are what they are.
        table = cls(frame, root, name) if root.is_dir() else cls.of(frame, root, name=name)
        return replace(table, notes=found.notes, nested=found.nested)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def identities(self) -> list[str | None]:
        """The identity of each photo; None where unknown."""
        if "identity" not in self.frame.columns:
            return [None] * len(self)
        return self.frame["identity"].to_list()

    def check_people(self, answer: str = "--person-folder ") -> None:
        """Stop where it is open which folder names a person.

        Args:
            answer: how the question is answered where it is asked, up to the number of the folder.

        Raises:
            FairveilError: folders lie in folders, and no level was given.
        """
        if self.nested:
            raise FairveilError(f"{self.name}: {self.nested.replace('--person-folder ', answer)}")

    def filter(self, predicate: "pl.Expr | pl.Series") -> "FaceTable":
        """The rows for which an expression, or a series of truth values, holds."""
        return replace(self, frame=self.frame.filter(predicate))

    def take(self, rows: Sequence[int]) -> "FaceTable":
        """Some rows by their numbers, in the order given."""
        return replace(self, frame=self.frame[list(rows)])

    def photo(self, row: int) -> Tensor:
        """The photo of a row: RGB, uint8, (3, H, W).

        Raises:
            FairveilError: it is not there or cannot be read.
        """
        return self.read(row).pixels

    def read(self, row: int, *, gray_bits: GrayBits = "sure") -> Photo:
        """The photo of a row with all that its file says; see `decode_photo` for the bits of gray values.

        Raises:
            FairveilError: as `photo`.
        """
        image = self.frame["image"][row]
        source = _Member(self.root, image) if self.root.is_file() else _as_written(self.root / image)
        return read_photo(source, gray_bits=gray_bits)


def _as_written(path: Path) -> Path:
    """A file whose name a table has composed and the disk in parts (macOS), or the other way round."""
    if path.exists():
        return path
    forms = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((form for form in forms if form.exists()), path)


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hidden(image: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(image).parts)


def _first(found: pl.Series) -> int:
    return int(found.arg_max() or 0)


def read_strings(path: Path) -> pl.DataFrame:
    """Read a CSV with a header: all columns strings, no spaces around their names, null where empty.

    The unnamed column that pandas writes for its index is left out.

    Raises:
        FairveilError: it is not there, is no CSV, or has two columns of one name.
    """
    try:
        # Read here, as Polars takes a folder, or a star in a name, for several files.
        data = read_ordinary_file(path, _LARGEST)
        columns = _columns_of(data)
        if columns > _MOST_COLUMNS:
            raise FairveilError(f"{shown(path)} has more than {_MOST_COLUMNS:,} columns: leave out all but the labels.")
        if columns * data.count(b"\n") > 2 * len(data) + _MOST_EMPTY:  # what is between the columns has bytes too
            raise FairveilError(f"{shown(path)} has a header of {columns:,} columns over rows of fewer: fill its rows.")
        frame = pl.read_csv(data, infer_schema=False, null_values=[""])
    except FileNotFoundError:
        raise FairveilError(f"{shown(path)} is not there.") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = error.strerror if isinstance(error, OSError) else clipped(str(error).partition("\n")[0], 300)
        raise FairveilError(f"{shown(path)} cannot be read as a CSV with a header: {reason}.") from error
    names = [column.strip() for column in frame.columns]
    if (twice := _twice(names)) is not None:
        raise FairveilError(f"{shown(path)} has two columns {clipped(twice)!r}: rename one of them.")
    frame.columns = names
    return frame.drop(name for name in names if len(names) > 1 and INDEX.fullmatch(name))


def _columns_of(data: bytes) -> int:
    """How many columns the header of a CSV names, of which no more is read."""
    with io.TextIOWrapper(io.BytesIO(data), encoding="latin-1", newline="") as text:
        try:
            return len(next(csv.reader(text), ()))
        except csv.Error:  # one endless name: Polars will say so
            return 1


def _twice(names: Sequence[str]) -> str | None:
    """The first name that already exists, if any is."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


class _Member(io.BytesIO):
    """A member of an archive as an open file, whose name complaints can give."""

    def __init__(self, archive: Path, image: str) -> None:
        super().__init__(_member(archive, image))
        self.name = f"{archive}/{image}"


def _member(archive: Path, name: str) -> bytes:
    """The bytes of a member of an archive, read from its place without unpacking anything."""
    members = _members(archive, archive.stat().st_mtime_ns)
    if name not in members:
        raise FairveilError(f"{shown(archive)} has no member {shown(name)}.")
    offset, size = members[name]
    with archive.open("rb") as opened:
        opened.seek(offset)
        return opened.read(size)


@lru_cache(maxsize=8)
def _members(archive: Path, changed: int) -> dict[str, tuple[int, int]]:
    """Where the members of an archive lie and how long they are; `changed` tells apart states of the file."""
    try:
        with tarfile.open(archive, "r:") as opened:  # no compression: members can be read in any order
            files = [member for member in opened if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise FairveilError(f"{shown(archive)} cannot be read as an uncompressed tar archive: {error}.") from error
    return {PurePosixPath(member.name).as_posix(): (member.offset_data, member.size) for member in files}
