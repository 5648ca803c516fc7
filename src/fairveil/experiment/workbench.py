"""Where a trial does its work: a cache of what trials share, a device, and a stopwatch."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Workbench:
    """What a trial is given besides its own settings.

    Attributes:
        cache: a folder for what several trials need, such as the embeddings of a gallery; see `fairveil.base.sharing`.
        device: where networks run, as torch names it.
        durations: seconds by what they were spent on.
    """

    cache: Path
    device: str = "cpu"
    durations: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the seconds of a block to `durations`.

        >>> bench = Workbench(Path("."))
        >>> with bench.timed("thinking"):
        ...     pass
        >>> list(bench.durations)
        ['thinking']
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            self.durations[what] = self.durations.get(what, 0.0) + time.perf_counter() - started
