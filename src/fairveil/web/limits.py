"""How much a browser may bring, so that no visitor fills the disk or the memory of the machine."""

from pydantic import BaseModel, ConfigDict


class Limits(BaseModel):
    """What is taken from a browser at the most.

    Attributes:
        photo_bytes: of one photo's file.
        photo_pixels: of one photo.
        photos: on one page.
        all_bytes: of all uploaded files of all pages together.
        pages: open at once.
        pages_of_browser: of them in one browser, which keeps only six connections to a server.
        stop_after: seconds after which the work for a page stops that is no longer there.
        forget_after: seconds after which the photos of such a page are removed.
    """

    model_config = ConfigDict(frozen=True)

    photo_bytes: int = 64_000_000
    photo_pixels: int = 64_000_000
    photos: int = 50
    all_bytes: int = 4_000_000_000
    pages: int = 16
    pages_of_browser: int = 4
    stop_after: float = 10.0
    forget_after: float = 900.0
