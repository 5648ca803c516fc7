"""Identification against a literal, slow transcription."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fairveil.errors import FairveilError
from fairveil.faces import identification
from fairveil.faces.identification import identify, nearest


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
    who = torch.tensor([7, 7, 9, 7])
    assert identify(probe, gallery, torch.tensor([9]), who)[0].rank.tolist() == [2]
    assert identify(probe, gallery, torch.tensor([7]), who)[0].rank.tolist() == [1]


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
    hits = (who[order] == asked[:, None]) & (similarity.gather(1, order) > -torch.inf)
    assert torch.equal(outcome.rank, torch.where(hits.any(1), hits.int().argmax(1) + 1, 0))
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
    """Few neighbours kept, many ties and small galleries: whatever the lists do not tell is looked up."""
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
