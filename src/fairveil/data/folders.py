"""Whom photos in folders are of: the folder that bears the name, and folders that are nobody."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fairveil.base.errors import FairveilError

HOUSEKEEPING = frozenset(
    {
        "__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb", "@sharebin",
        "@tmp", "@sharesnap", "network trash folder", "temporary items", "$recycle.bin", "recycler", "recycled",
        "system volume information", "lost+found", "lost.dir", "thumbnails", "thumbnail", "thumbs", "thumb", "_thumbs",
        "_thumb", "ipod photo cache", "__pycache__", "node_modules",
    }
)  # fmt: skip
"""Folders that servers (Synology, QNAP), macOS, Windows, cameras and programs make beside photos, in small letters."""

_NAMED = 3  # folders that are named in a sentence


def is_housekeeping(folder: str) -> bool:
    """Whether a folder is called so that nothing in it is anybody's photo: hidden, or one of `HOUSEKEEPING`.

    >>> is_housekeeping("@eaDir"), is_housekeeping(".thumbnails"), is_housekeeping("Anna")
    (True, True, False)
    """
    return folder.startswith(".") or folder.casefold() in HOUSEKEEPING


@dataclass(frozen=True)
class PersonFolders:
    """Photos of a folder or archive, and whom they are of.

    Attributes:
        images: those that are nobody's housekeeping, in the order given.
        identities: the folder that each is named after, composed (NFC); None where it lies in none.
        notes: what was passed over, in sentences.
        nested: a question in a sentence, where folders lie in folders, so that either could be a person; None if not.
    """

    images: tuple[str, ...]
    identities: tuple[str | None, ...]
    notes: tuple[str, ...]
    nested: str | None


def people_of(images: Sequence[str], *, level: int | None = None) -> PersonFolders:
    """Read whom photos are of from the folders they lie in.

    Args:
        images: paths below a root, with "/" between folders.
        level: which folder of a path names the person: 1 for the first below the root, 2 for the next, -1 for the one
            the photo lies in; by default all of them together.

    Raises:
        FairveilError: the level is 0.

    >>> people_of(["anna/a.jpg", "anna/@eaDir/a.jpg", "b.jpg"]).identities
    ('anna', None)
    """
    if level == 0:
        raise FairveilError("Folders are counted from 1 for the first one, or from -1 for the last: 0 names none.")
    kept, passed = [], Counter[str]()
    for image in images:
        odd = next(filter(is_housekeeping, PurePosixPath(image).parts[:-1]), None)
        if odd is None:
            kept.append(image)
        else:
            passed[odd] += 1
    notes = [
        f"{count:,} photos in folders {name} are passed over: no person is called so." for name, count in passed.items()
    ]
    folders = [unicodedata.normalize("NFC", image).split("/")[:-1] for image in kept]
    identities = tuple(_named(parts, level) for parts in folders)
    return PersonFolders(tuple(kept), identities, tuple(notes), _nested(folders) if level is None else None)


def _named(parts: Sequence[str], level: int | None) -> str | None:
    """The part of a path that names a person; the last one where there are not as many."""
    if not parts:
        return None
    if level is None:
        return "/".join(parts)
    return parts[min(level, len(parts)) - 1] if level > 0 else parts[max(level, -len(parts))]


def _nested(folders: Sequence[Sequence[str]]) -> str | None:
    """Which folder names the person, as a question; None where only one can."""
    known = [tuple(parts) for parts in folders if parts]
    common = 0  # folders that all photos lie in tell nobody from anybody
    while known and min(map(len, known)) > common + 1 and len({parts[common] for parts in known}) == 1:
        common += 1
    if not any(len(parts) > common + 1 for parts in known):
        return None
    readings = {
        f"{common + 1}": dict.fromkeys(parts[common] for parts in known),
        "-1": dict.fromkeys(parts[-1] for parts in known),
    }
    told = [
        f"--person-folder {level} ({len(people):,} people, such as {', '.join([*people][:_NAMED])})"
        for level, people in readings.items()
    ]
    whole = dict.fromkeys("/".join(parts) for parts in known)
    return (
        f"Folders lie in folders, and either may be a person: now each of {len(whole):,} paths is one, such as "
        f"{', '.join([*whole][:_NAMED])}. Say which folder names the person: {', or '.join(told)}."
    )
