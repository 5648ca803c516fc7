"""Reading files that a stranger may have chosen, and writing so that nobody, not even a crash, sees half of one."""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `target` that becomes `target` when the block ends well.

    The temporary file lies in the folder of `target`, so that the last step is a rename. It is removed if the block
    fails or is interrupted, and `target` is then as it was before.

    Args:
        target: where the finished file shall be; its folder must exist.
        overwrite: whether an existing `target` is replaced.

    Raises:
        FileExistsError: `target` exists (also if it came to exist during the block) and `overwrite` is false.
    """
    if not overwrite and target.exists():
        raise FileExistsError(target)
    # One dot and a known ending, so that leftovers of a machine that lost power are easy to recognize.
    # File systems count a name's bytes, of which a character can have four.
    start = os.fsencode(target.name)[:80].decode(errors="ignore")
    temporary = target.parent / f".{start}.{secrets.token_hex(6)}.part"
    # Made with the user's own default permissions, which no later change of the process's umask could tell safely.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        move_into_place(temporary, target, overwrite=overwrite)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def move_into_place(source: Path, target: Path, *, overwrite: bool = False) -> None:
    """Give a finished file its name, in one step, on the same file system.

    Raises:
        FileExistsError: `target` exists and `overwrite` is false.
    """
    if overwrite:
        source.replace(target)
        return
    try:
        os.link(source, target)  # fails if target exists, which a rename would not
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(target) from None
        source.replace(target)
    else:
        source.unlink()


def read_ordinary_file(path: Path, limit: int) -> bytes:
    """The content of a file, which must be one: devices go on for ever, and pipes may never begin.

    Raises:
        OSError: it is not there, may not be read, is no ordinary file, or has more than `limit` bytes.
    """
    status = path.stat()  # before opening, which waits for ever on a pipe that nobody writes to
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit / 1e6:,.4g} MB", str(path))
    with path.open("rb") as file:
        return file.read(status.st_size)


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def file_state(file: Path) -> tuple[int, int] | None:
    """Size and date of a file, in nanoseconds, by which a changed one is told; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def replaceable(path: Path) -> bool:
    """Whether a file may take a place: one that is free or an ordinary file's, not a device's, pipe's or folder's."""
    return path.is_file() or not path.exists()
