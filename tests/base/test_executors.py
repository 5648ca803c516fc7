"""Work in processes of this machine: what is shared, what dies, and what is left when all is stopped."""

import os
import tempfile
import time
from pathlib import Path

import pytest
import torch

from fairveil.base.executors import executor, free_memory

pytestmark = pytest.mark.slow


def _length_and_threads(shared):
    return len(shared), torch.get_num_threads(), os.getpid()


def _die_of_three(number, log):
    with Path(log).open("a") as file:
        file.write(f"{number}\n")
    if number == 3:
        os._exit(9)
    return number


def _leave_a_file_until_stopped(path):
    try:
        Path(path).touch()
        time.sleep(60)
    finally:
        Path(path).unlink()


def test_a_shared_argument_reaches_every_process_which_has_one_thread_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with executor(workers=2) as place:
        shared = place.share(list(range(1000)))
        assert not place.here
        outcomes = [future.result() for _, future in place.in_turn([(_length_and_threads, shared)] * 4)]
        assert list(tmp_path.iterdir())
    assert {outcome[:2] for outcome in outcomes} == {(1000, 1)}
    assert os.getpid() not in {outcome[2] for outcome in outcomes}
    assert not list(tmp_path.iterdir())


def test_a_call_that_kills_its_process_takes_no_other_call_with_it(tmp_path):
    with executor(workers=2) as place:
        ended = dict(place.in_turn([(_die_of_three, number, str(tmp_path / "log")) for number in range(6)]))
    assert sorted(ended) == list(range(6))
    assert {n: f.result() for n, f in ended.items() if n != 3} == {n: n for n in range(6) if n != 3}
    assert "terminated abruptly" in str(ended[3].exception())
    assert (tmp_path / "log").read_text().split().count("3") == 2  # once more, alone


def test_an_interrupt_ends_what_is_under_way_and_lets_it_clean_up(tmp_path):
    file = tmp_path / "half-written"
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), executor(workers=2) as place:
        place.submit(_leave_a_file_until_stopped, str(file))
        while not file.exists():
            assert time.monotonic() < started + 30
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert not file.exists()
    assert time.monotonic() < started + 40


def test_free_memory_is_some_of_the_machine_s():
    assert 2**20 < free_memory() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
