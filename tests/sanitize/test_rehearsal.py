"""The fire drill as a library, on generated pictures."""

from functools import partial

import pytest
from torch import nn

from fairveil.data.images import synthetic_images
from fairveil.errors import FairveilError
from fairveil.sanitize.attacks import BackdoorAttack, GradientMatching
from fairveil.sanitize.augmentations import CutMix
from fairveil.sanitize.backdoor import Backdoor
from fairveil.sanitize.defenses import Defense
from fairveil.sanitize.gradient_matching import Brewing
from fairveil.sanitize.rehearsal import Rehearsal
from fairveil.sanitize.triggers import Trigger
from fairveil.training import Classification, Training
from fairveil.training.networks import ResidualNetwork, Shape

CLASSES = 3
TRAINING = Training(epochs=2, batch_size=16, learning_rate=0.05)
ATTACK = BackdoorAttack(backdoor=Backdoor(trigger=Trigger(size=4, margin=2)))
network = partial(ResidualNetwork, Shape((1,), 4), CLASSES)


def rehearsal(attack=ATTACK, defenses=("cutout",), **more):
    data = synthetic_images(90, classes=CLASSES, size=16)
    return Rehearsal(network, data, attack, defenses, **{"training": TRAINING, "trials": 2, "padding": 1} | more)


def test_any_network_any_defence_and_a_fifth_put_aside(tmp_path):
    def own():
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Linear(4, CLASSES))  # fmt: skip

    mine = Defense("mine", Classification(CutMix(share=0.5)))
    drill = Rehearsal(own, synthetic_images(90, classes=CLASSES, size=16), ATTACK, [mine, "mixup"],
                      training=TRAINING, trials=2, folder=tmp_path)  # fmt: skip
    assert (len(drill.scenario.train), len(drill.scenario.test)) == (72, 18)
    told = []
    done = drill.run(on_trial=lambda count, found: told.append((count, list(found))))
    assert told == [(number, ["Baseline", "mine", "mixup"]) for number in (1, 2)]
    assert done.verdict.trials == 2 and not done.stopped_early
    assert [one.name for one in done.verdict.standings] == ["mine", "mixup"]
    assert all(one.pictures == 6 for found in done.outcomes.values() for one in found)
    aims = [[one.aim for one in found] for found in done.outcomes.values()]
    assert aims[0] == aims[1] == aims[2]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("[!.]*")}
    assert drill.run() == done
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.glob("[!.]*")}


def test_nothing_is_left_behind_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rehearsal(trials=1).run()
    assert not list(tmp_path.iterdir())


def test_a_trigger_that_always_works_is_seen_and_few_trials_do_not_recommend():
    dirty = BackdoorAttack(backdoor=Backdoor(trigger=Trigger(size=8, margin=2), labels="dirty", share=1.0))
    done = rehearsal(dirty, defenses=("cutout",), trials=3, least=1).run()
    assert done.verdict.undefended.success.value > 0.9
    assert done.verdict.best is None and "3 trials" in done.verdict.recommendation


def test_it_stops_once_the_best_defence_is_apart(monkeypatch):
    monkeypatch.setattr("fairveil.sanitize.rehearsal.is_settled", lambda outcomes, undefended: True)
    assert not rehearsal(trials=3, least=2).run().stopped_early  # two trials can single out no defence
    monkeypatch.setattr("fairveil.sanitize.verdict.LEVEL", 1.1)
    done = rehearsal(trials=4, least=2).run()
    assert done.verdict.trials == 2 and done.stopped_early
    assert not rehearsal(trials=2, least=2).run().stopped_early


def test_the_cost_counts_what_will_be_made(tmp_path):
    basic = rehearsal(GradientMatching(brewing=Brewing(steps=3, restarts=2), budget=0.1), trials=1, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    cost = basic.cost()
    assert (cost.victims, cost.clean, cost.poisons) == (2, 1, 1) and cost.seconds > 0
    assert not list(tmp_path.iterdir())
    basic.run()
    assert len(list(tmp_path.glob("outcome-*"))) == 2 and len(list(tmp_path.glob("poison-*"))) == 1
    adaptive = rehearsal(GradientMatching(brewing=Brewing(steps=3, restarts=2), budget=0.1, knows="training"), trials=5)
    cost = adaptive.cost()
    assert (cost.victims, cost.clean, cost.poisons) == (10, 10, 10)
    assert rehearsal(trials=3).cost().poisons == 3


def test_what_cannot_be_rehearsed_is_a_sentence():
    data = synthetic_images(30, classes=CLASSES, size=16)
    for wrong, words in [
        ({"trials": 0}, "0 trials"),
        ({"defenses": ("Cutmx",)}, "no defence 'Cutmx'"),
        ({"test": synthetic_images(30, classes=2, size=16)}, "do not belong together"),
        ({"defenses": (Defense("Baseline", Classification()),)}, "give yours another"),
        ({"defenses": (Defense("a", Classification()), Defense("a", Classification(CutMix())))}, "same name"),
    ]:
        with pytest.raises(FairveilError, match=words):
            rehearsal(**wrong)
    with pytest.raises(FairveilError, match="20"):
        Rehearsal(network, data, BackdoorAttack(backdoor=Backdoor(trigger=Trigger(size=20))), ["cutout"]).cost()
