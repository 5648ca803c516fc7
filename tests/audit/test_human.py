"""Recognizers against people, question by question: against a literal transcription, scipy and simulated surveys."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairveil.audit.human import Questions, agreement, l2_ratio, read_questions
from fairveil.base.errors import FairveilError
from fairveil.faces.vectors import Embeddings, vector_column


def some(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def embedded(vectors, **columns):
    """Images called 0, 1, 2 and so on."""
    frame = pl.DataFrame({"image": [str(row) for row in range(len(vectors))]} | columns)
    return Embeddings(frame.with_columns(vector_column("net", np.asarray(vectors, np.float32))))


def survey(random, count, *, false=8, **columns):
    """Questions with random images and answers, and unit vectors of these images."""
    vectors = random.normal(size=(count * (2 + false), 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images = np.arange(len(vectors)).astype(str).reshape(count, -1)
    frame = pl.DataFrame(
        {
            "question": [f"q{row}" for row in range(count)],
            "probe": images[:, 0],
            "true": images[:, 1],
            "false": images[:, 2:].tolist(),
            "human_accuracy": random.uniform(size=count),
        }
        | columns
    )
    return vectors, Questions(frame, "survey", tuple(columns))


def asked(ratio, accuracy, person, **columns):
    """Questions whose L2 ratios come out as given, about persons: the probe is 0, the others lie on two axes."""
    count = len(ratio)
    vectors = np.zeros((3 * count, 2))
    vectors[count : 2 * count, 0] = 1 - ratio
    vectors[2 * count :, 1] = ratio
    who = [f"p{one}" for one in person]
    embeddings = embedded(vectors, identity=who + who + ["other"] * count)
    frame = pl.DataFrame(
        {
            "question": [f"q{row}" for row in range(count)],
            "probe": [str(row) for row in range(count)],
            "true": [str(row + count) for row in range(count)],
            "false": [[str(row + 2 * count)] for row in range(count)],
            "human_accuracy": np.asarray(accuracy, float),
        }
        | columns
    )
    return embeddings, Questions(frame, "survey", tuple(columns))


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_the_ratio_has_the_values_the_text_gives_it(seed, scale):
    probe, other, far = some(seed, 5, 4), some(seed + 1, 5, 4), some(seed + 2, 5, 4)
    ratio = l2_ratio(probe, other, far)
    assert torch.equal(l2_ratio(probe, probe, far), torch.ones(5).double())
    assert torch.equal(l2_ratio(probe, other, probe), torch.zeros(5).double())
    assert torch.allclose(l2_ratio(probe, probe + other, probe - other), torch.tensor(0.5).double())
    assert torch.allclose(l2_ratio(scale * probe, scale * other, scale * far), ratio)
    assert torch.allclose(l2_ratio(probe, far, other), 1 - ratio)
    assert bool(((ratio >= 0) & (ratio <= 1)).all())


def test_three_equal_images_are_equally_far():
    assert l2_ratio(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3)).tolist() == [0.5, 0.5]


def test_by_question_is_the_equation_read_aloud_and_scipy_correlates_it():
    vectors, questions = survey(np.random.default_rng(0), 30)
    found = agreement(embedded(vectors), questions)
    ratios = []
    for row in questions.frame.to_dicts():
        probe, true = (vectors[int(row[which])].astype(np.float32) for which in ("probe", "true"))
        distances = {image: np.sqrt(((vectors[int(image)] - probe) ** 2).sum()) for image in row["false"]}
        nearest = min(distances, key=distances.get)
        assert found.by_question["nearest_false"][len(ratios)] == nearest
        ratios.append(distances[nearest] / (np.sqrt(((probe - true) ** 2).sum()) + distances[nearest]))
    assert found.by_question["l2_ratio"].to_numpy() == pytest.approx(ratios, abs=1e-6)
    assert found.by_question["question"].to_list() == questions.frame["question"].to_list()
    expected = stats.pearsonr(ratios, questions.frame["human_accuracy"].to_numpy()).statistic
    assert found.overall.value == pytest.approx(expected, abs=1e-5)
    assert found.recognizer == "net" and (found.overall.count, found.overall.n) == (30, 30)


def test_the_interval_is_fishers_with_the_spread_of_leaving_out_people():
    random = np.random.default_rng(3)
    person = np.repeat(np.arange(8), [1, 2, 5, 5, 5, 3, 9, 2])
    group = np.where(person < 4, "a", "b")
    own = random.normal(size=8)[person]  # questions about one person are alike: wider than of independent questions
    ratio, accuracy = (1 / (1 + np.exp(-own - 0.1 * random.normal(size=len(own)))) for _ in range(2))
    found = agreement(*asked(ratio, accuracy, person, group=group))

    def pooled(rows):
        x, y = np.array(ratio[rows]), np.array(accuracy[rows])
        for one in "ab":
            mine = group[rows] == one
            x[mine], y[mine] = x[mine] - x[mine].mean(), y[mine] - y[mine].mean()
        return np.arctanh(stats.pearsonr(x, y).statistic)

    everything = np.ones(len(person), bool)
    for correlation, statistic in (
        (found.within["group"], pooled),
        (found.overall, lambda rows: np.arctanh(stats.pearsonr(ratio[rows], accuracy[rows]).statistic)),
    ):
        center = statistic(everything)
        spread = np.sqrt(7 / 8 * sum((statistic(person != one) - center) ** 2 for one in range(8)))
        reach = stats.t.ppf(0.975, 7) * spread
        assert reach > 1.96 / np.sqrt(len(person) - 4)
        assert [correlation.value, correlation.low, correlation.high] == pytest.approx(
            np.tanh([center, center - reach, center + reach]), abs=1e-5
        )


def drawn(random, people, questions, correlation, kind):
    """L2 ratio and human accuracy of questions about people, half of whose variation is that between people."""
    sizes = random.integers(1, 2 * questions, people) if questions > 1 else np.ones(people, int)
    person = np.repeat(np.arange(people), sizes)
    mix = np.linalg.cholesky([[1, correlation], [correlation, 1]])
    of_people, own = random.normal(size=(people, 2)) @ mix.T, random.normal(size=(len(person), 2)) @ mix.T
    x, y = (np.sqrt(0.5) * (of_people[person] + own)).T
    ratio = 1 / (1 + np.exp(-0.3 * x))
    if kind == "ceiling":  # people are right of most questions always
        return ratio, random.binomial(10, 1 / (1 + np.exp(-2.5 - 1.5 * y))) / 10, person
    return ratio, 1 / (1 + np.exp(-0.3 * y)), person


@pytest.mark.parametrize(
    ("people", "questions", "correlation", "kind"),
    [(5, 1, 0.5, "smooth"), (12, 3, 0.8, "smooth"), (12, 3, 0.5, "ceiling"), (40, 4, 0.0, "ceiling")],
)
def test_the_intervals_cover_the_correlation_of_all_people(people, questions, correlation, kind):
    truth = np.corrcoef(*drawn(np.random.default_rng(0), 40_000, questions, correlation, kind)[:2])[0, 1]
    random, trials = np.random.default_rng(1), 100
    surveys = [drawn(random, people, questions, correlation, kind) for _ in range(2 * trials)]
    survey = np.repeat(np.arange(len(surveys)), [len(one[0]) for one in surveys])
    ratio, accuracy, person = (np.concatenate([one[part] for one in surveys]) for part in range(3))
    columns = {  # every two surveys are the groups of a column, and nothing else has a value in it
        f"trial {trial}": np.where(survey // 2 == trial, np.where(survey % 2, "odd", "even"), None).tolist()
        for trial in range(trials)
    }
    found = agreement(*asked(0.8 * ratio + 0.2 * (survey % 2), accuracy, survey * people + person, **columns))
    for kept in ([one for two in found.by_group.values() for one in two.values()], list(found.within.values())):
        assert len(kept) > 0.95 * (2 * trials if kept[0].n < 2 * people else trials)
        assert np.mean([one.low <= truth <= one.high for one in kept]) > 0.88  # 0.95 less three standard deviations


def test_what_groups_have_in_common_is_not_taken_for_agreement_about_questions():
    random = np.random.default_rng(5)
    group = np.repeat(["female", "male"], 60)
    shift = np.where(group == "male", 0.3, 0.0)
    ratio, accuracy = (0.3 + shift + 0.05 * random.normal(size=120) for _ in range(2))
    found = agreement(*asked(ratio, accuracy, np.arange(120), gender=group))
    assert found.overall.low > 0.8
    assert found.within["gender"].low < 0 < found.within["gender"].high < 0.3
    assert all(abs(one.value) < 0.3 for one in found.by_group["gender"].values())


def test_small_and_constant_groups_are_left_out_and_told():
    random = np.random.default_rng(2)
    group = ["few"] * 3 + ["one"] * 6 + ["same"] * 5 + ["good"] * 8 + [None] * 4
    accuracy = random.uniform(size=len(group))
    accuracy[9:14] = 1.0
    person = np.arange(len(group))
    person[3:9] = 3
    found = agreement(*asked(random.uniform(size=len(group)), accuracy, person, hair=group))
    assert list(found.by_group["hair"]) == ["good"] and found.within == {}
    assert found.left_out["hair"] == {
        "few": "it has only 3 of the 4 questions it takes",
        "one": "its questions are about only 1 of the 4 people it takes",
        "same": "the human accuracy is the same in all its questions",
    }
    assert found.overall.count == len(group)


def test_a_perfect_correlation_and_one_that_rests_on_a_person_have_intervals():
    straight = np.linspace(0.2, 0.8, 6)
    perfect = agreement(*asked(straight, straight, np.arange(6))).overall
    assert perfect.value == pytest.approx(1) and perfect.low <= perfect.value <= perfect.high <= 1
    single = agreement(*asked(straight, np.array([0.0, 0, 0, 0, 0, 1]), np.arange(6))).overall
    assert single.low < 0 < single.value < single.high


def test_without_identities_questions_with_one_probe_are_of_one_person():
    vectors, questions = survey(np.random.default_rng(0), 8)
    frame = questions.frame.with_columns(probe=pl.Series(["0", "0", "0", *questions.frame["probe"][3:]]))
    assert agreement(embedded(vectors), Questions(frame, "survey")).overall.n == 6
    known = [None] * len(vectors)
    known[int(frame["probe"][3])] = known[int(frame["probe"][4])] = "Ann"
    assert agreement(embedded(vectors, identity=known), Questions(frame, "survey")).overall.n == 5


CSV = (
    "question, probe ,true,false,human_accuracy,gender\n"
    " 1,a.jpg , b.jpg,c.jpg; d\\e.jpg;,0.5, f\n"
    "2,b.jpg,a.jpg,c.jpg,1,\n"
)


def written(tmp_path, text):
    path = tmp_path / "questions.csv"
    path.write_text(text)
    return path


def test_questions_are_read_without_stray_spaces(tmp_path):
    questions = read_questions(written(tmp_path, CSV))
    assert questions.name == "questions" and questions.groups == ("gender",) and len(questions) == 2
    assert questions.frame.rows() == [
        ("1", "a.jpg", "b.jpg", ["c.jpg", "d/e.jpg"], 0.5, "f"),
        ("2", "b.jpg", "a.jpg", ["c.jpg"], 1.0, None),
    ]
    assert read_questions(written(tmp_path, CSV), groups=[]).groups == ()


def test_incorrect_images_in_columns_and_counts_of_answers_are_read(tmp_path):
    text = "question,probe,true,false1,false2,correct,answers\n1,a,b,c,d,3,4\n2,b,a,,d,0,5\n"
    questions = read_questions(written(tmp_path, text))
    assert questions.frame["false"].to_list() == [["c", "d"], ["d"]]
    assert questions.frame["human_accuracy"].to_list() == [0.75, 0.0]
    assert questions.groups == ()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (" probe ", "prob", r"has no column 'probe'\. Did you mean prob\? It has question, prob,"),
        ("false", "wrong", "has no column 'false'"),
        ("human_accuracy", "human_acuracy", "has no column 'human_accuracy'. Did you mean human_acuracy"),
        ("human_accuracy", "correct", "Columns correct and answers would do"),
        ("gender", "l2_ratio", "'l2_ratio', which is measured here"),
        ("0.5", "87", r"Row 1 of .* has '87' in 'human_accuracy': give a share from 0 to 1"),
        ("0.5", "nan", "has 'nan' in"),
        ("0.5", "-0.1", "has '-0.1' in"),
        ("0.5", "half", "has 'half' in"),
        ("0.5", "", "has '' in"),
        ("a.jpg ,", ",", "Row 1 of .* has nothing in 'probe'"),
        ("c.jpg; d\\e.jpg;", " ; ", "Row 1 of .* has nothing in 'false'"),
        ("c.jpg,1,", ",1,", "Row 2 of .* has nothing in 'false'"),
        ("\n2,", "\n1,", "the question '1' more than once"),
        ("c.jpg;", "a.jpg;", "Question '1' of .* has its probe in the gallery"),
        ("c.jpg;", "b.jpg;", "Question '1' of .* has its correct image among the incorrect ones"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path, old, new, complaint):
    assert old in CSV
    with pytest.raises(FairveilError, match=complaint):
        read_questions(written(tmp_path, CSV.replace(old, new, 1)))


@pytest.mark.parametrize("counts", ["5,4", "1,0", "0,0", "-1,4", "-1,-4", "1,inf", ",4", "nan,4"])
def test_counts_that_are_no_share_are_told(tmp_path, counts):
    with pytest.raises(FairveilError, match="in 'correct' of 'answers': give some or none"):
        read_questions(written(tmp_path, f"question,probe,true,false,correct,answers\n1,a,b,c,{counts}\n"))


def test_no_questions_and_unknown_groups_are_told(tmp_path):
    with pytest.raises(FairveilError, match="has no rows"):
        read_questions(written(tmp_path, "question,probe,true,false,human_accuracy\n"))
    with pytest.raises(FairveilError, match=r"no groups 'gendr'\. Did you mean gender\?"):
        read_questions(written(tmp_path, CSV), groups=["gendr"])


def test_images_that_are_not_embedded_once_are_told():
    vectors, questions = survey(np.random.default_rng(0), 5)
    whole = embedded(vectors)
    with pytest.raises(FairveilError, match="Of 50 images of survey 2 are not among the embeddings, the first 0:"):
        agreement(Embeddings(whole.frame[2:]), questions)
    with pytest.raises(FairveilError, match="1 have several faces among the embeddings, the first 7:"):
        agreement(Embeddings(pl.concat([whole.frame, whole.frame[7:8]])), questions)


def test_questions_without_a_correlation_are_told():
    random = np.random.default_rng(0)
    embeddings, questions = asked(random.uniform(size=6), random.uniform(size=6), np.arange(6))
    for frame, complaint in (
        (questions.frame[:3], "as it has only 3 of the 4 questions it takes"),
        (questions.frame.with_columns(human_accuracy=pl.lit(0.9)), "as the human accuracy is the same"),
    ):
        with pytest.raises(FairveilError, match=f"No correlation can be had of survey, {complaint}"):
            agreement(embeddings, Questions(frame, "survey"))
    with pytest.raises(FairveilError, match="the L2 ratio is the same"):
        agreement(*asked(np.full(6, 0.25), random.uniform(size=6), np.arange(6)))
    with pytest.raises(FairveilError, match="about only 3 of the 4 people"):
        agreement(*asked(random.uniform(size=6), random.uniform(size=6), np.arange(6) // 2))
    with pytest.raises(FairveilError, match="not finite"):
        agreement(*asked(np.array([np.nan, 0.1, 0.2, 0.3, 0.4]), random.uniform(size=5), np.arange(5)))
    with pytest.raises(FairveilError, match="no embeddings of a recognizer 'nte'"):
        agreement(embeddings, questions, recognizer="nte")
