"""Every penalty against a literal, slow transcription of its equation, and what it does where groups are missing."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import gradcheck

from fairveil.base.errors import FairveilError
from fairveil.fair.group_means import group_means
from fairveil.fair.penalties import disparate_impact, equal_loss, equalized_odds, worst_group_loss

GROUPS = torch.tensor([0, 1, 1, 0, 1, 0, 1])
HERE = Path(__file__).parent


def _drawn(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _loss_of(losses, a, value):
    total = count = 0.0
    for loss, group in zip(losses, a, strict=True):
        if int(group) == value:
            total, count = total + loss, count + 1
    return total / count


def _literal_equal_loss(losses, a):  # equation 6.2
    return abs(_loss_of(losses, a, 1) - _loss_of(losses, a, 0))


def _literal_odds(p, y, a):  # equations 6.4 to 6.6
    def rate(wrong):
        with_ = sum(wrong(p[i], y[i]) * a[i] for i in range(len(p))) / sum(a[i] for i in range(len(p)))
        without = sum(wrong(p[i], y[i]) * (1 - a[i]) for i in range(len(p))) / sum(1 - a[i] for i in range(len(p)))
        return abs(with_ - without)

    return rate(lambda p, y: p * (1 - y)) + rate(lambda p, y: (1 - p) * y)


def _literal_impact(p, a):  # equation 6.9
    with_ = sum(a[i] * p[i] for i in range(len(p))) / sum(a[i] for i in range(len(p)))
    without = sum((1 - a[i]) * p[i] for i in range(len(p))) / sum(1 - a[i] for i in range(len(p)))
    return -min(with_ / without, without / with_)


def _literal_worst(losses, a):  # equation 6.11
    return max(_loss_of(losses, a, 1), _loss_of(losses, a, 0))


TARGETS = (_drawn(7, seed=3) > 0.5).double()
PAIRS = {
    "equal loss": (lambda x: equal_loss(x, GROUPS, 2), lambda x: _literal_equal_loss(x, GROUPS)),
    "equalized odds": (lambda x: equalized_odds(x, TARGETS, GROUPS, 2), lambda x: _literal_odds(x, TARGETS, GROUPS)),
    "disparate impact": (lambda x: disparate_impact(x, GROUPS, 2), lambda x: _literal_impact(x, GROUPS)),
    "min-max": (lambda x: worst_group_loss(x, GROUPS, 2), lambda x: _literal_worst(x, GROUPS)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("seed", range(5))
def test_values_and_gradients_are_those_of_the_equation_as_printed(name, seed):
    ours, literal = PAIRS[name]
    first, second = (_drawn(7, seed=seed).requires_grad_() for _ in range(2))
    value, expected = ours(first), literal(second)
    assert value.item() == pytest.approx(expected.item(), abs=1e-12)
    value.backward()
    expected.backward()
    assert torch.allclose(first.grad, second.grad, atol=1e-12)
    assert gradcheck(ours, _drawn(7, seed=seed).requires_grad_())


def test_several_labels_are_averaged_and_unknown_ones_do_not_count():
    losses, known = _drawn(7, 3), torch.ones(7, 3, dtype=torch.bool)
    each = torch.stack([equal_loss(losses[:, k], GROUPS, 2) for k in range(3)])
    assert torch.allclose(equal_loss(losses, GROUPS, 2), each.mean())
    known[2, 0] = False
    spoilt = losses.clone()
    spoilt[2, 0] = torch.nan
    rows = [0, 1, 3, 4, 5, 6]
    first = equal_loss(losses[rows, 0], GROUPS[rows], 2)
    found = equal_loss(spoilt, GROUPS, 2, known=known)
    assert torch.allclose(found, torch.stack([first, each[1], each[2]]).mean())
    labels = (losses > 0.5).double()
    labels[2, 0] = torch.nan
    p = _drawn(7, 3, seed=1).requires_grad_()
    equalized_odds(p, labels, GROUPS, 2, known=known).backward()
    assert bool(p.grad.isfinite().all())
    assert p.grad[2, 0] == 0


def test_with_more_groups_those_furthest_apart_count():
    losses = torch.tensor([1.0, 2.0, 7.0, 4.0])
    groups = torch.tensor([0, 1, 2, -1])  # the last one's group is unknown
    assert equal_loss(losses, groups, 3) == 6
    assert worst_group_loss(losses, groups, 3) == 7
    p = torch.tensor([0.1, 0.2, 0.5, 0.9])
    assert disparate_impact(p, groups, 3).item() == pytest.approx(-0.2)
    p, y = torch.tensor([0.1, 0.2, 0.5]), torch.tensor([0.0, 1.0, 0.0])
    # false positives .1, 0, .5; false negatives 0, .8, 0
    assert equalized_odds(p, y, groups[:3], 3).item() == pytest.approx(0.5 + 0.8)


@pytest.mark.parametrize(
    ("groups", "held"),
    [([0, 0, 0], "group 0 alone"), ([-1, 1, 1], "group 1 alone"), ([-1, -1, -1], "no known group")],
)
@pytest.mark.filterwarnings("error")
def test_a_batch_that_lacks_a_group_is_told_of_refused_or_skipped_but_never_nan(groups, held):
    losses, groups = torch.tensor([0.1, 0.5, 0.6], requires_grad=True), torch.tensor(groups)
    calls = {
        "equal": lambda **more: equal_loss(losses, groups, 2, **more),
        "odds": lambda **more: equalized_odds(losses, torch.tensor([1.0, 0.0, 1.0]), groups, 2, **more),
        "impact": lambda **more: disparate_impact(losses, groups, 2, **more),
    }
    for call in calls.values():
        told = f"The batch holds {held}, so that no groups can be compared"
        with pytest.raises(FairveilError, match=told):
            call(absent="refuse")
        with pytest.warns(UserWarning, match=told) as warned:
            assert call() == 0
        assert len(warned) == 1 and warned[0].filename == __file__  # whoever asks is named
        value = call(absent="skip")
        assert value == 0
        (gradient,) = torch.autograd.grad(value, losses)
        assert bool((gradient == 0).all())


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_without_a_count_and_with_numbers_of_any_kind_penalties_are_the_same(name, kind):
    x, groups = _drawn(7, seed=6), GROUPS.to(kind)
    alone = {
        "equal loss": lambda: equal_loss(x, groups),
        "equalized odds": lambda: equalized_odds(x, TARGETS.to(kind), groups),
        "disparate impact": lambda: disparate_impact(x, groups),
        "min-max": lambda: worst_group_loss(x, groups),
    }
    assert alone[name]().item() == pytest.approx(PAIRS[name][1](x).item(), abs=1e-12)


def test_labels_known_in_one_group_each_cannot_be_compared():
    known = torch.tensor([[True, False], [False, True]])
    with pytest.raises(FairveilError, match="no label that is known in two groups"):
        equal_loss(torch.rand(2, 2), torch.tensor([0, 1]), known=known, absent="refuse")


def test_of_three_groups_two_that_are_there_are_compared():
    losses = torch.tensor([1.0, 4.0])
    assert equal_loss(losses, torch.tensor([0, 2]), 3) == 3


def test_labels_that_a_group_lacks_are_left_out_of_the_mean():
    losses = torch.tensor([[1.0, 5.0], [3.0, 9.0]])
    known = torch.tensor([[True, False], [True, True]])
    assert equal_loss(losses, torch.tensor([0, 1]), 2, known=known) == 2


def test_nobody_given_a_label_in_any_group_is_no_difference():
    assert disparate_impact(torch.zeros(4), torch.tensor([0, 0, 1, 1]), 2) == -1


def test_min_max_over_labels_takes_the_mean_of_a_groups_known_ones():
    losses = torch.tensor([[1.0, torch.nan], [2.0, 3.0]])
    known = ~losses.isnan()
    assert worst_group_loss(losses, torch.tensor([0, 1]), 2, known=known) == 2.5
    with pytest.raises(FairveilError, match="no group is worst"):
        worst_group_loss(torch.ones(2), torch.tensor([-1, -1]), 2, absent="refuse")


def test_min_max_of_nobody_known_is_everybodys_mean_and_of_one_group_that_groups():
    nobody = torch.tensor([-1, -1])
    with pytest.warns(UserWarning, match="the mean loss of everybody counts instead"):
        assert worst_group_loss(torch.tensor([1.0, 2.0]), nobody, 2) == 1.5
    losses = torch.tensor([[1.0, torch.nan], [2.0, 6.0]], requires_grad=True)
    value = worst_group_loss(losses, nobody, 2, known=~losses.isnan(), absent="skip")
    assert value == 3
    value.backward()
    assert bool(losses.grad.isfinite().all())
    assert worst_group_loss(torch.tensor([1.0, 2.0]), torch.tensor([1, -1]), 2) == 1


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: equalized_odds(torch.rand(3), torch.tensor([0, 4, 7]), GROUPS[:3], 2), "many classes"),
        (lambda: equalized_odds(torch.rand(3), torch.zeros(2), GROUPS[:3], 2), "many classes"),
        (lambda: disparate_impact(torch.tensor([2.0, -1.0]), GROUPS[:2], 2), "sigmoid of logits"),
        (lambda: equal_loss(torch.rand(3), GROUPS[:2], 2), "do not fit"),
        (lambda: equal_loss(torch.rand(2), torch.tensor([0, 2]), 2), "are not 2 groups"),
        (lambda: equal_loss(torch.rand(2), torch.tensor([0.0, 1.0])), "Groups are torch.float32: give the number"),
        (lambda: equal_loss(torch.rand(2), torch.tensor([0, 1]), 2, absent="no"), "choose from warn, skip, refuse"),
        (lambda: worst_group_loss(torch.rand(2), torch.tensor([0, 1]), 2, absent="no"), "choose from warn, skip"),
    ],
)
def test_wrong_use_is_told(call, sentence):
    with pytest.raises(FairveilError, match=sentence):
        call()


def test_half_precision_and_the_losses_dtype_stay():
    assert equal_loss(torch.tensor([1.0, 2.0]).bfloat16(), torch.tensor([0, 1]), 2).dtype == torch.bfloat16
    assert group_means(torch.ones(2, dtype=torch.float64), torch.tensor([0, 1]), 2).means.dtype == torch.float64


IN_FLOAT32 = {
    "equal loss": lambda x, y, a: equal_loss(4 * x, a, 2),
    "equalized odds": lambda x, y, a: equalized_odds(x, y, a, 2),
    "disparate impact": lambda x, y, a: disparate_impact(x, a, 2),
    "min-max": lambda x, y, a: worst_group_loss(4 * x, a, 2),
    "equal loss, labels": lambda x, y, a: equal_loss(x[:, None].expand(-1, 3), a, 2),
    "min-max, labels": lambda x, y, a: worst_group_loss(x[:, None].expand(-1, 3), a, 2),
}


@pytest.mark.parametrize("name", IN_FLOAT32)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_under_autocast_penalties_and_gradients_are_those_without(name, half):
    x, groups = _drawn(601, seed=1).float(), torch.arange(601) % 2
    y = (x > 0.4).float()
    found = []
    for enabled in (False, True):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=half, enabled=enabled):
            value = IN_FLOAT32[name](leaf, y, groups)
        value.backward()
        found.append((value, leaf.grad))
    (value, gradient), (cast, cast_gradient) = found
    assert cast.dtype == torch.float32 and torch.equal(value, cast)
    assert torch.equal(gradient, cast_gradient)


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_numbers_of_half_precision_are_summed_and_counted_in_float32(name):
    # 301 people and 300: bfloat16 counts no further than 256
    x, groups = _drawn(601, seed=2).bfloat16(), torch.arange(601) % 2
    y = (x > 0.4).bfloat16()
    exact = IN_FLOAT32[name](x.double(), y.double(), groups)
    assert IN_FLOAT32[name](x, y, groups).double().item() == pytest.approx(exact.item(), rel=2**-8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = IN_FLOAT32[name](x.sigmoid(), y, groups)
    assert found.item() == pytest.approx(IN_FLOAT32[name](x.sigmoid().double(), y.double(), groups).item(), abs=1e-6)


def test_two_processes_give_the_penalties_and_gradients_of_one(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    script = HERE / "two_processes.py"
    two = subprocess.run([*launch, script, tmp_path], capture_output=True, text=True, check=False)
    assert two.returncode == 0, two.stderr[-2000:]
    found = torch.load(tmp_path / "two.pt", weights_only=True)
    import two_processes

    for name, penalty in two_processes.PENALTIES.items():
        network = two_processes.network()
        outputs = network(two_processes.INPUTS)[:, 0].sigmoid()
        value = penalty(outputs, two_processes.TARGETS, two_processes.GROUPS, across_processes=True)
        value.backward()
        assert found[f"{name} value"] == pytest.approx(value.item(), abs=1e-7)
        assert torch.allclose(found[f"{name} gradient"], network.weight.grad, atol=1e-7), name
        assert found[f"{name} alone"] == pytest.approx(two_processes.of_first(penalty).item(), abs=1e-7), name
