"""Margins against the formulas of section 2.2, written out number by number."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from fairveil.base.errors import FairveilError
from fairveil.faces.heads import MarginHead, arcface_logits, cosface_logits, focal_losses, margins_by_group

LOGITS = {"cosface": cosface_logits, "arcface": arcface_logits}


def literally(kind, cosines, labels, margins, scale):
    """Logit by logit, with the angle itself and not what addition theorems make of it."""
    logits = [[0.0] * len(row) for row in cosines]
    for b, row in enumerate(cosines):
        for j, cosine in enumerate(row):
            m = margins[j]
            if j != labels[b]:
                logits[b][j] = scale * cosine
            elif kind == "cosface":
                logits[b][j] = scale * (cosine - m)
            elif math.acos(cosine) + m < math.pi:
                logits[b][j] = scale * math.cos(math.acos(cosine) + m)
            else:
                logits[b][j] = scale * (cosine - m * math.sin(m))
    return logits


@pytest.fixture
def cosines():
    rows = torch.rand(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.98 - 0.99
    rows[0, 2], rows[1, 0] = -0.98, -0.95  # beyond π with the margins below
    return rows


LABELS = torch.tensor([2, 0, 4, 1, 3, 3])


@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("margin", [0.0, 0.5, [0.1, 0.2, 0.3, 0.4, 1.0]])
def test_logits_are_those_of_the_formula(kind, margin, cosines):
    margins = margin if isinstance(margin, list) else [margin] * 5
    given = torch.tensor(margin, dtype=torch.float64) if isinstance(margin, list) else margin
    logits = LOGITS[kind](cosines, LABELS, margin=given, scale=30.0)
    assert torch.allclose(
        logits, torch.tensor(literally(kind, cosines.tolist(), LABELS.tolist(), margins, 30.0)).double()
    )


@pytest.mark.parametrize("kind", LOGITS)
def test_gradients_are_those_of_finite_differences(kind, cosines):
    margins = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)
    assert gradcheck(lambda c: LOGITS[kind](c, LABELS, margin=margins), cosines.requires_grad_())


@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("edge", [1.0, -1.0, 1 + 1e-6, -1 - 1e-6])
def test_values_and_gradients_are_finite_at_the_ends(kind, edge):
    cosines = torch.full((3, 3), edge, requires_grad=True)
    logits = LOGITS[kind](cosines, torch.tensor([0, 1, 2]))
    F.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
    assert bool(logits.isfinite().all())
    assert bool(cosines.grad.isfinite().all())


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.0])
def test_the_right_logit_of_arcface_falls_all_the_way_to_the_opposite(margin):
    cosines = torch.linspace(1, -1, 2001, dtype=torch.float64)[:, None]
    logits = arcface_logits(cosines, torch.zeros(2001, dtype=torch.int64), margin=margin)[:, 0]
    assert bool((logits.diff() < 0).all())


@pytest.mark.parametrize("kind", LOGITS)
def test_a_head_sees_directions_only_and_starts_where_its_seed_says(kind):
    features, labels = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0])
    before = torch.get_rng_state()
    head, other = (MarginHead(3, 8, kind, seed=seed) for seed in (0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.allclose(head(features, labels), head(7 * features, labels), atol=1e-4)
    cosines = F.normalize(features) @ F.normalize(head.weight).T
    assert torch.allclose(head(features, labels), LOGITS[kind](cosines, labels), atol=1e-4)
    assert not torch.equal(head.weight, other.weight)


@pytest.mark.parametrize("kind", LOGITS)
def test_features_on_a_weight_vector_and_opposite_to_it_give_finite_gradients(kind):
    head = MarginHead(3, 8, kind, seed=0)
    features = torch.stack([5 * head.weight[0], -head.weight[1], torch.zeros(8)]).detach().requires_grad_()
    labels = torch.tensor([0, 1, 2])
    F.cross_entropy(head(features, labels), labels).backward()
    assert bool(features.grad.isfinite().all())
    assert bool(head.weight.grad.isfinite().all())


def test_half_precision_of_autocast_stops_at_the_head():
    head = MarginHead(4, 16, seed=0)
    features, labels = torch.randn(5, 16), torch.tensor([0, 1, 2, 3, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = head(features, labels)
        of_half = head(features.bfloat16(), labels)
    assert mixed.dtype == of_half.dtype == torch.float32
    assert torch.equal(mixed, head(features, labels))
    assert torch.equal(of_half, head(features.bfloat16().float(), labels))


def test_margins_differ_by_group_and_are_kept_with_the_head():
    margins = margins_by_group({"F": 0.5, "M": 0.2}, ["M", "F", "M"])
    head = MarginHead(3, 8, margin=margins, seed=0)
    plain = MarginHead(3, 8, margin=0.0, seed=0)
    features, labels = torch.randn(3, 8), torch.tensor([0, 1, 2])
    less = (plain(features, labels) - head(features, labels)).diagonal()
    assert torch.allclose(less, 64 * torch.tensor([0.2, 0.5, 0.2]), atol=1e-4)
    assert torch.equal(head.state_dict()["margin"], margins)


def test_focal_loss_is_that_of_the_paper_and_cross_entropy_at_zero():
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    p = logits.softmax(1)[torch.arange(6), labels]
    assert torch.allclose(focal_losses(logits, labels), -((1 - p) ** 2) * p.log())
    assert torch.allclose(focal_losses(logits, labels, gamma=0), F.cross_entropy(logits, labels, reduction="none"))
    assert gradcheck(lambda x: focal_losses(x, labels), logits.requires_grad_())


def test_focal_loss_is_finite_where_nothing_is_left_to_learn():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = focal_losses(logits, torch.tensor([0, 0])).mean()
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"kind": "cosine"}, "no head 'cosine': choose from cosface, arcface"),
        ({"identities": 1}, "nobody to tell apart"),
        ({"margin": 1.5}, "from 0 to 1"),
        ({"margin": float("nan")}, "from 0 to 1"),
        ({"margin": torch.zeros(4)}, r"shape \(4,\) for 3 identities"),
    ],
)
def test_heads_that_make_no_sense_are_refused(given, sentence):
    with pytest.raises(FairveilError, match=sentence):
        MarginHead(**{"identities": 3, "dimension": 8, "seed": 0, **given})


def test_a_group_without_margin_is_named():
    with pytest.raises(FairveilError, match=r"group 'X'"):
        margins_by_group({"F": 0.1}, ["F", "X"])
