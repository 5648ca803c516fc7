"""Running trials: once each, wherever they run, whatever fails or is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sleepy import SLEEPY, Settings, Sleepy

from fairveil.base.errors import FairveilError
from fairveil.base.executors import Executor, executor
from fairveil.experiment.records import RecordStore
from fairveil.experiment.running import results_of, run_study
from fairveil.experiment.study import Measurement

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _children_find_the_study(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))))


def run(store, settings, *, workers=1, ray=None, **more):
    with executor(workers=workers, ray=ray) as where:
        return run_study(SLEEPY, settings, store, where, preset="smoke", **more)


def values(records):
    return [[one.value for one in record.measurements] for record in records]


def test_every_trial_is_run_once_and_its_record_says_what_and_where(tmp_path):
    log = tmp_path / "log"
    settings = Settings(log=str(log))
    store = RecordStore(tmp_path / "store")
    told = []
    records = run(store, settings, on_record=lambda record, finished, total: told.append((finished, total)))
    assert values(records) == [[0], [1], [4], [9]]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    again = run(store, settings)
    assert again == records
    assert log.read_text().split() == ["0", "1", "2", "3"]
    assert records[0].durations.keys() == {"sleeping"}
    assert records[0].machine.threads == 1
    assert records[0].trial["number"] == 0


def test_more_trials_reuse_the_records_of_fewer(tmp_path):
    log = tmp_path / "log"
    store = RecordStore(tmp_path / "store")
    run(store, Settings(count=2, log=str(log)))
    run(store, Settings(count=4, log=str(log)))
    assert log.read_text().split() == ["0", "1", "2", "3"]


def test_a_failed_trial_is_recorded_does_not_stop_the_others_and_is_tried_again(tmp_path):
    log = tmp_path / "log"
    store = RecordStore(tmp_path / "store")
    settings = Settings(failing=(1,), log=str(log))
    records = run(store, settings)
    assert values(records) == [[0], [], [4], [9]]
    assert records[1].failure.message == "ValueError: nap 1 was not slept"
    assert "in run" in records[1].failure.traceback
    assert len(results_of(SLEEPY, settings, store)) == 3
    run(store, settings)
    assert log.read_text().split() == ["0", "1", "2", "3", "1"]


def test_processes_give_what_this_process_gives(tmp_path):
    here = run(RecordStore(tmp_path / "here"), Settings())
    there = run(RecordStore(tmp_path / "there"), Settings(), workers=2)
    assert [record.result() for record in there] == [record.result() for record in here]


def test_a_process_that_dies_fails_its_trial_and_no_other(tmp_path):
    log = tmp_path / "log"
    store = RecordStore(tmp_path / "store")
    records = run(store, Settings(count=5, dying=(0,), seconds=0.2, log=str(log)), workers=3)
    assert [record.label for record in records if record.failure] == ["nap 0"]
    assert "died" in records[0].failure.message
    assert values(records) == [[], [1], [4], [9], [16]]
    counts = {number: log.read_text().split().count(str(number)) for number in range(5)}
    assert counts[0] == 2
    assert max(counts.values()) == 2


def test_a_trial_that_died_among_others_and_not_alone_is_finished(tmp_path):
    under_way = 0

    def submit(function, *arguments):
        nonlocal under_way
        under_way += 1
        future, trial = Future(), arguments[1]

        def work():
            nonlocal under_way
            time.sleep(0.1)
            broken = trial.number == 1 and under_way > 1
            result = None if broken else function(*arguments)
            under_way -= 1
            future.set_exception(BrokenProcessPool("gone")) if broken else future.set_result(result)

        threading.Thread(target=work).start()
        return future

    records = run_study(SLEEPY, Settings(), RecordStore(tmp_path), Executor(submit, 4), preset="smoke")
    assert values(records) == [[0], [1], [4], [9]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_a_failure_and_no_damaged_record(tmp_path, value):
    class Odd(Sleepy):
        def run(self, nap, bench):
            return [Measurement(labels={}, value=value)]

    study = Odd(**vars(SLEEPY))
    store = RecordStore(tmp_path)
    with executor() as where:
        (record,) = run_study(study, Settings(count=1), store, where, preset="smoke")
    assert "finite number" in record.failure.message
    assert store.record("sleepy", record.key) == record


def test_a_killed_run_is_resumed_and_gives_the_same_records(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "store"
    script = (
        "from sleepy import SLEEPY, Settings\n"
        "from pathlib import Path\n"
        "from fairveil.base.executors import Executor, executor\n"
        "from fairveil.experiment.records import RecordStore\n"
        "from fairveil.experiment.running import run_study\n"
        "if __name__ == '__main__':\n"
        "    with executor(workers=2) as where:\n"
        f"        settings = Settings(count=6, seconds=0.6, log={str(log)!r})\n"
        f"        run_study(SLEEPY, settings, RecordStore(Path({str(folder)!r})),\n"
        "                  where, preset='smoke')\n"
    )
    (tmp_path / "script.py").write_text(script)
    process = subprocess.Popen([sys.executable, tmp_path / "script.py"], env=os.environ | {"PYTHONPATH": str(HERE)})
    while len(list(folder.glob("records/sleepy/*.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.5)  # its workers end by themselves
    before = {path: path.read_bytes() for path in folder.glob("records/sleepy/*.json")}
    assert 2 <= len(before) < 6
    settings = Settings(count=6, seconds=0.6, log=str(log))
    resumed = run(RecordStore(folder), settings)
    assert {path: path.read_bytes() for path in before} == before
    counts = {number: log.read_text().split().count(str(number)) for number in range(6)}
    assert all(count <= 2 for count in counts.values())
    assert sum(counts.values()) <= 6 + 2  # at most what was under way is run twice
    whole = run(RecordStore(tmp_path / "other"), settings)
    assert [record.result() for record in resumed] == [record.result() for record in whole]


def test_two_runs_at_once_share_the_trials(tmp_path):
    log = tmp_path / "log"
    script = (
        "import sys\nfrom sleepy import SLEEPY, Settings\nfrom pathlib import Path\n"
        "from fairveil.base.executors import Executor, executor\nfrom fairveil.experiment.records import RecordStore\n"
        "from fairveil.experiment.running import run_study\n"
        "if __name__ == '__main__':\n"
        "    with executor() as where:\n"
        f"        records = run_study(SLEEPY, Settings(count=6, seconds=0.2, log={str(log)!r}),\n"
        f"                            RecordStore(Path({str(tmp_path / 'store')!r})), where, preset='smoke')\n"
        "    assert [record.measurements[0].value for record in records] == [0, 1, 4, 9, 16, 25]\n"
    )
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    runs = [subprocess.Popen([sys.executable, tmp_path / "script.py"], env=environment) for _ in range(2)]
    assert [process.wait() for process in runs] == [0, 0]
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3", "4", "5"]


def test_a_dry_run_runs_every_trial_of_a_long_preset_on_tiny_settings(tmp_path):
    records = run(RecordStore(tmp_path), SLEEPY.presets["paper"], dry=True)
    assert len(records) == 8
    assert not any(record.failure for record in records)


def test_no_ray_cluster_is_a_sentence(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(FairveilError, match="No Ray cluster was found"), executor(ray="auto"):
        pass


def test_records_that_are_not_ours_are_refused_in_a_sentence(tmp_path):
    store = RecordStore(tmp_path)
    run(store, Settings(count=1))
    (path,) = tmp_path.glob("records/sleepy/*.json")
    path.write_text("{}")
    with pytest.raises(FairveilError, match="no record of fairveil's"):
        results_of(SLEEPY, Settings(count=1), store)


@pytest.mark.parametrize(("alone", "together"), [(True, 1), (False, 4)])
def test_trials_that_measure_seconds_are_run_one_at_a_time(tmp_path, alone, together):
    under_way, most, all_there = set(), 0, threading.Event()

    def submit(function, *arguments):
        nonlocal most
        future = Future()
        under_way.add(future)
        most = max(most, len(under_way))
        if most == together:
            all_there.set()

        def work():
            all_there.wait(timeout=60)  # however busy the machine is, nothing ends before as many as may have begun
            result = function(*arguments)
            under_way.discard(future)
            future.set_result(result)

        threading.Thread(target=work).start()
        return future

    settings = Settings(log=str(tmp_path / "log"), count=5, seconds=0.02)
    store = RecordStore(tmp_path / "store")
    run_study(replace(SLEEPY, alone=alone), settings, store, Executor(submit, 4), preset="smoke")
    assert most == together
