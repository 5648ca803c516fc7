"""Label flipping, angles, groups and the removal network, each by itself."""

import math

import pytest
import torch

from fairveil.base.errors import FairveilError
from fairveil.faces.backbones import Projection
from fairveil.fair.adversarial import Removal, SensitiveHead, fooling, remove_sensitive
from fairveil.fair.groups import groups_of
from fairveil.fair.label_flipping import flip_identities, flip_labels
from fairveil.fair.margins import angles


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_share_of_the_groups_images_go_to_others_of_the_group_and_nobody_elses_do():
    labels = torch.arange(40).repeat_interleave(10)
    groups = (labels >= 20).long()
    flipped = flip_identities(labels, groups, 0, 0.3, _seeded())
    changed = flipped != labels
    assert int(changed.sum()) == 60
    assert bool((labels[changed] < 20).all())
    assert bool((flipped[changed] < 20).all())
    assert len(torch.unique(flipped[changed])) > 10  # not all to the same person
    assert torch.equal(flipped, flip_identities(labels, groups, 0, 0.3, _seeded()))
    assert bool((flip_identities(labels, groups, 0, 1.0, _seeded(1))[groups == 0] != labels[groups == 0]).all())
    assert torch.equal(flip_identities(labels, groups, 0, 0.0, _seeded()), labels)


def test_labels_are_turned_around_for_a_share_of_the_groups_samples_only():
    targets = (torch.rand(4000, 3, generator=_seeded()) < 0.3).float()
    targets[0, 0] = torch.nan
    groups = torch.arange(4000) % 2
    flipped = flip_labels(targets, groups, 1, 0.1, _seeded(1))
    assert torch.equal(flipped[::2].nan_to_num(9), targets[::2].nan_to_num(9))
    rows = (flipped[1::2] != targets[1::2]).all(1)
    assert 0.07 < float(rows.float().mean()) < 0.13
    assert bool(((flipped[1::2] == targets[1::2]).all(1) | rows).all())  # a sample is turned as a whole or not at all
    assert bool(flip_labels(targets, groups, 0, 1.0, _seeded())[0, 0].isnan())


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(FairveilError, match="from 0 to 1"):
        flip_labels(torch.zeros(2, 1), torch.tensor([0, 1]), 0, share, _seeded())


def test_a_group_of_one_person_has_nobody_to_exchange_labels_with():
    with pytest.raises(FairveilError, match="1 identities"):
        flip_identities(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1]), 0, 0.5, _seeded())


def test_angles_are_those_of_looking_at_every_vector_and_every_pair():
    vectors = torch.randn(30, 5, generator=_seeded(), dtype=torch.float64) + 1
    labels = torch.arange(30) % 6 * 3  # identities need not be numbered without gaps
    found = angles(vectors * torch.rand(30, 1, generator=_seeded(), dtype=torch.float64), labels)
    unit = [vector / vector.norm() for vector in vectors]
    middles = {}
    for label in sorted({*labels.tolist()}):
        own = [unit[row] for row in range(30) if labels[row] == label]
        middles[label] = sum(own) / len(own)

    def angle(a, b):
        return math.degrees(math.acos(float(a @ b / (a.norm() * b.norm()))))

    for place, label in enumerate(found.identities.tolist()):
        own = [angle(unit[row], middles[label]) for row in range(30) if labels[row] == label]
        assert found.intra[place].item() == pytest.approx(sum(own) / len(own))
        others = [angle(middles[label], middle) for other, middle in middles.items() if other != label]
        assert found.inter[place].item() == pytest.approx(min(others))


def test_angles_of_one_person_or_of_vectors_that_cancel_are_refused():
    with pytest.raises(FairveilError, match="two of them"):
        angles(torch.rand(3, 2), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(FairveilError, match="cancel"):
        angles(torch.tensor([[1.0, 0], [-1.0, 0], [0, 1.0]]), torch.tensor([0, 0, 1]))


def test_groups_are_numbered_by_their_sorted_names_and_those_unknown_are_minus_one():
    groups = groups_of({"sex": ["M", None, "F"], "age": ["x", "x", "x"]}, "sex")
    assert (groups.names, groups.numbers.tolist(), groups.number("M")) == (("F", "M"), [1, -1, 0], 1)


@pytest.mark.parametrize(
    ("column", "names", "sentence"),
    [
        ("sx", (), "no column of groups 'sx', but sex, age. Did you mean"),
        ("age", (), "has the one value 'x'"),
        ("sex", ("F", "W"), "'M' of 'sex' is not among those trained on, F, W: leave"),
    ],
)
def test_columns_that_say_nothing_of_groups_are_refused(column, names, sentence):
    with pytest.raises(FairveilError, match=sentence):
        groups_of({"sex": ["M", "F", "F"], "age": ["x", "x", None]}, column, names)


def test_the_removal_network_has_4_linear_layers_and_its_head_3():
    layers = [sum(isinstance(one, torch.nn.Linear) for one in part.modules()) for part in
              (Projection(16), SensitiveHead(16, 2))]  # fmt: skip
    assert layers == [4, 3]
    assert SensitiveHead(16, 3)(Projection(16)(torch.rand(5, 16))).shape == (5, 3)


def test_fooling_is_the_published_term():
    logits = torch.randn(6, 3, generator=_seeded())
    literal = sum(
        math.log(1 + abs(0.9 - math.exp(row[1]) / sum(math.exp(one) for one in row))) for row in logits.tolist()
    )
    assert fooling(logits, 1).item() == pytest.approx(literal / 6, rel=1e-5)


def _people(seed=0):
    """Embeddings of 20 people whose group shifts them."""
    generator = _seeded(seed)
    labels = torch.arange(20).repeat_interleave(10)
    groups = labels % 2
    own = torch.randn(20, 16, generator=generator)
    shift = torch.zeros(16)
    shift[0] = 8
    return own[labels] + groups[:, None] * shift + 0.3 * torch.randn(200, 16, generator=generator), labels, groups


def test_the_group_is_told_without_the_adversarial_term_and_less_so_with_it():
    vectors, labels, groups = _people()
    before = vectors.clone()
    settings = Removal(weight=0, epochs=40, batch_size=64, learning_rate=3e-3)
    free = remove_sensitive(vectors, labels, groups, toward=0, settings=settings)
    assert free.sensitive_accuracy(vectors, groups) > 0.95
    forced = remove_sensitive(vectors, labels, groups, toward=0, settings=settings.model_copy(update={"weight": 100.0}))
    assert forced.sensitive_accuracy(vectors, groups) < free.sensitive_accuracy(vectors, groups) - 0.05
    with torch.no_grad():
        terms = [float(fooling(one.sensitive(one.network(vectors)), 0)) for one in (free, forced)]
    assert terms[1] < terms[0] - 0.02
    assert torch.equal(vectors, before)
    assert torch.allclose(free.project(vectors).norm(dim=1), torch.ones(200), atol=1e-5)


def test_training_a_removal_network_is_the_same_again_and_does_not_touch_the_ambient_generator():
    vectors, labels, groups = _people()
    settings = Removal(epochs=2, batch_size=64)
    torch.manual_seed(7)
    first = remove_sensitive(vectors, labels, groups, toward=1, settings=settings)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(1), drawn)
    second = remove_sensitive(vectors, labels, groups, toward=1, settings=settings)
    assert torch.equal(first.project(vectors), second.project(vectors))


def test_rows_of_no_known_group_teach_identities_only_and_one_group_is_refused():
    vectors, labels, groups = _people()
    some = groups.clone()
    some[::2] = -1
    settings = Removal(epochs=1, batch_size=64)
    assert remove_sensitive(vectors, labels, some, toward=0, settings=settings).sensitive_accuracy(vectors, some) >= 0
    with pytest.raises(FairveilError, match="give two"):
        remove_sensitive(vectors, labels, torch.zeros_like(groups), toward=0, settings=settings)
    with pytest.raises(FairveilError, match="lower the weight or the learning rate"):
        remove_sensitive(vectors * torch.inf, labels, groups, toward=0, settings=settings)
