"""Work for several people on one machine: a few jobs at a time, and everybody in turn."""

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Condition, Thread

Job = Callable[[], None]


class FairQueue:
    """Threads that do jobs, the first of each owner in turn, so that many photos of one hold up nobody.

    Args:
        name: of the threads.
        workers: how many jobs are done at once.
        prepare: called once in each thread before there are any jobs.
    """

    def __init__(self, name: str, workers: int = 1, prepare: Callable[[], object] = lambda: None) -> None:
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._changed = Condition()
        self._closed = False
        self._prepare = prepare
        # Daemons, since a job in its last step must not keep the process alive.
        self._threads = [Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def put(self, owner: str, job: Job) -> None:
        """Let a job of an owner wait for its turn."""
        with self._changed:
            self._waiting.setdefault(owner, deque()).append(job)
            self._changed.notify()

    def close(self, patience: float = 5.0) -> None:
        """Begin no more jobs, and wait up to `patience` seconds for those under way."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        end = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        self._prepare()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                owner, jobs = self._waiting.popitem(last=False)
                job = jobs.popleft()
                if jobs:
                    self._waiting[owner] = jobs  # behind all others
            try:
                job()
            except Exception:  # a defect in one job must not end the work for everybody
                logging.getLogger(__name__).exception("A job in the background failed.")
