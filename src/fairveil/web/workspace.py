"""Where uploaded photos lie while they are worked on: a folder of this process alone, which does not outlive it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from fairveil.base.errors import FairveilError


@contextmanager
def private_folder(base: Path | None = None) -> Iterator[Path]:
    """A folder that nobody else may read, removed at the end; what crashed processes left is removed at the start.

    Each process holds a lock on its folder. The operating system takes the lock away when the process ends, however it
    ends, so a folder whose lock can be had belongs to nobody any more.

    Args:
        base: where the folders of all processes lie; by default in the user's cache, where no other user can plant one.

    Raises:
        FairveilError: there is no writing there.
    """
    base = base or platformdirs.user_cache_path("fairveil", appauthor=False) / "web"
    try:
        base.mkdir(parents=True, exist_ok=True)
        base.chmod(0o700)
        with FileLock(
            base / ".lock"
        ):  # or another process that starts would take a folder without its lock for a leftover
            _remove_leftovers(base)
            own = Path(tempfile.mkdtemp(dir=base))
            lock = _lock_of(own)
            lock.acquire(blocking=False)
    except OSError as error:
        raise FairveilError(
            f"Photos cannot be kept in {base} while they are worked on: {error.strerror or error}. Make room there, or "
            "name another cache folder in XDG_CACHE_HOME."
        ) from error
    try:
        yield own
    finally:
        _remove(own, lock)


def _remove_leftovers(base: Path) -> None:
    for folder in base.iterdir():
        if folder.is_dir():
            lock = _lock_of(folder)
            try:
                lock.acquire(blocking=False)
            except Timeout:  # its process is alive
                continue
            _remove(folder, lock)


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what could not be removed now is at the next start
    lock.release()
    if not folder.exists():
        Path(lock.lock_file).unlink(missing_ok=True)
