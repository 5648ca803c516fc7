"""Run the trials of a study: each once, whoever runs it and wherever, and never again what is finished."""

import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fairveil.base.errors import FairveilError
from fairveil.base.executors import Executor, why_ended
from fairveil.experiment.records import Failure, Record, RecordStore, Run, now, this_machine
from fairveil.experiment.study import Measurement, Preset, Study, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.version import code_version

_PATIENCE = 0.5  # seconds between looks at trials that another run is at


def run_study(
    study: Study[Any, Any],
    settings: Any,
    store: RecordStore,
    executor: Executor,
    *,
    preset: Preset,
    device: str = "cpu",
    threads: int = 1,
    dry: bool = False,
    on_record: Callable[[Record, int, int], None] = lambda record, finished, total: None,
) -> list[Record]:
    """Run every trial that has no result yet, and give the records of all.

    A trial that another run is at, on this machine or through a shared folder, is waited for and not run twice. A
    trial that fails is recorded with its error and does not stop the others. When a process dies, nobody can tell at
    which of the trials under way: each of them is run once more, alone.

    Args:
        study: what to run.
        settings: of the study, resolved (see `Study.resolve`).
        store: where records are kept.
        executor: where trials run.
        preset: that the settings started from.
        device: where networks run.
        threads: that networks of one trial get. One number for all places gives the same results in all.
        dry: run `study.rehearsal(settings)` instead.
        on_record: called for each record as it comes, with how many there are and will be.

    Returns:
        One record a trial, in the order of the trials.
    """
    if dry:
        settings = study.rehearsal(settings)
    trials: dict[str, Trial] = {study.key(trial): trial for trial in study.trials(settings)}
    store.note_run(run_of(study, settings, preset))
    records: dict[str, Record] = {}
    waiting = dict(trials)
    suspects: set[str] = set()
    running: dict[Future[Record], tuple[str, ExitStack]] = {}

    def finish(key: str, record: Record) -> None:
        records[key] = record
        on_record(record, len(records), len(trials))

    with ExitStack() as claims:
        while waiting or running:
            for key in list(waiting):
                alone = study.alone or key in suspects or any(other in suspects for other, _ in running.values())
                if len(running) >= (1 if alone else executor.capacity):
                    break
                claim = claims.enter_context(ExitStack())
                if claim.enter_context(store.claim(study.name, key)):
                    arguments = (study, waiting.pop(key), store.cache.absolute(), device, threads)
                    running[executor.submit(run_trial, *arguments)] = key, claim
                    continue
                claim.close()
                record = store.record(study.name, key)
                if record is not None and not record.failure:
                    del waiting[key]
                    finish(key, record)
            if not running:
                if waiting:
                    time.sleep(_PATIENCE)
                continue
            for future in wait(running, timeout=_PATIENCE, return_when=FIRST_COMPLETED).done:
                key, claim = running.pop(future)
                if isinstance(future.exception(), BrokenExecutor) and key not in suspects:
                    suspects.add(key)
                    waiting[key] = trials[key]
                    claim.close()
                    continue
                record = _record_of(future, study, trials[key], device, threads)
                store.write(record)
                claim.close()
                finish(key, record)
    return [records[key] for key in trials]


def run_trial(study: Study[Any, Any], trial: Trial, cache: Path, device: str, threads: int) -> Record:
    """Run one trial and say what came out, be it an error."""
    import torch

    torch.set_num_threads(threads)
    bench = Workbench(cache, device)
    started, clock = now(), time.perf_counter()
    measurements: tuple[Measurement, ...] = ()
    failure = None
    try:
        measurements = tuple(study.run(trial, bench))
    except Exception as error:
        where = "" if isinstance(error, FairveilError) else f"{type(error).__name__}: "
        failure = Failure(message=f"{where}{error}", traceback=traceback.format_exc())
    return _record(
        study,
        trial,
        device,
        threads,
        started=started,
        seconds=time.perf_counter() - clock,
        durations=bench.durations,
        measurements=measurements,
        failure=failure,
    )


def run_of(study: Study[Any, Any], settings: Any, preset: Preset) -> Run:
    """What is asked for by running a study with resolved settings."""
    keys = tuple(study.key(trial) for trial in study.trials(settings))
    return Run(study=study.name, preset=preset, settings=settings.model_dump(mode="json"), keys=keys, started=now())


def results_of(study: Study[Any, Any], settings: Any, store: RecordStore) -> dict[Any, tuple[Measurement, ...]]:
    """What the finished trials of some settings measured, by trial."""
    found = ((trial, store.record(study.name, study.key(trial))) for trial in study.trials(settings))
    return {trial: record.measurements for trial, record in found if record is not None and not record.failure}


def _record_of(future: "Future[Record]", study: Study[Any, Any], trial: Trial, device: str, threads: int) -> Record:
    """The record of a future, also where the process died or was refused before it could write one."""
    error = future.exception()
    if error is None:
        return future.result()
    died = f"The process that ran it died or failed, perhaps for want of memory ({why_ended(error)})."
    failure = Failure(message=str(error) if isinstance(error, FairveilError) else died)
    return _record(study, trial, device, threads, started=now(), seconds=0.0, failure=failure)


def _record(
    study: Study[Any, Any],
    trial: Trial,
    device: str,
    threads: int,
    *,
    started: str,
    seconds: float,
    durations: Mapping[str, float] = MappingProxyType({}),
    measurements: tuple[Measurement, ...] = (),
    failure: Failure | None = None,
) -> Record:
    """What came out of a trial, with all that says which it was and where it ran."""
    return Record(
        study=study.name,
        revision=study.revision,
        key=study.key(trial),
        label=trial.label,
        trial=trial.model_dump(mode="json"),
        code=code_version(),
        started=started,
        seconds=seconds,
        durations=dict(durations),
        machine=this_machine(device, threads),
        measurements=measurements,
        failure=failure,
    )
