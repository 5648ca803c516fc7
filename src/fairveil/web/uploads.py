"""Photos on their way in: never more than a photo may have, whatever the browser says it sends."""

import asyncio
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

from starlette.requests import ClientDisconnect, Request

from fairveil.base.errors import FairveilError
from fairveil.web.limits import Limits
from fairveil.web.tabs import Tab, Tabs
from fairveil.web.uploaded import UploadedPhoto

_LONGEST_NAME = 200  # bytes, so that a name with "-protected" is one that every file system takes
_LONGEST_SUFFIX = 10
_REFUSED_BY_WINDOWS = str.maketrans('<>:"|?*', "_" * 7)


def plain_name(name: str) -> str:
    r"""A file's name as the page and a download can show it: without folders and without what cannot be printed.

    >>> plain_name("../../etc/passwd"), plain_name("C:\\photos\\me.jpg"), plain_name("..")
    ('passwd', 'me.jpg', 'photo')
    """
    last = unicodedata.normalize("NFC", PureWindowsPath(PurePosixPath(name).name).name).translate(_REFUSED_BY_WINDOWS)
    printable = PurePosixPath("".join(c for c in last if not unicodedata.category(c).startswith("C")).strip(" ."))
    suffix = _clipped(printable.suffix, _LONGEST_SUFFIX)
    return _clipped(printable.stem, _LONGEST_NAME - _LONGEST_SUFFIX) + suffix or "photo"


def _clipped(text: str, longest: int) -> str:
    """As many whole characters as fit in `longest` bytes."""
    return text.encode()[:longest].decode(errors="ignore")


async def receive(request: Request, tab: Tab, tabs: Tabs, limits: Limits) -> UploadedPhoto:
    """Take a photo from the body of a request.

    Args:
        request: whose query holds the photo's name.
        tab: the page it is for.
        tabs: all pages.
        limits: on what is taken.

    Raises:
        FairveilError: it is too large or one too many, stands still, or the page is closed meanwhile.
    """
    name = plain_name(request.query_params.get("name", ""))
    if int(request.headers.get("content-length", "0")) > limits.photo_bytes:
        raise FairveilError(limits.too_large(name))
    photo = tab.reserve(name, limits)
    try:
        async with asyncio.timeout(limits.upload_pause) as patience:
            with photo.original.open("wb") as file:
                async for chunk in request.stream():
                    patience.reschedule(asyncio.get_running_loop().time() + limits.upload_pause)
                    photo.bytes += len(chunk)
                    if photo.bytes > limits.photo_bytes:
                        raise FairveilError(limits.too_large(name))
                    if tabs.full():
                        raise FairveilError(f"Left out: {name}. {limits.full()}")
                    if photo.stop.is_set():
                        raise FairveilError(f"Left out: {name}. Its page was closed.")
                    file.write(chunk)
    except (FairveilError, ClientDisconnect):
        tab.remove(photo)
        raise
    except TimeoutError as error:
        tab.remove(photo)
        raise FairveilError(f"Left out: {name}. It stopped arriving.") from error
    except OSError as error:
        tab.remove(photo)
        raise FairveilError(f"{name} could not be kept: {error.strerror or error}.") from error
    return photo
