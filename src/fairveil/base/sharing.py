"""Work that several processes share: every file is made once, by whoever comes first, and what is made stays made."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fairveil.base.errors import FairveilError, shown
from fairveil.base.files import atomic_path

_PATIENCE = 0.2  # seconds between looks at what others are making
_LAG = 5.0  # seconds after which a shared folder shows what another machine made


@contextmanager
def claimed(target: Path) -> Iterator[bool]:
    """Whether this process may make `target` now: no, if it is there or another process is at it.

    The claim ends with the block, and with the process however that ends: the operating system holds it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, claimed(Path(folder) / "sum") as mine, claimed(
    ...     Path(folder) / "sum"
    ... ) as theirs:
    ...     mine, theirs
    (True, False)
    """
    locks = target.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{target.name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield not target.exists()
    finally:
        lock.release()


def make_files(
    folder: Path, makers: Mapping[str, Callable[[Path], None]], *, on_file: Callable[[int], None] = lambda count: None
) -> list[Path]:
    """Make files that are not there yet, together with every other process that makes them.

    A process that is killed loses the file it was at; the next one makes it again. All files are there in the end.

    Args:
        folder: where the files lie; made if need be.
        makers: by file name, what writes the file to the path it is given, which is a temporary one.
        on_file: called whenever more files are there, with how many.

    Returns:
        The files, in the order of `makers`.

    Raises:
        FairveilError: the folder cannot be made.
        Exception: whatever a maker raises.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise FairveilError(
            f"{shown(folder)} cannot be a folder, for a file has its name or that of one above it."
        ) from error
    waiting = dict.fromkeys(makers)
    while waiting:
        before = len(waiting)
        for name in list(waiting):
            with claimed(folder / name) as mine:
                if mine:
                    with atomic_path(folder / name) as temporary:
                        makers[name](temporary)
            if (folder / name).exists():
                del waiting[name]
                on_file(len(makers) - len(waiting))
        if len(waiting) == before:
            time.sleep(_PATIENCE)
    return [folder / name for name in makers]


def is_seen(file: Path) -> bool:
    """Whether a file that another process says it made is there: at once, or as soon as a shared folder shows it."""
    end = time.monotonic() + _LAG
    while not file.exists():
        if time.monotonic() >= end:
            return False
        time.sleep(_PATIENCE)
        with suppress(OSError):  # network drives ask anew what a folder holds when it is opened
            os.scandir(file.parent).close()
    return True
