"""What is said of interventions whose effect is known, since the figures are made up."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from fairveil.base.comparisons import pairs_confidence
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.fair.comparing import SPLITS, Comparison, compare, fitted_to
from fairveil.fair.experiments import RunScores
from fairveil.fair.gerrymandering import bystanders, drifts, frame_of
from fairveil.fair.groups import groups_of
from fairveil.fair.interventions import (
    DisparateImpact,
    EqualLoss,
    FairFeatures,
    LabelFlipping,
    MinMax,
    everything,
    intervention,
)
from fairveil.fair.report import (
    card_record,
    change_table,
    count_table,
    gap_table,
    people_tables,
    reading,
    sections_of,
    single_table,
)
from fairveil.fair.scores import SCORES

# by intervention, split and group: what a run comes to, but for what its seed adds
FIGURES = {
    "baseline": {"train": (0.9, 0.8), "validation": (0.7, 0.6), "test": (0.7, 0.6)},
    # fair where it was trained, not elsewhere
    "equal-loss 1": {"train": (0.85, 0.85), "validation": (0.7, 0.6), "test": (0.7, 0.6)},
    # fair everywhere, since the better-off group lost
    "min-max": {"train": (0.8, 0.8), "validation": (0.6, 0.6), "test": (0.6, 0.59)},
    # fairer everywhere, since the other group gained
    "label-flipping M=0.3": {"train": (0.85, 0.85), "validation": (0.7, 0.68), "test": (0.7, 0.68)},
    "equal-loss 0 on holdout": {"train": (0.8, 0.7), "validation": (0.6, 0.5), "test": (0.6, 0.5)},
    "equal-loss 2 on holdout": {"train": (0.8, 0.7), "validation": (0.6, 0.6), "test": (0.7, 0.4)},
}
OLD = {"min-max": 0.3, "label-flipping M=0.3": 0.7}  # how the old fare on the test; 0.5 with all others
NOISE = (0.0, 0.01, -0.01)
MADE = [EqualLoss(weight=1), MinMax(), LabelFlipping(group="M"), EqualLoss(weight=2, on="holdout")]


class MadeUp:
    task = "recognition"
    column = "sex"
    measures = dict.fromkeys(("train", "validation", "test"), "rank-1")

    def __init__(self):
        self.ran = []

    fingerprint = "made up"

    def measure(self, intervention, *, seed, callbacks):
        self.ran.append((intervention.name, seed))
        rows = []
        for split, (men, women) in FIGURES[intervention.name].items():
            figures = {("", ""): (men + women) / 2, ("sex", "M"): men, ("sex", "F"): women}
            figures |= {("age", "old"): OLD.get(intervention.name, 0.5), ("age", "young"): 0.6}
            wobble = 0.0005 * (seed - 1) * (1 + [*FIGURES].index(intervention.name))  # runs differ a little
            rows += [
                (
                    split,
                    "rank-1",
                    "",
                    column,
                    group,
                    value + NOISE[seed] + (wobble if group in ("M", "old") else -wobble),
                    None,
                    None,
                    10,
                    10,
                )
                for (column, group), value in figures.items()
            ]
        return RunScores(pl.DataFrame(rows, schema=SCORES, orient="row"), 0.25 * (seed == 2))


@pytest.fixture(scope="module")
def comparison():
    return compare(MadeUp(), MADE)


def test_everything_is_run_beside_its_baseline_once_a_seed():
    experiment = MadeUp()
    found = compare(experiment, MADE, seeds=2)
    assert experiment.ran == [(name, seed) for seed in (0, 1) for name in found.baselines]
    assert found.baselines == {
        "baseline": "baseline",
        "equal-loss 0 on holdout": "equal-loss 0 on holdout",
        "equal-loss 1": "baseline",
        "min-max": "baseline",
        "label-flipping M=0.3": "baseline",
        "equal-loss 2 on holdout": "equal-loss 0 on holdout",
    }
    assert found.outcome("min-max") == "too few"
    assert found.gap("baseline", "test") == Estimate(pytest.approx(0.1, abs=0.001), n=2, unit="runs")


def test_runs_that_are_kept_are_not_run_again(tmp_path):
    first = compare(MadeUp(), MADE, folder=tmp_path)
    again = MadeUp()
    second = compare(again, MADE, folder=tmp_path)
    assert again.ran == []
    assert second.scores.equals(first.scores)
    assert second.skipped_fraction == first.skipped_fraction == dict.fromkeys(first.baselines, 0.25)


def test_gaps_and_changes_are_paired_by_seed(comparison):
    assert (comparison.best_group, comparison.worst_group) == ("M", "F")
    assert comparison.gap("baseline", "train").value == pytest.approx(0.1)
    change = comparison.change("label-flipping M=0.3", "test", "F")
    assert change.value == pytest.approx(0.08)
    assert change.high - change.low < 0.02  # what runs share is not in it
    assert comparison.gap_change("equal-loss 2 on holdout", "test").value == pytest.approx(0.2)


def test_what_carried_over_is_told_from_what_did_not(comparison):
    assert {name: comparison.outcome(name) for name in comparison.interventions} == {
        "equal-loss 1": "not seen on the test",
        "min-max": "carried over",
        "label-flipping M=0.3": "carried over",
        "equal-loss 2 on holdout": "worse on the test",
    }


def moved(comparison, intervention, split, group, by):
    """The same with the figures of a group changed in all runs."""
    theirs = (pl.col("intervention") == intervention) & (pl.col("split") == split) & (pl.col("group") == group)
    value = pl.when(theirs).then(pl.col("value") + by).otherwise(pl.col("value"))
    return replace(comparison, scores=comparison.scores.with_columns(value=value))


def test_groups_that_move_apart_where_an_intervention_is_fitted_are_not_told_as_no_narrowing(comparison):
    found = moved(comparison, "equal-loss 1", "train", "F", -0.4)  # on the test nothing changes
    assert found.outcome("equal-loss 1") == "moved apart where fitted"
    assert "Groups moved apart on the train set, which it is fitted to" in reading(found, "equal-loss 1")
    worse = moved(found, "equal-loss 1", "test", "F", -0.4)
    assert worse.outcome("equal-loss 1") == "worse on the test"
    assert "and so they did on the train set, which it is fitted to" in reading(worse, "equal-loss 1")
    closer = moved(comparison, "min-max", "train", "F", -0.4)
    assert closer.outcome("min-max") == "only on the test"
    assert "which they are not seen to do on the train set, where they moved apart" in reading(closer, "min-max")


def test_groups_that_change_places_between_splits_are_told(comparison):
    assert "ahead" not in reading(comparison, "min-max")
    swapped = moved(moved(comparison, "baseline", "test", "F", 0.3), "min-max", "test", "F", 0.3)
    assert (swapped.best_group, swapped.worst_group) == ("M", "F")  # by validation
    assert "On the test it is F that is ahead at the baseline, by the means, and M behind." in reading(
        swapped, "min-max"
    )
    turned = moved(comparison, "min-max", "test", "F", 0.3)
    assert "With min-max, F is ahead on the test, by the means, and M behind." in reading(turned, "min-max")
    record = next(one for one in card_record(turned)["interventions"] if one["name"] == "min-max")
    assert record["splits"]["test"]["best and worst"] == ["F", "M"]


def test_groups_that_fare_alike_are_two_and_told_to_be_alike(comparison):
    level = replace(comparison, scores=comparison.scores.with_columns(value=pl.lit(0.5)))
    assert (level.best_group, level.worst_group, level.tied, comparison.tied) == ("F", "M", True, False)
    assert "all groups of sex fare alike, so there is no better one" in reading(level, "min-max")
    third = comparison.scores.filter(pl.col("group") == "F").with_columns(group=pl.lit("A"))
    three = replace(comparison, scores=pl.concat([comparison.scores, third]))
    assert three.best_group == "M" and three.worst_group in ("A", "F")


def with_people(comparison, half):
    ends = {"low": pl.col("value") - half, "high": pl.col("value") + half}
    return replace(comparison, scores=comparison.scores.with_columns(**ends))


def test_intervals_over_people_are_shown_and_not_dropped(comparison):
    assert list(people_tables(comparison)) == []  # there are none
    found = with_people(comparison, 0.03)
    gap = found.gap_over_people("baseline", "test")
    assert gap.value == pytest.approx(0.1, abs=0.002)
    assert gap.high - gap.value == pytest.approx((0.03**2 + 0.03**2) ** 0.5)
    (table,) = people_tables(found)
    men = dict(table.rows)["baseline"][2]
    assert (men.value - men.estimate.low, men.estimate.high - men.value) == (pytest.approx(0.03), pytest.approx(0.03))
    assert "cannot be told from none" not in reading(found, "equal-loss 1").partition("went")[0]
    wide = with_people(comparison, 0.2)
    assert "Over people, the gap of the baseline on the test" in reading(wide, "equal-loss 1")
    assert any("intervals over people" in one.title for one in sections_of(wide)[1].tables)


def test_where_nothing_is_seen_it_is_said_what_could_have_been(comparison):
    told = reading(comparison, "equal-loss 1")
    narrowing = comparison.narrowing("equal-loss 1", "test")
    half = 100 * (narrowing.high - narrowing.low) / 2
    assert f"As these runs spread, a change of more than {half:.1f} points there would have been told." in told
    assert "would have been told" not in reading(comparison, "label-flipping M=0.3")


def test_the_card_says_how_many_were_counted(comparison):
    table = count_table(comparison)
    assert [name for name, _ in table.rows] == ["train", "validation", "test"]
    assert [cell.text for cell in dict(table.rows)["test"]] == ["10 (10)"] * 3


def findings_of(comparison):
    """A comparison of findings with areas for A and B, the latter not of women on the test."""
    rows = comparison.scores.with_columns(measure=pl.lit("AUC"))
    labeled = [rows.with_columns(label=pl.lit(label)) for label in ("A", "B", "mean")]
    lacks = (pl.col("label") == "B") & (pl.col("split") == "test") & (pl.col("group") == "F")
    counts = rows.with_columns(label=pl.lit("A"), measure=pl.lit("positives"), value=pl.lit(3.0))
    scores = pl.concat([*labeled, counts]).filter(~(lacks & (pl.col("measure") == "AUC")))
    measures = dict.fromkeys(("train", "validation", "test"), "AUC")
    return replace(comparison, task="findings", measures=measures, scores=scores)


def test_the_card_names_the_findings_that_its_means_are_over_and_counts_positives(comparison):
    found = findings_of(comparison)
    assert (found.findings, found.left_out) == (("A",), ("B",))
    captions = " ".join(table.caption for table in sections_of(found)[1].tables)
    assert "means over A; not over B, which not every group has on every split" in captions
    assert card_record(found)["findings"] == ["A"]
    assert [cell.text for cell in dict(count_table(found).rows)["A, test"]] == ["3 of 10 (10)"] * 3


def test_what_narrows_on_the_test_alone_did_not_carry_over_from_anywhere(comparison):
    scores = comparison.scores.with_columns(
        pl.when((pl.col("intervention") == "min-max") & (pl.col("split") == "train") & (pl.col("group") == "F"))
        .then(pl.col("value") - 0.3)
        .otherwise(pl.col("value"))
        .alias("value")
    )
    assert replace(comparison, scores=scores).outcome("min-max") == "only on the test"


def test_a_penalty_on_the_validation_set_is_judged_against_what_it_did_there(comparison):
    assert fitted_to("findings", EqualLoss(weight=2, on="holdout")) == "validation"
    assert fitted_to("recognition", EqualLoss(weight=2, on="holdout")) == fitted_to("findings", MinMax()) == "train"
    name = "equal-loss 1"  # fair on train, as unfair as the baseline on validation
    assert comparison.outcome(name) == "not seen on the test"
    judged = replace(comparison, fitted=comparison.fitted | {name: "validation"})
    assert judged.outcome(name) == "no narrowing"
    assert "on the validation set, of which its penalty was taken" in reading(judged, name)
    assert "on the train set" in reading(comparison, name)


def test_of_three_groups_all_have_to_come_closer(comparison):
    third = comparison.scores.filter(pl.col("group") == "F").with_columns(
        pl.lit("X").alias("group"),
        pl.when(pl.col("intervention") == "min-max")
        .then(pl.col("value") - 0.4)
        .otherwise(pl.col("value"))
        .alias("value"),
    )
    found = replace(comparison, scores=pl.concat([comparison.scores, third]))
    assert found.outcome("min-max") == "worse on the test"
    assert found.leveled_down("min-max") == "no"


def test_leveling_down_is_flagged_where_some_lost_and_none_gained(comparison):
    assert comparison.leveled_down("min-max") == "yes"
    assert comparison.leveled_down("label-flipping M=0.3") == "no"
    assert comparison.leveled_down("equal-loss 2 on holdout") == "no"


def test_who_paid_is_told_of_groups_that_nobody_asked_about(comparison):
    effects = {(one.intervention, one.group): one.effect for one in bystanders(comparison)}
    assert effects["min-max", "old"] == "paid"
    assert effects["label-flipping M=0.3", "old"] == "gained"
    assert effects["equal-loss 1", "young"] == ""
    flags = {one.intervention: one.gerrymandered for one in drifts(comparison)}
    assert flags["min-max"]
    assert not flags["equal-loss 1"]


def test_the_same_figures_are_fairlearns_metric_frame(comparison):
    frame = frame_of(comparison, "min-max", "age")
    assert frame.by_group["rank-1"]["old"] == pytest.approx(0.3, abs=0.01)
    assert frame.difference()["rank-1"] == pytest.approx(0.3)


def test_an_intervention_for_another_task_is_refused_before_anything_is_run():
    experiment = MadeUp()
    with pytest.raises(FairveilError, match="is for findings, not for recognition"):
        compare(experiment, [MinMax(), DisparateImpact()])
    assert experiment.ran == []


def test_of_every_kind_that_a_task_allows_there_is_one():
    names = [one.name for one in everything("recognition", better="M", worse="F", weight=0.5)]
    assert names == [
        "baseline", "equal-loss 0.5", "equal-loss 0.5 on holdout", "min-max", "margins F=0.75",
        "fair-features F=2", "label-flipping M=0.3",
    ]  # fmt: skip
    findings = {one.kind for one in everything("findings", better="M", worse="F")}
    assert findings == {"baseline", "equal-loss", "equalized-odds", "disparate-impact", "min-max", "label-flipping"}


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        ("equal-los", {}, "Did you mean"),
        ("equal-loss", {"wait": 1}, "does not take wait=1"),
        ("equal-loss", {"weight": -1}, "does not take weight=-1"),
        ("margins", {}, "does not take group=None"),
        ("min-max", {"weight": 2}, "it takes nothing"),
    ],
)
def test_interventions_and_settings_that_are_not_there_are_told_of(kind, settings, sentence):
    with pytest.raises(FairveilError, match=sentence):
        intervention(kind, **settings)


def test_by_name_they_are_as_made():
    assert intervention("fair-features", toward="F", weight=3) == FairFeatures(toward="F", weight=3)


def test_of_groups_that_fare_equally_two_are_named(comparison):
    level = comparison.scores.with_columns(value=pl.lit(0.5))
    alike = replace(comparison, scores=level)
    assert (alike.best_group, alike.worst_group) == ("F", "M")
    assert (comparison.best_group, comparison.worst_group) == ("M", "F")


def test_of_many_bystanders_that_nothing_happened_to_hardly_any_is_said_to_have_gained_or_paid():
    """Eight groups and two interventions without effect: uncorrected, more than half of the cards name somebody."""
    named, random = 0, np.random.default_rng(0)
    for _ in range(8):
        rows = [
            (name, seed, "test", "rank-1", "", "age", f"age {group}", random.normal(0.7, 0.01), None, None, 10, 10)
            for name in ("baseline", "equal-loss 1", "min-max")
            for seed in range(5)
            for group in range(8)
        ]
        scores = pl.DataFrame(rows, schema={"intervention": pl.String, "seed": pl.Int64, **SCORES}, orient="row")
        found = Comparison(
            "recognition", "sex", {"test": "rank-1"},
            {"baseline": "baseline", "equal-loss 1": "baseline", "min-max": "baseline"}, scores, {}, {},
        )  # fmt: skip
        named += any(one.effect for one in bystanders(found))
    assert named <= 1


def card_of_equals(groups, runs, random, *, scatter=1.0):
    """A card whose groups fare alike but for what each run adds, half of it on all splits alike."""
    rows = []
    for name, times in (("baseline", 1.0), ("min-max", scatter)):
        shared, own = random.normal(size=(1, groups, runs)), random.normal(size=(3, groups, runs))
        values = 0.7 + 0.02 * times * (shared + own) / 2**0.5
        for (part, group, run), value in np.ndenumerate(values):
            rows.append((name, run, SPLITS[part], "rank-1", "", "tone", f"tone {group}", value, None, None, 9, 9))
        for (part, run), value in np.ndenumerate(values.mean(axis=1)):
            rows.append((name, run, SPLITS[part], "rank-1", "", "", "", value, None, None, 9, 9))
    schema = {"intervention": pl.String, "seed": pl.Int64, **SCORES}
    return Comparison(
        "recognition", "tone", dict.fromkeys(SPLITS, "rank-1"), dict.fromkeys(("baseline", "min-max"), "baseline"),
        pl.DataFrame(rows, schema=schema, orient="row"), {}, {"min-max": "train"},
    )  # fmt: skip


def test_of_many_cards_of_eight_equal_groups_hardly_any_tells_a_gap_or_a_change_or_who_is_ahead():
    """Uncorrected, a third tells a gap on validation; see `bench/false_statements.py` for more."""
    random = np.random.default_rng(0)
    cards = [card_of_equals(8, 6, random) for _ in range(20)]
    assert sum(card.gap("baseline", "validation").excludes(0) for card in cards) <= 3
    assert sum(card.gap_change("min-max", "validation").excludes(0) for card in cards) <= 3
    assert sum("ahead" in reading(card, "min-max") for card in cards) <= 3
    assert sum("leveled down" in reading(card, "min-max") for card in cards) <= 2
    lost = [[one.excludes(0) for one in card.group_changes("min-max", "test").values()] for card in cards]
    assert sum(map(any, lost)) <= 3


def test_runs_that_scatter_more_are_not_told_as_groups_that_moved_apart():
    """The spread is larger in each run, since each has another group ahead: no two groups moved apart."""
    random = np.random.default_rng(0)
    cards = [card_of_equals(8, 10, random, scatter=2.0) for _ in range(20)]
    assert sum(card.narrowing("min-max", "test").value < 0 for card in cards) >= 19
    assert sum(card.outcome("min-max") != "no narrowing" for card in cards) <= 2


def with_equals(comparison, more):
    """The same with more groups that fare like F."""
    theirs = comparison.scores.filter(pl.col("group") == "F")
    others = [theirs.with_columns(group=pl.lit(f"G{number}")) for number in range(more)]
    return replace(comparison, scores=pl.concat([comparison.scores, *others]))


@pytest.mark.parametrize(("more", "each"), [(0, 0.975), (1, 1 - 0.05 / 3), (6, pairs_confidence(8))])
def test_intervals_of_changes_hold_for_all_groups_at_once(comparison, more, each):
    """Of two groups too: either could be said to have gained or lost."""
    card = with_equals(comparison, more)
    alone, together = card.change("min-max", "test", "F"), card.group_changes("min-max", "test")["F"]
    wider = stats.t.ppf((1 + each) / 2, 2) / stats.t.ppf(0.975, 2)
    assert together.high - together.low == pytest.approx(wider * (alone.high - alone.low))
    assert f"{100 * each:.4g} % each" in change_table(card).caption


def test_intervals_between_groups_are_as_wide_as_all_pairs_of_them_ask_for(comparison):
    eight = with_equals(comparison, 6)
    assert (comparison.confidence, eight.confidence) == (0.95, pairs_confidence(8))
    wider = stats.t.ppf((1 + pairs_confidence(8)) / 2, 2) / stats.t.ppf(0.975, 2)
    for what in (
        lambda card: card.gap("baseline", "test"),
        lambda card: card.gap_change("min-max", "test"),
        lambda card: card.narrowing("min-max", "test"),
    ):
        two, many = what(comparison), what(eight)
        assert two.value == pytest.approx(many.value)
        assert many.high - many.low == pytest.approx(wider * (two.high - two.low))
    assert "99.76 % each, so that those of all pairs of the 8 groups hold at once" in gap_table(eight).caption
    assert "at once" not in gap_table(comparison).caption
    assert card_record(eight)["confidence"] == pairs_confidence(8)


def test_over_people_too_intervals_of_the_gap_hold_for_all_pairs_of_groups(comparison):
    two, many = (with_people(card, 0.03) for card in (comparison, with_equals(comparison, 6)))
    found, wider = two.gap_over_people("baseline", "test"), many.gap_over_people("baseline", "test")
    assert wider.high - wider.value == pytest.approx(
        stats.norm.ppf((1 + pairs_confidence(8)) / 2) / stats.norm.ppf(0.975) * (found.high - found.value)
    )
    (table,) = people_tables(many)
    assert "hold for all pairs of groups at once" in table.caption


def test_what_is_true_of_one_of_eight_groups_is_still_told(comparison):
    eight = with_equals(comparison, 6)
    assert eight.outcome("min-max") == comparison.outcome("min-max") == "carried over"
    assert eight.leveled_down("min-max") == "yes"


def test_without_an_interval_behind_it_nothing_is_said_to_have_leveled_down(comparison):
    noise = np.array([0.1, -0.02, -0.05])
    rough = moved(comparison, "equal-loss 1", "test", "M", -0.02)  # closer by the means, and everybody lost
    rough = replace(
        rough,
        scores=rough.scores.with_columns(
            value=pl.when((pl.col("intervention") == "equal-loss 1") & (pl.col("group") == "M"))
            .then(pl.col("value") + pl.col("seed").replace_strict({0: noise[0], 1: noise[1], 2: noise[2]}))
            .otherwise(pl.col("value"))
        ),
    )
    assert rough.leveled_down("equal-loss 1") == "no"
    assert "leveled down" not in reading(rough, "equal-loss 1")


def test_who_is_first_by_chance_is_not_said_to_be_ahead():
    random = np.random.default_rng(3)
    card = card_of_equals(4, 5, random)
    told = reading(card, "min-max")
    assert "the means of the baseline put tone" in told and "which these runs cannot tell from chance" in told
    assert "ahead" not in told


def test_groups_that_are_not_compared_are_named(comparison):
    theirs = comparison.scores.filter(pl.col("group") == "F", pl.col("split") != "test")
    rare = pl.concat([comparison.scores, theirs.with_columns(group=pl.lit("X"))])
    found = replace(comparison, scores=rare, trained_on=("F", "M", "X", "Y"))
    assert found.left_out_groups == {"X": ("test",), "Y": ("train", "validation", "test")}
    points = sections_of(found)[1].points
    assert "X is not compared: on test there are fewer than 5 of these people." in points
    assert card_record(found)["groups left out"]["X"] == ["test"]


def test_the_gap_of_one_model_is_that_of_two_named_groups_with_an_interval():
    rows = [
        (split, "rank-1", "", column, group, value, low, high, 50, 50)
        for split in SPLITS
        for column, group, value, low, high in (
            ("", "", 0.6, 0.5, 0.7), ("tone", "a", 0.7, 0.6, 0.8), ("tone", "b", 0.5, 0.4, 0.6),
            ("tone", "c", 0.6, 0.5, 0.7),
        )
    ]  # fmt: skip
    rows = [row for row in rows if row[0] == "test" or row[4] != "c"]
    groups = groups_of({"tone": ["a", "b", "c", "rare"]}, "tone")
    experiment = SimpleNamespace(
        task="recognition", column="tone", measures=dict.fromkeys(SPLITS, "rank-1"), groups=groups
    )
    table = single_table(experiment, pl.DataFrame(rows, schema=SCORES, orient="row"))
    gap = dict(table.rows)["test (rank-1)"][-1]
    reach = 0.1 * 2**0.5 * stats.norm.ppf((1 + pairs_confidence(3)) / 2) / stats.norm.ppf(0.975)
    assert (gap.value, gap.estimate.high - gap.value, gap.note) == (
        pytest.approx(0.2),
        pytest.approx(reach),
        "a less b",
    )
    train = dict(table.rows)["train (rank-1)"]
    assert train[-1].estimate.high - train[-1].value == pytest.approx(0.1 * 2**0.5)
    assert train[3].text == "too few"
    assert "Nothing is told of rare: there are fewer than 5 of these people." in table.caption


def test_a_comparison_prints_what_its_card_says_and_becomes_a_table_of_its_scores():
    found = compare(MadeUp(), MADE)
    assert all(reading(found, name) in str(found) for name in found.interventions)
    assert "min-max" in found._repr_html_() and gap_table(found).title in found._repr_html_()
    assert found.to_frame().equals(found.scores)
