"""LPIPS against the authors' own code, SSIM and PSNR against scikit-image, and the gradients the attack follows."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.color import rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from fairveil.protection.perceptual import LPIPS, delta_chroma, delta_e, psnr, ssim

BACKBONES = ("alexnet", "vgg16")


def make_pairs():
    photo = data.astronaut() / np.float32(255)
    face, wide, odd = photo[70:134, 190:254], photo[60:140, 180:276], photo[300:379, 101:166]
    means = np.lib.stride_tricks.sliding_window_view(photo, (5, 5), axis=(0, 1)).mean((-2, -1))
    random = np.random.RandomState(0)  # the generator whose numbers NumPy promises never to change
    return {
        "faint noise": (face, np.clip(face + random.normal(0, 0.02, face.shape), 0, 1)),
        "noise": (wide, np.clip(wide + random.normal(0, 0.1, wide.shape), 0, 1)),
        "box blur": (wide, means[58:138, 178:274]),
        "shift by 3 pixels": (face, photo[70:134, 193:257]),
        "mirrored": (odd, odd[:, ::-1]),
        "another place": (face, photo[10:74, 400:464]),
        "black and white": (np.zeros_like(odd), np.ones_like(odd)),
        "equal": (odd, odd),
    }


PAIRS = make_pairs()

# What lpips.LPIPS(net="alex" or "vgg", version="0.1")(a, b, normalize=True) of the authors' package, lpips 0.1.4, says:
# their code and the linear heads in their wheel, around torchvision's AlexNet and VGG16 filled with the backbone
# weights of our checkpoints (torchvision itself did not run beside our torch). Their heads equal ours to the last bit.
REFERENCE = {
    "faint noise": (0.003536, 0.039279),
    "noise": (0.272635, 0.470302),
    "box blur": (0.322355, 0.199816),
    "shift by 3 pixels": (0.031264, 0.125625),
    "mirrored": (0.404743, 0.471028),
    "another place": (0.487969, 0.767219),
    "black and white": (0.711042, 0.400545),
    "equal": (0.0, 0.0),
}


def as_images(picture):
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]


@pytest.fixture(params=BACKBONES)
def lpips(request, needs_models):
    needs_models(f"lpips-{request.param}")
    return LPIPS.pretrained(request.param)


@pytest.mark.parametrize("name", PAIRS)
def test_lpips_is_what_the_authors_code_says(name, needs_models):
    for backbone, expected in zip(BACKBONES, REFERENCE[name], strict=True):
        needs_models(f"lpips-{backbone}")
        found = LPIPS.pretrained(backbone)(*map(as_images, PAIRS[name]))
        assert found.shape == (1,)
        assert float(found) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("backbone", "expected"), [("alexnet", (0.722, 0.138)), ("vgg16", None)])
def test_the_examples_of_the_lpips_repository_have_their_published_distances(backbone, expected, needs_models):
    """Its pictures come under its own terms; FAIRVEIL_LPIPS_EXAMPLES names a folder that has them."""
    folder = os.environ.get("FAIRVEIL_LPIPS_EXAMPLES")
    if folder is None:
        pytest.skip("FAIRVEIL_LPIPS_EXAMPLES names no folder with the pictures of the LPIPS repository.")
    needs_models(f"lpips-{backbone}")
    reference, *others = (
        as_images(np.array(Image.open(Path(folder) / f"{name}.png").convert("RGB")) / 255)
        for name in ("ex_ref", "ex_p0", "ex_p1")
    )
    found = [float(LPIPS.pretrained(backbone)(reference, other)) for other in others]
    assert found[0] > found[1]  # people judge the second to be closer
    if expected is not None:
        assert found == pytest.approx(expected, abs=6e-4)


def test_a_batch_gives_what_one_by_one_gives(lpips):
    pairs = [tuple(map(as_images, PAIRS[name])) for name in ("faint noise", "shift by 3 pixels", "another place")]
    images, others = (torch.cat(side) for side in zip(*pairs, strict=True))
    alone = torch.cat([lpips(*pair) for pair in pairs])
    torch.testing.assert_close(lpips(images, others), alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(lpips(others, images), alone, atol=1e-6, rtol=1e-5)


def test_the_gradient_of_lpips_is_that_of_finite_differences(lpips):
    """Along random directions in double precision; gradcheck's fast mode would pass an error of a tenth."""
    exact = copy.deepcopy(lpips).double()
    image, moved = (as_images(picture)[:, :, :40, :36].double() for picture in PAIRS["noise"])
    reference = exact.features(image)
    moved.requires_grad_()
    (gradient,) = torch.autograd.grad(exact.distance(reference, exact.features(moved)).sum(), moved)
    directions = torch.randn(4, *moved.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-7  # a larger one crosses kinks of the ReLUs
    with torch.no_grad():
        both_ways = exact.features(torch.cat([moved + step * directions, moved - step * directions]))
        ahead, behind = exact.distance([layer.expand(8, -1, -1, -1) for layer in reference], both_ways).chunk(2)
    torch.testing.assert_close(
        (gradient * directions).sum((1, 2, 3)), (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("gray", [None, 0.0, 0.5])
def test_the_gradient_of_lpips_is_zero_and_no_hole_where_the_pictures_are_equal(lpips, gray):
    image = as_images(PAIRS["equal"][0]) if gray is None else torch.full((1, 3, 40, 40), gray)
    moved = image.clone().requires_grad_()
    distance = lpips(image, moved)
    (gradient,) = torch.autograd.grad(distance.sum(), moved)
    assert distance.item() == 0
    assert (gradient == 0).all()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_dead_activations_leave_no_holes_on_the_way_of_the_gradient():
    """All features zero: the root in their length has no derivative there, which only a ReLU would hide."""
    parameters = {f"head{depth}.kernel": np.ones((1, 1, 2, 1), np.float32) for depth in range(5)}
    widths = (3, 2, 2, 2, 2, 2)
    for depth, size in enumerate((11, 5, 3, 3, 3)):
        parameters[f"conv{depth}.kernel"] = np.zeros((size, size, *widths[depth : depth + 2]), np.float32)
        parameters[f"conv{depth}.bias"] = np.full(2, -1.0, np.float32)
    dead = LPIPS("alexnet", parameters)
    moved = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autograd.detect_anomaly():  # raises at the first NaN on the way
        (gradient,) = torch.autograd.grad(dead(torch.zeros_like(moved), moved).sum(), moved)
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "equal"])
def test_psnr_is_that_of_scikit_image(name):
    image, other = (np.float64(picture) for picture in PAIRS[name])
    expected = peak_signal_noise_ratio(image, other, data_range=1)
    assert float(psnr(*map(as_images, PAIRS[name]))) == pytest.approx(expected, abs=1e-4)


def test_psnr_of_equal_pictures_is_infinite():
    assert psnr(*map(as_images, PAIRS["equal"])).tolist() == [float("inf")]


@pytest.mark.parametrize("name", PAIRS)
def test_ssim_is_that_of_scikit_image(name):
    image, other = (np.float64(picture) for picture in PAIRS[name])
    expected = structural_similarity(
        image, other, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert float(ssim(*map(as_images, PAIRS[name]))) == pytest.approx(expected, abs=2e-5)


def test_ssim_and_psnr_take_batches():
    images, others = (
        torch.cat([as_images(PAIRS[name][side]) for name in ("faint noise", "another place")]) for side in (0, 1)
    )
    for measure in (ssim, psnr):
        alone = torch.cat([measure(image[None], other[None]) for image, other in zip(images, others, strict=True)])
        torch.testing.assert_close(measure(images, others), alone)


@pytest.mark.parametrize("name", PAIRS)
def test_color_differences_agree_with_scikit_image(name):
    picture, other = PAIRS[name]
    difference = rgb2lab(other) - rgb2lab(picture)
    images = as_images(picture), as_images(other)
    assert float(delta_e(*images)) == pytest.approx(np.linalg.norm(difference, axis=-1).mean(), abs=0.02)
    assert float(delta_chroma(*images)) == pytest.approx(np.linalg.norm(difference[..., 1:], axis=-1).mean(), abs=0.02)
