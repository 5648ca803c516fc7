from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.training.batches import Batch, Batches, in_sequence, shuffled

DATA = synthetic_images(23, classes=3, size=8)


def _epoch(batches, seed=0):
    return list(batches.epoch(torch.Generator().manual_seed(seed)))


def test_a_batch_holds_the_rows_it_names():
    for batch in _epoch(Batches(DATA, 5)):
        assert batch.images.dtype == torch.float32
        assert torch.equal((batch.images * 255).round().byte(), DATA.images[batch.rows])
        assert torch.equal(batch.targets, DATA.labels[batch.rows])


def test_an_epoch_has_no_row_twice_and_whole_batches_only():
    rows = [batch.rows for batch in _epoch(Batches(DATA, 5))]
    assert [len(part) for part in rows] == [5, 5, 5, 5]
    assert len(set(torch.cat(rows).tolist())) == 20


def test_evaluation_sees_every_row_once_in_sequence():
    rows = torch.cat([batch.rows for batch in _epoch(Batches(DATA, 5, order=in_sequence))])
    assert rows.tolist() == list(range(23))


def test_the_generator_alone_says_the_order():
    def first(seed):
        return _epoch(Batches(DATA, 5), seed)[0].rows.tolist()

    assert first(0) == first(0) != first(1)


def test_data_smaller_than_a_batch_are_one_batch():
    assert [len(batch) for batch in _epoch(Batches(DATA.take([3, 4, 5]), 128))] == [3]


def test_processes_share_each_batch_evenly_and_without_overlap():
    whole = Batches(DATA, 7).plan(torch.Generator().manual_seed(3))
    shares = [
        Batches(DATA, 7, process=process, processes=3).plan(torch.Generator().manual_seed(3)) for process in range(3)
    ]
    for rows, *parts in zip(whole, *shares, strict=True):
        assert [len(part) for part in parts] == [2, 2, 2]
        together = torch.cat(parts).tolist()
        assert len(set(together)) == 6
        assert set(together) <= set(rows.tolist())


def test_an_order_of_ones_own_is_followed():
    def twice(count, batch_size, generator):
        return [torch.tensor([1, 1, 2])]

    (batch,) = _epoch(Batches(DATA, 5, order=twice))
    assert batch.rows.tolist() == [1, 1, 2]


def test_soft_targets_are_one_hot_or_as_they_are():
    images = torch.zeros(2, 3, 4, 4)
    rows = torch.arange(2)
    assert Batch(images, torch.tensor([2, 0]), rows, classes=3).soft_targets().tolist() == [[0, 0, 1], [1, 0, 0]]
    soft = torch.tensor([[0.5, 0.5], [1, 0]])
    assert Batch(images, soft, rows).soft_targets() is soft


@dataclass(frozen=True)
class _Findings:
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ("a", "b")

    def fingerprint(self):
        return "x"


def test_multi_label_data_come_as_they_are():
    findings = _Findings(DATA.images[:4], torch.tensor([[0.0, 1], [1, 1], [0, 0], [1, 0]]))
    for batch in _epoch(Batches(findings, 2)):
        assert torch.equal(batch.targets, findings.labels[batch.rows])
        assert batch.classes is None


def test_channels_last_changes_where_pixels_lie_and_nothing_else():
    plain, last = (_epoch(Batches(DATA, 5, channels_last=flag))[0].images for flag in (False, True))
    assert torch.equal(plain, last)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_what_gives_no_batches_is_refused():
    with pytest.raises(FairveilError, match="no images"):
        Batches(DATA.take([]), 5)
    with pytest.raises(FairveilError, match="A batch of 2 cannot be shared by 3 processes"):
        Batches(DATA, 2, processes=3)


def test_shuffling_leaves_out_other_rows_each_time():
    generator = torch.Generator().manual_seed(0)
    left_out = {frozenset(set(range(23)) - set(torch.cat(list(shuffled(23, 5, generator))).tolist())) for _ in range(9)}
    assert len(left_out) > 1
