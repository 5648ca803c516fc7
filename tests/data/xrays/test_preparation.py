import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter, map_coordinates

from fairveil.base.errors import FairveilError
from fairveil.data.xrays import Preparation, random_affine


def _images(count=3, size=64, *, dtype=torch.float32):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize(("size", "sigma"), [(256, 3.0), (128, 1.5), (64, 0.75)])
def test_blur_and_normalization_are_those_of_the_text_in_proportion_to_the_size(size, sigma):
    images = _images(2, size)
    prepared = Preparation()(images)
    for image, found in zip(images[:, 0].double().numpy(), prepared[:, 0].numpy(), strict=True):
        reach = math.ceil(3 * sigma)
        blurred = gaussian_filter(255 * image, sigma, radius=reach, mode="mirror")
        assert np.abs((blurred - 128) / 64 - found).max() < 1e-4


def test_no_blur_leaves_the_published_mean_and_deviation_alone():
    images = _images()
    assert torch.allclose(Preparation(sigma=0)(images), (255 * images - 128) / 64, atol=1e-6)


def test_three_channels_are_the_same_thrice():
    images = _images()
    gray, color = Preparation()(images), Preparation(channels=3)(images)
    assert gray.shape == (3, 1, 64, 64) and color.shape == (3, 3, 64, 64)
    assert all(torch.equal(color[:, [channel]], gray) for channel in range(3))


def test_tiny_pictures_are_prepared_too():
    assert Preparation(sigma=64)(_images(1, 2)).isfinite().all()


def test_gradients_go_through_preparation_and_augmentation():
    images = _images(1, 7, dtype=torch.float64).requires_grad_()
    prepare = Preparation(channels=3, sigma=20)
    assert torch.autograd.gradcheck(lambda pixels: prepare(pixels).sin(), images)
    assert torch.autograd.gradcheck(lambda pixels: random_affine(pixels, torch.Generator().manual_seed(0)), images)


def test_settings_out_of_range_are_refused():
    for settings in ({"sigma": -1}, {"deviation": 0}, {"channels": 2}, {"mean": 300}):
        with pytest.raises(ValidationError):
            Preparation(**settings)


@pytest.mark.parametrize("work", [Preparation(), lambda images: random_affine(images, torch.Generator())])
@pytest.mark.parametrize(
    "images", [torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 9), torch.zeros(1, 8, 8), torch.zeros(1, 1, 8, 8).byte()]
)
def test_what_is_no_batch_of_x_rays_is_refused(work, images):
    with pytest.raises(FairveilError, match=r"give floats in \[0, 1\] of shape \(B, 1, S, S\)"):
        work(images)


def _warped(image, degrees, zoom, right, down, fill):
    """A pixel at a time: where in the old picture each place of the new one comes from."""
    size = len(image)
    middle = (size - 1) / 2
    radians = math.radians(degrees)
    y, x = np.mgrid[:size, :size].astype(float)
    x, y = (x - middle - right) / zoom, (y - middle - down) / zoom
    # against the clock as seen, with y downwards
    old_x = math.cos(radians) * x - math.sin(radians) * y + middle
    old_y = math.sin(radians) * x + math.cos(radians) * y + middle
    return map_coordinates(np.pad(image, 9, constant_values=fill), [old_y + 9, old_x + 9], order=1, cval=fill)


@pytest.mark.parametrize("ranges", [{}, {"degrees": 90, "shift": 0.3, "scale": (0.5, 2), "fill": 0.1}])
def test_warps_are_those_of_a_slow_reference_with_the_numbers_drawn(ranges):
    images = _images(6, 33, dtype=torch.float64)
    warped = random_affine(images, torch.Generator().manual_seed(5), **ranges)
    turn, right, down, zoom = torch.rand(4, 6, generator=torch.Generator().manual_seed(5)).double().numpy()
    degrees, shift = ranges.get("degrees", 15), ranges.get("shift", 0.05)
    low, high = ranges.get("scale", (0.95, 1.05))
    for row in range(6):
        expected = _warped(
            images[row, 0].numpy(),
            degrees * (2 * turn[row] - 1),
            low + (high - low) * zoom[row],
            shift * 33 * (2 * right[row] - 1),
            shift * 33 * (2 * down[row] - 1),
            ranges.get("fill", 128 / 255),
        )
        assert np.abs(warped[row, 0].numpy() - expected).max() < 1e-5


def test_every_picture_has_draws_of_its_own_from_the_generator_alone():
    same = _images(1, 32).expand(4, -1, -1, -1)
    torch.manual_seed(0)
    first = random_affine(same, torch.Generator().manual_seed(2))
    torch.manual_seed(1)
    again = random_affine(same, torch.Generator().manual_seed(2))
    other = random_affine(same, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first[0], first[1])


def test_what_comes_in_from_outside_is_the_published_gray():
    black = torch.zeros(64, 1, 32, 32)
    warped = random_affine(black, torch.Generator().manual_seed(0), scale=(0.5, 0.5))
    assert torch.allclose(warped[:, :, 0, 0], torch.tensor(128 / 255))
    assert torch.allclose(warped[:, :, 16, 16], torch.tensor(0.0), atol=1e-6)


def test_nothing_to_draw_leaves_pictures_as_they_are():
    images = _images()
    still = random_affine(images, torch.Generator(), degrees=0, shift=0, scale=(1, 1))
    assert torch.allclose(still, images, atol=1e-5)


@pytest.mark.parametrize("ranges", [{"degrees": -1}, {"shift": -0.1}, {"scale": (0, 1)}, {"scale": (1.1, 1)}])
def test_ranges_out_of_order_are_refused(ranges):
    with pytest.raises(FairveilError, match="two scales above 0, the smaller first"):
        random_affine(_images(), torch.Generator(), **ranges)
