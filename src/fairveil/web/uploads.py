"""Photos on their way in: never more than a photo may have, whatever the browser says it sends."""

import unicodedata
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath

from starlette.requests import ClientDisconnect, Request

from fairveil.errors import FairveilError
from fairveil.web.limits import Limits
from fairveil.web.tabs import Tab
from fairveil.web.uploaded import UploadedPhoto

_LONGEST_NAME = 120  # characters, so that a name with "-protected" is one that every file system takes


def plain_name(name: str) -> str:
    r"""A file's name as the page and a download can show it: without folders and without what cannot be printed.

    >>> plain_name("../../etc/passwd"), plain_name("C:\\photos\\me.jpg"), plain_name("..")
    ('passwd', 'me.jpg', 'photo')
    """
    last = PureWindowsPath(PurePosixPath(name).name).name
    printable = "".join(c for c in last if not unicodedata.category(c).startswith("C")).strip(" .")
    stem, dot, suffix = printable.rpartition(".")
    if len(printable) > _LONGEST_NAME:
        printable = (stem if dot else printable)[: _LONGEST_NAME - 10] + (dot + suffix)[:10] * bool(dot)
    return printable or "photo"


async def receive(request: Request, tab: Tab, limits: Limits, uploaded_bytes: Callable[[], int]) -> UploadedPhoto:
    """Take a photo from the body of a request.

    Args:
        request: whose query holds the photo's name.
        tab: the page it is for.
        limits: on what is taken.
        uploaded_bytes: how much all pages have uploaded.

    Raises:
        FairveilError: it is too large or one too many.
    """
    name = plain_name(request.query_params.get("name", ""))
    if int(request.headers.get("content-length", "0")) > limits.photo_bytes:
        raise FairveilError(_too_large(name, limits))
    photo = tab.reserve(name, limits)
    try:
        with photo.original.open("wb") as file:
            async for chunk in request.stream():
                photo.bytes += len(chunk)
                if photo.bytes > limits.photo_bytes:
                    raise FairveilError(_too_large(name, limits))
                if uploaded_bytes() > limits.all_bytes:
                    raise FairveilError(
                        f"{name} was left out: fairveil holds {limits.all_bytes / 1e9:g} GB of photos already. "
                        "Download what is done, remove it, and add the rest."
                    )
                file.write(chunk)
    except (FairveilError, ClientDisconnect):
        tab.remove(photo)
        raise
    except OSError as error:
        tab.remove(photo)
        raise FairveilError(f"{name} could not be kept: {error.strerror or error}.") from error
    return photo


def _too_large(name: str, limits: Limits) -> str:
    return f"{name} is larger than {limits.photo_bytes / 1e6:g} MB, the limit: make it smaller first."
