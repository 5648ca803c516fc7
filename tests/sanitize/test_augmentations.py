"""Augmentations against their definitions, by property and against slow transcriptions."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fairveil.base.errors import FairveilError
from fairveil.sanitize.augmentations import Compose, CutMix, Cutout, FlipAndCrop, Mixup
from fairveil.sanitize.published import BatchCutMix, BatchCutout, BatchMixup, SubPixelCrop


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count, classes=None, *, height=12, width=10, seed=0, dtype=torch.float32):
    """Pictures each of one color that no other has, and a class each, unless there are fewer."""
    colors = (torch.arange(count) + 1.0) / (count + 1)
    images = colors[:, None, None, None].expand(count, 3, height, width).clone().to(dtype)
    return images, F.one_hot(torch.arange(count) % (classes or count), classes or count).to(dtype)


EVERY = [Mixup(), Mixup(width=4, alpha=0.3), CutMix(), CutMix(share=0.5), CutMix(draws="batch"), Cutout(), Cutout(5)]
EVERY += [FlipAndCrop(), FlipAndCrop(2, flip=False), Compose((FlipAndCrop(), CutMix(), Mixup()))]


@pytest.mark.parametrize("augmentation", EVERY, ids=str)
@given(seed=st.integers(0, 10_000), count=st.integers(4, 9))
def test_labels_keep_their_mass_and_pictures_their_shape_range_and_type(augmentation, seed, count):
    images, targets = batch(count, dtype=torch.float64)
    before = images.clone(), targets.clone()
    augmented, soft = augmentation(images, targets, generator(seed))
    assert augmented.shape == images.shape and augmented.dtype == soft.dtype == torch.float64
    assert torch.allclose(soft.sum(1), torch.ones(count, dtype=torch.float64)) and bool((soft >= 0).all())
    assert float(augmented.min()) >= 0 and float(augmented.max()) <= float(images.max()) + 1e-12
    assert torch.equal(images, before[0]) and torch.equal(targets, before[1]), "the caller's tensors were changed"


@pytest.mark.parametrize("augmentation", EVERY, ids=str)
def test_the_generator_decides_and_nothing_else(augmentation):
    images, targets = torch.rand(8, 3, 12, 10), batch(8)[1]
    torch.manual_seed(1)
    first = augmentation(images, targets, generator(5))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again, other = augmentation(images, targets, generator(5)), augmentation(images, targets, generator(6))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_mixup_mixes_pictures_as_it_mixes_labels(seed, width):
    images, targets = batch(7, dtype=torch.float64)
    mixed, soft = Mixup(width=width)(images, targets, generator(seed))
    assert torch.allclose(mixed, torch.einsum("bk,kchw->bchw", soft, images))
    assert torch.equal((soft > 0).sum(1), torch.full((7,), width)), "members of a mixture are different pictures"
    assert bool((soft.diagonal() > 0).all()), "each picture is in its own mixture"
    assert torch.equal((soft > 0).sum(0), torch.full((7,), width)), "and in as many others as any other"


@pytest.mark.parametrize(("width", "alpha"), [(2, 1.0), (2, 0.2), (4, 1.0), (3, 5.0)])
def test_weights_of_mixup_have_the_moments_of_dirichlets(width, alpha):
    images, targets = batch(2000, height=1, width=1, dtype=torch.float64)
    own = Mixup(width=width, alpha=alpha)(images, targets, generator())[1].diagonal()
    mean = 1 / width
    variance = mean * (1 - mean) / (width * alpha + 1)
    assert float(own.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / 2000))
    assert float(own.var()) == pytest.approx(variance, rel=0.15)


@given(st.integers(0, 10_000))
def test_cutmix_pastes_one_box_of_one_other_picture_and_weighs_labels_by_its_true_area(seed):
    images, targets = batch(6)
    mixed, soft = CutMix()(images, targets, generator(seed))
    for number in range(6):
        foreign = mixed[number, 0] != images[number, 0]
        assert torch.equal(foreign, (mixed[number] != images[number]).all(0)), "all channels alike"
        assert float(soft[number, number]) == pytest.approx(1 - float(foreign.float().mean()), abs=1e-6)
        if foreign.any():
            (other,) = mixed[number, 0][foreign].unique().tolist()
            rows, columns = foreign.any(1).nonzero().flatten(), foreign.any(0).nonzero().flatten()
            assert int(foreign.sum()) == len(rows) * len(columns), "it is a box"
            assert len(rows) == rows[-1] - rows[0] + 1 and len(columns) == columns[-1] - columns[0] + 1
            assert float(soft[number][images[:, 0, 0, 0] == other]) == pytest.approx(float(foreign.float().mean()))


def literal_area(generator, size):
    """The area that a box of CutMix covers, pixel by pixel, as the text has it."""
    center = [float(torch.rand((), generator=generator)) * size for _ in range(2)]
    side = size * math.sqrt(1 - float(torch.rand((), generator=generator)))
    inside = [sum(abs(pixel + 0.5 - middle) <= side / 2 for pixel in range(size)) for middle in center]
    return inside[0] * inside[1] / size**2


def test_areas_of_cutmix_are_spread_as_those_of_a_literal_transcription():
    images, targets = batch(3000, 3000, height=16, width=16)
    areas = 1 - CutMix()(images, targets, generator())[1].diagonal()
    draws = generator(1)
    literal = torch.tensor([literal_area(draws, 16) for _ in range(3000)])
    apart = max(
        abs(float((areas <= level).float().mean() - (literal <= level).float().mean()))
        for level in torch.linspace(0, 1, 21)
    )
    assert apart < 1.63 * math.sqrt(2 / 3000)  # Kolmogorov and Smirnov's bound at 1 %


def test_cutmix_can_mix_a_share_of_the_pictures_or_all_in_one_way():
    images, targets = batch(2000, height=8, width=8)
    changed = (CutMix(share=0.3)(images, targets, generator())[0] != images).flatten(1).any(1).float().mean()
    always = (CutMix()(images, targets, generator())[0] != images).flatten(1).any(1).float().mean()
    assert float(changed) == pytest.approx(0.3 * float(always), abs=0.05)
    mixed, soft = CutMix(draws="batch")(images[:50], targets[:50], generator(3))
    boxes = (mixed != images[:50])[:, 0]
    assert boxes.any() and torch.equal(boxes, boxes[:1].expand_as(boxes))
    assert len(soft.diagonal().unique()) == 1
    half = [
        bool((CutMix(0.5, "batch")(images[:9], targets[:9], generator(seed))[0] != images[:9]).any())
        for seed in range(200)
    ]
    assert 60 < sum(half) < 130


@given(st.integers(0, 10_000), st.integers(1, 10))
def test_cutout_blackens_a_box_of_the_size_asked_for_unless_it_sticks_out(seed, size):
    images, targets = batch(6, height=16, width=14)
    cut, same = Cutout(size)(images, targets, generator(seed))
    assert same is targets
    for hole in cut[:, 0] == 0:
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert int(hole.sum()) == len(rows) * len(columns)
        for line, length in ((rows, 16), (columns, 14)):
            sticks_out = len(line) == 0 or int(line[0]) == 0 or int(line[-1]) == length - 1
            assert len(line) <= size and (len(line) == size or sticks_out)


def literal_crop(image, dy, dx, mirrored, padding):
    padded = F.pad(image, (padding,) * 4)
    crop = padded[:, dy : dy + image.shape[1], dx : dx + image.shape[2]]
    return crop.flip(2) if mirrored else crop


@given(st.integers(0, 10_000), st.integers(0, 3))
def test_flips_and_crops_are_among_those_there_are(seed, padding):
    images, targets = torch.rand(3, 3, 7, 6, generator=generator(seed + 1)), batch(3)[1]
    augmented, _ = FlipAndCrop(padding)(images, targets, generator(seed))
    for image, found in zip(images, augmented, strict=True):
        steps = range(2 * padding + 1)
        assert any(
            torch.equal(found, literal_crop(image, dy, dx, mirrored, padding))
            for dy in steps
            for dx in steps
            for mirrored in (False, True)
        )


def test_flips_and_crops_are_uniform():
    corner = torch.zeros(4000, 1, 9, 9)
    corner[:, :, 4, 3] = 1.0
    moved = FlipAndCrop(2)(corner, torch.ones(4000, 1), generator())[0].mean((0, 1))
    expected = torch.zeros(9, 9)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            expected[4 + dy, 3 + dx] += 1 / 50
            expected[4 + dy, 8 - 3 - dx] += 1 / 50
    assert float((moved - expected).abs().max()) < 0.01


def test_gradients_reach_every_pixel_that_is_still_seen():
    images = torch.rand(4, 3, 8, 8, requires_grad=True)
    for augmentation in (Mixup(), FlipAndCrop(0)):
        (gradient,) = torch.autograd.grad(augmentation(images, batch(4)[1], generator())[0].sum(), images)
        assert torch.allclose(gradient.sum(), torch.tensor(float(images.numel()))) and bool((gradient > 0).all())


PUBLISHED = [SubPixelCrop(), BatchMixup(), BatchCutMix(share=1.0), BatchCutout()]


@pytest.mark.parametrize("augmentation", [*EVERY, *PUBLISHED], ids=str)
def test_classes_and_torchs_own_generator_do_as_soft_labels_and_a_generator_do(augmentation):
    images, targets = batch(8, classes=3)
    soft = augmentation(images, targets, torch.default_generator.manual_seed(5))
    torch.manual_seed(5)
    hard = augmentation(images, torch.arange(8) % 3, num_classes=3)
    assert torch.equal(soft[0], hard[0]) and torch.equal(soft[1], hard[1])


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: Mixup(width=1), "2 or more"),
        (lambda: Mixup(alpha=0), "alpha above 0"),
        (lambda: Mixup(alpha=math.nan), "alpha above 0"),
        (lambda: CutMix(share=1.5), "between 0 and 1"),
        (lambda: CutMix(draws="picture"), "'image' or for the 'batch'"),
        (lambda: Cutout(0), "1 pixel or more"),
        (lambda: FlipAndCrop(-1), "0 pixels or more"),
        (lambda: Mixup(width=4)(*batch(3), generator()), "cannot be mixed 4 at a time"),
        (lambda: CutMix()(*batch(1), generator()), "cannot be mixed 2 at a time"),
        (lambda: Cutout(11)(*batch(2), generator()), "larger than the pictures"),
        (lambda: Mixup()(batch(3)[0].byte(), batch(3)[1], generator()), "give floats"),
        (lambda: Mixup()(batch(3)[0][0], batch(3)[1], generator()), "give floats"),
        (lambda: Mixup()(batch(3)[0], torch.arange(3), generator()), "give num_classes as well"),
        (lambda: Mixup()(batch(3)[0], torch.arange(3), num_classes=2), "from 0 to 2, but 2 classes"),
        (lambda: Mixup()(batch(3)[0], torch.eye(3).long(), num_classes=3), "one_hot"),
        (lambda: Mixup()(batch(3)[0], batch(4)[1], generator()), "for 3 pictures give 3 classes"),
    ],
)
def test_what_cannot_be_is_a_sentence(call, complaint):
    with pytest.raises(FairveilError, match=complaint):
        call()
