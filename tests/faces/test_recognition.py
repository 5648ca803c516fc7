import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_backbone import add_tiny, drawn_crops
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.face_crops import FaceCrops
from fairveil.faces.heads import MarginHead, focal_losses
from fairveil.faces.recognizer_training import Recognition, embed_all, rank1, train_recognizer
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.faces.trained import random_recognizer
from fairveil.training import Batch, Training, train
from fairveil.training.sampling import ClassBalanced

FEW = Training(epochs=2, batch_size=8, learning_rate=0.02, nesterov=False, seed=3)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    add_tiny(monkeypatch)


def _same(first, second):
    theirs = second.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(("loss", "function"), [("cross-entropy", F.cross_entropy), ("focal", focal_losses)])
def test_the_loss_is_that_of_the_logits_of_crops_of_which_half_are_mirrored(loss, function):
    seen = []

    def network(crops):
        seen.append(crops)
        return crops.flatten(1)[:, :16]

    framing = Framing(size=8)
    head = MarginHead(3, 16, seed=0)
    images, labels = torch.rand(200, 3, 8, 8), torch.arange(200) % 3
    batch = Batch(images, labels, torch.arange(200), 3)
    value = Recognition(head, framing, loss)(network, batch, torch.Generator().manual_seed(0))
    straight, mirrored = framing.normalize(images), framing.normalize(images.flip(-1))
    is_straight = (seen[0] == straight).flatten(1).all(1)
    assert bool((is_straight | (seen[0] == mirrored).flatten(1).all(1)).all())
    assert 70 < int(is_straight.sum()) < 130
    assert torch.allclose(value, function(head(seen[0].flatten(1)[:, :16], labels), labels).mean())


def test_rank_1_is_that_of_looking_at_every_pair():
    crops = drawn_crops()
    recognizer = random_recognizer("random:tiny:1", size=crops.size)
    vectors = embed_all(recognizer, crops)
    hits = 0
    for row in range(len(crops)):
        likeness = [float(vectors[row] @ other) if place != row else -2 for place, other in enumerate(vectors)]
        hits += int(crops.labels[likeness.index(max(likeness))] == crops.labels[row])
    measured = rank1(recognizer, crops)
    assert measured.value == pytest.approx(hits / len(crops))
    assert (measured.count, measured.n) == (24, 6)


def test_crops_without_another_of_their_person_are_no_probes():
    crops = drawn_crops()
    recognizer = random_recognizer("random:tiny", size=crops.size)
    assert rank1(recognizer, crops.take([0, 1, 4])).count == 2
    with pytest.raises(FairveilError, match="No identity of synthetic faces has two images"):
        rank1(recognizer, crops.take([0, 4]))


def test_a_recognizer_of_other_crops_is_refused():
    crops = drawn_crops()
    with pytest.raises(FairveilError, match=r"wants crops of 112 pixels .* those of synthetic faces, of 64"):
        rank1(Recognizer("larger", nn.Flatten(), Framing()), crops)


@pytest.mark.slow
def test_a_small_network_learns_faces_of_people_it_never_saw():
    train_set, held = drawn_crops(30, 8).hold_out(0.27, seed=0)
    settings = Training(epochs=10, batch_size=32, learning_rate=0.02, nesterov=False)
    recognizer, history = train_recognizer(
        train_set, settings, backbone="tiny", dimension=64, validation=held, device="cpu"
    )
    start = rank1(random_recognizer("random:tiny", size=held.size), held).value
    after = rank1(recognizer, held).value
    assert history.epochs[-1].loss < 0.6 * history.epochs[0].loss
    assert history.epochs[-1].score == pytest.approx(after, abs=0.02)
    assert after > start + 0.2


class _StoppedError(Exception):
    pass


def test_the_seed_decides_and_an_interrupted_run_ends_the_same(tmp_path):
    crops = drawn_crops()

    def run(seed=3, checkpoint=None, on_epoch=lambda epoch: None):
        return train_recognizer(
            crops,
            FEW.model_copy(update={"seed": seed}),
            backbone="tiny",
            dimension=16,
            head="arcface",
            validation=replace(crops, classes=tuple("abcdef")),
            checkpoint=checkpoint,
            on_epoch=on_epoch,
            device="cpu",
        )[0]

    def stop(epoch):
        raise _StoppedError

    whole = run()
    assert not _same(whole, run(seed=4))
    with pytest.raises(_StoppedError):
        run(checkpoint=tmp_path / "run", on_epoch=stop)
    assert _same(whole, run(checkpoint=tmp_path / "run"))
    assert not whole.network.training
    assert whole.name == "tiny-arcface"


def test_every_identity_comes_equally_often_unless_told_otherwise(monkeypatch):
    crops = drawn_crops().take([0, 1, 2, 3, 4, 8])
    seen = []
    forward = Recognition.forward

    def noting(self, network, batch, generator):
        seen.append(batch.targets)
        return forward(self, network, batch, generator)

    monkeypatch.setattr(Recognition, "forward", noting)
    settings = FEW.model_copy(update={"epochs": 40, "batch_size": 6})
    shares = {}
    for balanced in (True, False):
        seen.clear()
        train_recognizer(crops, settings, backbone="tiny", dimension=8, balanced=balanced, device="cpu")
        shares[balanced] = (torch.bincount(torch.cat(seen)) / 240).tolist()
    assert shares[True] == pytest.approx([1 / 3] * 3, abs=0.1)
    assert shares[False] == pytest.approx([4 / 6, 1 / 6, 1 / 6])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"crops": drawn_crops().take([0, 1])}, "images of one identity only, synthetic-00000"),
        ({"validation": drawn_crops().take([4, 5])}, "1 identities, such as synthetic-00001, are in"),
        ({"training": FEW.model_copy(update={"batch_size": 1})}, "batches of one image"),
        ({"backbone": "tinny"}, "Did you mean tiny"),
        ({"loss": "mse"}, "no loss 'mse': choose from cross-entropy, focal"),
        ({"head": "softmax"}, "no head 'softmax'"),
    ],
)
def test_what_cannot_be_trained_is_refused(given, sentence):
    with pytest.raises(FairveilError, match=sentence):
        train_recognizer(**{"crops": drawn_crops(), "training": FEW, "backbone": "tiny", "device": "cpu", **given})


def mirror_symmetric_crops():
    """Eight crops of two people which mirroring leaves as they are, whichever process draws it."""
    half = torch.randint(256, (8, 3, 8, 4), generator=torch.Generator().manual_seed(0)).byte()
    names = tuple(map(str, range(8)))
    return FaceCrops(torch.cat([half, half.flip(-1)], -1), torch.arange(8) % 2, ("a", "b"), "symmetric", names)


def alternating(count, batch_size, generator):
    """Batches whose even places, the first process's, are all of one person, and whose odd ones of the other."""
    return torch.split(torch.arange(count), batch_size)


def trained_together(order):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, 8))
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    objective = Recognition(MarginHead(2, 8, "arcface", seed=0), Framing(size=8), "focal")
    settings = Training(epochs=3, batch_size=4, learning_rate=0.01, nesterov=False, channels_last=False)
    train(network, mirror_symmetric_crops(), settings, objective=objective, order=order, device="cpu")
    return [network.state_dict(), objective.state_dict()]


def trained_by_each_order():
    return [trained_together(order) for order in (alternating, ClassBalanced(mirror_symmetric_crops().labels))]


_SHARED = """
import sys, torch
sys.path.insert(0, {here!r})
from test_recognition import trained_by_each_order
states = trained_by_each_order()
torch.save(states, f"{{sys.argv[1]}}/{{torch.distributed.get_rank()}}.pt")
"""


@pytest.mark.slow
def test_two_processes_train_the_same_recognizer_as_one_though_each_sees_one_person(tmp_path):
    script = tmp_path / "shared.py"
    script.write_text(_SHARED.format(here=str(Path(__file__).parent)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    two = subprocess.run([*launch, script, tmp_path], env=environment, capture_output=True, text=True, check=False)
    assert two.returncode == 0, two.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = trained_by_each_order()
    start = MarginHead(2, 8, "arcface", seed=0).weight
    for order in (0, 1):
        for part in (0, 1):
            for name, value in alone[order][part].items():
                assert torch.equal(first[order][part][name], second[order][part][name])
                assert torch.allclose(first[order][part][name], value, atol=1e-5)
        assert not torch.allclose(alone[order][1]["head.weight"], start, atol=1e-3)
