import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from fairveil.faces.alignment import (
    TEMPLATE,
    inverse_transform,
    similarity_transform,
    transform_points,
    warp,
)


def _similarity(angle: float, scale: float, shift: tuple[float, float]) -> torch.Tensor:
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[[cosine, -sine, shift[0]], [sine, cosine, shift[1]]]], dtype=torch.float64)


@given(st.floats(-3.1, 3.1), st.floats(0.05, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_a_known_similarity_is_recovered(angle, scale, x, y):
    known = _similarity(angle, scale, (x, y))
    template = TEMPLATE.double()[None]
    found = similarity_transform(template, transform_points(template, known))
    assert torch.allclose(found, known, rtol=1e-6, atol=1e-6 * max(1, abs(x), abs(y), scale))


@given(st.integers(0, 10_000))
def test_the_closed_form_is_umeyamas_solution(seed):
    generator = np.random.default_rng(seed)
    source = TEMPLATE.numpy() * generator.uniform(0.5, 5) + generator.normal(0, 6, (5, 2))
    reference = SimilarityTransform.from_estimate(source, TEMPLATE.numpy())
    found = similarity_transform(torch.from_numpy(source)[None], TEMPLATE)[0]
    assert np.allclose(found.numpy(), reference.params[:2], atol=1e-4)


@given(st.floats(-3.1, 3.1), st.floats(0.05, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_the_inverse_maps_back(angle, scale, x, y):
    transform = _similarity(angle, scale, (x, y))
    points = TEMPLATE.double()[None]
    back = transform_points(transform_points(points, transform), inverse_transform(transform))
    assert torch.allclose(back, points, atol=1e-6)


def test_a_shift_by_whole_pixels_copies_pixels():
    image = torch.rand(1, 3, 40, 50)
    transform = torch.tensor([[[1.0, 0.0, -7.0], [0.0, 1.0, -5.0]]])
    assert torch.allclose(warp(image, transform, 20), image[:, :, 5:25, 7:27], atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_shrinking_by_a_whole_factor_averages_blocks(factor):
    image = torch.rand(1, 1, 16 * factor, 16 * factor)
    offset = (1 / factor - 1) / 2  # the center of a block becomes the center of a pixel
    transform = torch.tensor([[[1 / factor, 0.0, offset], [0.0, 1 / factor, offset]]])
    assert torch.allclose(warp(image, transform, 16), torch.nn.functional.avg_pool2d(image, factor), atol=1e-4)


def test_a_shrunk_checkerboard_turns_gray_instead_of_aliasing():
    board = ((torch.arange(400)[:, None] + torch.arange(400)) % 2).float()[None, None]
    transform = _similarity(0.3, 1 / 7.3, (0.0, -5.0)).float()
    crop = warp(board, transform, 30)[:, :, 12:28, 12:28]
    assert float((crop - 0.5).abs().max()) < 0.1


def test_without_antialiasing_each_pixel_is_one_bilinear_sample():
    image = torch.rand(1, 2, 30, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    transform = _similarity(0.2, 0.4, (1.0, 2.0))
    crop = warp(image, transform, 10, antialias=False)
    rows, columns = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    points = torch.stack([columns, rows], -1).reshape(1, -1, 2).double()
    places = transform_points(points, inverse_transform(transform))[0]
    scaled = 2 * places / torch.tensor([39.0, 29.0]) - 1  # as grid_sample wants them
    samples = torch.nn.functional.grid_sample(image, scaled.view(1, 10, 10, 2), align_corners=True)
    assert torch.allclose(crop, samples, atol=1e-9)
    assert not torch.allclose(crop, warp(image, transform, 10), atol=0.01)


def test_every_pixel_of_a_large_face_receives_gradient():
    image = torch.rand(1, 1, 300, 300, requires_grad=True)
    warp(image, torch.tensor([[[0.1, 0.0, -0.45], [0.0, 0.1, -0.45]]]), 30).sum().backward()
    assert float((image.grad[..., 10:-10, 10:-10] > 0).float().mean()) == 1.0


def test_the_warp_is_differentiable_to_the_pixels():
    image = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    transform = _similarity(0.4, 0.6, (1.0, 2.0))
    assert torch.autograd.gradcheck(lambda x: warp(x, transform, 5), image)


def test_several_crops_of_one_image_equal_crops_one_by_one():
    image = torch.rand(1, 3, 60, 60)
    transforms = torch.cat([_similarity(0.1, 0.5, (0, 0)), _similarity(-0.4, 0.5, (9, 3))]).float()
    together = warp(image, transforms, 20)
    assert torch.allclose(together[1:], warp(image, transforms[1:], 20), atol=1e-5)
