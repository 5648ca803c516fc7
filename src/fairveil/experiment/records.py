"""What a trial left: one file each, named by its content, written whole or not at all."""

import platform
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fairveil.base.errors import FairveilError
from fairveil.base.executors import usable_cores
from fairveil.base.files import atomic_path
from fairveil.base.keys import content_key
from fairveil.base.sharing import claimed
from fairveil.experiment.study import Measurement, Preset


class Machine(BaseModel):
    """Where a trial ran.

    Attributes:
        system: operating system and processor.
        python: its version.
        torch: its version.
        cores: that this process might use.
        threads: that networks were given.
        device: where networks ran.
    """

    model_config = ConfigDict(frozen=True)

    system: str
    python: str
    torch: str
    cores: int
    threads: int
    device: str


class Failure(BaseModel):
    """Why a trial has no result.

    Attributes:
        message: one line.
        traceback: where it happened; empty if the process died.
    """

    model_config = ConfigDict(frozen=True)

    message: str
    traceback: str = ""


class Record(BaseModel):
    """What one trial was and what came out.

    Attributes:
        study: its name.
        revision: of the study.
        key: a hash of everything the result depends on.
        label: what reports call the trial.
        trial: its settings, seed included.
        code: version of fairveil and a hash of its source.
        started: when, in ISO format with the time zone.
        seconds: how long it took in all.
        durations: seconds by what they were spent on; what was found in the cache took none.
        machine: where it ran.
        measurements: the result; none if it failed.
        failure: why there is none.
    """

    model_config = ConfigDict(frozen=True)

    study: str
    revision: int
    key: str
    label: str
    trial: dict[str, Any]
    code: str
    started: str
    seconds: float
    durations: dict[str, float]
    machine: Machine
    measurements: tuple[Measurement, ...] = ()
    failure: Failure | None = None

    def result(self) -> dict[str, Any]:
        """What another run of the same trial must give again: all but times and places."""
        return self.model_dump(mode="json", include={"study", "revision", "key", "trial", "measurements"})


class Run(BaseModel):
    """Which trials somebody asked for.

    Attributes:
        study: its name.
        preset: that the settings started from.
        settings: of the study.
        keys: of the trials.
        started: when, in ISO format with the time zone.
    """

    model_config = ConfigDict(frozen=True)

    study: str
    preset: Preset
    settings: dict[str, Any]
    keys: tuple[str, ...]
    started: str


class RecordStore:
    """A folder of records and runs.

    Args:
        folder: made if need be. Below it, `records` holds a folder for each study with a file for each trial, `runs`
            what was asked for, and `cache` what trials share; the last may be deleted at any time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def cache(self) -> Path:
        """Where trials put what others can use."""
        return self.folder / "cache"

    def record(self, study: str, key: str) -> Record | None:
        """The record of a trial, finished or failed; None if it never ran."""
        finished, failed = self._path(study, key), self._path(study, key, failed=True)
        return _read(finished, Record) if finished.exists() else _read(failed, Record) if failed.exists() else None

    def claim(self, study: str, key: str) -> AbstractContextManager[bool]:
        """Whether this process may run a trial now: no, if it is finished or another process is at it."""
        return claimed(self._path(study, key))

    def write(self, record: Record) -> None:
        """Keep a record. A failure is kept until the trial succeeds, and does not keep it from being run again.

        Raises:
            FairveilError: the folder cannot be written to.
        """
        failed = self._path(record.study, record.key, failed=True)
        path = failed if record.failure else self._path(record.study, record.key)
        _write(path, record)
        if not record.failure:
            failed.unlink(missing_ok=True)

    def note_run(self, run: Run) -> None:
        """Keep what was asked for; asking again replaces it.

        Raises:
            FairveilError: the folder cannot be written to.
        """
        name = f"{run.study}-{run.preset}-{content_key(f'{run.settings}{run.keys}', digits=8)}.json"
        path = self.folder / "runs" / name
        _write(path, run)

    def runs(self, study: str | None = None) -> list[Run]:
        """What was asked for, of one study or of all, the latest first."""
        paths = sorted((self.folder / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        runs = [_read(path, Run) for path in paths]
        chosen = [run for run in runs if study in (None, run.study)]
        return sorted(chosen, key=lambda run: run.started, reverse=True)

    def records(self, study: str, keys: Iterable[str]) -> list[Record]:
        """The records that are there, finished or failed, in the order of the keys."""
        return [record for key in keys if (record := self.record(study, key)) is not None]

    def _path(self, study: str, key: str, *, failed: bool = False) -> Path:
        return self.folder / "records" / study / f"{key}{'.failed' if failed else ''}.json"


def now() -> str:
    """The time in ISO format with the time zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def this_machine(device: str, threads: int) -> Machine:
    """Where this process runs."""
    import torch

    return Machine(
        system=f"{platform.system()} {platform.machine()}, {_processor()}",
        python=platform.python_version(),
        torch=torch.__version__,
        cores=usable_cores(),
        threads=threads,
        device=device,
    )


def _processor() -> str:
    """The processor's name; Python itself knows it on few systems."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _write(path: Path, content: BaseModel) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text(content.model_dump_json(indent=1), encoding="utf-8")
    except OSError as error:
        raise FairveilError(f"Records cannot be kept in {path.parent}: {error.strerror or error}.") from error


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FairveilError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise FairveilError(
            f"{path} is no record of fairveil's, or a damaged one ({where}: {first['msg']}): move it away, and run the "
            "study again."
        ) from error
