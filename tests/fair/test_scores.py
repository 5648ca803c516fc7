"""Figures of groups and intersections against scikit-learn and against counting."""

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fairveil.fair.scores import (
    SCORES,
    areas_under_curve,
    auc_scores,
    positive_scores,
    share_scores,
    shared_labels,
    subsets,
)

SEX = ("F", "M") * 30
AGE = ("old",) * 20 + ("young",) * 38 + (None,) * 2
PEOPLE = torch.arange(60) // 2


def _row(scores, **wanted):
    found = scores.filter(*(pl.col(name) == value for name, value in wanted.items()))
    assert len(found) == 1, found
    return found.row(0, named=True)


def test_shares_are_counted_in_every_group_and_intersection():
    right = torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.7
    scores = share_scores(right, PEOPLE, {"sex": SEX, "age": AGE}, split="test", measure="rank-1")
    assert scores.schema == SCORES
    assert _row(scores, column="", group="")["value"] == pytest.approx(float(right.float().mean()))
    old_women = [row for row in range(60) if SEX[row] == "F" and AGE[row] == "old"]
    found = _row(scores, column="sex × age", group="F × old")
    assert found["value"] == pytest.approx(float(right[old_women].float().mean()))
    assert (found["count"], found["people"]) == (10, 10)
    assert found["low"] < found["value"] <= found["high"]
    assert _row(scores, column="age", group="young")["count"] == 38  # of two samples the age is unknown


def test_groups_of_few_people_are_not_told_of():
    columns = {"sex": SEX, "rare": ("yes",) * 8 + ("no",) * 52}
    told = {one.group for one in subsets(columns, PEOPLE)}
    assert "yes" not in told
    assert {"", "F", "M", "no", "F × no"} <= told


@pytest.mark.parametrize("seed", range(3))
def test_weighted_areas_with_ties_are_those_of_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 8, 50).astype(float)
    present = generator.random(50) < 0.4
    weights = generator.integers(0, 3, (6, 50)).astype(float)
    ours = areas_under_curve(scores, present, weights)
    theirs = [roc_auc_score(present, scores, sample_weight=row) for row in weights]
    assert ours == pytest.approx(theirs)


def test_areas_of_labels_and_their_mean_leave_unknown_targets_out():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 2, generator=generator)
    targets = (logits + torch.randn(60, 2, generator=generator) > 0.3).float()
    targets[:9, 1] = torch.nan
    scores = auc_scores(logits, targets, ["A", "B"], PEOPLE, {"sex": SEX}, split="test")
    assert scores.schema == SCORES
    whole = roc_auc_score(targets[:, 0], logits[:, 0])
    known = roc_auc_score(targets[9:, 1], logits[9:, 1])
    assert _row(scores, label="A", group="")["value"] == pytest.approx(whole)
    found = _row(scores, label="B", group="")
    assert (found["value"], found["count"]) == (pytest.approx(known), 51)
    assert _row(scores, label="mean", group="")["value"] == pytest.approx((whole + known) / 2)
    women = roc_auc_score(targets[::2, 0], logits[::2, 0])
    found = _row(scores, label="A", group="F")
    assert found["value"] == pytest.approx(women)
    assert found["low"] < women < found["high"]


def test_the_mean_of_groups_is_over_the_labels_that_all_of_them_have():
    logits = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    targets = (torch.rand(60, 2, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    targets[::2, 1] = 0  # women never have B
    scores = auc_scores(logits, targets, ["A", "B"], PEOPLE, {"sex": SEX}, split="test")
    assert scores.filter((pl.col("label") == "B") & (pl.col("group") == "F")).is_empty()
    for group in ("F", "M"):
        assert _row(scores, label="mean", group=group)["value"] == _row(scores, label="A", group=group)["value"]
    # and that of everybody, which stands beside them, is over the same
    assert _row(scores, label="mean", group="")["value"] == _row(scores, label="A", group="")["value"]
    assert _row(scores, label="B", measure="AUC", group="")["value"] > 0  # which is told by itself


def test_the_labels_of_means_are_those_that_all_groups_have_on_all_splits():
    targets = (torch.rand(60, 3, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    elsewhere = targets.clone()
    elsewhere[::2, 1] = 0  # there women never have B
    columns = {"sex": SEX, "age": AGE}
    parts = [(targets, PEOPLE, columns), (elsewhere, PEOPLE, columns)]
    assert shared_labels(parts, "sex").tolist() == [True, False, True]
    assert shared_labels(parts, "age").tolist() == [True, True, True]
    few = torch.arange(60) < 4
    rare = {"sex": tuple("X" if one else value for one, value in zip(few.tolist(), SEX, strict=True))}
    targets[few] = 1  # of whom nothing is told, so that they take no label away
    assert bool(shared_labels([(targets, PEOPLE, rare)], "sex").all())
    shared = shared_labels(parts, "sex")
    scores = auc_scores(torch.randn(60, 3), targets, "ABC", PEOPLE, columns, split="train", mean_over=shared)
    for column, group in (("", ""), ("sex", "F"), ("sex", "M")):
        areas = [_row(scores, label=one, measure="AUC", column=column, group=group)["value"] for one in "AC"]
        found = _row(scores, label="mean", column=column, group=group)["value"]
        assert found == pytest.approx(sum(areas) / 2)


def test_positives_are_counted_of_everybody_and_of_every_group():
    targets = torch.zeros(60, 1)
    targets[[0, 1, 2, 10]] = 1
    targets[:2] = torch.nan
    scores = positive_scores(targets, ["A"], PEOPLE, {"sex": SEX, "age": AGE}, split="test")
    assert scores.schema == SCORES
    found = _row(scores, measure="positives", group="")
    assert (found["value"], found["count"], found["people"]) == (2, 58, 29)
    assert _row(scores, measure="positives", group="F")["value"] == 2
    assert _row(scores, measure="positives", group="M")["value"] == 0


def test_intervals_of_areas_take_patients_for_the_sample():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(40, 1, generator=generator)
    targets = (logits + torch.randn(40, 1, generator=generator) > 0).float()
    alone = auc_scores(logits, targets, ["A"], torch.arange(40), {}, split="test")
    # the same images five times over tell no more, as long as they are known to be of the same patients
    many = auc_scores(logits.repeat(5, 1), targets.repeat(5, 1), ["A"], torch.arange(40).repeat(5), {}, split="test")
    first, second = (_row(one, label="A") for one in (alone, many))
    assert second["value"] == pytest.approx(first["value"])
    assert second["high"] - second["low"] == pytest.approx(first["high"] - first["low"], rel=0.15)
