"""Taking known files out of a known archive, and nothing else."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from fairveil.assets.catalogue import Artifact


def take_out(archive: Path, artifacts: Iterable[Artifact], into: Path) -> Iterator[tuple[Artifact, Path]]:
    """Write the members that the artifacts name into a folder, and give each with its new path.

    The names written are the artifacts' own, never the archive's: no member can choose where it lands.
    A member that is missing, is not a plain file, or is not of the stated size is passed over.

    Args:
        archive: a zip file, or a tar file compressed by gzip.
        artifacts: what to take, all of them out of this archive.
        into: an existing folder.
    """
    wanted = {artifact.member: artifact for artifact in artifacts}
    if zipfile.is_zipfile(archive):
        yield from _take_from_zip(archive, wanted, into)
    else:
        yield from _take_from_tar(archive, wanted, into)


def _take_from_zip(archive: Path, wanted: dict[str, Artifact], into: Path) -> Iterator[tuple[Artifact, Path]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            artifact = wanted.get(member.filename)
            if artifact is None or member.file_size != artifact.size:
                continue
            target = into / artifact.filename
            # Reading a zip's member ends at its stated size, however much its data would inflate to.
            with opened.open(member) as source, target.open("wb") as written:
                shutil.copyfileobj(source, written)
            yield artifact, target


def _take_from_tar(archive: Path, wanted: dict[str, Artifact], into: Path) -> Iterator[tuple[Artifact, Path]]:
    remaining = set(wanted)
    with tarfile.open(archive, mode="r|gz") as opened:
        for member in opened:
            artifact = wanted.get(member.name)
            if artifact is None or not member.isreg() or member.size != artifact.size:
                continue
            source = opened.extractfile(member)
            assert source is not None  # only links and folders have no content
            target = into / artifact.filename
            with source, target.open("wb") as written:
                shutil.copyfileobj(source, written)
            yield artifact, target
            remaining.discard(member.name)
            if not remaining:
                return
