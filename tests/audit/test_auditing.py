"""The audit as a whole: what is counted, compared, warned of, and refused."""

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from fairlearn.metrics import MetricFrame

from fairveil.audit.auditing import MaskedBias, audit, audit_embeddings, in_percent, metric_frame
from fairveil.audit.bias import FairPoint
from fairveil.audit.imbalance import Shares
from fairveil.audit.report import audit_record, masked_tables, reading, sections_of, sensitivity_reading
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.faces.searching import searches
from fairveil.faces.vectors import Embeddings, vector_column


def embeddings_of(women, men, *, images=6, spread=(1.5, 1.5), seed=0, names=("net",)):
    """Faces of women and men who are hardly taken for each other, harder to tell apart the larger the spread."""
    generator = torch.Generator().manual_seed(seed)
    who = torch.arange(women + men).repeat_interleave(images)
    group = (who >= women).long()
    frame = pl.DataFrame(
        {
            "image": [f"{row}.jpg" for row in range(len(who))],
            "identity": [f"person {person}" for person in who.tolist()],
            "gender": np.array(["F", "M"])[group.numpy()],
        }
    )
    for name in names:
        centers = torch.randn(women + men, 24, generator=generator)
        centers[:, 0] += 8.0 * (2 * (torch.arange(women + men) >= women) - 1)
        noise = torch.randn(len(who), 24, generator=generator) * torch.tensor(spread)[group, None]
        frame = frame.with_columns(vector_column(name, F.normalize(centers[who] + noise, dim=1).numpy()))
    return Embeddings(frame)


def test_the_harder_group_is_found_out_and_its_ratio_leaves_out_one():
    found = audit_embeddings(embeddings_of(60, 60, spread=(2.0, 1.2)), "gender")
    assert found.versus == ("F", "M")
    assert found.error_ratio.low > 1
    assert found.curves["identities"].response.error_ratio(5, ("F", "M")).low > 1
    assert any("leaves out 1" in sentence for sentence in reading(found))


def test_equally_hard_groups_are_not_told_apart():
    found = audit_embeddings(embeddings_of(60, 60, images=10), "gender")
    assert found.error_ratio.low < 1 < found.error_ratio.high
    assert any("no difference can be told from chance" in sentence for sentence in reading(found))
    assert found.masked is None  # these data are balanced: there is nothing to compare them with
    assert abs(found.curves["images"].fair_point.share.value - 0.5) < 0.15


def test_a_test_set_like_the_train_set_hides_the_bias_that_a_balanced_one_shows():
    """Women are harder, and were few in training; few of them in the test set make up for it."""
    faces = embeddings_of(150, 150, spread=(1.4, 0.9), images=4)
    found = audit_embeddings(faces, "gender", train=Shares.of("identities", {"F": 1, "M": 9}), seeds=10)
    assert found.masked.stated
    assert found.masked.balanced.value > 1.2 * found.masked.matched.value
    assert "hides bias" in found.masked.warning
    assert found.masked.change.high < 1


NOWHERE = Estimate(math.nan)


@pytest.mark.parametrize(
    ("point", "sentence"),
    [
        (FairPoint(NOWHERE, 0.0, None), "neither F nor M is missed at any share of M among identities"),
        (
            FairPoint(NOWHERE, 0.4, 0.9),
            "cannot be told: by the figures at none, but intervals hold equal errors",
        ),
        (FairPoint(Estimate(0.4), 0.6, 0.4), "cannot be told: by the figures at 40%, but the interval holds all"),
        (
            FairPoint(NOWHERE, 0.0, 0.9, "F"),
            "F is missed more often than M at every share of M among identities",
        ),
        (
            FairPoint(NOWHERE, 0.0, 0.9, "M"),
            "M is missed more often than F at every share of M among identities",
        ),
        (FairPoint(Estimate(0.4, 0.3), 0.9, 0.4), "missed equally often where 40% [30% to above the shares tried]"),
    ],
)
def test_where_two_groups_are_missed_equally_often_is_told_no_surer_than_its_interval(point, sentence):
    curve = SimpleNamespace(kind="identities", focus="M", fair_point=point)
    found = SimpleNamespace(versus=("F", "M"), curves={"identities": curve}, masked=None, without_masked="")
    told = next(sensitivity_reading(found))
    assert sentence in told


def test_groups_that_are_never_missed_are_not_said_to_be_missed_unequally():
    told = next(sensitivity_reading(audit_embeddings(embeddings_of(20, 20, spread=(0.01, 0.01)), "gender", seeds=2)))
    assert told.startswith("neither M nor F is missed at any share of F among identities that was tried")


@pytest.mark.parametrize(
    ("balanced", "matched", "what"),
    [
        (Estimate(1.02, 0.8, 1.3), Estimate(0.7, 0.5, 0.9), "shows another ratio of errors"),
        (Estimate(1.5, 1.2, 1.9), Estimate(0.95, 0.7, 1.3), "hides bias"),
        (Estimate(1.5, 1.2, 1.9), Estimate(2.5, 2.0, 3.2), "exaggerates bias"),
        (Estimate(1.5, 1.2, 1.9), Estimate(0.5, 0.4, 0.7), "turns the ratio of errors round"),
        (Estimate(1.5, 1.2, 1.9), Estimate(0.5, 0.2, 1.1), "shows another ratio of errors"),
    ],
)
def test_a_ratio_is_turned_round_only_where_both_can_be_told_from_one(balanced, matched, what):
    change = Estimate(matched.value / balanced.value, 0.9, 0.99)
    if change.value > 1:
        change = Estimate(change.value, 1.1, 3.0)
    response = SimpleNamespace(
        error_ratio=lambda place, versus: (balanced, matched)[place], ratio_change=lambda *_: change
    )
    masked = MaskedBias(Shares.of("identities", {"F": 1, "M": 9}), True, response, ("F", "M"))
    assert masked.warning.startswith(f"A test set made up like the train set {what}: ")


def test_where_the_train_set_is_told_and_errors_are_too_few_nobody_is_asked_to_tell_it():
    faces = embeddings_of(20, 20, spread=(0.01, 0.01))
    *_, told = sensitivity_reading(audit_embeddings(faces, "gender", train=Shares.of("identities", {"F": 1, "M": 3})))
    assert told.endswith("like the train set would hide bias cannot be told: there are too few people or errors.")
    *_, untold = sensitivity_reading(audit_embeddings(faces, "gender"))
    assert "no train set was named" in untold


def test_rates_are_those_of_a_metric_frame_that_auditors_can_go_on_with():
    faces = embeddings_of(20, 30, spread=(2.0, 1.2))
    found = audit_embeddings(faces, "gender", ranks=(1, 3))
    assert isinstance(found.metrics, MetricFrame)
    search = searches(faces, faces, leave_one_out=True)[0]
    expected = search.accuracy((1, 3), group="gender")
    for group in ("F", "M"):
        for k in (1, 3):
            assert found.accuracy(group, k) == expected[group][k]
    assert found.metrics.by_group["probes"].to_dict() == {"F": 120, "M": 180}
    assert metric_frame(search, "gender").difference()["rank-1"] > 0


def test_lone_images_copies_missing_groups_and_identities_are_counted():
    frame = embeddings_of(20, 20).frame
    lone = frame[:1].with_columns(image=pl.lit("lone.jpg"), identity=pl.lit("lone"))
    copy = frame[:1].with_columns(image=pl.lit("copy.jpg"))
    renamed = frame[1:2].with_columns(image=pl.lit("renamed.jpg"), identity=pl.lit("person 3"))
    unnamed = frame[2:3].with_columns(image=pl.lit("unnamed.jpg"), identity=pl.lit(None, pl.String))
    nobody = frame[-12:].with_columns(gender=pl.lit(" "))
    found = audit_embeddings(Embeddings(pl.concat([frame[:-12], nobody, lone, copy, renamed, unnamed])), "gender")
    assert found.groups["F"].identities == 21
    assert found.groups["F"].lone == 1
    assert found.groups["F"].copies == 2  # a picture and its copy
    assert found.groups["M"].identities == 18
    assert found.search.renamed_copies == 5  # the lone one is a third picture of person 0
    assert len(found.search.probes) == 243
    assert "1 faces without an identity" in found.left_out[0]
    assert "12 faces have no gender" in found.left_out[1]


def test_a_group_of_one_person_is_left_out_and_said_so():
    frame = embeddings_of(20, 20).frame
    one = frame[:3].with_columns(pl.lit("only").alias("identity"), pl.lit("X").alias("gender"))
    found = audit_embeddings(Embeddings(pl.concat([frame, one])), "gender")
    assert set(found.groups) == {"F", "M"}
    assert found.left_out[0].startswith("X: fewer than two people")


def test_more_than_two_groups_are_audited():
    frame = embeddings_of(40, 20).frame
    third = pl.when(pl.col("identity").is_in([f"person {n}" for n in range(20)])).then(pl.lit("N"))
    found = audit_embeddings(
        Embeddings(frame.with_columns(third.otherwise(pl.col("gender")).alias("gender"))), "gender"
    )
    assert set(found.metrics.by_group.index) == {"F", "M", "N"}
    assert set(found.curves["identities"].response.groups) == {"F", "M", "N"}
    assert sections_of([found], {"net": "a network"})[4].plots


def test_what_the_data_cannot_give_is_said_instead_of_a_curve():
    found = audit_embeddings(embeddings_of(10, 10, images=2), "gender")
    assert "cannot be drawn" in found.without_curve["images"]
    assert "images" not in found.curves
    assert audit_record(found)["without_curve"]


def test_the_record_holds_what_the_page_says():
    found = audit_embeddings(embeddings_of(30, 30), "gender")
    record = audit_record(found)
    assert [point["share"] for point in record["curves"]["identities"]["points"]] == [part / 10 for part in range(11)]
    assert record["reading"] == [*reading(found), *sensitivity_reading(found)]
    titles = [section.title for section in sections_of([found], {"net": "a network"})]
    assert titles == [
        "Data and their make-up",
        "Recogniser",
        "Protocol",
        "Results by group",
        "Sensitivity to the make-up of the gallery",
        "Caveats",
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda frame: frame.drop("identity"), "No identities are known"),
        (lambda frame: frame.drop("gender"), "no column 'gender'"),
        (lambda frame: frame.with_columns(gender=pl.lit("F")), "only 'F'"),
        (lambda frame: frame.unique("identity"), "fewer than two people with two images"),
        (
            lambda frame: frame.with_columns(
                gender=pl.when(pl.col("image") == "0.jpg").then(pl.lit("M")).otherwise("gender")
            ),
            "several groups",
        ),
    ],
)
def test_labels_that_allow_no_audit_are_a_sentence(change, complaint):
    with pytest.raises(FairveilError, match=complaint):
        audit_embeddings(Embeddings(change(embeddings_of(5, 5).frame)), "gender")


def test_of_several_recognizers_one_has_to_be_named():
    faces = embeddings_of(10, 10, names=("one", "two"))
    with pytest.raises(FairveilError, match="say which"):
        audit_embeddings(faces, "gender")
    assert audit_embeddings(faces, "gender", recognizer="two").recognizer == "two"


def test_a_train_set_that_the_data_cannot_imitate_is_refused():
    with pytest.raises(FairveilError, match="Nobody is 'X'"):
        audit_embeddings(embeddings_of(10, 10), "gender", train=Shares.of("identities", {"F": 1, "M": 1, "X": 1}))


def test_shares_in_per_cent_add_up():
    assert sum(in_percent({"a": 2, "b": 3, "c": 2}).values()) == 1
    assert in_percent({"many": 996, "few": 4, "none": 0}) == {
        "many": Fraction(99, 100),
        "few": Fraction(1, 100),
        "none": 0,
    }


def test_a_person_in_two_groups_is_refused_even_where_one_of_them_is_rare():
    frame = embeddings_of(10, 10).frame
    once = pl.when(pl.col("image") == "0.jpg").then(pl.lit("Mail")).otherwise(pl.col("gender"))
    with pytest.raises(FairveilError, match=r"person 0 is in several groups of gender \(F, Mail\)"):
        audit_embeddings(Embeddings(frame.with_columns(once.alias("gender"))), "gender")


def test_ranks_without_the_first_leave_the_rest_as_it_is():
    assert audit_embeddings(embeddings_of(20, 20), "gender", ranks=(5,)).error_ratio.value is not None


def of_signs(seed, *, people=24, each=6, groups=2):
    """Faces whose similarities take few values, so that nearly every rank hangs on ties; labels by row."""
    rng = np.random.default_rng(seed)
    who = np.arange(people).repeat(each)
    vectors = np.sign(rng.normal(size=(people, 12))[who] + 0.9 * rng.normal(size=(len(who), 12))) / np.sqrt(12)
    frame = pl.DataFrame({"identity": [f"p{one:02}" for one in who], "gender": np.array([*"FMN"])[who % groups]})
    return frame.with_columns(image=pl.format("row {}", pl.int_range(pl.len()))).with_columns(
        vector_column("net", vectors.astype(np.float32))
    )


@pytest.mark.parametrize(("seed", "groups"), [(0, 2), (1, 2), (2, 3)])
def test_the_order_of_rows_changes_nothing(seed, groups):
    frame = of_signs(seed, people=20 * groups, each=4, groups=groups)
    record = audit_record(audit_embeddings(Embeddings(frame), "gender", seeds=2))
    assert record["ties"] > 0
    assert record["curves"]
    for order in (
        frame.sort("gender", maintain_order=True),
        frame.sort("gender", descending=True, maintain_order=True),
        frame.sample(fraction=1, shuffle=True, seed=seed),
    ):
        assert audit_record(audit_embeddings(Embeddings(order), "gender", seeds=2)) == record


@pytest.mark.parametrize("each", [1, 0])
def test_a_recognizer_that_gives_everybody_one_vector_is_not_audited_and_no_label_is_blamed(each):
    vectors = np.tile(np.eye(8, dtype=np.float32)[:1], (144, 1)) + np.float32(1e-4 * each) * np.eye(8)[1]
    frame = of_signs(0).with_columns(vector_column("net", vectors.astype(np.float32)))
    with pytest.raises(FairveilError, match=r"The model has collapsed.*The labels have nothing to do with it"):
        audit_embeddings(Embeddings(frame), "gender")


def test_ties_are_counted_and_told_and_the_rule_is_stated():
    found = audit_embeddings(Embeddings(of_signs(0)), "gender", seeds=2)
    page = sections_of([found], {"net": "a network"})
    assert any("(a tie)" in sentence for sentence in page[0].points)
    assert "o / (m + 1)" in page[2].paragraphs[0]


@pytest.mark.parametrize("counts", [(1, 1, 1), (100, 101, 99), (7,) * 7, (201, 199)])
def test_equal_groups_have_equal_shares_however_many_they_are(counts):
    shares = in_percent(dict(zip("abcdefg", counts, strict=False)))
    assert set(shares.values()) == {Fraction(1, len(counts))}


def test_a_balanced_set_of_three_groups_is_not_called_biased():
    found = audit_embeddings(Embeddings(of_signs(0, people=60, each=4, groups=3)), "gender", seeds=2)
    assert found.masked is None
    assert "these data are balanced" in found.without_masked
    even = audit_embeddings(
        Embeddings(of_signs(0, people=60, each=4, groups=3)), "gender", seeds=2,
        train=Shares(*(in_percent({"F": 1, "M": 1, "N": 1}),) * 2),
    )  # fmt: skip
    assert even.masked.warning is None
    assert (even.masked.change.value, even.masked.change.low, even.masked.change.high) == (1, 1, 1)


def test_no_train_set_is_spoken_of_where_none_was_named():
    frame = embeddings_of(60, 30, spread=(2.0, 1.2)).frame
    for train, whose in ((None, "these data"), (Shares.of("identities", {"F": 2, "M": 1}), "the train set")):
        (table,) = masked_tables([audit_embeddings(Embeddings(frame), "gender", seeds=2, train=train)])
        assert table.columns[1] == f"like {whose}"
        assert table.title.endswith(f"made up like {whose}")


@pytest.mark.parametrize("kind", ["torch", "numpy", "lists"])
def test_plain_arrays_are_audited_as_a_table_of_the_same_faces_is(kind):
    table = embeddings_of(6, 6, images=3)
    vectors, people, groups = table.vectors(), table.frame["identity"].to_list(), table.frame["gender"].to_list()
    if kind == "torch":
        people = torch.tensor([int(name.split()[1]) for name in people])
    elif kind == "numpy":
        vectors, people, groups = 3 * vectors.numpy().astype(np.float64), np.array(people), np.array(groups)
    found = audit(vectors, people, groups, column="gender", recognizer="net", seeds=2)
    expected = audit_embeddings(table, "gender", seeds=2)
    assert audit_record(found) == audit_record(expected)
    rows = found.to_frame().rows(named=True)
    assert [(row["group"], row["rank"]) for row in rows] == [(group, k) for group in "FM" for k in (1, 5, 20)]
    assert all(row["value"] == found.accuracy(row["group"], row["rank"]).value for row in rows)
    assert "rank-5" in str(found) and "| gender F" in str(found) and "<table" in found._repr_html_()


def test_arrays_that_do_not_belong_together_are_refused():
    vectors = torch.randn(4, 8)
    with pytest.raises(FairveilError, match="There are 4 vectors and 3 of identity: give one each"):
        audit(vectors, ["a", "a", "b"], ["F", "F", "M", "M"])
    with pytest.raises(FairveilError, match="The array 'net' holds no rows of floating-point numbers"):
        audit(np.arange(4), list("aabb"), list("FFMM"), recognizer="net")


@pytest.mark.parametrize(
    ("ranks", "seeds"), [((0,), 2), ((-1, 1), 2), ((1.5,), 2), ((), 2), (1, 2), ((1,), 0), ((1,), "2")]
)
def test_ranks_and_draws_that_mean_nothing_are_refused(ranks, seeds):
    with pytest.raises(FairveilError, match=r"give (whole numbers|a whole number) of 1 and more"):
        audit_embeddings(embeddings_of(6, 6), "gender", ranks=ranks, seeds=seeds)


def test_a_rank_that_finds_everybody_is_left_out_and_said_so():
    found = audit_embeddings(embeddings_of(6, 6, images=3), "gender", ranks=(1, 5, 99), seeds=2)
    assert found.ranks == (1, 5)
    assert any("rank-99 would find everybody among 35 faces" in said for said in found.left_out)


@pytest.mark.parametrize("column", ["identity", "image", "net"])
def test_columns_that_hold_no_groups_are_refused_with_those_that_may(column):
    with pytest.raises(FairveilError, match=f"no column '{column}' of groups.*There are gender"):
        audit_embeddings(embeddings_of(6, 6), column, seeds=2)
