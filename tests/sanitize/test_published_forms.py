"""What the chapter's code does to a batch, against literal loops over pixels and against ours."""

import math

import pytest
import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import synthetic_images
from fairveil.sanitize.augmentations import Compose, FlipAndCrop
from fairveil.sanitize.defenses import DEFENSES, PUBLISHED_DEFENSES, defense
from fairveil.sanitize.published import (
    CIFAR10_MEAN,
    PUBLISHED_TRAINING,
    PUBLISHED_TRIGGER,
    BatchCutMix,
    BatchCutout,
    BatchMixup,
    SubPixelCrop,
)
from fairveil.training import Batch, Classification, FromEpoch, learning_rate_at, train
from fairveil.training.networks import build_network

MEAN = torch.tensor(CIFAR10_MEAN)[:, None, None]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=6, size=32):
    return torch.rand(count, 3, size, size, generator=generator(1)), torch.eye(count)


def value_at(image, y, x):
    """Bilinear, with the mean color around the picture, one pixel at a time."""
    total = torch.zeros(3)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            inside = 0 <= row < image.shape[1] and 0 <= column < image.shape[2]
            color = image[:, row, column] if inside else MEAN[:, 0, 0]
            total = total + (1 - abs(y - row)) * (1 - abs(x - column)) * color
    return total


def test_crops_are_shifts_by_fractions_of_a_pixel_with_the_mean_color_around():
    images, targets = batch(4, size=12)
    cropped, same = SubPixelCrop(3)(images, targets, generator(2))
    shares = torch.rand(4, 3, generator=generator(2))
    for picture in range(4):
        right, down = (float(2 * share - 1) * 3 for share in shares[picture, :2])
        for row, column in [(0, 0), (0, 11), (5, 7), (11, 3)]:
            x = column + right
            if shares[picture, 2] > 0.5:
                x = 11 - x  # mirrored after the shift
            expected = value_at(images[picture], row + down, x)
            assert torch.allclose(cropped[picture, :, row, column], expected, atol=1e-4)
    assert same is targets and float((shares[:, :2] * 6 % 1).min()) > 0


def test_crops_are_differentiable_and_may_be_none():
    images, targets = batch(8, size=8)
    still = torch.allclose(SubPixelCrop(0)(images, targets, generator())[0], images, atol=1e-5)
    assert not still  # half of them are mirrored
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(SubPixelCrop(1)(images, targets, generator())[0].sum(), images)
    assert bool(gradient.abs().sum((1, 2, 3)).gt(0).all())


@pytest.mark.parametrize("width", [2, 4])
def test_mixup_has_one_draw_of_weights_for_the_whole_batch(width):
    images, targets = batch(64, size=4)
    mixed, soft = BatchMixup(width)(images, targets, generator())
    assert torch.allclose(mixed, torch.einsum("bk,kchw->bchw", soft, images), atol=1e-5)
    weights = {round(float(value), 5) for row in soft for value in row if value > 0}
    apart = [row for row in soft if int((row > 0).sum()) == width]
    assert len({tuple(sorted(round(float(v), 4) for v in row if v > 0)) for row in apart}) == 1
    assert len(weights) <= 2**width  # sums of the weights, where a picture met itself


def test_cutmix_mixes_half_of_the_batches_with_one_box():
    images, targets = batch(8)
    mixed_batches = 0
    for seed in range(400):
        mixed, soft = BatchCutMix()(images, targets, generator(seed))
        changed = (mixed != images).any(1)  # (B, H, W)
        mixed_batches += not torch.equal(soft, targets)
        boxes = {tuple(one.nonzero().flatten().tolist()) for one in changed.any(2) if bool(one.any())}
        assert len(boxes) <= 1
        for picture, row in zip(changed, soft, strict=True):
            if bool(picture.any()):
                assert float(row.min(0).values) >= 0 and float(row.max()) == pytest.approx(
                    max(1 - float(picture.float().mean()), float(picture.float().mean())), abs=1e-6
                )
    assert 165 < mixed_batches < 235  # of about 200; a few boxes have no pixels


def test_cutout_covers_a_box_of_18_pixels_of_the_mean_color_in_all_pictures_alike():
    images, targets = batch(4)
    widest = 0
    for seed in range(60):
        covered, _ = BatchCutout()(images, targets, generator(seed))
        box = (covered != images).any(1)
        assert bool((box == box[0]).all())
        assert torch.allclose(covered[:, :, box[0]], MEAN[:, 0].expand(3, int(box[0].sum())), atol=1e-6)
        widest = max(widest, int(box[0].any(0).sum()), int(box[0].any(1).sum()))
    assert widest == 18


def test_maxup_is_four_holes_in_one_picture_and_the_mean_loss_and_waits_for_six_epochs():
    objective = defense("published-MaxUp-cutout", size=32).objective
    images, _ = batch(8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))
    losses = {}
    for epoch in (0, 5, 6, 39, None):
        given = Batch(images, torch.arange(8), torch.arange(8), 8, epoch)
        losses[epoch] = float(objective(network, given, generator()).detach())
    assert losses[0] == losses[5] != losses[6] == losses[39] == losses[None]
    crops = SubPixelCrop(4)
    usual = Classification(crops)(network, Batch(images, torch.arange(8), torch.arange(8), 8), generator())
    holes = Compose((crops, *(BatchCutout(),) * 4))
    four = Classification(holes)(network, Batch(images, torch.arange(8), torch.arange(8), 8), generator())
    assert (losses[0], losses[6]) == (float(usual.detach()), float(four.detach()))


def test_the_loop_tells_objectives_the_epoch():
    seen = []

    def noting(network, batch, generator):
        seen.append(batch.epoch)
        return Classification()(network, batch, generator)

    settings = PUBLISHED_TRAINING.model_copy(update={"epochs": 3, "batch_size": 32})
    data = synthetic_images(32, classes=3, size=8)
    train(build_network("resnet-8", 3, seed=0, width=8), data, settings, objective=noting, device="cpu")
    assert seen == [0, 1, 2]
    assert FromEpoch(2, "a", "b") == FromEpoch(2, "a", "b")  # told apart by checkpoints


def test_the_schedule_falls_after_14_24_and_35_epochs():
    rates = [learning_rate_at(epoch, PUBLISHED_TRAINING) for epoch in range(40)]
    assert [epoch for epoch in range(1, 40) if rates[epoch] < rates[epoch - 1]] == [14, 24, 35]
    assert [int(40 // divisor) for divisor in (2.667, 1.6, 1.142)] == [14, 24, 35]


def test_the_patch_is_black_or_white_in_each_channel_and_in_the_very_corner():
    patch = PUBLISHED_TRIGGER.patch()
    assert set(patch.flatten().tolist()) == {0.0, 1.0} and not bool((patch == patch[:1]).all())
    changed = (PUBLISHED_TRIGGER.stamp(torch.full((3, 32, 32), 0.5)) != 0.5).all(0).nonzero()
    assert changed.min(0).values.tolist() == [28, 28] and changed.max(0).values.tolist() == [31, 31]
    other = PUBLISHED_TRIGGER.model_copy(update={"seed": 1}).patch()
    assert not torch.equal(patch, other)


def test_every_defense_of_the_table_has_its_published_form_with_the_published_crops():
    assert tuple(f"published-{name}" for name in DEFENSES) == PUBLISHED_DEFENSES
    for name in PUBLISHED_DEFENSES:
        augmentation = defense(name.upper(), size=32).augmentation
        first = augmentation.parts[0] if isinstance(augmentation, Compose) else augmentation
        assert first == SubPixelCrop(4)


@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_of_other_channels_get_the_mean_of_the_means(channels):
    images = torch.ones(2, channels, 8, 8)
    covered, _ = BatchCutout()(images, torch.eye(2), generator())
    assert float(covered.min()) == pytest.approx(sum(CIFAR10_MEAN) / 3)
    assert SubPixelCrop(2)(images, torch.eye(2), generator())[0].shape == images.shape


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SubPixelCrop(-1),
        lambda: BatchMixup(1),
        lambda: BatchMixup(alpha=0),
        lambda: BatchCutMix(1.5),
        lambda: BatchCutout(0),
        lambda: BatchMixup()(torch.rand(3, 8, 8), torch.eye(3), generator()),
        lambda: FlipAndCrop(-1),
    ],
)
def test_what_cannot_be_is_a_sentence(wrong):
    with pytest.raises(FairveilError):
        wrong()
