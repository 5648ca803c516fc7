import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from fairveil.protection.ascent import direction, normal_noise, shaped, uniform_noise, within_budget, within_range


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_signed_step_moves_every_pixel_equally():
    gradient = torch.randn(2, 3, 5, 7, generator=_generator())
    assert torch.equal(direction(gradient, "sign"), torch.from_numpy(np.sign(gradient.numpy())))


def test_a_unit_rms_step_keeps_proportions_and_has_the_same_length_on_every_canvas():
    gradient = torch.randn(2, 3, 5, 7, generator=_generator()) * torch.tensor([1e-6, 3.0]).view(2, 1, 1, 1)
    step = direction(gradient, "unit RMS")
    for canvas, moved in zip(gradient.numpy(), step.numpy(), strict=True):
        assert np.sqrt(np.mean(moved**2)) == pytest.approx(1, rel=1e-5)
        assert np.allclose(moved / canvas, (moved / canvas).mean(), rtol=1e-4)


def test_a_gradient_of_zero_is_no_step():
    for rule in ("sign", "unit RMS"):
        assert torch.equal(direction(torch.zeros(1, 3, 4, 4), rule), torch.zeros(1, 3, 4, 4))


def test_smoothing_is_a_gaussian_with_reflected_borders():
    change = torch.randn(1, 3, 24, 20, generator=_generator())
    ours = shaped(change, chroma=1.0, sigma=1.5)
    # kornia mirrors at the middle of the border's pixels, which SciPy calls "mirror"; both cut off at 2 sigma
    theirs = np.stack([gaussian_filter(c, 1.5, mode="mirror", radius=3) for c in change[0].numpy()])
    assert np.allclose(ours[0].numpy(), theirs, atol=1e-5)


def test_without_chroma_all_channels_change_alike_and_lightness_is_kept():
    change = torch.randn(2, 3, 4, 4, generator=_generator())
    for chroma in (0.0, 0.25):
        kept = shaped(change, chroma=chroma, sigma=0.0)
        assert torch.allclose(kept.mean(1), change.mean(1), atol=1e-6)
        assert torch.allclose(
            kept - kept.mean(1, keepdim=True), chroma * (change - change.mean(1, keepdim=True)), atol=1e-6
        )


def test_by_default_a_change_keeps_its_shape_exactly():
    change = torch.randn(2, 3, 4, 4, generator=_generator())
    assert torch.equal(shaped(change, chroma=1.0, sigma=0.0), change)


@pytest.mark.parametrize("sigma", [0.3, 1.5, 12.0])
def test_smoothing_works_on_the_smallest_canvas(sigma):
    assert shaped(torch.ones(1, 1, 8, 8), chroma=1.0, sigma=sigma).isfinite().all()


def test_no_jitter_draws_nothing_so_that_older_seeds_mean_the_same():
    generator = _generator()
    state = generator.get_state()
    assert torch.equal(normal_noise(torch.ones(2, 5, 2), 0.0, generator), torch.zeros(2, 5, 2))
    assert torch.equal(generator.get_state(), state)


def test_jitter_has_the_deviation_that_is_asked_for():
    assert float(normal_noise(torch.zeros(20000), 3.0, _generator()).std()) == pytest.approx(3, rel=0.03)


def test_work_stays_on_the_device_of_the_pictures():
    """PyTorch's "meta" device computes shapes only, and refuses to meet the CPU as a graphics card does."""
    images = torch.empty(1, 3, 16, 16, device="meta")
    delta = uniform_noise(images, 3, 0.1, _generator())
    assert delta.device == normal_noise(images, 1.0, _generator()).device == images.device
    assert shaped(delta, chroma=0.1, sigma=1.0).device == direction(delta, "unit RMS").device == images.device
    assert within_budget(images, delta, lambda changed: changed.sum((1, 2, 3)), 0.1).device == images.device


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_stay_within_range(channels):
    images = torch.rand(2, 3, 6, 6, generator=_generator())
    changed = images + within_range(images, torch.randn(2, channels, 6, 6, generator=_generator(1)))
    assert float(changed.min()) >= -1e-6 and float(changed.max()) <= 1 + 1e-6


def test_a_budget_is_used_up_and_not_exceeded():
    images, delta = torch.zeros(3, 3, 4, 4), torch.ones(3, 3, 4, 4) * torch.tensor([0.1, 0.5, 1.0]).view(3, 1, 1, 1)
    price = lambda changed: changed.mean((1, 2, 3))  # noqa: E731
    kept = price(within_budget(images, delta, price, 0.3))
    assert kept[0] == pytest.approx(0.1)
    assert all(0.299 < float(one) <= 0.3 for one in kept[1:])
