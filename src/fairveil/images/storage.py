"""Reading and writing people's photos without ever harming one.

A photo is read whole or refused in a sentence; it is written whole, beside or away from the original, or not at all.
The original itself is only ever opened for reading.
"""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import torch

from fairveil.base.errors import AlreadyExistsError, FairveilError, UnreadableFileError, shown
from fairveil.base.files import atomic_path, read_ordinary_file, replaceable
from fairveil.images.decoding import GrayBits, Photo, decode_photo
from fairveil.images.encoding import Saving, check_encodable, encode_photo, format_for
from fairveil.images.formats import format_of_name, suffix_fits, suffix_for
from fairveil.images.stripping import stripped

MAX_PIXELS = 120_000_000
"""Pixels a photo may have: above any camera's single frame, below what fills the memory of a small machine."""


def read_photo(source: Path | bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS, gray_bits: GrayBits = "sure") -> Photo:
    """Read a photo, upright, with its metadata.

    16-bit pictures are read with 8 bits and CMYK as sRGB, which `notes` of the result says.

    Args:
        source: a file's path, its bytes, or an open file.
        max_pixels: how many pixels it may have, checked before any is decoded.
        gray_bits: see `decode_photo`.

    Raises:
        FairveilError: there is no such file, it may not be read, or it is no photo that can be read whole.
    """
    # No photo is larger than this, and whatever is must not fill the memory.
    max_bytes = max(8 * max_pixels, 1 << 28)
    if isinstance(source, bytes):
        return decode_photo(source, "The picture", max_pixels=max_pixels, gray_bits=gray_bits)
    if not isinstance(source, Path):
        name = getattr(source, "name", None)
        name = shown(name) if isinstance(name, str) else "The picture"
        return decode_photo(_limited(source, max_bytes, name), name, max_pixels=max_pixels, gray_bits=gray_bits)
    name = shown(source)
    try:
        data = read_ordinary_file(source, max_bytes)
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{name} is not there.") from error
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{name} cannot be read: {_reason(error)}.") from error
    return replace(decode_photo(data, name, max_pixels=max_pixels, gray_bits=gray_bits), source=source.absolute())


def check_target(photo: Photo, path: Path, saving: Saving) -> None:
    """Find out in a moment, before minutes of work, why a photo could not be written somewhere.

    Raises:
        FairveilError: as `write_photo`, for all that can be known beforehand.
    """
    name = shown(path)
    format = format_for(photo, saving)
    try:
        if path.is_dir():
            raise FairveilError(f"{name} is a folder: give the name of a file in it.")
        if not suffix_fits(path, format):
            promised = format_of_name(path)
            raise FairveilError(
                f"{name} would hold a {format}: call it {shown(path.with_suffix(suffix_for(format)).name)}"
                + (f", or ask for the format {promised}." if promised else ".")
            )
        check_encodable(photo, format, name)
        if photo.source and _same_file(path, photo.source):
            raise FairveilError(f"{name} is the original, which is never overwritten: choose another name or folder.")
        if not saving.overwrite and os.path.lexists(path):
            raise FileExistsError
        if not replaceable(path):
            raise FairveilError(f"{name} is not an ordinary file and is never replaced: choose another name or folder.")
        if not path.parent.is_dir():
            raise FileNotFoundError
    except FairveilError:
        raise
    except (OSError, ValueError) as error:
        raise _not_written(path, error) from error


def write_photo(photo: Photo, path: Path, saving: Saving | None = None) -> tuple[str, ...]:
    """Write a photo: whole under its name, or not at all.

    The same format, size, color profile and harmless metadata as it came with; JPEG with full color resolution.

    Args:
        photo: what to write; give it protected pixels by `dataclasses.replace(photo, pixels=...)`.
        path: where; its suffix must fit the format and its folder must exist.
        saving: how.

    Returns:
        What there is to say about it, in sentences, such as the quality that `saving.max_size` allowed.

    Raises:
        FairveilError: the path is the original, is taken, or cannot be written; or the format cannot hold the photo.
    """
    saving = saving or Saving()
    check_target(photo, path, saving)
    name = shown(path)
    try:
        data, notes = encode_photo(photo, saving, name)
    except MemoryError as error:
        raise FairveilError(f"{name} needs more memory to be written than there is.") from error
    except FairveilError:
        raise
    except Exception as error:  # encoders raise whatever they like for a size or shape that they cannot hold
        height, width = photo.pixels.shape[-2:]
        raise FairveilError(
            f"{name} cannot be written: the encoder of {format_for(photo, saving)} refuses this picture of "
            f"{width} by {height} pixels; choose another format."
        ) from error
    _put(data, path, saving)
    return notes


def copy_photo(photo: Photo, path: Path, saving: Saving | None = None) -> tuple[str, ...]:
    """Write a photo whose pixels nobody changed: if it can be, with the very picture that its file holds.

    So a JPEG or WebP that stays one loses nothing but its metadata. Other formats, and photos that have to become
    smaller, are written by `write_photo`.

    Args:
        photo: what to write, as `read_photo` gave it.
        path: as for `write_photo`.
        saving: as for `write_photo`.

    Returns:
        What there is to say about it, in sentences.

    Raises:
        FairveilError: as `write_photo`.
    """
    saving = saving or Saving()
    check_target(photo, path, saving)
    data = _same_picture(photo, saving)
    if data is None:
        return write_photo(photo, path, saving)
    _put(data, path, saving)
    return ()


def find_photos(
    paths: Path | Sequence[Path], *, on_skip: Callable[[Path, str], None] = lambda path, reason: None
) -> list[Path]:
    """The photos among files and in folders, with all folders below them.

    A file that is named is taken whatever its suffix. In folders, files with a photo's suffix are taken; hidden files
    and folders are passed over, and links to folders are not followed, so that a circle of links does no harm.

    Args:
        paths: files and folders.
        on_skip: called with all that is passed over in a folder, and the reason in a few words.

    Returns:
        Each file once; those of a folder in the order of their paths.

    Raises:
        FairveilError: a path is not there, or a folder cannot be listed.
    """
    found: dict[Path, None] = {}
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError as error:
            raise FairveilError(f"{shown(path)} is not there.") from error
        except (OSError, ValueError) as error:
            raise FairveilError(f"{shown(path)} cannot be read: {_reason(error)}.") from error
        found |= dict.fromkeys(_photos_below(path, on_skip) if stat.S_ISDIR(mode) else [path])
    return list(found)


def _photos_below(folder: Path, on_skip: Callable[[Path, str], None]) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise FairveilError(f"The folder {shown(error.filename)} cannot be listed: {_reason(error)}.") from error

    photos = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        for name in sorted(folders):
            if name.startswith(".") or Path(place, name).is_symlink():
                _skip(Path(place, name), on_skip)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in sorted(files)):
            if path.name.startswith(".") or not format_of_name(path) or not _may_be_photo(path):
                _skip(path, on_skip)
            else:
                photos.append(path)
    return sorted(photos)


def _skip(path: Path, on_skip: Callable[[Path, str], None]) -> None:
    if path.name.startswith("."):
        on_skip(path, "hidden")
    elif path.is_symlink() and not _may_be_photo(path):
        on_skip(path, "a link to a folder, or to nowhere")
    else:
        on_skip(path, "not a photo by its name" if not format_of_name(path) else "not an ordinary file")


def _may_be_photo(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        return True  # it is there, and reading it will say that this is not allowed: passing it over would hide it
    except OSError:
        return False  # a link that leads nowhere


def _same_picture(photo: Photo, saving: Saving) -> bytes | None:
    """The photo's own file less its metadata, if it is to stay in its format and this may keep its coded picture."""
    if photo.source is None or format_for(photo, saving) != photo.format:
        return None
    metadata = photo.metadata if saving.keep_metadata else photo.metadata.harmless()
    try:
        data = stripped(photo.source.read_bytes(), metadata)
        if data is None or len(data) > (saving.max_size or len(data)):
            return None
        again = decode_photo(data, shown(photo.source), max_pixels=photo.pixels[0].numel())
    except (OSError, FairveilError):
        return None
    # An odd file, or one that has changed meanwhile, is better written by the encoder than not at all or wrongly.
    return data if torch.equal(again.pixels, photo.pixels) else None


def _put(data: bytes, path: Path, saving: Saving) -> None:
    try:
        with atomic_path(path, overwrite=saving.overwrite) as temporary:
            temporary.write_bytes(data)
    except (OSError, ValueError) as error:
        raise _not_written(path, error) from error


def _limited(file: BinaryIO, max_bytes: int, name: str) -> bytes:
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise FairveilError(f"{name} is larger than {max_bytes / 1e6:.0f} MB, more than a photo can be.")
    return data


def _same_file(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)  # sees through links of both kinds, and names that differ in case only
    except FileNotFoundError:
        return path.resolve() == source.resolve()


def _not_written(path: Path, error: OSError | ValueError) -> FairveilError:
    name = shown(path)
    if isinstance(error, FileExistsError):
        return AlreadyExistsError(f"{name} already exists: allow `overwrite=True`, or choose another name or folder.")
    if isinstance(error, FileNotFoundError):
        return FairveilError(f"{name} cannot be written: there is no folder {shown(path.parent)}.")
    return FairveilError(f"{name} cannot be written: {_reason(error)}.")


def _reason(error: OSError | ValueError) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return reason[:1].lower() + reason[1:]
