"""What a rehearsal concludes, against exact tests, known truths and simulated trials."""

import numpy as np
import pytest
from scipy import stats

from fairveil.errors import FairveilError
from fairveil.sanitize.trials import Outcome
from fairveil.sanitize.verdict import is_settled, judge


def outcomes(hits, *, clean=0, pictures=1, right=90):
    return [
        Outcome(
            aim="a taken for b",
            hits=int(one),
            clean_hits=clean,
            pictures=pictures,
            right=right,
            tested=100,
            seconds=1.0,
        )
        for one in hits
    ]


def judged(bare, clean=0, **defended):
    found = {"Baseline": outcomes(bare, clean=clean), **{name: outcomes(hits) for name, hits in defended.items()}}
    return judge("the attack", found, "Baseline")


def test_the_paired_test_is_the_exact_mcnemar():
    bare, defended = [1] * 9 + [0] * 3, [0] * 7 + [1] * 2 + [1] + [0] * 2
    verdict = judged(bare, mixup=defended)
    exact = stats.binomtest(1, 8, 0.5, alternative="less").pvalue  # 7 of 8 pairs that differ are for the defence
    assert verdict.standings[0].p_value == pytest.approx(exact)
    several = judged(bare, mixup=defended, CutMix=bare)
    assert several.standings[0].p_value == pytest.approx(2 * exact)
    assert several.standings[1].p_value == 1 and not several.standings[1].holds


def test_the_best_defence_is_recommended_with_its_price():
    found = {
        "Baseline": outcomes([1] * 18 + [0] * 2, right=90),
        "mixup": outcomes([0] * 15 + [1] * 3 + [0] * 2, right=89),
        "4-way": outcomes([0] * 18 + [0] * 2, right=80),
        "cutout": outcomes([1] * 17 + [0] * 3, right=91),
    }
    verdict = judge("Witches' Brew", found, "Baseline")
    assert verdict.best.name == "4-way"
    said = verdict.recommendation
    assert said.startswith("Without a defence Witches' Brew succeeded in 90 % [70–97] of the pictures it was after")
    assert "Train with 4-way: success fell to 0 % [0–16]" in said and "from 90 % to 80 %" in said
    assert "mixup costs less (89 % accuracy) and leaves 15 % [5–36]" in said
    assert "up to 16 % of such attacks may still succeed" in said
    assert said.endswith("cutout was not clearly better than no defence.")


def test_an_attack_that_did_not_work_says_nothing_of_defences():
    verdict = judged([1, 0, 0, 0, 0, 0, 0, 0], mixup=[0] * 8)
    assert verdict.works > 0.05
    assert "it says nothing about defences" in verdict.recommendation
    by_chance = judged([1] * 8, clean=1, mixup=[0] * 8)  # clean networks misjudge the targets just as often
    assert by_chance.works == 1 and "does not work here" in by_chance.recommendation


def test_too_few_trials_are_too_few_to_tell():
    verdict = judged([1] * 6, mixup=[0, 0, 0, 1, 1, 1], CutMix=[1] * 6)
    assert verdict.best is None
    assert "No defence was clearly better than none: mixup, the best" in verdict.recommendation
    assert "6 trials are too few to tell" in verdict.recommendation
    assert "No defence was tried." in judged([1] * 6).recommendation


def test_many_pictures_of_few_trials_are_few_trials():
    found = {"Baseline": outcomes([100] * 3, pictures=100), "CutMix": outcomes([90, 60, 30], pictures=100)}
    verdict = judge("backdoor", found, "Baseline")
    assert verdict.standings[0].p_value == pytest.approx(1 / 8) and verdict.best is None
    assert verdict.standings[0].success.low < 0.3


def test_it_stops_when_the_best_is_apart_and_not_before():
    apart = {"Baseline": outcomes([1] * 10), "mixup": outcomes([0] * 10), "cutout": outcomes([1] * 10)}
    assert is_settled(apart, "Baseline")
    near = {"Baseline": outcomes([1] * 10), "mixup": outcomes([0] * 5 + [1] * 5)}
    assert not is_settled(near, "Baseline")
    assert not is_settled({"Baseline": outcomes([1] * 10)}, "Baseline")


@pytest.mark.slow
def test_useless_defences_are_seldom_recommended_although_one_looks_after_every_trial():
    rng = np.random.default_rng(0)
    names, wrong, runs = ("one", "two", "three", "four"), 0, 300
    for _ in range(runs):
        bare, *others = rng.random((5, 20)) < 0.7  # the same success whatever one does
        for trials in range(8, 21):
            found = {"Baseline": outcomes(bare[:trials])}
            found |= {name: outcomes(hits[:trials]) for name, hits in zip(names, others, strict=True)}
            if is_settled(found, "Baseline"):
                break
        wrong += judge("the attack", found, "Baseline").best is not None
    assert stats.binomtest(wrong, runs, 0.05, alternative="greater").pvalue > 0.01, wrong / runs


def test_defences_without_the_same_trials_are_a_sentence():
    with pytest.raises(FairveilError, match="the same trials"):
        judge("the attack", {"Baseline": outcomes([1, 1]), "mixup": outcomes([1])}, "Baseline")
    with pytest.raises(FairveilError, match="at least one"):
        judge("the attack", {"Baseline": []}, "Baseline")
