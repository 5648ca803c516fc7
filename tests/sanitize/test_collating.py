"""Augmentations where loaders put batches together."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fairveil.base.errors import FairveilError
from fairveil.sanitize import CutMix, Cutout, MaxUp, Mixup, as_collate
from fairveil.training import Classification

PAIRS = [(torch.full((3, 8, 8), 1 + number, dtype=torch.uint8), number % 4) for number in range(16)]


def soft_labels(collate, workers=2, **more):
    loader = DataLoader(
        PAIRS, 4, num_workers=workers, collate_fn=collate, generator=torch.Generator().manual_seed(0), **more
    )
    return [torch.cat([soft for _, soft in loader]) for _ in range(2)]


def test_a_loader_collates_with_other_draws_in_each_worker_and_epoch_and_the_same_in_each_run():
    first, again = (soft_labels(as_collate(Mixup(), 4, seed=3)) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0][:4], first[0][4:8])


def test_what_was_drawn_in_the_main_process_before_makes_no_workers_alike():
    collate = as_collate(Mixup(), 4, seed=3)
    fresh = soft_labels(as_collate(Mixup(), 4, seed=3))
    collate(PAIRS[:4])
    used = soft_labels(collate)
    assert not torch.equal(used[0], used[1])
    assert not torch.equal(used[0][:4], used[0][4:8])
    assert torch.equal(used[0], fresh[0]) and torch.equal(used[1], fresh[1])


def test_workers_that_are_kept_and_no_workers_draw_on_from_epoch_to_epoch():
    for more in ({"workers": 1, "persistent_workers": True}, {"workers": 0}):
        first, second = soft_labels(as_collate(Mixup(), 4), **more)
        assert not torch.equal(first, second)


@pytest.mark.parametrize("workers", [0, 1])
def test_every_rank_has_draws_of_its_own(monkeypatch, workers):
    drawn = []
    for rank in ("0", "1", "1"):
        monkeypatch.setenv("RANK", rank)
        drawn.append(soft_labels(as_collate(Mixup(), 4), workers)[0])
    assert not torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[1], drawn[2])


def test_a_worker_that_is_started_anew_is_told_the_rank_of_its_parent(monkeypatch):
    draws = {}
    for rank in (0, 1):
        with monkeypatch.context() as at_parent:
            at_parent.setattr(torch.distributed, "is_initialized", lambda: True)
            at_parent.setattr(torch.distributed, "get_rank", lambda *, rank=rank: rank)
            sent = pickle.dumps(as_collate(Mixup(), 4))
        draws[rank] = pickle.loads(sent)(PAIRS[:4])[1]
    assert not torch.equal(draws[0], draws[1])


def test_a_collated_batch_is_the_augmented_batch():
    pairs = [(torch.full((3, 8, 8), 50 * number, dtype=torch.uint8), number) for number in range(4)]
    images, soft = as_collate(Mixup(), 4)(pairs)
    assert torch.allclose(images[:, 0, 0, 0], soft @ (torch.arange(4.0) * 50 / 255))


@pytest.mark.parametrize(
    "label", [1, True, np.int64(1), torch.tensor(1), torch.tensor([1]), torch.tensor(1, dtype=torch.uint8)], ids=repr
)
def test_a_class_is_a_class_however_it_is_written(label):
    assert as_collate(Cutout(2), 3)([(torch.rand(3, 8, 8), label)] * 2)[1].tolist() == [[0, 1, 0]] * 2


def test_soft_labels_and_arrays_are_taken_as_they_are():
    soft = [0.25, 0.25, 0.5]
    for label in (torch.tensor(soft), np.array(soft)):
        images, targets = as_collate(Cutout(2), 3)([(np.ones((3, 8, 8), dtype=np.uint8), label)] * 2)
        assert targets.tolist() == [soft] * 2 and float(images.max()) == pytest.approx(1 / 255)


def image():
    return torch.rand(3, 8, 8)


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        ([(image(), 2), (image(), 0)], "Labels go from 0 to 2"),
        ([(image(), -1)], "Labels go from -1"),
        ([{"pixel_values": image(), "label": 1}], "is a dict, which cannot be put together: give pairs"),
        ([(image(), 1, 0)], "is 3 values"),
        ([image()], "is a Tensor"),
        ([(Image.new("RGB", (8, 8)), 1)], "is a Image: give pairs of a tensor"),
        ([(np.zeros((8, 8, 3), np.uint8), 1)], r"shape \(8, 8, 3\): give pairs"),
        ([(image()[0], 1)], r"shape \(8, 8\)"),
        ([(image(), 1), (torch.rand(3, 9, 8), 1)], r"sizes \(3, 8, 8\) and \(3, 9, 8\)"),
        ([(image(), 1), (image().double(), 1)], "different types of numbers"),
        ([(image().int(), 1)], "type torch.int32"),
        ([(image(), 0.5)], "neither numbers of classes nor rows of 2 floats"),
        ([(image(), torch.rand(3))], "neither numbers of classes nor rows of 2 floats"),
        ([(image(), "cat")], "The labels 'cat' cannot be put together"),
        ([(image(), 1), (image(), torch.rand(2))], "cannot be put together"),
        ([(image(), 1)], "cannot be mixed 2 at a time"),
        ([], "no samples"),
    ],
)
def test_samples_that_are_no_pairs_of_picture_and_label_are_a_sentence(samples, complaint):
    with pytest.raises(FairveilError, match=complaint):
        as_collate(CutMix(), 2)(samples)


@pytest.mark.parametrize("wrong", [MaxUp(Cutout()), Classification(), CutMix], ids=repr)
def test_a_loss_is_no_augmentation(wrong):
    with pytest.raises(FairveilError, match="cannot put batches together"):
        as_collate(wrong, 3)
    with pytest.raises(FairveilError, match="0 classes"):
        as_collate(CutMix(), 0)
