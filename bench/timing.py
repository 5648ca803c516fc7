"""Timing several ways of doing the same in one run, so that a busy machine slows all of them alike."""

import time
from collections.abc import Callable


def best_in_turns(ways: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Seconds of the fastest of some repetitions of each way, the ways taking turns."""
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(repeat):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds
