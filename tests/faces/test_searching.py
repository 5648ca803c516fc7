"""Probes looked up in a gallery, against a literal transcription that goes face by face."""

import numpy as np
import polars as pl
import pytest
import torch

from fairveil.audit.searches import accuracy_table, miss_table, search_record, ties_told
from fairveil.base.errors import FairveilError
from fairveil.base.rates import miss_rate
from fairveil.faces.searching import Search, searches
from fairveil.faces.vectors import Embeddings, Provenance, vector_column


def _embeddings(count, *, seed, people=6, provenance=None, **columns):
    """Random faces around one direction for each person; some photos show several faces, some people are unknown."""
    rng = np.random.default_rng(seed)
    person = rng.integers(people, size=count)
    vectors = np.eye(8)[person] + rng.normal(size=(count, 8)) * 0.6
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    frame = pl.DataFrame(
        {
            "image": [f"{row // 2}.jpg" for row in range(count)],
            "identity": [None if row % 9 == 4 else f"p{one}" for row, one in enumerate(person)],
            "hair": [None if row % 7 == 3 else "ab"[one % 2] for row, one in enumerate(person)],
        }
    )
    return Embeddings(
        frame.with_columns(vector_column("net", vectors.astype(np.float32)), **columns), provenance=provenance
    )


@pytest.fixture(params=[False, True], ids=["two sets", "leave one out"])
def search(request):
    probes = _embeddings(60, seed=1, people=8)
    gallery = probes if request.param else _embeddings(80, seed=2, people=6)
    return Search("net", probes, gallery, threshold=0.5, leave_one_out=request.param)


def _others(search, row):
    """Rows of the gallery and their similarities to a probe, nearest first."""
    similarity = search.probes.vectors()[row] @ search.gallery.vectors().T
    rows = [one for one in range(len(search.gallery)) if not (search.leave_one_out and one == row)]
    return sorted(((float(similarity[one]), one) for one in rows), key=lambda pair: (-pair[0], pair[1]))


def _found(search):
    """For each labeled probe: its row, and the rank of its person, 0 if not there, and the nearest row."""
    names, known = search.probes.frame["identity"].to_list(), search.gallery.frame["identity"].to_list()
    for row, name in enumerate(names):
        if name is not None:
            order = [one for _, one in _others(search, row)]
            ranks = [place for place, one in enumerate(order, 1) if known[one] == name]
            yield row, (ranks or [0])[0], order[0]


def test_neighbors_are_the_most_similar_rows(search):
    rows = search.neighbors(4)
    assert len(rows) == 4 * len(search.probes)
    for row in range(len(search.probes)):
        ours = rows[4 * row : 4 * row + 4]
        expected = _others(search, row)[:4]
        assert ours["similarity"].to_numpy() == pytest.approx([similarity for similarity, _ in expected], abs=1e-5)
        gallery = search.gallery.frame[[one for _, one in expected]]
        assert ours["image"].to_list() == gallery["image"].to_list()
        assert ours["identity"].to_list() == gallery["identity"].to_list()
        assert ours["face"].to_list() == [one % 2 + 1 for _, one in expected]
        assert ours["probe"].to_list() == [f"{row // 2}.jpg"] * 4
        assert ours["probe_face"].to_list() == [row % 2 + 1] * 4
        assert ours["place"].to_list() == [1, 2, 3, 4]
        assert ours["match"].to_list() == [similarity >= 0.5 for similarity, _ in expected]
    assert len(search.neighbors(1000)) == len(search.probes) * search.candidates


def test_whether_faces_match_is_not_said_without_a_threshold(search):
    unknown = Search("net", search.probes, search.gallery, None, search.leave_one_out)
    assert unknown.neighbors(2)["match"].to_list() == [None] * 2 * len(search.probes)


def test_accuracy_is_the_share_of_probes_whose_person_is_near(search):
    found = list(_found(search))
    hair = search.probes.frame["hair"].to_list()
    accuracy = search.accuracy((1, 3), group="hair")
    assert list(accuracy) == [None, "a", "b"]
    for value, rates in accuracy.items():
        ranks = [rank for row, rank, _ in found if rank and value in (None, hair[row])]
        for k, rate in rates.items():
            assert rate.value == pytest.approx(sum(rank <= k for rank in ranks) / len(ranks))
            assert rate.count == len(ranks)
    assert search.strangers == sum(rank == 0 for _, rank, _ in found)
    assert search.unlabeled == search.probes.frame["identity"].null_count()
    assert (search.strangers > 0) != search.leave_one_out


def test_wrong_matches_are_counted_by_group(search):
    probes, gallery = search.probes.frame["hair"].to_list(), search.gallery.frame["hair"].to_list()
    expected: dict = {}
    for row, rank, nearest in _found(search):
        if rank > 1:
            pair = probes[row], gallery[nearest]
            expected[pair] = expected.get(pair, 0) + 1
    found = {(row["probes"], row["gallery"]): row["count"] for row in search.wrong_matches("hair").to_dicts()}
    assert found == expected and len(found) > 3


def test_misses_are_counted_at_one_threshold_for_all_and_errors_of_each_groups_own_probes(search):
    people = {name: number for number, name in enumerate(dict.fromkeys(search.probes.frame["identity"]))}
    known = search.gallery.frame["identity"].to_list()
    parts = {None: [], "a": [], "b": []}
    for row, rank, _ in _found(search):
        name, hair = search.probes.frame["identity"][row], search.probes.frame["hair"][row]
        order = _others(search, row)
        mate = max((value for value, one in order if known[one] == name), default=-np.inf)
        other = max(value for value, one in order if known[one] != name)
        for part in {None, hair}:
            parts[part].append((mate, other, people[name], rank))
    misses = search.miss_rates([0.2, 0.001], group="hair")
    assert misses.keys() == parts.keys()
    threshold = misses[None][0.2].threshold
    for part, rows in parts.items():
        mate, other, person, _ = (torch.tensor(column) for column in zip(*rows, strict=True))
        assert misses[part].keys() == {0.2}  # too few probes for one in a thousand
        found = misses[part][0.2]
        assert found.threshold == threshold
        there = mate > -torch.inf
        assert found.rate.value == pytest.approx(float((mate[there] <= threshold + 1e-6).double().mean()))
        assert found.false_positives.value == pytest.approx(float((other > threshold + 1e-6).double().mean()))
        assert found.searches == len(rows)
        if part is not None:
            own = search.own_miss_rates([0.2, 0.001], group="hair")[part][0.2]
            expected = miss_rate(mate, other, person, 0.2)
            assert own.rate.value == pytest.approx(expected.rate.value)
            assert own.threshold == pytest.approx(expected.threshold, abs=1e-6)
    assert misses[None][0.2].false_positives.value <= 0.2
    errors = {part: np.mean([rank > 1 for *_, rank in parts[part] if rank > 0]) for part in ("a", "b")}
    most, fewest, times = search.error_ratio(1, "hair")
    assert errors[most] >= errors[fewest]
    assert times.value == pytest.approx(errors[most] / errors[fewest])


def test_nothing_is_said_of_misses_where_nobody_else_is_in_the_gallery():
    some = _embeddings(20, seed=1, people=1)
    alone = Embeddings(some.frame.filter(pl.col("identity").is_not_null()))
    assert Search("net", alone, alone, leave_one_out=True).miss_rates([0.2]) == {}


def test_copies_are_counted():
    probes = _embeddings(40, seed=1)
    search = Search("net", probes, probes)
    assert search.copies == 40 - search.unlabeled
    assert Search("net", probes, probes, leave_one_out=True).copies == 0


def test_groups_without_anyone_in_the_gallery_are_left_out():
    probes = _embeddings(40, seed=1)
    only_a = probes.frame.filter(pl.col("hair") == "a")
    search = Search("net", probes, Embeddings(only_a))
    assert None in search.accuracy([1], group="hair") and "b" not in search.accuracy([1], group="hair")
    nobody = Embeddings(only_a.with_columns(identity=pl.lit("somebody else")))
    assert Search("net", probes, nobody).accuracy([1], group="hair") == {}


def test_what_cannot_be_told_is_refused():
    probes = _embeddings(20, seed=1)
    search = Search("net", probes, Embeddings(probes.frame.drop("identity", "hair")))
    assert not search.labeled
    with pytest.raises(FairveilError, match="No identities are known of the gallery"):
        search.accuracy([1])
    with pytest.raises(FairveilError, match="Did you mean hair"):
        Search("net", probes, probes).accuracy([1], group="hairs")
    no_groups = Embeddings(probes.frame.drop("hair"))
    with pytest.raises(FairveilError, match=r"gallery have no groups 'hair'.*none"):
        Search("net", probes, no_groups).wrong_matches("hair")


def _provenance(network):
    return Provenance(
        fairveil="0", data="d", detector=None, which="all", recognizers={"net": network}, thresholds={"net": 0.25}
    )


def test_only_what_one_network_embedded_is_compared():
    of_a, of_b = (_embeddings(4, seed=1, provenance=_provenance(network)) for network in "ab")
    unknown = _embeddings(4, seed=1)
    assert [search.threshold for search in searches(of_a, of_a)] == [0.25]
    assert [search.threshold for search in searches(unknown, of_a)] == [0.25]
    assert [search.threshold for search in searches(unknown, unknown)] == [None]
    with pytest.raises(FairveilError, match="The net that embedded the probes is not the net"):
        searches(of_a, of_b)
    renamed = Embeddings(of_a.frame.rename({"net": "other"}))
    with pytest.raises(FairveilError, match="by net and the gallery by other"):
        searches(of_a, renamed)
    with pytest.raises(FairveilError, match="only one face"):
        searches(_embeddings(1, seed=1), _embeddings(1, seed=1), leave_one_out=True)


def test_all_recognizers_of_both_sides_search():
    both = _embeddings(4, seed=1)
    both = Embeddings(both.frame.with_columns(second=both.frame["net"]))
    assert [search.recognizer for search in searches(both, both)] == ["net", "second"]
    assert torch.equal(searches(both, both)[1].outcome.rank, searches(both, both)[0].outcome.rank)


def _of_signs(seed, *, people=12, each=5, groups=3):
    """Faces whose similarities take few values, so that nearly every rank hangs on ties."""
    rng = np.random.default_rng(seed)
    who = np.arange(people).repeat(each)
    vectors = np.sign(rng.normal(size=(people, 12))[who] + 0.9 * rng.normal(size=(len(who), 12))) / np.sqrt(12)
    frame = pl.DataFrame(
        {
            "image": [f"{row:03}.jpg" for row in range(len(who))],
            "identity": [f"p{one:02}" for one in who],
            "hair": np.array([*"abcdefgh"])[who % groups],
        }
    )
    return frame.with_columns(vector_column("net", vectors.astype(np.float32)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("apart", [False, True])
def test_the_order_of_rows_changes_no_table(seed, apart):
    frame = _of_signs(seed)
    sides = (frame[::2], frame[1::2]) if apart else (frame, frame)

    def told(order):
        probes, gallery = (Embeddings(order(side)) for side in sides)
        search = Search("net", probes, gallery, threshold=0.5, leave_one_out=not apart)
        near = search.neighbors(4).sort("probe", "place").drop("similarity")
        return search_record(search, (1, 5, 20), "hair", (0.1,)), near.to_dicts()

    record, near = told(lambda side: side)
    assert record["ties"] > 0
    for order in (
        lambda side: side.sort("hair"),
        lambda side: side.sort("hair", descending=True),
        lambda side: side.sample(fraction=1, shuffle=True, seed=seed),
    ):
        again, found = told(order)
        assert again == record
        if seed == 0:  # which of the equals at the end of a list are left out is not settled by their names
            assert [one["probe"] for one in found] == [one["probe"] for one in near]


def test_a_recognizer_that_gives_everybody_one_vector_is_said_to_have_collapsed():
    frame = _of_signs(0).with_columns(vector_column("net", np.full((60, 4), 0.5, np.float32)))
    search = Search("net", Embeddings(frame), Embeddings(frame), leave_one_out=True)
    told = " ".join(ties_told(search))
    assert "has collapsed" in told
    assert "60 of 60 probes are as similar to somebody else" in told
    notes = " ".join(accuracy_table(search, (1, 5), "hair").notes)
    assert "label" not in notes
    assert search.accuracy((1,))[None][1].value == 0
    assert not Search("net", Embeddings(_of_signs(0)), Embeddings(_of_signs(0)), leave_one_out=True).collapsed


def test_a_common_threshold_shows_which_group_finds_somebody_wrong_more_often():
    """People of one group resemble each other: at thresholds of their own nothing would be seen of it."""
    rng = np.random.default_rng(0)
    who = np.arange(120).repeat(4)
    centers = rng.normal(size=(120, 64))
    centers[1::2] += 0.9
    vectors = centers[who] + 0.75 * rng.normal(size=(480, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    frame = pl.DataFrame({"image": [f"{row}.jpg" for row in range(480)], "identity": [f"p{one}" for one in who]})
    frame = frame.with_columns(pl.Series("group", np.array(["A", "B"])[who % 2]))
    faces = Embeddings(frame.with_columns(vector_column("net", vectors.astype(np.float32))))
    search = Search("net", faces, faces, leave_one_out=True)
    found = search.miss_rates([0.1], group="group")
    high, low = found["B"][0.1].false_positives, found["A"][0.1].false_positives
    assert low.high < 0.1 < high.low
    assert found["A"][0.1].threshold == found["B"][0.1].threshold
    own = search.own_miss_rates([0.1], group="group")
    assert own["A"][0.1].threshold < found[None][0.1].threshold < own["B"][0.1].threshold
    table = miss_table(search, [0.1], "group")
    assert table.columns == ("FPIR", "FNIR", "own threshold", "FNIR there", "searches")
    assert f"above {found[None][0.1].threshold:.3f}" in table.groups[0][0]
    assert dict(table.rows)["group B"][0].value == high.value
    whose = {(one["group"], one["threshold_of"]) for one in search_record(search, (1,), "group", [0.1])["misses"]}
    assert whose == {(None, "all"), ("A", "all"), ("B", "all"), ("A", "the group"), ("B", "the group")}


def test_a_search_prints_how_many_are_found_and_shows_the_nearest_faces(search):
    found = [rank for _, rank, _ in _found(search) if rank]
    first = sum(rank == 1 for rank in found) / len(found)
    assert f"net: {len(search.probes)} probes, each looked for among {search.candidates} faces." in str(search)
    assert f" {first:.1%} [" in str(search) and "at rank 20" in str(search)
    assert search.to_frame().equals(search.neighbors(1))
    assert search.probes.frame["image"][0] in search._repr_html_()


def test_a_search_of_people_whom_nobody_knows_says_so():
    side = _embeddings(6, seed=0)
    unknown = Embeddings(side.frame.drop("identity"))
    assert "Who is on them is not known" in str(Search("net", unknown, side))
