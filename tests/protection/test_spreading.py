import os
import warnings
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from fairveil.base.executors import executor
from fairveil.images import Saving
from fairveil.protection import spreading
from fairveil.protection.folders import plan
from fairveil.protection.lowkey import LowKey
from fairveil.protection.spreading import protect_spread, sensible_workers, workers_for

QUICK = LowKey(steps=2, canvas_size=112, smoothing="none", mirror=False)


@pytest.fixture
def photos(tmp_path, portrait):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.roll(portrait, 3 * number, 1)).resize((256, 256)).save(folder / f"{number}.png")
    return folder


def test_several_processes_give_the_very_bytes_of_one(photos, tmp_path, detector, tiny_recognizers):
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    made = []
    for workers in (1, 2):
        jobs = plan([photos], tmp_path / str(workers), Saving())
        with executor(workers=workers) as place:
            spread = protect_spread(jobs, QUICK, tiny_recognizers, detector, Saving(), place)
            outcomes = {job.source.name: outcome for job, outcome in spread}
        assert "broken.png" in str(outcomes.pop("broken.png"))
        made.append({name: (o.status, o.job.target.read_bytes()) for name, o in outcomes.items()})
    assert made[0] == made[1]
    assert {status for status, _ in made[0].values()} == {"protected"}


def test_few_photos_stay_in_one_process_and_many_take_no_more_than_there_is_memory_for(photos, monkeypatch):
    monkeypatch.setattr(spreading, "usable_cores", lambda: 8)
    monkeypatch.setattr(spreading, "free_memory", lambda: 2_900_000_000)
    files = sorted(photos.glob("*.png"))
    assert sensible_workers(files, "face") == 1
    assert sensible_workers(files * 2, "face") == 4
    assert sensible_workers(files * 2, "photo") < 4
    Image.new("L", (6000, 4000)).save(photos / "large.png")
    assert sensible_workers([*files * 2, photos / "large.png"], "face") == 1
    monkeypatch.setattr(spreading, "free_memory", lambda: 10**12)
    assert workers_for(1, "face", most=5) == 5
    assert workers_for(1, "face", most=50) == 8


@pytest.mark.parametrize("limit", [20_000_000, 10_000_000])  # above it Pillow warns, and above twice of it it refuses
def test_photos_that_are_large_to_pillow_take_their_memory_and_nobody_is_warned_of_them(photos, monkeypatch, limit):
    monkeypatch.setattr(spreading, "usable_cores", lambda: 8)
    monkeypatch.setattr(spreading, "free_memory", lambda: 3_000_000_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    Image.new("1", (8000, 3000)).save(photos / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sensible_workers(sorted(photos.glob("*.png")), "face") == 1


def test_a_pipe_among_the_photos_is_not_waited_for(photos):
    os.mkfifo(photos / "pipe.png")
    asking = Thread(target=sensible_workers, args=(sorted(photos.glob("*.png")), "face"), daemon=True)
    asking.start()
    asking.join(10)
    assert not asking.is_alive()
