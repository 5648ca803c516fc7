"""Photos: read and written without ever harming one."""

from fairveil.images.decoding import Photo
from fairveil.images.encoding import Saving, as_image, resaved
from fairveil.images.formats import suffix_for
from fairveil.images.storage import MAX_PIXELS, check_target, copy_photo, find_photos, read_photo, write_photo

__all__ = [
    "MAX_PIXELS",
    "Photo",
    "Saving",
    "as_image",
    "check_target",
    "copy_photo",
    "find_photos",
    "read_photo",
    "resaved",
    "suffix_for",
    "write_photo",
]
