"""Where work runs: in this process, in several of this machine, or on a Ray cluster. All three look like futures."""

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairveil.errors import FairveilError

Submit = Callable[..., "Future[Any]"]
"""Start a function with arguments, and give the future of its result."""


@dataclass(frozen=True)
class Executor:
    """Somewhere to run functions.

    Attributes:
        submit: starts one.
        capacity: how many may be under way at once.
        share: makes of a large argument what to hand to `submit` in its place, so that it travels once.
    """

    submit: Submit
    capacity: int
    share: Callable[[Any], Any] = lambda value: value

    def in_turn(self, calls: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, "Future[Any]"]]:
        """Start calls as there is room, and give the number and the future of each as it ends.

        >>> with executor() as here:
        ...     [(number, future.result()) for number, future in here.in_turn([(abs, -3), (max, 1, 2)])]
        [(0, 3), (1, 2)]
        """
        under_way: dict[Future[Any], int] = {}
        waiting = enumerate(calls)
        while True:
            while len(under_way) < self.capacity and (call := next(waiting, None)) is not None:
                under_way[self.submit(*call[1])] = call[0]
            if not under_way:
                return
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                yield under_way.pop(future), future


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def executor(*, workers: int = 1, ray: str | None = None, threads: int = 1) -> Iterator[Executor]:
    """Where to run: `workers` processes of this machine (1: this very process), or a Ray cluster.

    Args:
        workers: how many processes.
        ray: address of a Ray cluster; "auto" finds the one this machine belongs to, "local" starts one here.
        threads: cores that one function takes of a Ray cluster; its networks are given as many threads.

    Raises:
        FairveilError: Ray is not installed, the cluster cannot be reached, or none of its machines has so many cores.
    """
    if ray is not None:
        with _on_ray(ray, threads) as cluster:
            yield cluster
    elif workers == 1:
        yield Executor(_here, 1)
    else:
        with _in_processes(workers) as processes:
            yield processes


def _here(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def _in_processes(workers: int) -> Iterator[Executor]:
    """A pool that is made anew when one of its processes dies, which breaks only what was under way."""
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang

    def pool() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent, initargs=(os.getpid(),))

    current = pool()

    def submit(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        nonlocal current
        try:
            return current.submit(function, *arguments)
        except BrokenProcessPool:
            current.shutdown(wait=False)
            current = pool()
            return current.submit(function, *arguments)

    try:
        yield Executor(submit, workers)
    except BaseException:
        for process in list((current._processes or {}).values()):  # what is under way is not waited for
            process.terminate()
        current.shutdown(wait=False, cancel_futures=True)
        raise
    current.shutdown()


def _end_with_parent(parent: int) -> None:
    """End this process when its parent is gone: a killed run must leave nobody at work."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _on_ray(address: str, threads: int) -> Iterator[Executor]:
    try:
        import ray
    except ImportError:
        raise FairveilError("Ray is not installed: install fairveil[cluster], or leave --ray out.") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=None if address == "local" else address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise FairveilError(
                f"No Ray cluster was found at {address!r} ({error}): start one with `ray start --head`, "
                "or say --ray-address local."
            ) from error

    # Ray starts a task again elsewhere when its node dies.
    task = ray.remote(num_cpus=threads, max_retries=3)(_as_here)

    def submit(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = task.remote(str(Path.cwd()), threads, function, *arguments).future()
        return future

    try:
        cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if max(cores, default=0) < threads:
            raise FairveilError(
                f"No machine of the Ray cluster has the {threads} cores that are asked for: ask for fewer "
                "(--threads, or the environment variable OMP_NUM_THREADS)."
            )
        yield Executor(submit, sum(count // threads for count in cores), ray.put)
    finally:
        if ours:
            ray.shutdown()


def _as_here(folder: str, threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on another machine as it would be called on this one: with its relative paths and threads."""
    import torch

    torch.set_num_threads(threads)
    with suppress(OSError):  # who needs the folder will say that it is not there
        os.chdir(folder)
    return function(*arguments)
