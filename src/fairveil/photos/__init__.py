"""Photos: read and written without ever harming one."""

from fairveil.photos.decoding import Photo
from fairveil.photos.encoding import Saving
from fairveil.photos.storage import MAX_PIXELS, check_target, find_photos, read_photo, shown, suffix_for, write_photo

__all__ = [
    "MAX_PIXELS",
    "Photo",
    "Saving",
    "check_target",
    "find_photos",
    "read_photo",
    "shown",
    "suffix_for",
    "write_photo",
]
