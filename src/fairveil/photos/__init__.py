"""Photos: read and written without ever harming one."""

from fairveil.photos.decoding import Photo
from fairveil.photos.encoding import Saving, as_image, resaved
from fairveil.photos.formats import suffix_for
from fairveil.photos.storage import (
    MAX_PIXELS,
    check_target,
    copy_photo,
    find_photos,
    read_photo,
    replaceable,
    shown,
    write_photo,
)

__all__ = [
    "MAX_PIXELS",
    "Photo",
    "Saving",
    "as_image",
    "check_target",
    "copy_photo",
    "find_photos",
    "read_photo",
    "replaceable",
    "resaved",
    "shown",
    "suffix_for",
    "write_photo",
]
