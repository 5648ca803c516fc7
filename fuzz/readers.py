"""Feed odd files to the readers of files that strangers make: python fuzz/readers.py [--only photos] [--seconds 60].

Each reader runs in a process of its own under a limit of memory, and each file under a limit of time. A reader may
read a file or refuse it with a FairveilError; anything else is a finding, and its file is kept.
"""

import argparse
import faulthandler
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from operator import add
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

LONGEST = 20
"""Seconds that one file may take."""


class TooSlowError(BaseException):
    """No reader may swallow it as one of the errors a damaged file leads to."""


def main() -> None:
    """Fuzz all readers or some, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="which reader; repeatable; all by default")
    parser.add_argument("--seconds", type=float, default=60, help="for each reader")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each reader, at the most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("out/fuzz"), help="where offending files are kept")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.findings.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        fuzz(arguments.child, arguments)
        return
    from targets import TARGETS

    print("reader        inputs  refused  seconds  largest MB  slowest s  findings")
    found = 0
    for name in arguments.only or TARGETS:
        found += start(name, arguments)
    sys.exit(min(found, 1))


def start(name: str, arguments: argparse.Namespace) -> int:
    """Fuzz one reader in a process of its own, once more after each crash; give the number of findings."""
    total: dict[str, float] = dict.fromkeys(("inputs", "refused", "seconds", "megabytes", "slowest", "findings"), 0)
    seed, seconds = arguments.seed, arguments.seconds
    while seconds > 0:
        command = [sys.executable, __file__, "--child", name, "--seconds", str(seconds), "--seed", str(seed)]
        command += ["--inputs", str(arguments.inputs), "--findings", str(arguments.findings)]
        began = time.monotonic()
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        lines = child.stdout.splitlines()
        if lines:
            report = json.loads(lines[-1])
            for key, so_far in total.items():
                total[key] = (max if key in ("megabytes", "slowest") else add)(so_far, report[key])
        if child.returncode == 0:
            break
        current = arguments.findings / f"{name}.current"
        kept = current.rename(arguments.findings / f"{name}-crash-{seed}")
        print(f"{name}: the process died ({child.returncode}) of {kept}")
        total["findings"] += 1
        seed, seconds = seed + 1000, seconds - (time.monotonic() - began)
    print(
        f"{name:<12}{total['inputs']:>8.0f}{total['refused']:>9.0f}{total['seconds']:>9.1f}{total['megabytes']:>12.0f}"
        f"{total['slowest']:>11.2f}{total['findings']:>10.0f}",
        flush=True,
    )
    return int(total["findings"])


def fuzz(name: str, arguments: argparse.Namespace) -> None:
    """Feed one reader until time is up; the last line printed says how it went."""
    import torch

    from targets import TARGETS

    os.environ["RUST_BACKTRACE"] = "0"
    faulthandler.enable()
    torch.set_num_threads(1)
    target = TARGETS[name]
    chance = random.Random(f"{name} {arguments.seed}")
    report: dict[str, Any] = dict.fromkeys(("inputs", "refused", "seconds", "megabytes", "slowest", "findings"), 0)
    kinds: set[str] = set()
    with TemporaryDirectory() as folder:
        attempt(target, target.make(chance), Path(folder), longest=600)  # imports take memory and time of their own
        limit = address_space() + (target.megabytes << 20) + (2 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        began = reported = time.monotonic()
        while time.monotonic() - began < arguments.seconds and report["inputs"] < arguments.inputs:
            data = target.make(chance)
            (arguments.findings / f"{name}.current").write_bytes(data)
            outcome, megabytes, seconds = attempt(target, data, Path(folder))
            report["inputs"] += 1
            report["refused"] += outcome == "refused"
            report["megabytes"] = max(report["megabytes"], megabytes)
            report["slowest"] = max(report["slowest"], seconds)
            report["seconds"] = time.monotonic() - began
            if megabytes > target.megabytes and outcome in ("read", "refused"):
                outcome = f"took {megabytes} MB"
            if outcome not in ("read", "refused") and outcome[:200] not in kinds:
                kinds.add(outcome[:200])
                report["findings"] += 1
                kept = arguments.findings / f"{name}-{arguments.seed}-{report['findings']}"
                kept.write_bytes(data)
                print(f"{kept}: {outcome}", file=sys.stderr, flush=True)
            if time.monotonic() - reported > 1:  # what a crash leaves behind
                reported = time.monotonic()
                print(json.dumps(report), flush=True)
    (arguments.findings / f"{name}.current").unlink(missing_ok=True)
    print(json.dumps(report), flush=True)


def attempt(target: Any, data: bytes, folder: Path, *, longest: int = LONGEST) -> tuple[str, int, float]:
    """What came of one file: "read", "refused" or where it went wrong; megabytes above those before; seconds."""
    from fairveil.base.errors import FairveilError

    before = forget_peak()
    began = time.monotonic()
    try:
        with time_limit(longest):
            target.read(data, folder)
        outcome = "read"
    except FairveilError as error:
        outcome = "refused" if len(str(error)) < 4000 else f"a sentence of {len(str(error))} characters"
    except BaseException as error:
        where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        own = [place for place in where if not place.startswith(("readers.py", "targets.py"))]
        outcome = f"{type(error).__name__} at {' '.join(own[:2] + own[-2:])}: {str(error)[:150]}"
        if isinstance(error, KeyboardInterrupt):
            raise
    return outcome, (peak() - before) >> 20, time.monotonic() - began


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `TooSlowError` in the block after so many seconds; end the process if even that does not help."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(3 * seconds, exit=True)  # inside a library's own loop
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()


def status(key: str) -> int:
    """A line of what Linux tells of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    return 0


def peak() -> int:
    """The most memory since `forget_peak`."""
    return status("VmHWM")


def forget_peak() -> int:
    """Begin to measure anew, from what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def address_space() -> int:
    """What this process has mapped so far, libraries included."""
    return status("VmSize")


if __name__ == "__main__":
    main()
