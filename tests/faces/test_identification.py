"""Identification against a literal, slow transcription."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fairveil.base.errors import FairveilError
from fairveil.faces import identification
from fairveil.faces.identification import identify, nearest, nearest_labels


def unit(seed, count, dimensions=4):
    return F.normalize(torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed)), dim=1)


def corners(seed, count):
    """Vectors whose products are exact and take five values only: nearly everything is a tie."""
    return torch.randint(2, (count, 4), generator=torch.Generator().manual_seed(seed)) - 0.5


def literal_order(probe, gallery, excluded):
    """Rows of the gallery, nearest first, equals by row."""
    similarity = [float(row @ probe) for row in gallery]
    rows = [row for row in range(len(gallery)) if row != excluded]
    return sorted(rows, key=lambda row: (-similarity[row], row)), similarity


cases = st.tuples(st.integers(0, 10_000), st.integers(1, 12), st.integers(2, 20), st.booleans())


@given(cases, st.integers(1, 5), st.booleans())
def test_the_nearest_are_those_of_a_full_sort(case, k, leave_out):
    seed, probes, rows, _ = case
    probe_vectors, gallery = unit(seed, probes), unit(seed + 1, rows)
    exclude = torch.arange(probes) % rows if leave_out else None
    k = min(k, rows - leave_out)
    found = nearest(probe_vectors, gallery, k, exclude=exclude)
    for number in range(probes):
        order, similarity = literal_order(probe_vectors[number], gallery, int(exclude[number]) if leave_out else -1)
        assert found.index[number].tolist() == order[:k]
        assert torch.allclose(found.similarity[number], torch.tensor([similarity[row] for row in order[:k]]), atol=1e-6)


@given(cases, st.integers(1, 4))
def test_ranks_are_those_of_a_full_sort(case, people):
    seed, probes, rows, leave_out = case
    probe_vectors, gallery = unit(seed, probes), unit(seed + 1, rows)
    generator = torch.Generator().manual_seed(seed)
    who = torch.randint(people, (rows,), generator=generator)
    asked = torch.randint(people + 1, (probes,), generator=generator)
    exclude = torch.arange(probes) % rows if leave_out else None
    outcome = identify(probe_vectors, gallery, asked, who, exclude=exclude)[0]
    for number in range(probes):
        order, similarity = literal_order(probe_vectors[number], gallery, int(exclude[number]) if leave_out else -1)
        ranks = [place for place, row in enumerate(order, start=1) if who[row] == asked[number]]
        assert int(outcome.rank[number]) == (ranks[0] if ranks else 0)
        others = [row for row in order if who[row] != asked[number]]
        assert int(outcome.other_index[number]) == (others[0] if others else -1)
        if ranks:
            assert float(outcome.mate[number]) == pytest.approx(similarity[order[ranks[0] - 1]], abs=1e-6)


def test_equally_similar_photos_are_ordered_by_their_rows():
    gallery = F.normalize(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), dim=1)
    probe = torch.tensor([[1.0, 0.0]])
    assert nearest(probe, gallery, 2).index.tolist() == [[1, 2]]
    assert nearest(probe, gallery, 2, exclude=torch.tensor([1])).index.tolist() == [[2, 3]]


def test_of_equals_every_order_is_as_likely():
    gallery = F.normalize(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), dim=1)
    probe, who = torch.tensor([[1.0, 0.0]]), torch.tensor([7, 7, 9, 7])
    alone = identify(probe, gallery, torch.tensor([9]), who)[0]  # first, second or third of three
    assert (alone.rank.tolist(), alone.tied.tolist(), alone.nearest_others.tolist()) == ([2], [2], [2])
    both = identify(probe, gallery, torch.tensor([7]), who)[0]  # first in two of three orders, else second
    assert (both.rank.tolist(), both.tied.tolist()) == ([4 / 3], [1])


@given(st.integers(0, 10_000), st.integers(1, 700), st.integers(1, 6), st.booleans(), st.booleans())
def test_ties_in_large_galleries_are_those_of_a_full_stable_sort(seed, rows, k, leave_out, small_blocks):
    gallery = corners(seed, rows)
    probes = gallery[:40] if leave_out else corners(seed + 1, 40)
    itself = torch.arange(len(probes)) if leave_out else torch.full((len(probes),), -1)
    k = min(k, max(1, rows - leave_out))
    if rows == leave_out:
        return
    similarity = probes @ gallery.T
    if leave_out:
        similarity[itself, itself] = -torch.inf
    order = similarity.sort(dim=1, descending=True, stable=True).indices
    with pytest.MonkeyPatch.context() as patch:
        if small_blocks:
            patch.setattr(identification, "_BLOCK", 512 * 8)
        found = nearest(probes, gallery, k, exclude=itself if leave_out else None)
    assert torch.equal(found.index, order[:, :k])
    who, asked = torch.arange(rows) % 5, torch.arange(len(probes)) % 6
    outcome = identify(probes, gallery, asked, who, exclude=itself)[0]
    for number, row in enumerate(similarity):
        mine = row[(who == asked[number]) & (row > -torch.inf)]
        theirs = row[who != asked[number]]
        if not len(mine):
            assert outcome.rank[number] == 0
            continue
        equal, ahead = int((theirs == mine.max()).sum()), int((theirs > mine.max()).sum())
        assert outcome.tied[number] == equal
        expected = ahead + 1 + Fraction(equal, int((mine == mine.max()).sum()) + 1)
        assert float(outcome.rank[number]) == pytest.approx(float(expected))
    others = (who[order] != asked[:, None]) & (similarity.gather(1, order) > -torch.inf)
    expected = order.gather(1, others.int().argmax(1, keepdim=True)).flatten()
    assert torch.equal(outcome.other_index, torch.where(others.any(1), expected, -1))


def test_many_galleries_in_one_pass_give_what_each_gives_alone():
    probes, gallery = unit(0, 30), unit(1, 60)
    asked, who = torch.arange(30) % 7, torch.arange(60) % 6
    masks = [torch.rand(60, generator=torch.Generator().manual_seed(seed)) < 0.5 for seed in range(4)]
    together = identify(probes, gallery, asked, who, galleries=masks)
    for mask, outcome in zip(masks, together, strict=True):
        alone = identify(probes, gallery[mask], asked, who[mask])[0]
        assert torch.equal(outcome.rank, alone.rank)
        assert torch.equal(outcome.other_index, mask.nonzero().flatten()[alone.other_index])


@given(st.integers(0, 10_000), st.integers(2, 300), st.integers(1, 40))
def test_the_nearest_others_of_one_pass_serve_galleries_as_a_search_of_each_would(seed, rows, near):
    """Few neighbors kept, many ties and small galleries: whatever the lists do not tell is looked up."""
    photos = corners(seed, rows)
    who = torch.arange(rows) % 5
    generator = torch.Generator().manual_seed(seed)
    masks = [torch.rand(rows, generator=generator) < share for share in (0.1, 0.5, 1.0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identification, "_NEAR", near)
        together = identify(photos, photos, who, who, exclude=torch.arange(rows), galleries=masks)
    for mask, outcome in zip(masks, together, strict=True):
        assert torch.equal(outcome.rank[~mask], torch.zeros_like(outcome.rank[~mask]))
        if not bool(mask.any()):
            continue
        part, names = photos[mask], who[mask]
        alone = identify(part, part, names, names, exclude=torch.arange(len(part)))[0]
        assert torch.equal(outcome.rank[mask], alone.rank)
        found = outcome.rank[mask] > 0
        assert torch.equal(outcome.other[mask][found], alone.other[found])
        there = mask.nonzero().flatten()[alone.other_index.clamp_min(0)].where(alone.other_index >= 0, -1)
        assert torch.equal(outcome.other_index[mask][found], there[found])


def of_signs(seed, count, dimensions=12):
    """Unit vectors of signs, whose products take few values and come out unlike in the last digit."""
    signs = torch.randint(2, (count, dimensions), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    return F.normalize(signs, dim=1)


@given(st.integers(0, 10_000), st.integers(2, 300), st.booleans())
def test_the_order_of_rows_decides_nothing(seed, rows, many):
    photos, who = of_signs(seed, rows), torch.arange(rows) % 7
    masks = [torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < 0.6] if many else None
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + 1))
    shuffled = photos[order], photos[order], who[order], who[order]
    itself = torch.arange(rows)
    once = identify(photos, photos, who, who, exclude=itself, galleries=masks)[0]
    turned = masks and [mask[order] for mask in masks]
    again = identify(*shuffled, exclude=itself, galleries=turned)[0]
    there = torch.ones(rows, dtype=torch.bool) if masks is None else masks[0]
    for name in ("rank", "mate", "other", "tied", "nearest_others"):
        assert torch.equal(getattr(once, name)[order][there[order]], getattr(again, name)[there[order]]), name
    labels = torch.arange(rows) % 3
    kinds = {"kinds": 3, "exclude": itself}
    mine = nearest_labels(once, order, labels, probes=photos, gallery=photos, probe_identities=who,
                          gallery_identities=who, among=masks and masks[0], **kinds)  # fmt: skip
    theirs = nearest_labels(again, itself, labels[order], probes=shuffled[0], gallery=shuffled[1],
                            probe_identities=shuffled[2], gallery_identities=shuffled[3],
                            among=turned and turned[0], **kinds)  # fmt: skip
    assert torch.allclose(mine[there[order]], theirs[there[order]])


@given(st.integers(0, 10_000), st.integers(2, 60))
def test_photos_that_are_nearest_alike_share_the_blame(seed, rows):
    photos, who, labels = of_signs(seed, rows), torch.arange(rows) % 4, torch.arange(rows) % 3
    asked = photos, photos, who, who
    outcome = identify(*asked, exclude=torch.arange(rows))[0]
    found = nearest_labels(outcome, torch.arange(rows), labels, 3, *asked, exclude=torch.arange(rows))
    for number in range(rows):
        steps = {row: round(12 * float(photos[row].double() @ photos[number].double()))
                 for row in range(rows) if who[row] != who[number]}  # fmt: skip
        first = [row for row, step in steps.items() if step == max(steps.values())]
        expected = [sum(int(labels[row]) == label for row in first) / max(1, len(first)) for label in range(3)]
        assert found[number].tolist() == pytest.approx(expected)


def test_small_blocks_give_what_one_block_gives(monkeypatch):
    probes, gallery = unit(0, 50, 16), unit(1, 300, 16)
    asked, who = torch.arange(50) % 11, torch.arange(300) % 11
    whole, ranks = nearest(probes, gallery, 7), identify(probes, gallery, asked, who)[0].rank
    monkeypatch.setattr(identification, "_BLOCK", 1024)
    monkeypatch.setattr(identification, "_ROWS", 1)
    assert torch.equal(nearest(probes, gallery, 7).index, whole.index)
    assert torch.equal(identify(probes, gallery, asked, who)[0].rank, ranks)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: nearest(unit(0, 2, 4), unit(0, 3, 5), 1), "4 dimensions and the gallery 5"),
        (lambda: nearest(unit(0, 2), unit(0, 3), 4), "ask for fewer"),
        (lambda: nearest(unit(0, 2) * torch.nan, unit(0, 3), 1), "zero, infinite or missing"),
        (lambda: nearest(unit(0, 2), unit(0, 3) * 0, 1), "zero, infinite or missing"),
        (lambda: nearest(torch.ones(2, 4, dtype=torch.int64), unit(0, 3), 1), "floating-point"),
        (lambda: identify(unit(0, 2), unit(0, 3), torch.zeros(3).long(), torch.zeros(3).long()), "give one int64"),
        (lambda: identify(unit(0, 2), unit(0, 3), torch.zeros(2), torch.zeros(3).long()), "give one int64"),
    ],
)
def test_what_does_not_fit_is_a_sentence(call, complaint):
    with pytest.raises(FairveilError, match=complaint):
        call()


@pytest.mark.parametrize(("own", "others"), [(1, 1), (1, 4), (2, 3), (3, 2)])
def test_the_expected_rank_is_the_mean_over_all_orders_of_equals(own, others):
    gallery = torch.tensor([[1.0, 0.0]]).repeat(own + others, 1)
    who = torch.tensor([0] * own + [1] * others)
    rank = identify(gallery[:1], gallery, torch.tensor([0]), who)[0].rank
    orders = set(permutations(who.tolist()))
    assert float(rank) == pytest.approx(np.mean([order.index(0) + 1 for order in orders]))
