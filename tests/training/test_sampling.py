import hashlib
import struct

import pytest
import torch

from fairveil.base.errors import FairveilError
from fairveil.training.checkpoints import described
from fairveil.training.sampling import ClassBalanced, GroupStratified

LABELS = torch.tensor([0] * 80 + [2] * 15 + [3] * 5)[torch.randperm(100, generator=torch.Generator().manual_seed(0))]


def test_classes_come_equally_often_and_so_do_the_rows_of_each():
    generator = torch.Generator().manual_seed(1)
    rows = torch.cat([torch.cat(list(ClassBalanced(LABELS)(100, 10, generator))) for _ in range(600)])
    times = torch.bincount(rows, minlength=100).double()
    assert len(rows) == 60_000
    for label, size in ((0, 80), (2, 15), (3, 5)):
        of_class = times[label == LABELS]
        assert float(of_class.sum()) == pytest.approx(20_000, rel=0.03)
        expected = 20_000 / size
        assert float(((of_class - expected) ** 2 / expected).sum()) < 2.5 * size  # χ², far out


def test_batches_are_whole_and_as_many_as_the_rows_fill():
    assert [len(rows) for rows in ClassBalanced(LABELS)(100, 32, torch.Generator())] == [32, 32, 32]
    assert [len(rows) for rows in ClassBalanced(LABELS)(100, 512, torch.Generator())] == [100]


def test_the_order_is_the_generators():
    first, second, third = (
        torch.cat(list(ClassBalanced(LABELS)(100, 10, torch.Generator().manual_seed(seed)))) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_other_data_are_refused():
    with pytest.raises(FairveilError, match=r"made for 100 rows, but the data have 99"):
        ClassBalanced(LABELS)(99, 10, torch.Generator())


def test_its_description_is_the_same_in_every_process_and_tells_labels_apart():
    order = described(ClassBalanced(torch.tensor([0, 1, 1])))
    assert order == f"ClassBalanced(3 rows, {hashlib.sha256(struct.pack('<3q', 0, 1, 1)).hexdigest()})"
    assert order != described(ClassBalanced(torch.tensor([0, 0, 1])))


def test_every_batch_holds_each_group_in_proportion_and_every_row_comes_once():
    groups = torch.tensor([0] * 60 + [1] * 36 + [-1] * 24)
    batches = GroupStratified(groups)(120, 20, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(list(batches)).tolist()) == list(range(120))
    for rows in batches:
        counts = [int((groups[rows] == group).sum()) for group in (0, 1, -1)]
        assert all(abs(count - expected) <= 1 for count, expected in zip(counts, (10, 6, 4), strict=True))


def test_stratified_batches_are_others_in_every_epoch_and_the_same_for_the_same_generator():
    order = GroupStratified(torch.arange(50) % 2)
    first, again, other = (order(50, 10, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert {*first[0].tolist()} != {*other[0].tolist()}
    assert [len(rows) for rows in order(50, 20, torch.Generator())] == [20, 20]
    with pytest.raises(FairveilError, match="made for 50 rows, but the data have 49"):
        order(49, 10, torch.Generator())
    assert described(order) != described(GroupStratified(torch.zeros(50, dtype=torch.int64)))
