"""How much a browser may bring, so that no visitor fills the disk or the memory of the machine."""

from pydantic import BaseModel, ConfigDict


class Limits(BaseModel):
    """What is taken from a browser at the most.

    Attributes:
        photo_bytes: of one photo's file.
        photo_pixels: of one photo; what phones take; veiling a face that fills one takes about 3 GB of memory.
        photos: on one page.
        all_bytes: of all files of all pages together, those that are made here included.
        upload_pause: seconds for which a photo that is arriving may stand still.
        pages: open at once.
        pages_of_browser: of them in one browser, which keeps only six connections to a server.
        stop_after: seconds after which the work for a page stops that is no longer there.
        forget_after: seconds after which the photos of such a page are removed.
    """

    model_config = ConfigDict(frozen=True)

    photo_bytes: int = 64_000_000
    photo_pixels: int = 50_000_000
    photos: int = 50
    all_bytes: int = 4_000_000_000
    upload_pause: float = 60.0
    pages: int = 16
    pages_of_browser: int = 4
    stop_after: float = 10.0
    forget_after: float = 900.0

    def too_large(self, name: str) -> str:
        """What to say of a photo whose file is too large."""
        return f"{name} is larger than {self.photo_bytes / 1e6:g} MB, the limit: make it smaller first."

    def too_many(self, name: str) -> str:
        """What to say of photos for which a page has no room."""
        return f"Left out: {name}. {self.photos} fit on a page: download what is done, remove it, and add the rest."

    def full(self) -> str:
        """What to say when there is no room for the files of anybody."""
        return f"fairveil holds {self.all_bytes / 1e9:g} GB already: download what is done, and remove it."
