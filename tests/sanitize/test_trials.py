"""Trials of a rehearsal, at their smallest, on generated pictures."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize import attacks
from fairveil.sanitize.attacks import BackdoorAttack, GradientMatching
from fairveil.sanitize.augmentations import Compose, FlipAndCrop, Mixup
from fairveil.sanitize.defenses import Defense, defense
from fairveil.sanitize.gradient_matching import WitchesBrew, brew
from fairveil.sanitize.head_matching import TransferNetwork
from fairveil.sanitize.learners import FromScratch, HeadOnly
from fairveil.sanitize.matching import network_gradient
from fairveil.sanitize.noised_gradients import ClipAndNoise
from fairveil.sanitize.poison_bundle import PoisonBundle
from fairveil.sanitize.trials import Scenario, TrialOutcome
from fairveil.sanitize.triggers import Trigger
from fairveil.training import Classification, Training
from fairveil.training.networks import ResidualNetwork, Shape
from fairveil.version import code_version

CLASSES = 3
USUAL = defense("Baseline", size=12, padding=1)
NOISED = Defense("noised", Classification(FlipAndCrop(1)), ClipAndNoise(clip=2.0, noise=0.01))
BREWING = WitchesBrew(steps=2, restarts=1)


def from_scratch():
    network = partial(ResidualNetwork, Shape((1,), 4), CLASSES)
    return FromScratch(network, Training(epochs=1, batch_size=16, learning_rate=0.02))


def from_scratch_network():
    return from_scratch().new(0)


def head_only():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return HeadOnly(TransferNetwork(features, nn.Linear(24, CLASSES)), views=1)


def scenario(folder, learner=None):
    data, test = (synthetic_images(count, classes=CLASSES, size=12, seed=seed) for seed, count in ((0, 60), (1, 30)))
    return Scenario(data, test, learner or from_scratch(), USUAL, folder)


def test_the_same_seed_gives_the_same_network_whatever_was_drawn_before():
    learner, data = from_scratch(), synthetic_images(40, classes=CLASSES, size=12)
    one = learner.learn(data, USUAL, seed=3)
    torch.rand(7)
    before = torch.get_rng_state()
    same, other = (learner.learn(data, USUAL, seed=seed) for seed in (3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.head.weight, same.head.weight) and not torch.equal(one.head.weight, other.head.weight)
    assert not one.training and not same.training


def test_learners_are_described_by_what_they_train():
    learner = from_scratch()
    assert learner.described() == from_scratch().described()
    wider = FromScratch(partial(ResidualNetwork, Shape((1,), 8), CLASSES), learner.training)
    longer = FromScratch(learner.network, Training(epochs=2, batch_size=16, learning_rate=0.02))
    assert len({one.described() for one in (learner, wider, longer, head_only())}) == 4
    assert head_only().described() == head_only().described()


def test_defenses_that_change_steps_cannot_be_fitted_to_a_head():
    data = synthetic_images(20, classes=CLASSES, size=12)
    with pytest.raises(FairveilError, match="noised cannot be tried where only a head is fitted"):
        head_only().learn(data, NOISED, seed=0)
    assert head_only().learn(data, defense("MaxUp-cutout", size=12, padding=1), seed=0).head.weight.isfinite().all()
    published = defense("published-MaxUp-cutout", size=12, padding=1)  # a head is fitted to what training ends with
    ends_with = Defense("end", published.objective.after)
    heads = [head_only().learn(data, one, seed=0).head.weight for one in (published, ends_with)]
    assert torch.equal(*heads)


def test_a_trial_is_the_same_under_every_defense_and_is_not_run_twice(tmp_path):
    attack, place = BackdoorAttack(), scenario(tmp_path)
    defenses = [USUAL, defense("CutMix", size=12, padding=1)]
    first = place.outcomes(attack, defenses, [0, 0])
    assert len({one.aim for one in first}) == 1 and len({one.clean_hits for one in first}) == 1
    assert all(one.pictures == 10 and one.tested == 30 and 0 <= one.hits <= 10 for one in first)
    files = sorted(tmp_path.glob("[!.]*"))
    assert [file.name.split("-")[0] for file in files] == ["clean", "clean", "outcome", "outcome"]
    assert all(one.version == code_version() and one.own_clean_hits is not None for one in first)

    kept = files[2]
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"aim": "kept"}))
    again = scenario(tmp_path).outcomes(attack, defenses, [0, 0])
    assert sorted(one.aim == "kept" for one in again) == [False, True]
    assert len({place.outcomes(attack, defenses[:1], [0, trial])[0].aim for trial in range(6)}) > 1


def test_what_changes_the_result_changes_the_files(tmp_path):
    attack = BackdoorAttack()
    runs = [
        (scenario(tmp_path), attack),
        (scenario(tmp_path, head_only()), attack),
        (scenario(tmp_path), BackdoorAttack(backdoor={"trigger": Trigger(size=3)})),
    ]
    for count, (place, one) in enumerate(runs, start=1):
        place.outcomes(one, [USUAL], [0, 0])
        assert len(list(tmp_path.glob("outcome-*"))) == count


@pytest.mark.parametrize("learner", [from_scratch, head_only])
def test_who_knows_nothing_brews_once_for_all_defenses(tmp_path, learner):
    place = scenario(tmp_path, learner())
    defenses = [USUAL, defense("mixup", size=12, padding=1)]
    outcomes = place.outcomes(GradientMatching(brewing=BREWING, budget=0.1), defenses, [0, 0])
    assert all(one.pictures == 1 for one in outcomes)
    (bundle,) = tmp_path.glob("poison-*")
    assert PoisonBundle.load(bundle).settings == BREWING
    assert not list(tmp_path.glob("brewing-*"))  # the state of an attack that is done

    place.outcomes(GradientMatching(brewing=BREWING, budget=0.1, knows="training"), defenses, [0, 0])
    assert len(list(tmp_path.glob("poison-*"))) == 2  # against flips and crops there is nothing more to know
    assert len(list(tmp_path.glob("clean-*"))) == 2


def test_an_adaptive_attacker_expects_noise_and_mixing():
    knows_all = GradientMatching(brewing=BREWING, knows="mixing")
    against = knows_all.brewing_against(NOISED)
    assert (against.gradient_clip, against.gradient_noise, against.companions) == (2.0, 0.005, 128)
    few = GradientMatching(brewing=WitchesBrew(companions=8), knows="mixing")
    assert few.brewing_against(USUAL).companions == 8
    assert GradientMatching(brewing=BREWING, knows="training").brewing_against(USUAL) == BREWING


def test_who_mixes_while_brewing_mixes_as_the_defense_does(tmp_path, monkeypatch):
    mixing = GradientMatching(brewing=BREWING.model_copy(update={"companions": 8}), budget=0.1, knows="mixing")
    seen = []
    monkeypatch.setattr(attacks, "brew", lambda *given, **named: seen.append(named["augment"]) or brew(*given, **named))
    mixup = defense("mixup", size=12, padding=1)
    for knows in ("nothing", "training", "mixing"):
        scenario(tmp_path).outcomes(mixing.model_copy(update={"knows": knows}), [mixup], [0, 0])
    assert seen == [USUAL.augmentation, USUAL.augmentation, mixup.augmentation]
    unknown = Defense("own", lambda network, batch, generator: network(batch.images).square().mean())
    attacker = attacks.Attacker(
        scenario(tmp_path).train, network_gradient, USUAL, unknown, from_scratch_network, tmp_path
    )
    mixing.aim(attacker.data, scenario(tmp_path).test, 0).poisoned(attacker, 0)
    assert seen[-1] == USUAL.augmentation  # he still flips and crops


def test_a_defense_tells_what_it_does_to_pictures():
    usual = FlipAndCrop(1)
    assert Defense("one", Classification(Compose((usual, Mixup())))).augmentation == Compose((usual, Mixup()))
    maxup = defense("MaxUp-cutout", size=12, padding=1)
    assert maxup.augmentation == Compose((maxup.objective.first, maxup.objective.base))
    assert Defense("own", lambda network, batch, generator: None).augmentation is None


def test_data_without_two_classes_are_a_sentence(tmp_path):
    place = scenario(tmp_path)
    one_class = place.test.take((place.test.labels == 0).nonzero().flatten())
    with pytest.raises(FairveilError, match=r"needs two classes .* has 1"):
        BackdoorAttack().aim(place.train, one_class, 0)


def test_damaged_files_are_a_sentence(tmp_path):
    place = scenario(tmp_path)
    place.outcomes(BackdoorAttack(), [USUAL], [0, 0])
    (file,) = tmp_path.glob("outcome-*")
    file.write_bytes(b'{"aim": ')
    with pytest.raises(FairveilError, match="damaged: remove it"):
        place.outcomes(BackdoorAttack(), [USUAL], [0, 0])
    place.clean_network(USUAL, [0, 0])
    (file,) = tmp_path.glob("clean-*")
    file.write_bytes(b"no network")
    with pytest.raises(FairveilError, match="damaged: remove it"):
        place.clean_network(USUAL, [0, 0])


def test_outcomes_read_as_shares():
    outcome = TrialOutcome(aim="a taken for b", hits=3, clean_hits=1, pictures=4, right=8, tested=10, seconds=1.0)
    assert (outcome.success.share, outcome.base_rate.share, outcome.accuracy.share) == (0.75, 0.25, 0.8)


def test_a_poison_for_one_target_is_not_taken_for_another(tmp_path):
    attack = GradientMatching(brewing=BREWING, budget=0.1)
    one = scenario(tmp_path)
    others = synthetic_images(30, classes=CLASSES, size=12, seed=2)
    for place in (one, Scenario(one.train, others, one.learner, USUAL, tmp_path)):
        place.outcomes(attack, [USUAL], [0, 0])
    targets = [PoisonBundle.load(file).plan.target for file in tmp_path.glob("poison-*")]
    assert len(targets) == 2 and not torch.equal(*targets)
    assert len(list(tmp_path.glob("clean-*"))) == 1  # which depends on no test picture


def test_what_cannot_be_told_apart_is_not_kept(tmp_path):
    own = Defense("own", Classification(lambda images, targets, generator: (images, targets)))
    with pytest.raises(FairveilError, match="own does cannot be told"):
        scenario(tmp_path).outcomes(BackdoorAttack(), [own], [0, 0])
    same = Defense("same", USUAL.objective)
    both = scenario(tmp_path).outcomes(BackdoorAttack(), [USUAL, same], [0, 0])
    assert both[0] == both[1]
