"""Work that several processes share."""

import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from fairveil.base import sharing
from fairveil.base.errors import FairveilError
from fairveil.base.sharing import claimed, is_seen, make_files


def _slowly(path: Path, *, log: Path) -> None:
    with log.open("a") as opened:
        opened.write(f"{os.getpid()}\n")
    time.sleep(0.05)
    path.write_text("made")


def _work(folder: Path, log: Path) -> None:
    make_files(folder, {f"part-{number}": partial(_slowly, log=log) for number in range(8)})


def _hold(target: Path) -> None:
    with claimed(target) as mine:
        assert mine
        (target.parent / "held").touch()
        time.sleep(60)


def test_processes_share_the_work_and_make_nothing_twice(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(tmp_path / "parts", log)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    makers = log.read_text().split()
    assert len(makers) == 8
    assert sorted(path.name for path in (tmp_path / "parts").glob("part-*")) == [f"part-{n}" for n in range(8)]


def test_the_claim_of_a_killed_process_ends(tmp_path):
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path / "file",))
    holder.start()
    while not (tmp_path / "held").exists():
        assert holder.is_alive()
        time.sleep(0.02)
    with claimed(tmp_path / "file") as mine:
        assert not mine
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with claimed(tmp_path / "file") as mine:
        assert mine


def test_what_is_there_is_not_made_again_and_a_failure_leaves_nothing(tmp_path):
    def fail(path: Path) -> None:
        path.write_text("half")
        raise ValueError("no more")

    (tmp_path / "old").write_text("old")
    with pytest.raises(ValueError, match="no more"):
        make_files(tmp_path, {"old": fail, "new": fail})
    assert (tmp_path / "old").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["old"]
    counts = []
    made = make_files(tmp_path, {"old": fail, "new": lambda path: path.write_text("whole")}, on_file=counts.append)
    assert [path.read_text() for path in made] == ["old", "whole"]
    assert counts == [1, 2]


def test_what_another_machine_made_is_waited_for_but_not_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "_PATIENCE", 0.01)
    late = threading.Timer(0.05, (tmp_path / "file").touch)
    late.start()
    assert is_seen(tmp_path / "file")
    late.join()
    monkeypatch.setattr(sharing, "_LAG", 0.05)
    assert not is_seen(tmp_path / "no folder" / "file")


def test_a_file_in_the_place_of_the_folder_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FairveilError, match="cannot be a folder"):
            sharing.make_files(folder, {"a": lambda path: None})
