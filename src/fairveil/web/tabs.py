"""What each open page has: its photos, and nothing of any other page."""

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from fairveil.errors import FairveilError
from fairveil.web.limits import Limits
from fairveil.web.uploaded import WORKING, Stage, UploadedPhoto


class Tab:
    """One open page.

    Attributes:
        id: by which it asks; nobody can guess it.
        browser: whose page it is; nobody else is answered.
        photos: by their ids, in the order in which they came.
        version: grows with every change, so that the page is told.
        closed: whether the page is gone for good.
        left: when the page was last seen, in seconds of `time.monotonic`; None while it is there.
    """

    def __init__(self, browser: str, folder: Path) -> None:
        self.id, self.browser, self.folder = secrets.token_urlsafe(24), browser, folder / secrets.token_hex(16)
        self.folder.mkdir()
        self.photos: dict[str, UploadedPhoto] = {}
        self.version = 0
        self.closed = False
        self.left: float | None = time.monotonic()
        self._run_began: float | None = None
        self._listening = 0
        self._lock = RLock()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock while something changes, and let the page know."""
        with self._lock:
            yield
            self.version += 1

    def arrived(self) -> None:
        """The page listens; one that is loaded anew listens before the old connection is given up."""
        self._listening += 1
        self.left = None

    def departed(self) -> None:
        """A connection of the page ended."""
        self._listening -= 1
        self.left = None if self._listening else time.monotonic()

    def reserve(self, name: str, limits: Limits) -> UploadedPhoto:
        """A place for a photo that begins to arrive.

        Raises:
            FairveilError: there are as many as a page takes.
        """
        with self.changing():
            if self.closed or len(self.photos) >= limits.photos:
                raise FairveilError(
                    f"{name} was left out: {limits.photos} fit on a page. Download what is done, remove it, and add "
                    "the rest."
                )
            photo = UploadedPhoto(name, self.folder / secrets.token_hex(8))
            photo.folder.mkdir()
            self.photos[photo.id] = photo
            return photo

    def remove(self, photo: UploadedPhoto) -> None:
        """Take a photo off the page; the work on it stops, and its files are gone."""
        with self.changing():
            photo.stop.set()
            self.photos.pop(photo.id, None)
        shutil.rmtree(photo.folder, ignore_errors=True)

    def stop(self) -> None:
        """Stop the work on all photos; those that were under way are as they were before."""
        with self.changing():
            self._run_began = None
            for photo in self.photos.values():
                if photo.stage in WORKING:
                    photo.stop.set()
                    photo.stage = Stage.done if photo.result else Stage.ready

    def began(self) -> None:
        """Note when the first photo of a run has its turn, from which the time left is reckoned."""
        self._run_began = self._run_began or time.monotonic()

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        with self._lock:
            working = [photo for photo in self.photos.values() if photo.stage in WORKING]
            if not working:
                self._run_began = None
            run = [photo for photo in self.photos.values() if photo.weight and not photo.stop.is_set()]
            done = sum(photo.weight * photo.progress for photo in run)
            left = sum(photo.weight * (1 - photo.progress) for photo in working)
            return {
                "photos": [photo.state() for photo in self.photos.values() if photo.stage is not Stage.arriving],
                "working": len(working),
                "progress": done / (done + left) if working else 0.0,
                "seconds_left": self._seconds_left(done, left),
            }

    def _seconds_left(self, done: float, left: float) -> float | None:
        """How long the run will still take if it goes on as it did; None while too little is done to tell."""
        spent = 0.0 if self._run_began is None else time.monotonic() - self._run_began
        return spent * left / done if done and spent > 1 else None


class Tabs:
    """All open pages.

    Args:
        folder: where their photos lie.
        limits: on what they may bring.
        on_gone: called with a page that is closed, once no more is put into its folder by the page itself.
    """

    def __init__(self, folder: Path, limits: Limits, on_gone: Callable[[Tab], None]) -> None:
        self._folder, self._limits, self._on_gone = folder, limits, on_gone
        self._tabs: dict[str, Tab] = {}

    def open(self, browser: str) -> Tab:
        """A new page.

        Raises:
            FairveilError: there are too many.
        """
        if sum(tab.browser == browser for tab in self._tabs.values()) >= self._limits.pages_of_browser:
            raise FairveilError(
                f"fairveil is open in {self._limits.pages_of_browser} tabs of this browser already: close one of them "
                "and reload this page."
            )
        if len(self._tabs) >= self._limits.pages:
            raise FairveilError(
                f"{self._limits.pages} pages are open already, which is all that fairveil serves at once: try later."
            )
        tab = Tab(browser, self._folder)
        self._tabs[tab.id] = tab
        return tab

    def find(self, browser: str | None, id: str) -> Tab | None:
        """The page with this id, if it is this browser's."""
        tab = self._tabs.get(id)
        same = tab is not None and secrets.compare_digest(tab.browser.encode(), (browser or "").encode())
        return tab if same else None

    def close(self, tab: Tab) -> None:
        """The page is gone: its work stops and its photos are removed."""
        if self._tabs.pop(tab.id, None):
            tab.stop()
            tab.closed = True
            self._on_gone(tab)

    def stop_all(self) -> None:
        """The server ends: no work goes on for anybody."""
        for tab in self._tabs.values():
            tab.stop()
            tab.closed = True

    def look_after(self) -> None:
        """Stop the work for pages that are no longer there, and forget those that do not come back."""
        now = time.monotonic()
        for tab in list(self._tabs.values()):
            if tab.left is None:
                continue
            if now - tab.left > self._limits.forget_after:
                self.close(tab)
            elif now - tab.left > self._limits.stop_after and any(p.stage in WORKING for p in tab.photos.values()):
                tab.stop()

    def uploaded_bytes(self) -> int:
        """Of all photos of all pages."""
        return sum(photo.bytes for tab in self._tabs.values() for photo in list(tab.photos.values()))
