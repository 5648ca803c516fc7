import copy
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize.augmentations import Compose, CutMix, FlipAndCrop
from fairveil.sanitize.noised_gradients import ClipAndNoise
from fairveil.training.batches import in_sequence, shuffled
from fairveil.training.loop import _Run, chosen_device, evaluate, train
from fairveil.training.networks import build_network
from fairveil.training.objectives import Classification
from fairveil.training.schedules import Training, learning_rate_at

DATA = synthetic_images(96, classes=3, size=8, seed=0)
TEST = synthetic_images(48, classes=3, size=8, seed=1)
FEW = Training(epochs=4, batch_size=32, learning_rate=0.05, seed=5)


def _network(seed=0, dropout=0.0):
    network = build_network("resnet-8", 3, seed=seed, width=8)
    network.head = nn.Sequential(nn.Dropout(dropout), network.head)
    return network


def _same(first, second):
    theirs = second.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())


def noisy(images, targets, generator):
    return images + 0.1 * torch.randn(images.shape, generator=generator), targets


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_loop_agrees_with_one_written_by_hand(name):
    seen, settings = [], FEW.model_copy(update={"optimizer": name})

    def noting(network, batch, generator):
        seen.append(batch.rows)
        return Classification()(network, batch, generator)

    network, by_hand = _network(), _network()
    train(network, DATA, settings, objective=noting)
    by_hand.to(memory_format=torch.channels_last).train()
    if name == "sgd":
        optimizer = torch.optim.SGD(by_hand.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    else:
        optimizer = torch.optim.Adam(by_hand.parameters(), 0.05, weight_decay=5e-4)
    for step, rows in enumerate(seen):
        optimizer.param_groups[0]["lr"] = learning_rate_at((step + 0.5) / 3, FEW)
        images = (DATA.images[rows].float() / 255).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        F.cross_entropy(by_hand(images), DATA.labels[rows]).backward()
        optimizer.step()
    assert len(seen) == 12
    theirs = by_hand.state_dict()
    assert all(torch.allclose(value, theirs[name], atol=1e-6) for name, value in network.state_dict().items())


def test_a_network_learns():
    network = _network()
    history = train(network, DATA, FEW.model_copy(update={"epochs": 12}), validation=TEST)
    assert history.epochs[-1].loss < 0.5 < history.epochs[0].loss
    assert history.epochs[-1].score > 0.8
    assert history.epochs[-1].score == pytest.approx(evaluate(network, TEST))
    assert history.kept == 12


def test_half_precision_learns_too():
    history = train(_network(), DATA, FEW.model_copy(update={"epochs": 12, "precision": "bf16"}), validation=TEST)
    assert history.epochs[-1].score > 0.8


def test_the_same_seed_gives_the_same_network_and_the_callers_generator_is_left_alone():
    before = torch.get_rng_state()
    networks = [_network(dropout=0.3) for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        train(network, DATA, FEW.model_copy(update={"epochs": 1, "seed": seed}), objective=Classification(noisy))
    assert _same(networks[0], networks[1])
    assert not _same(networks[0], networks[2])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("when", ["after epoch 2", "within epoch 3"])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, when):
    """With all that is random: order, augmentation, dropout, gradient noise."""

    def run(network, path, **callbacks):
        return train(
            network,
            DATA,
            FEW.model_copy(update={"patience": 3}),
            objective=Classification(noisy, label_smoothing=0.1),
            gradients=ClipAndNoise(noise=0.01),
            validation=TEST,
            checkpoint=tmp_path / path,
            **callbacks,
        )

    def stop_after(epoch):
        if epoch.number == 2:
            raise _StoppedError

    def stop_within(done, loss):
        if done > 2.5:
            raise _StoppedError

    straight, first, second = (_network(dropout=0.3) for _ in range(3))
    whole = run(straight, "straight.pt")
    with pytest.raises(_StoppedError):
        run(first, "cut.pt", **({"on_epoch": stop_after} if when == "after epoch 2" else {"on_step": stop_within}))
    resumed = []
    history = run(second, "cut.pt", on_epoch=resumed.append)
    assert [epoch.number for epoch in resumed] == [3, 4]
    assert _same(straight, second)
    assert [replace(epoch, seconds=0) for epoch in history.epochs] == [
        replace(epoch, seconds=0) for epoch in whole.epochs
    ]
    momenta = [
        torch.load(tmp_path / path, weights_only=True)["content"]["optimizer"]["state"]
        for path in ("straight.pt", "cut.pt")
    ]
    assert all(torch.equal(momenta[0][i]["momentum_buffer"], momenta[1][i]["momentum_buffer"]) for i in momenta[0])


def test_the_best_network_is_remembered_over_an_interruption(tmp_path):
    def run(network, scores, **callbacks):
        left = iter(scores)

        def score(network):
            return next(left)

        settings = FEW.model_copy(update={"patience": 3})
        return train(network, DATA, settings, validation=score, checkpoint=tmp_path / "run.pt", **callbacks)

    def stop(epoch):
        if epoch.number == 2:
            raise _StoppedError

    best = {}
    with pytest.raises(_StoppedError):
        run(_network(), [0.9, 0.1], on_epoch=lambda epoch: (best.update(_weights(tmp_path)), stop(epoch)))
    resumed = _network()
    history = run(resumed, [0.2, 0.3])
    assert (history.kept, len(history.epochs), history.stopped) == (1, 4, True)
    assert all(torch.equal(value, best[name]) for name, value in resumed.state_dict().items())


def _weights(folder):
    """Of the network after the best epoch, as the last checkpoint has them."""
    best = torch.load(folder / "run.pt", weights_only=True)["content"]["best"]
    return {name.removeprefix("network."): value for name, value in best.items()}


def test_every_epoch_has_an_order_and_noise_of_its_own():
    seen = []

    def noting(network, batch, generator):
        seen.append((batch.rows.tolist(), float(torch.rand((), generator=generator)), float(torch.rand(()))))
        return Classification()(network, batch, generator)

    train(_network(), DATA, FEW.model_copy(update={"epochs": 2}), objective=noting)
    assert all(first != second for first, second in zip(seen[0], seen[3], strict=True))


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, second = _network(), _network()
    train(first, DATA, FEW, checkpoint=tmp_path / "run.pt")
    steps = []
    history = train(second, DATA, FEW, checkpoint=tmp_path / "run.pt", on_step=lambda *step: steps.append(step))
    assert (len(history.epochs), steps) == (4, [])
    assert _same(first, second)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"settings": FEW.model_copy(update={"learning_rate": 0.07})},
            r"other settings \(learning_rate 0.05, now 0.07\)",
        ),
        ({"data": TEST}, "other data"),
        ({"network": _network(seed=1)}, "other initial weights"),
        ({"objective": Classification(label_smoothing=0.2)}, "other objective"),
        ({"gradients": ClipAndNoise()}, r"other gradients \(none, now ClipAndNoise"),
        ({"validation": TEST}, "other validation"),
        ({"order": in_sequence}, "other order"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changed, sentence):
    path = tmp_path / "run.pt"
    given = {"network": _network(), "data": DATA, "settings": FEW}
    with pytest.raises(_StoppedError):
        train(**given, checkpoint=path, on_epoch=_stop)
    before = path.read_bytes()
    with pytest.raises(FairveilError, match=sentence):
        train(**{**given, "network": _network(), **changed}, checkpoint=path)
    assert path.read_bytes() == before


def test_the_sentence_names_all_that_differs_and_shows_the_part_that_does(tmp_path):
    path = tmp_path / "run.pt"
    crops = FlipAndCrop(padding=4)
    with pytest.raises(_StoppedError):
        train(_network(), DATA, FEW, checkpoint=path, on_epoch=_stop,
              objective=Classification(Compose((crops, CutMix()))))  # fmt: skip
    with pytest.raises(FairveilError) as caught:
        train(_network(), DATA, FEW.model_copy(update={"epochs": 9}), checkpoint=path,
              objective=Classification(Compose((crops, CutMix(share=0.5)))))  # fmt: skip
    said = str(caught.value)
    assert "other settings (epochs 4, now 9)" in said and "and other objective" in said
    assert "CutMix(share=1.0" in said and "CutMix(share=0.5" in said and "FlipAndCrop" not in said


@pytest.mark.parametrize(
    ("asked", "found", "processes", "chosen"),
    [
        (None, "cuda:0", 1, "cuda:0"),
        ("cuda", "cuda:0", 1, "cuda:0"),
        ("cuda:1", "cuda:0", 1, "cuda:1"),
        ("cuda:1", "cuda:1", 2, "cuda:1"),
        ("cpu", "cpu", 2, "cpu"),
    ],
)
def test_a_card_is_chosen_by_its_number(asked, found, processes, chosen):
    assert chosen_device(asked, torch.device(found), processes) == torch.device(chosen)


def test_devices_that_are_not_there_or_not_for_all_are_a_sentence():
    with pytest.raises(FairveilError, match="no cuda:1 to train on here"):
        chosen_device("cuda:1", torch.device("cpu"), 1)
    with pytest.raises(FairveilError, match="2 processes cannot all train on cuda:1"):
        chosen_device("cuda:1", torch.device("cuda:0"), 2)


def test_everything_of_a_run_lies_where_it_was_asked_to():
    elsewhere = torch.device("meta")
    run = _Run(Accelerator(cpu=True), elsewhere, _network(), DATA, FEW, Classification(), shuffled, None)
    assert {parameter.device for parameter in run.prepared.parameters()} == {elsewhere}
    assert run.batches.device == elsewhere


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two graphics cards here")
def test_the_second_card_trains_what_it_was_asked_to():
    network = _network()
    train(network, DATA, FEW, device="cuda:1")
    assert {parameter.device for parameter in network.parameters()} == {torch.device("cuda:1")}


def _stop(epoch):
    raise _StoppedError


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(b"PK nothing")
    with pytest.raises(FairveilError, match=r"run\.pt is not a checkpoint that fairveil can read"):
        train(_network(), DATA, FEW, checkpoint=path)


@dataclass
class _BreaksAt:
    """A loss that is not a number from a certain call on."""

    call: int
    calls: int = 0

    def __call__(self, network, batch, generator):
        self.calls += 1
        loss = Classification()(network, batch, generator)
        return loss * float("nan") if self.calls >= self.call else loss

    def __repr__(self):
        return "breaking"


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(FairveilError, match=r"The loss is nan at step 2 of epoch 3: lower .* that of epoch 2"):
        train(_network(), DATA, FEW, objective=_BreaksAt(8), checkpoint=path)
    content = torch.load(path, weights_only=True)["content"]
    assert len(content["epochs"]) == 2
    assert all(bool(value.isfinite().all()) for value in content["weights"].values())


def test_weights_that_break_in_the_last_step_of_an_epoch_are_not_kept(tmp_path):
    def breaking(parameters, generator):
        parameters[0].grad.fill_(float("inf"))

    with pytest.raises(FairveilError, match=r"no longer a finite number at step 1 of epoch 1.*No epoch was finished"):
        train(_network(), DATA.take(range(32)), FEW, gradients=breaking, checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "run.pt").exists()


def test_patience_stops_and_goes_back_to_the_best_network():
    scores = iter([0.1, 0.5, 0.4, 0.5, 0.9])
    states = []

    def score(network):
        states.append(copy.deepcopy(network.state_dict()))
        return next(scores)

    network = _network()
    settings = FEW.model_copy(update={"epochs": 9, "patience": 2})
    history = train(network, DATA, settings, validation=score)
    assert (len(history.epochs), history.kept, history.stopped) == (4, 2, True)
    assert all(torch.equal(value, states[1][name]) for name, value in network.state_dict().items())


def test_patience_without_validation_is_refused():
    with pytest.raises(FairveilError, match="needs validation data"):
        train(_network(), DATA, FEW.model_copy(update={"patience": 2}))


class _Margins(nn.Module):
    """A head that is part of the objective, as margin losses have one."""

    def __init__(self):
        super().__init__()
        self.centers = nn.Parameter(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, network, batch, generator):
        cosines = F.normalize(network(batch.images)) @ F.normalize(self.centers).T
        return F.cross_entropy(8 * cosines, batch.targets)


def test_an_objective_with_parameters_is_trained_and_kept_along(tmp_path):
    def run(path, **callbacks):
        network, objective = _network(), _Margins()
        train(network, DATA, FEW, objective=objective, checkpoint=tmp_path / path, **callbacks)
        return objective

    straight = run("straight.pt")
    assert not _same(straight, _Margins())
    with pytest.raises(_StoppedError):
        run("cut.pt", on_epoch=_stop)
    assert _same(straight, run("cut.pt"))


def test_an_objective_may_look_up_groups_by_row_and_call_the_network_twice():
    groups = torch.arange(len(DATA)) % 2

    def fair(network, batch, generator):
        group = groups[batch.rows]
        losses = F.cross_entropy(network(batch.images), batch.targets, reduction="none")
        mirrored = F.cross_entropy(network(batch.images.flip(-1)), batch.targets)
        return losses.mean() + mirrored + (losses[group == 0].mean() - losses[group == 1].mean()).abs()

    history = train(_network(), DATA, FEW, objective=fair)
    assert history.epochs[-1].loss < history.epochs[0].loss


def test_progress_is_told_step_by_step():
    told = []
    train(_network(), DATA, FEW.model_copy(update={"epochs": 2}), on_step=lambda done, loss: told.append(done))
    assert told == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])


_SHARED = """
import sys, torch
sys.path.insert(0, {here!r})
from test_loop import DATA, FEW, TEST, _Margins
from fairveil.training import build_network, train
network, objective = build_network("resnet-8", 3, seed=0, width=8, norm="group"), _Margins()
history = train(network, DATA, FEW, objective=objective, validation=TEST, checkpoint=None, device="cpu",
                on_epoch=lambda epoch: print("epoch", epoch.number))
rank = int(sys.argv[2]) if len(sys.argv) > 2 else torch.distributed.get_rank()
torch.save([network.state_dict(), objective.state_dict(), [(e.loss, e.score) for e in history.epochs]],
           f"{{sys.argv[1]}}/{{rank}}.pt")
"""


@pytest.mark.slow
def test_two_processes_train_the_same_network_as_one(tmp_path):
    script = tmp_path / "shared.py"
    script.write_text(_SHARED.format(here=str(Path(__file__).parent)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    two = subprocess.run([*launch, script, tmp_path], env=environment, capture_output=True, text=True, check=False)
    assert two.returncode == 0, two.stderr[-3000:]
    assert two.stdout.count("epoch") == 4  # told once, not once a process
    one = subprocess.run([sys.executable, script, tmp_path, "9"], env=environment, capture_output=True, check=False)
    assert one.returncode == 0, one.stderr[-3000:]
    first, second, alone = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in (0, 1, 9))
    for part in (0, 1):
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items())
        assert all(torch.allclose(value, alone[part][name], atol=1e-4) for name, value in first[part].items())
    assert first[2] == second[2]
    assert [loss for loss, _ in first[2]] == pytest.approx([loss for loss, _ in alone[2]], abs=1e-4)
    assert [score for _, score in first[2]] == pytest.approx([score for _, score in alone[2]], abs=0.05)
