"""What each open page has: its photos, and nothing of any other page."""

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from fairveil.base.errors import FairveilError
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
        run_began: when the first photo of the last run had its turn, from which the time left is reckoned.
    """

    def __init__(self, browser: str, folder: Path) -> None:
        self.id, self.browser, self.folder = secrets.token_urlsafe(24), browser, folder / secrets.token_hex(16)
        self.folder.mkdir()
        self.photos: dict[str, UploadedPhoto] = {}
        self.version = 0
        self.closed = False
        self.left: float | None = time.monotonic()
        self.run_began: float | None = None
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

    def away(self) -> float:
        """For how many seconds the page has not been there."""
        return 0.0 if self.left is None else time.monotonic() - self.left

    def reserve(self, name: str, limits: Limits) -> UploadedPhoto:
        """A place for a photo that begins to arrive.

        Raises:
            FairveilError: there are as many as a page takes.
        """
        with self.changing():
            if self.closed or len(self.photos) >= limits.photos:
                raise FairveilError(limits.too_many(name))
            photo = UploadedPhoto(name, self.folder / secrets.token_hex(8))
            photo.folder.mkdir()
            self.photos[photo.id] = photo
            return photo

    def remove(self, photo: UploadedPhoto) -> None:
        """Take a photo off the page; the work on it stops, and its files are gone."""
        with self.changing():
            photo.stop.set()
            self.photos.pop(photo.id, None)
        self.sweep(photo)

    def sweep(self, photo: UploadedPhoto) -> None:
        """Remove what is left of a photo that is no longer on the page, at once and again when work on it ends."""
        if photo.id not in self.photos:
            shutil.rmtree(self.folder if self.closed else photo.folder, ignore_errors=True)

    def stop(self, problem: str | None = None) -> None:
        """Stop the work on all photos; those that were under way are as they were before.

        Args:
            problem: what to tell the person of it, if they did not ask for it.
        """
        with self.changing():
            for photo in self.working():
                photo.stop.set()
                photo.stage = Stage.done if photo.result else Stage.ready
                photo.problem = problem

    def close(self) -> None:
        """Stop the work, and remove everything."""
        with self.changing():
            self.closed = True
            for photo in self.photos.values():
                photo.stop.set()
            self.photos.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def working(self) -> list[UploadedPhoto]:
        """The photos that are being veiled, or wait for it."""
        return [photo for photo in self.photos.values() if photo.stage in WORKING]

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        with self._lock:
            working = self.working()
            run = [photo for photo in self.photos.values() if photo.weight and not photo.stop.is_set()]
            done = sum(photo.weight * photo.progress for photo in run)
            left = sum(photo.weight * (1 - photo.progress) for photo in working)
            return {
                "photos": {id: photo.state() for id, photo in self.photos.items() if photo.stage is not Stage.arriving},
                "version": self.version,
                "working": len(working),
                "progress": done / (done + left) if working else 0.0,
                "seconds_left": self._seconds_left(done, left),
            }

    def _seconds_left(self, done: float, left: float) -> float | None:
        """How long the run will still take if it goes on as it did; None while too little is done to tell."""
        spent = 0.0 if self.run_began is None else time.monotonic() - self.run_began
        return spent * left / done if done and spent > 1 else None


class Tabs:
    """All open pages.

    Args:
        folder: where their photos lie.
        limits: on what they may bring.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._tabs: dict[str, Tab] = {}

    def open(self, browser: str) -> Tab:
        """A new page; where there are too many, in place of one that went away without a word.

        Raises:
            FairveilError: there are too many.
        """
        mine = [tab for tab in self._tabs.values() if tab.browser == browser]
        if not self._has_room(mine, self._limits.pages_of_browser):
            raise FairveilError(
                f"fairveil is open in {self._limits.pages_of_browser} tabs of this browser already: close one of them "
                "and reload this page."
            )
        if not self._has_room(list(self._tabs.values()), self._limits.pages):
            raise FairveilError(
                f"{self._limits.pages} pages are open already, which is all that fairveil serves at once: try later."
            )
        tab = Tab(browser, self._folder)
        self._tabs[tab.id] = tab
        return tab

    def _has_room(self, tabs: list[Tab], most: int) -> bool:
        if len(tabs) < most:
            return True
        gone = [tab for tab in tabs if tab.away() > self._limits.stop_after]
        if gone:
            self.close(max(gone, key=Tab.away))
        return bool(gone)

    def find(self, browser: str | None, id: str) -> Tab | None:
        """The page with this id, if it is this browser's."""
        tab = self._tabs.get(id)
        same = tab is not None and secrets.compare_digest(tab.browser.encode(), (browser or "").encode())
        return tab if same else None

    def close(self, tab: Tab) -> None:
        """The page is gone: its work stops and its photos are removed."""
        self._tabs.pop(tab.id, None)
        tab.close()

    def close_all(self) -> None:
        """The server ends: no work goes on for anybody."""
        for tab in list(self._tabs.values()):
            self.close(tab)

    def look_after(self) -> None:
        """Stop the work for pages that are no longer there, and forget those that do not come back."""
        for tab in list(self._tabs.values()):
            if tab.away() > self._limits.forget_after:
                self.close(tab)
            elif tab.away() > self._limits.stop_after and tab.working():
                tab.stop("Not finished, because this page was away: keep it open until its photos are done.")

    def full(self) -> bool:
        """Whether the photos of all pages take all the room there is for them."""
        kept = sum(photo.bytes for tab in self._tabs.values() for photo in list(tab.photos.values()))
        return kept > self._limits.all_bytes
