"""What a rehearsal concludes, against exact tests, known truths and simulated trials."""

import numpy as np
import pytest
import torch
from scipy import stats

from fairveil.base.errors import FairveilError
from fairveil.sanitize.judging import fewest_trials, is_settled, judge
from fairveil.sanitize.rehearsal import Rehearsed
from fairveil.sanitize.report import table_of
from fairveil.sanitize.trials import TrialOutcome


def outcomes(hits, *, clean=0, pictures=1, right=90, own=None, aims=None):
    return [
        TrialOutcome(
            aim=f"{number} taken for b" if aims is None else f"aim {number % aims}",
            hits=int(one),
            clean_hits=clean,
            pictures=pictures,
            right=right,
            tested=100,
            seconds=1.0,
            own_clean_hits=own,
        )
        for number, one in enumerate(hits)
    ]


def right_about(pictures, wrong):
    """Which of some test pictures a network is right about that is wrong about the first ones."""
    return torch.arange(pictures) >= wrong


def judged(bare, clean=0, **defended):
    found = {"Baseline": outcomes(bare, clean=clean), **{name: outcomes(hits) for name, hits in defended.items()}}
    return judge("the attack", found, "Baseline")


def test_the_paired_test_is_the_exact_mcnemar():
    bare, defended = [1] * 9 + [0] * 3, [0] * 7 + [1] * 2 + [1] + [0] * 2
    verdict = judged(bare, mixup=defended)
    exact = stats.binomtest(1, 8, 0.5, alternative="less").pvalue  # 7 of 8 pairs that differ are for the defense
    assert verdict.standings[0].p_value == pytest.approx(exact)
    several = judged(bare, mixup=defended, CutMix=bare)
    assert several.standings[0].p_value == pytest.approx(2 * exact)
    assert several.standings[1].p_value == 1 and not several.standings[1].holds


def test_the_best_defense_is_recommended_with_its_price():
    found = {
        "Baseline": outcomes([1] * 18 + [0] * 2),
        "mixup": outcomes([0] * 15 + [1] * 3 + [0] * 2, own=0),
        "4-way": outcomes([0] * 18 + [0] * 2, own=0),
        "cutout": outcomes([1] * 17 + [0] * 3, own=0),
    }
    wrong = {"Baseline": 100, "mixup": 110, "4-way": 130, "cutout": 90}
    clean = {name: right_about(1000, count) for name, count in wrong.items()}
    verdict = judge("Witches' Brew", found, "Baseline", clean=clean)
    assert verdict.best.name == "4-way" and [one.name for one in verdict.recommended] == ["mixup", "4-way"]
    said = verdict.recommendation
    assert said.startswith("Without a defense Witches' Brew succeeded in 90 % [70–97] of the pictures it was after")
    assert "Train with 4-way: success fell to 0 % [0–16], by 90.0 [" in said
    assert "Trained on clean data it costs 3.0 [1.9 to 4.1] points of accuracy, and is right about 87 %" in said
    assert "without any poison it looks so in 0 % [0–16] under it" in said
    assert "mixup costs less (89 % accuracy) and leaves 15 % [5–36]" in said
    assert "up to 16 % of such attacks may still succeed" in said
    assert said.endswith("cutout was not clearly better than no defense.")


def test_the_price_is_that_of_clean_networks_and_not_of_poisoned_ones():
    found = {"Baseline": outcomes([1] * 10, right=50), "CutMix": outcomes([0] * 10, right=90, own=0)}
    clean = {"Baseline": right_about(1000, 100), "CutMix": right_about(1000, 300)}
    verdict = judge("backdoor", found, "Baseline", clean=clean)
    standing = verdict.standings[0]
    assert standing.price.value == pytest.approx(0.2) and standing.accuracy.value == pytest.approx(0.7)
    assert standing.poisoned_accuracy.value == pytest.approx(0.9)  # of victims of a poisoned class: kept by its name
    assert verdict.best is None and verdict.obstacle(standing) == "too dear"
    assert "Trained on clean data it costs 20.0 [" in verdict.recommendation
    dearer = judge("backdoor", found, "Baseline", clean=clean, most_lost=0.3)
    assert dearer.best.name == "CutMix"


@pytest.mark.parametrize("right", [0, 10, 60, 80])
def test_a_defense_that_destroys_the_network_is_never_recommended(right):
    for clean in (None, {"Baseline": right_about(1000, 100), "junk": right_about(1000, 1000 - 10 * right)}):
        found = {"Baseline": outcomes([1] * 18 + [0] * 2), "junk": outcomes([0] * 20, right=right)}
        verdict = judge("gradient matching", found, "Baseline", clean=clean)
        assert verdict.standings[0].holds and verdict.best is None
        assert "junk lowers success to 0 % [0–16] but costs too much to be recommended" in verdict.recommendation


@pytest.mark.parametrize(("hits", "by"), [(999, "0.1"), (990, "1.0"), (950, "5.0"), (920, "8.0")])
def test_a_fall_that_is_clear_but_small_is_no_recommendation(hits, by):
    found = {"Baseline": outcomes([1000] * 8, pictures=1000), "X": outcomes([hits] * 8, pictures=1000)}
    verdict = judge("backdoor", found, "Baseline")
    assert verdict.standings[0].holds and verdict.best is None and verdict.obstacle(verdict.standings[0]) == "too small"
    assert f"X lowers success too little to be recommended: to {hits / 10:.3g} %" in verdict.recommendation
    assert f"by {by} [" in verdict.recommendation
    assert judge("backdoor", found, "Baseline", least_effect=0.0005).best.name == "X"


def test_a_price_that_few_pictures_cannot_tell_is_no_recommendation_and_says_so():
    found = {"Baseline": outcomes([1] * 10), "CutMix": outcomes([0] * 10)}
    clean = {"Baseline": right_about(40, 4), "CutMix": right_about(40, 5)}
    verdict = judge("backdoor", found, "Baseline", clean=clean)
    assert verdict.obstacle(verdict.standings[0]) == "price unknown" and verdict.best is None
    assert "whether it costs more than 5 points cannot be told from 40 test pictures" in verdict.recommendation
    many = {"Baseline": right_about(4000, 400), "CutMix": right_about(4000, 500)}
    assert judge("backdoor", found, "Baseline", clean=many).best.name == "CutMix"


def test_the_base_rate_is_told_under_each_defense():
    found = {"Baseline": outcomes([1] * 10), "A": outcomes([0] * 10, own=0), "B": outcomes([0] * 10, own=1)}
    verdict = judge("backdoor", found, "Baseline")
    assert [one.base_rate.value for one in (verdict.undefended, *verdict.standings)] == [0, 0, 1]
    assert judged([1] * 10, mixup=[0] * 10).standings[0].base_rate is None  # nobody looked


def test_two_classes_have_two_aims_and_the_interval_says_so():
    found = {name: outcomes(hits, aims=2) for name, hits in {"Baseline": [1] * 12, "mixup": [0, 1] * 6}.items()}
    verdict = judge("backdoor", found, "Baseline", least_effect=0.05)
    assert verdict.aims == 2
    said = verdict.recommendation
    assert "over 12 trials with 2 different aims" in said and "with these aims and pictures, not with others" in said
    assert "With one aim it does worse: aim 1, 100 %." in said
    assert "with 2 different aims" in table_of(verdict).caption and "not with others" in table_of(verdict).caption
    many = judged([1] * 12, mixup=[0] * 12)
    assert many.aims == 12 and "different aims" not in many.recommendation + table_of(many).caption


def with_prices(**wrong):
    """Defenses that all hold, and of how many of 200 test pictures networks trained under them are wrong."""
    found = {"Baseline": outcomes([1] * 20), **{name: outcomes([0] * 20) for name in wrong}}
    clean = {"Baseline": right_about(200, 20), **{name: right_about(200, count) for name, count in wrong.items()}}
    return judge("backdoor", found, "Baseline", clean=clean, most_lost=0.2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (21, "it is not seen to change accuracy (0.5 ["),
        (19, "it is not seen to change accuracy (−0.5 ["),
        (20, "it is not seen to change accuracy (0.0 ["),
        (40, "it costs 10.0 ["),
        (4, "it costs no accuracy (it gains 8.0 ["),
    ],
)
def test_a_price_is_said_to_be_one_only_where_its_interval_leaves_out_zero(wrong, said):
    assert said in with_prices(mixup=wrong).recommendation


def test_another_defense_is_said_to_cost_less_only_where_intervals_are_apart():
    assert "costs less" in judge_two(0.10, 0.02)
    assert "costs less" not in judge_two(0.04, 0.02)


def judge_two(dear, cheap):
    found = {"Baseline": outcomes([1] * 20), "A": outcomes([0] * 20), "B": outcomes([0] * 18 + [1] * 2)}
    lost = {"Baseline": 0.0, "A": dear, "B": cheap}
    clean = {name: right_about(200, round(200 * share)) for name, share in lost.items()}
    verdict = judge("backdoor", found, "Baseline", clean=clean, most_lost=0.2)
    assert verdict.best.name == "A" and len(verdict.recommended) == 2
    return verdict.recommendation


def test_the_worst_of_many_aims_is_not_said_to_do_worse_by_chance():
    """Of ten aims of two trials each, one has both of the three successes but by chance."""
    hits = [0] * 20
    hits[3] = hits[13] = hits[5] = 1
    found = {"Baseline": outcomes([1] * 20, aims=10), "mixup": outcomes(hits, aims=10)}
    verdict = judge("backdoor", found, "Baseline")
    assert verdict.best.name == "mixup" and verdict.best.worst_aim is None
    assert "does worse" in judge_aims([0, 1] * 10) and "does worse" not in verdict.recommendation


def test_an_aim_that_does_worse_is_named_of_attacks_on_many_pictures_too():
    hits = [10 + 30 * (number % 4 == 1) for number in range(16)]
    found = {
        "Baseline": outcomes([90] * 16, pictures=100, aims=4),
        "mixup": outcomes(hits, pictures=100, aims=4),
    }
    aim, rate = judge("backdoor", found, "Baseline").standings[0].worst_aim
    assert (aim, rate.value) == ("aim 1", pytest.approx(0.4))


@pytest.mark.parametrize("pictures", [1, 100])
def test_one_trial_of_an_aim_is_compared_with_the_others(pictures):
    """As where three trials have two aims: the least such a permutation test can give is far from certain."""
    found = {
        name: [one.model_copy(update={"aim": aim}) for one, aim in zip(made, "abb", strict=True)]
        for name, hits in {"Baseline": [pictures] * 3, "X": [pictures, 0, 0]}.items()
        for made in [outcomes(hits, pictures=pictures)]
    }
    assert judge("backdoor", found, "Baseline").standings[0].worst_aim is None


def judge_aims(hits):
    found = {"Baseline": outcomes([1] * 20, aims=2), "mixup": outcomes(hits, aims=2)}
    return judge("backdoor", found, "Baseline").recommendation


def test_one_trial_is_one():
    said = judged([1], mixup=[0]).recommendation
    assert "over 1 trial;" in said and "or 1 trial is too few to tell" in said


def test_no_defense_is_best_where_the_attack_does_not_work():
    found = {"Baseline": outcomes([1] * 8, clean=1), "X": outcomes([0] * 8, clean=1)}
    verdict = judge("a", found, "Baseline")
    assert verdict.standings[0].holds and verdict.best is None and verdict.recommended == ()


@pytest.mark.parametrize("defenses", [1, 2, 5, 12])
def test_the_fewest_trials_are_those_with_which_the_best_outcome_is_recommended(defenses):
    fewest = fewest_trials(defenses)
    for trials in (fewest - 1, fewest):
        found = {"Baseline": outcomes([1] * trials), "X": outcomes([0] * trials)}
        found |= {f"other {number}": outcomes([1] * trials) for number in range(defenses - 1)}
        assert (judge("a", found, "Baseline").best is not None) == (trials == fewest)


def test_limits_that_are_no_shares_are_a_sentence():
    for limits in ({"least_effect": 10}, {"most_lost": -0.1}, {"most_lost": float("nan")}):
        with pytest.raises(FairveilError, match="give shares from 0 to 1"):
            judge("a", {"Baseline": outcomes([1])}, "Baseline", **limits)


def test_an_attack_that_did_not_work_says_nothing_of_defenses():
    verdict = judged([1, 0, 0, 0, 0, 0, 0, 0], mixup=[0] * 8)
    assert verdict.works > 0.05
    assert "it says nothing about defenses" in verdict.recommendation
    by_chance = judged([1] * 8, clean=1, mixup=[0] * 8)  # clean networks misjudge the targets just as often
    assert by_chance.works == 1 and "does not work here" in by_chance.recommendation


def test_too_few_trials_are_too_few_to_tell():
    verdict = judged([1] * 6, mixup=[0, 0, 0, 1, 1, 1], CutMix=[1] * 6)
    assert verdict.best is None
    assert "No defense was clearly better than none: mixup, the best" in verdict.recommendation
    assert "6 trials are too few to tell" in verdict.recommendation
    assert "No defense was tried." in judged([1] * 6).recommendation


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
def test_useless_defenses_are_seldom_recommended_although_one_looks_after_every_trial():
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


def test_defenses_without_the_same_trials_are_a_sentence():
    with pytest.raises(FairveilError, match="the same trials"):
        judge("the attack", {"Baseline": outcomes([1, 1]), "mixup": outcomes([1])}, "Baseline")
    with pytest.raises(FairveilError, match="at least one"):
        judge("the attack", {"Baseline": []}, "Baseline")


def test_a_verdict_prints_its_recommendation_and_its_table_and_becomes_a_frame():
    verdict = judged([1] * 9 + [0], mixup=[0] * 8 + [1] * 2)
    assert str(verdict).startswith(verdict.recommendation) and "| mixup" in str(verdict)
    assert table_of(verdict).title in verdict._repr_html_()
    rows = verdict.to_frame().select("defense", "success", "success_low", "clean_accuracy").rows()
    assert [(name, value, clean) for name, value, _, clean in rows] == [("Baseline", 0.9, None), ("mixup", 0.2, None)]
    assert rows[1][2] == verdict.standings[0].success.low
    assert str(Rehearsed(verdict, {}, stopped_early=False)) == str(verdict)
