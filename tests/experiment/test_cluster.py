"""Work on a Ray cluster of two nodes, of which one is killed midway: the results are those of a run here."""

import os
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from sleepy import SLEEPY, Settings

from fairveil.base import executors, sharing
from fairveil.base.errors import FairveilError
from fairveil.base.executors import Executor, executor
from fairveil.data import FaceTable
from fairveil.experiment.records import RecordStore
from fairveil.experiment.running import run_study
from fairveil.faces import embedding
from fairveil.faces.embedding import embed_faces
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.images import Saving
from fairveil.protection.folders import LEDGER, plan, protect_file
from fairveil.protection.lowkey import LowKey
from fairveil.protection.spreading import protect_spread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]  # Ray leaves much open

TWELVE_STEPS = LowKey(steps=12, canvas_size=128)


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:  # workers find the study too
        places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
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
def deaths(tmp_path):
    return tmp_path / "deaths"


@pytest.fixture
def poisoned(deaths):
    """A recognizer that ends its process at all that is not black, which adds a line to `deaths`."""

    class Poisoned(nn.Module):  # of a function, so that it goes to workers whole
        def forward(self, images):
            if images.mean() > -0.9:
                with deaths.open("a") as log:
                    log.write(f"{os.getpid()}\n")
                os._exit(9)
            return images.flatten(1)[:, :8] + 1

    return Recognizer.from_module(Poisoned(), name="poisoned", framing=Framing(size=16), threshold=0.9)


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

    with executor(ray=cluster.address) as where, monkeypatch.context() as patch:
        patch.setattr(embedding, "_make_part", pytest.fail)  # here: workers have their own
        there = embed_faces(
            table, tiny_recognizers, detector=detector, parts=folder / "parts", executor=where, on_photo=on_photo
        )
    here = embed_faces(table, tiny_recognizers, detector=detector)
    assert there.frame.equals(here.frame)
    assert there.provenance == here.provenance
    assert told == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("one_thread")
def test_a_photo_that_ends_its_workers_is_named_and_the_others_are_protected(
    cluster, tmp_path, portrait, detector, poisoned, deaths, monkeypatch
):
    monkeypatch.setattr(executors, "_RETRIES", 1)
    (tmp_path / "photos").mkdir()
    Image.fromarray(portrait).save(tmp_path / "photos" / "0.png")
    Image.fromarray(0 * portrait).save(tmp_path / "photos" / "1.png")
    jobs = plan([tmp_path / "photos"], tmp_path / "there", Saving())
    with executor(ray=cluster.address) as where:
        outcomes = dict(protect_spread(jobs, TWELVE_STEPS, [poisoned], detector, Saving(), where))
    assert "0.png was not protected, as its worker died" in str(outcomes[jobs[0]])
    assert outcomes[jobs[1]].status == "no face"
    assert len(set(deaths.read_text().split())) == 2


def test_photos_that_end_their_workers_are_named_and_the_others_are_embedded(
    cluster, tmp_path, poisoned, deaths, monkeypatch
):
    monkeypatch.setattr(executors, "_RETRIES", 1)
    monkeypatch.setattr(embedding, "PART", 1)
    (tmp_path / "photos").mkdir()
    for number, color in enumerate(("black", "white", "black")):
        Image.new("RGB", (16, 16), color).save(tmp_path / "photos" / f"{number}.png")
    table = FaceTable.from_folder(tmp_path / "photos")
    told = []
    with executor(ray=cluster.address) as where, pytest.raises(FairveilError, match=r"^1 photos .* died .*: 1\.png\.$"):
        embed_faces(table, [poisoned], which="aligned", parts=tmp_path / "parts", executor=where, on_photo=told.append)
    assert told == [1, 2]
    assert len(list((tmp_path / "parts").glob("*.parquet"))) == 2
    dead = set(deaths.read_text().split())
    assert len(dead) == 2
    assert str(os.getpid()) not in dead


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


def test_another_version_of_fairveil_is_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "code_version", lambda: "9.9.9+0")
    with executor(ray=cluster.address) as where:
        (record,) = run_study(SLEEPY, Settings(count=1), RecordStore(tmp_path), where, preset="smoke")
    assert "you have 9.9.9+0: install the same on all of them" in record.failure.message
    assert "died" not in record.failure.message


def test_a_machine_without_the_folder_one_starts_from_is_refused(cluster, tmp_path, monkeypatch):
    with executor(ray=cluster.address) as where, monkeypatch.context() as patch:
        patch.setattr(Path, "cwd", lambda: tmp_path / "nowhere")
        ((_, future),) = where.in_turn([(abs, -3)])
    assert isinstance(future.exception(), FairveilError)
    assert "nowhere is not to be had on" in str(future.exception())


def test_what_workers_put_where_nobody_sees_it_is_a_sentence(folder, detector, tiny_recognizers, monkeypatch):
    monkeypatch.setattr(sharing, "_LAG", 0)

    def made_elsewhere(*call):
        future = Future()
        future.set_result(None)
        return future

    where = Executor(made_elsewhere, 1)
    jobs = plan([folder / "photos" / "0.png"], folder / "there", Saving())
    ((_, outcome),) = protect_spread(jobs, TWELVE_STEPS, tiny_recognizers, detector, Saving(), where)
    assert "is not seen here" in str(outcome)
    table = FaceTable.from_folder(folder / "photos")
    with pytest.raises(FairveilError, match="lacks what a worker says it put there"):
        embed_faces(table, tiny_recognizers, detector=detector, parts=folder / "parts", executor=where)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
def test_an_address_at_which_nobody_answers_is_a_sentence(address, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(FairveilError, match=r"127\.0\.0\.1:1' \(Connection refused\): start one"),
        executor(ray=address),
    ):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="Ray watches memory on Linux only.")
def test_what_takes_too_much_memory_is_not_begun_anew_for_ever():
    pytest.importorskip("ray")
    script = """
import time
from fairveil.base import executors

executors._RETRIES = 1
with executors.executor(ray="local") as where:
    ((_, future),) = where.in_turn([(time.sleep, 600)])
print(type(future.exception()).__name__)
"""
    around = os.environ | {
        "RAY_memory_usage_threshold": "0.0001",
        "RAY_task_oom_retry_delay_base_ms": "1",
        "RAY_ADDRESS": "127.0.0.1:1",  # of no concern where a cluster is started here
    }
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, env=around, timeout=120, check=True, capture_output=True, text=True)
    assert ended.stdout.split()[-1] == "OutOfMemoryError"


def test_calls_are_started_as_there_is_room():
    started = []
    with executor() as where:
        for number, future in where.in_turn((started.append, number) for number in range(3)):
            assert future.exception() is None
            assert len(started) <= number + 1
            time.sleep(0)
    assert started == [0, 1, 2]
