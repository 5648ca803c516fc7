"""Work on a Ray cluster of two nodes, of which one is killed midway: the results are those of a run here."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "studies"))

from sleepy import SLEEPY, Settings

from fairveil.data import FaceTable
from fairveil.errors import FairveilError
from fairveil.executors import executor
from fairveil.faces import embedding
from fairveil.faces.embedding import embed_faces
from fairveil.photos import Saving
from fairveil.protection.folders import LEDGER, plan, protect_file
from fairveil.protection.lowkey import LowKey
from fairveil.protection.spreading import protect_spread
from fairveil.studies.records import RecordStore
from fairveil.studies.running import run_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TWELVE_STEPS = LowKey(steps=12, canvas_size=128)


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:  # workers find the study too
        places = [str(Path(__file__).parent / "studies"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def doomed(cluster):
    """A second node; to be called to kill it, once."""
    node = cluster.add_node(num_cpus=1)
    alive = [True]

    def kill():
        if alive.pop() if alive else False:
            cluster.remove_node(node, allow_graceful=False)

    yield kill
    kill()


@pytest.fixture
def folder(tmp_path, portrait):
    (tmp_path / "photos").mkdir()
    for number in range(6):
        Image.fromarray(np.roll(portrait, 3 * number, 1)).resize((256, 256)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_photos_are_protected_as_here_and_once_each(cluster, doomed, folder, detector, tiny_recognizers):
    here = plan([folder / "photos"], folder / "here", Saving())
    for job in here:
        assert protect_file(job, TWELVE_STEPS, tiny_recognizers, detector, Saving()).status == "protected"
    jobs = plan([folder / "photos"], folder / "there", Saving())
    made = {}
    with executor(ray=cluster.address) as where:
        assert where.capacity == 2
        for job, outcome in protect_spread(jobs, TWELVE_STEPS, tiny_recognizers, detector, Saving(), where):
            assert not isinstance(outcome, FairveilError), outcome
            assert job not in made
            made[job] = job.target.stat().st_mtime_ns
            doomed()
    assert made == {job: job.target.stat().st_mtime_ns for job in jobs}
    assert len(list((folder / "there" / LEDGER).glob("*.json"))) == len(jobs)
    for job, other in zip(here, jobs, strict=True):
        assert job.target.read_bytes() == other.target.read_bytes()


@pytest.mark.usefixtures("one_thread")
def test_what_is_wrong_with_a_photo_is_said_as_here(cluster, folder, detector, tiny_recognizers):
    (folder / "photos" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    jobs = plan([folder / "photos" / "0.png"], folder / "there", Saving())
    with executor(ray=cluster.address) as where:
        ((_, outcome),) = protect_spread(jobs, TWELVE_STEPS, tiny_recognizers, detector, Saving(), where)
    with pytest.raises(FairveilError) as here:
        protect_file(jobs[0], TWELVE_STEPS, tiny_recognizers, detector, Saving())
    assert str(outcome) == str(here.value)


@pytest.mark.usefixtures("one_thread")
def test_faces_are_embedded_as_here(cluster, doomed, folder, detector, tiny_recognizers, monkeypatch):
    monkeypatch.setattr(embedding, "PART", 1)
    table = FaceTable.from_folder(folder / "photos")
    told = []

    def on_photo(count):
        told.append(count)
        doomed()

    with executor(ray=cluster.address) as where:
        there = embed_faces(
            table, tiny_recognizers, detector=detector, parts=folder / "parts", executor=where, on_photo=on_photo
        )
    here = embed_faces(table, tiny_recognizers, detector=detector)
    assert there.frame.equals(here.frame)
    assert there.provenance == here.provenance
    assert max(told) == 6


def test_trials_are_run_as_here_and_those_that_ended_once_each(cluster, doomed, tmp_path):
    log = tmp_path / "log"
    settings = Settings(count=6, seconds=0.5, log=str(log))
    with executor(ray=cluster.address) as where:
        there = run_study(
            SLEEPY, settings, RecordStore(tmp_path / "ray"), where, preset="smoke", on_record=lambda *_: doomed()
        )
    counts = [log.read_text().split().count(str(number)) for number in range(6)]
    assert min(counts) == 1
    assert sum(counts) <= 6 + 1  # the one that was under way on the killed node
    with executor() as where:
        here = run_study(SLEEPY, settings, RecordStore(tmp_path / "here"), where, preset="smoke")
    assert [record.result() for record in there] == [record.result() for record in here]


def test_more_threads_than_any_machine_has_cores_are_a_sentence(cluster):
    with pytest.raises(FairveilError, match="has the 64 cores"), executor(ray=cluster.address, threads=64):
        pass


def test_calls_are_started_as_there_is_room():
    started = []
    with executor() as where:
        for number, future in where.in_turn((started.append, number) for number in range(3)):
            assert future.exception() is None
            assert len(started) <= number + 1
            time.sleep(0)
    assert started == [0, 1, 2]
