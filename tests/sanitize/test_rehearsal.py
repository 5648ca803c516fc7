"""The fire drill as a library, on generated pictures."""

import json
from dataclasses import replace
from functools import partial

import pytest
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize.attacks import BackdoorAttack, GradientMatching
from fairveil.sanitize.augmentations import CutMix
from fairveil.sanitize.backdoor import Backdoor
from fairveil.sanitize.defenses import Defense
from fairveil.sanitize.gradient_matching import WitchesBrew
from fairveil.sanitize.rehearsal import Rehearsal
from fairveil.sanitize.report import section_of
from fairveil.sanitize.trials import _seeds
from fairveil.sanitize.triggers import Trigger
from fairveil.training import Classification, Training, evaluate
from fairveil.training.networks import ResidualNetwork, Shape
from fairveil.version import code_version

CLASSES = 3
TRAINING = Training(epochs=2, batch_size=16, learning_rate=0.05)
ATTACK = BackdoorAttack(backdoor=Backdoor(trigger=Trigger(size=4, margin=2)))
network = partial(ResidualNetwork, Shape((1,), 4), CLASSES)


def rehearsal(attack=ATTACK, defenses=("cutout",), **more):
    data = synthetic_images(90, classes=CLASSES, size=16)
    return Rehearsal(network, data, attack, defenses, **{"training": TRAINING, "trials": 2, "padding": 1} | more)


def test_any_network_any_defense_and_a_fifth_put_aside(tmp_path):
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


def test_it_stops_once_the_best_defense_is_apart(monkeypatch):
    monkeypatch.setattr("fairveil.sanitize.rehearsal.is_settled", lambda outcomes, undefended: True)
    assert not rehearsal(trials=3, least=2).run().stopped_early  # two trials can single out no defense
    monkeypatch.setattr("fairveil.sanitize.verdict.Verdict.best", property(lambda verdict: verdict.standings[0]))
    done = rehearsal(trials=4, least=2).run()
    assert done.verdict.trials == 2 and done.stopped_early
    assert not rehearsal(trials=2, least=2).run().stopped_early


def test_each_defense_is_trained_once_on_clean_data_and_that_is_its_price(tmp_path):
    drill = rehearsal(defenses=("cutout", "mixup"), trials=3, folder=tmp_path)
    done = drill.run()
    assert len(list(tmp_path.glob("clean-*"))) == 3 + 2  # the attacker's own of each trial, and one of each defense
    test = drill.scenario.test
    where = replace(drill.scenario, folder=tmp_path)
    for standing in done.verdict.standings:
        under = drill.defenses[standing.name]
        network = drill.scenario.learner.learn(drill.scenario.train, under, seed=_seeds([0, 0])[1])
        assert standing.clean_accuracy.value == pytest.approx(evaluate(network, test))
        bare = where.clean_right(drill.scenario.usual, [0, 0])
        assert standing.price.value == pytest.approx(float(bare.float().mean()) - standing.clean_accuracy.value)
        poisoned = [one.right / one.tested for one in done.outcomes[standing.name]]
        assert standing.poisoned_accuracy.value == pytest.approx(sum(poisoned) / 3)
        assert all(one.own_clean_hits is not None for one in done.outcomes[standing.name])
    assert done.versions == (code_version(),)


def test_what_cannot_recommend_anything_is_told_beforehand():
    few, more = rehearsal(defenses=("cutout", "mixup"), trials=5), rehearsal(defenses=("cutout", "mixup"), trials=6)
    assert "5 trials of 2 defenses cannot recommend any, however well it does: rehearse 6 or more." in few.warnings
    assert not any("trials" in one for one in more.warnings)
    assert any("18 test pictures cannot show" in one for one in more.warnings)
    assert rehearsal(trials=6, test=synthetic_images(90, classes=CLASSES, size=16, seed=1)).warnings == []
    assert any("ask for a smaller" in one for one in rehearsal(trials=500, least_effect=0.999).warnings)
    assert "No defense is tried" in rehearsal(defenses=("Baseline",)).warnings[0]


def test_outcomes_of_several_versions_are_told(tmp_path):
    rehearsal(trials=2, folder=tmp_path).run()
    kept = sorted(tmp_path.glob("outcome-*"))[0]
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"version": "0.1.0+older"}))
    drill = rehearsal(trials=2, folder=tmp_path)
    done = drill.run()
    assert set(done.versions) == {"0.1.0+older", code_version()}
    section = section_of(drill, done, preset="smoke")
    assert any("2 states of fairveil" in said and "0.1.0+older" in said for said in section.differences)


def test_the_cost_counts_what_will_be_made(tmp_path):
    basic = rehearsal(GradientMatching(brewing=WitchesBrew(steps=3, restarts=2), budget=0.1), trials=1, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    cost = basic.cost()
    assert (cost.victims, cost.clean, cost.poisons) == (2, 2, 1) and cost.seconds > 0
    assert not list(tmp_path.iterdir())
    basic.run()
    assert len(list(tmp_path.glob("outcome-*"))) == 2 and len(list(tmp_path.glob("poison-*"))) == 1
    assert len(list(tmp_path.glob("clean-*"))) == 2
    adaptive = rehearsal(
        GradientMatching(brewing=WitchesBrew(steps=3, restarts=2), budget=0.1, knows="training"), trials=5
    )
    cost = adaptive.cost()
    assert (cost.victims, cost.clean, cost.poisons) == (10, 10, 10)
    assert rehearsal(trials=3).cost().poisons == 3


def test_what_cannot_be_rehearsed_is_a_sentence():
    data = synthetic_images(30, classes=CLASSES, size=16)
    for wrong, words in [
        ({"trials": 0}, "0 trials"),
        ({"defenses": ("Cutmx",)}, "no defense 'Cutmx'"),
        ({"test": synthetic_images(30, classes=2, size=16)}, "do not belong together"),
        ({"defenses": (Defense("Baseline", Classification()),)}, "give yours another"),
        ({"defenses": (Defense("a", Classification()), Defense("a", Classification(CutMix())))}, "same name"),
    ]:
        with pytest.raises(FairveilError, match=words):
            rehearsal(**wrong)
    with pytest.raises(FairveilError, match="20"):
        Rehearsal(network, data, BackdoorAttack(backdoor=Backdoor(trigger=Trigger(size=20))), ["cutout"]).cost()
