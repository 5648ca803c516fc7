"""Where work runs: in this process, in several of this machine, or on a Ray cluster. All three look like futures."""

import logging
import multiprocessing
import os
import pickle
import platform
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from fairveil.base.errors import FairveilError, missing_extra
from fairveil.version import code_version

Submit = Callable[..., "Future[Any]"]
"""Start a function with arguments, and give the future of its result."""

_RETRIES = 3  # how often a Ray cluster begins anew what a dead worker was at
_PATIENCE = 5  # seconds in which a Ray cluster should answer


@dataclass(frozen=True)
class Executor:
    """Somewhere to run functions.

    Attributes:
        submit: starts one.
        capacity: how many may be under way at once.
        share: makes of a large argument what to hand to `submit` in its place, so that it travels once.
        here: whether functions run in this very process, so that they may be given anything.
    """

    submit: Submit
    capacity: int
    share: Callable[[Any], Any] = lambda value: value
    here: bool = False

    def in_turn(self, calls: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, "Future[Any]"]]:
        """Start calls as there is room, and give the number and the future of each as it ends.

        When a process of this machine dies, nobody can tell at which of the calls under way: each of them is made once
        more, alone and after all others.

        >>> with executor() as here:
        ...     [(number, future.result()) for number, future in here.in_turn([(abs, -3), (max, 1, 2)])]
        [(0, 3), (1, 2)]
        """
        under_way: dict[Future[Any], tuple[int, tuple[Any, ...]]] = {}
        suspects: list[tuple[int, tuple[Any, ...]]] = []
        waiting = enumerate(calls)
        while True:
            while len(under_way) < self.capacity and (call := next(waiting, None)) is not None:
                under_way[self.submit(*call[1])] = call
            if not under_way:
                break
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                number, arguments = under_way.pop(future)
                if isinstance(future.exception(), BrokenExecutor):
                    suspects.append((number, arguments))
                else:
                    yield number, future
        for number, arguments in suspects:
            future = self.submit(*arguments)
            wait([future])
            yield number, future


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """How many bytes of memory this process may still take, by the machine and by its container."""
    free: int = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError, KeyError):  # absent but on Linux, and without a limit it says "max"
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        kept = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(kept["inactive_file"]))  # what was read from disk gives way
    return max(free, 0)


@contextmanager
def executor(*, workers: int = 1, ray: str | None = None, threads: int = 1) -> Iterator[Executor]:
    """Where to run: `workers` processes of this machine (1: this very process), or a Ray cluster.

    Args:
        workers: how many processes.
        ray: address of a Ray cluster; "auto" finds the one this machine belongs to, "local" starts one here.
        threads: that networks of one function get, in processes of this machine and on a Ray cluster, of which it
            takes as many cores.

    Raises:
        FairveilError: Ray is not installed, the cluster cannot be reached, or none of its machines has so many cores.
    """
    if ray is not None:
        with _on_ray(ray, threads) as cluster:
            yield cluster
    elif workers == 1:
        yield Executor(_here, 1, here=True)
    else:
        with _in_processes(workers, threads) as processes:
            yield processes


def _here(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def _in_processes(workers: int, threads: int) -> Iterator[Executor]:
    """A pool that is made anew when one of its processes dies, which breaks only what was under way."""
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with tempfile.TemporaryDirectory(prefix="fairveil-", ignore_cleanup_errors=True) as folder:

        def pool() -> ProcessPoolExecutor:
            arguments = (os.getpid(), folder)
            return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=arguments)

        current = pool()

        def submit(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
            nonlocal current
            try:
                return current.submit(_in_worker, threads, function, *arguments)
            except BrokenProcessPool:
                current.shutdown(wait=False)
                current = pool()
                return current.submit(_in_worker, threads, function, *arguments)

        def share(value: Any) -> _Shared:
            try:
                handle, name = tempfile.mkstemp(dir=folder)
                with os.fdopen(handle, "wb") as file:
                    pickle.dump(value, file, protocol=pickle.HIGHEST_PROTOCOL)
            except OSError as error:
                raise FairveilError(
                    f"{folder}, through which processes get their models, cannot be written to "
                    f"({error.strerror or error}): make room there, or take one process (`workers=1`)."
                ) from error
            return _Shared(name)

        try:
            yield Executor(submit, workers, share)
        except BaseException:
            processes = list((current._processes or {}).values())
            for process in processes:  # what is under way is not waited for, but may clean up
                process.terminate()
            current.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.join(_PATIENCE)
            raise
        current.shutdown()


@dataclass(frozen=True)
class _Shared:
    """An argument that workers read from a file of ours, each once."""

    file: str


@lru_cache(maxsize=2)
def _value_of(shared: _Shared) -> Any:
    with Path(shared.file).open("rb") as file:
        return pickle.load(file)


def _in_worker(threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a worker, with the values of what is shared."""
    import torch

    torch.set_num_threads(threads)
    return function(*(_value_of(value) if isinstance(value, _Shared) else value for value in arguments))


def _begin_worker(parent: int, folder: str) -> None:
    """Make this process a worker: it leaves Ctrl-C to its parent, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that files half-written are removed

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)  # a killed run must leave nobody at work

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _on_ray(address: str, threads: int) -> Iterator[Executor]:
    try:
        import ray
    except ImportError as error:
        raise missing_extra(error) from None
    ours = not ray.is_initialized()
    if ours:
        # Without it, what takes too much memory would be begun anew for ever. Ray has no argument for it.
        os.environ.setdefault("RAY_task_oom_retries", str(_RETRIES))
        if address == "auto":
            address = os.environ.get("RAY_ADDRESS") or address  # as Ray has it
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FairveilError(
                f"No Ray cluster was found at {address!r} ({reason}): start one with `ray start --head`, or "
                "take the address local."
            ) from error

    task = ray.remote(num_cpus=threads, max_retries=_RETRIES)(_as_here)

    def submit(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()

        def settle(ended: "Future[Any]") -> None:
            if (error := ended.exception()) is None:
                future.set_result(ended.result())
            else:  # what a function raised comes as it was raised, and not as Ray wraps it
                future.set_exception(error.cause if isinstance(error, ray.exceptions.RayTaskError) else error)

        task.remote(str(Path.cwd()), code_version(), threads, function, *arguments).future().add_done_callback(settle)
        return future

    try:
        cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if max(cores, default=0) < threads:
            raise FairveilError(
                f"No machine of the Ray cluster has the {threads} cores that are asked for: ask for fewer "
                "threads (also by the environment variable OMP_NUM_THREADS)."
            )
        yield Executor(submit, sum(count // threads for count in cores), ray.put)
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody answers: Ray itself would try for minutes."""
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.port is not None:
        socket.create_connection((place.hostname, place.port), timeout=_PATIENCE).close()


def _as_here(folder: str, version: str, threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on another machine as it would be called on this one: the same code, relative paths and threads.

    Raises:
        FairveilError: the machine has another fairveil, or not the folder.
    """
    import torch

    if version != code_version():
        raise FairveilError(
            f"{platform.node()}, a machine of the Ray cluster, has fairveil {code_version()}, and you have {version}: "
            "install the same on all of them, and start the cluster again."
        )
    try:
        os.chdir(folder)
    except OSError as error:
        raise FairveilError(
            f"{folder} is not to be had on {platform.node()}, a machine of the Ray cluster "
            f"({error.strerror or error}): start from a folder that all of them share under the same path."
        ) from error
    torch.set_num_threads(threads)
    return function(*arguments)


def why_ended(error: BaseException) -> str:
    r"""In one line, why a function has no result: its worker died, or it failed. Ray says it in pages.

    >>> why_ended(ValueError("no such face\nand a long story"))
    'ValueError: no such face'
    """
    line, _, _ = str(error).strip().partition("\n")
    return f"{type(error).__name__}: {line}"
