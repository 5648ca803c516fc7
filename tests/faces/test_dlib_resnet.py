"""The port of dlib's network: against dlib itself, and its blocks against a literal transcription."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from fairveil.faces.backbones.dlib_resnet import _Block
from fairveil.faces.zoo import load_recognizer

# Read off the enlarged picture by hand: left eye, right eye, nose, left and right corner of the mouth.
LANDMARKS = torch.tensor([[[203.5, 101.0], [247.3, 103.3], [224.0, 127.5], [203.5, 140.0], [246.5, 140.5]]])

# dlib 20.0.1's own compute_face_descriptor (not jittered; weights of dlib_face_recognition_resnet_model_v1.dat) of the
# chip that the test below makes, as 150x150 bytes.
DESCRIPTOR = np.array([
    -0.0678, 0.0259, 0.0348, -0.0605, -0.1752, -0.0549, -0.0240, -0.1326, 0.1310, -0.1293, 0.2266, -0.0410,
    -0.2625, -0.0249, -0.0005, 0.1558, -0.1408, -0.1450, -0.1238, -0.0815, 0.0486, 0.0657, -0.0083, 0.0381,
    -0.2229, -0.3026, -0.0611, -0.0972, 0.0468, -0.0462, -0.0401, 0.1010, -0.0621, 0.0321, 0.1252, 0.0923,
    -0.0255, -0.1009, 0.1437, -0.0728, -0.2591, -0.0384, 0.0642, 0.1899, 0.2844, -0.0592, 0.0101, -0.1281,
    0.1254, -0.2736, 0.0215, 0.0807, 0.0540, 0.0978, 0.0651, -0.1626, -0.0003, 0.2140, -0.3142, -0.0507,
    0.0388, -0.1545, -0.0421, -0.0594, 0.1470, 0.1372, -0.1793, -0.1544, 0.1869, -0.2872, -0.0219, 0.0739,
    -0.1091, -0.1835, -0.3090, -0.0401, 0.3968, 0.2041, -0.1702, -0.0397, -0.0114, 0.0106, 0.0623, 0.0295,
    -0.0588, -0.1002, -0.1108, 0.0222, 0.1968, -0.0568, 0.0300, 0.2690, 0.0355, -0.0124, 0.0492, 0.1266,
    -0.1463, -0.0598, -0.0945, -0.0141, -0.0589, -0.0735, 0.0708, 0.1633, -0.1299, 0.2008, -0.0496, -0.0132,
    -0.0256, -0.0684, 0.0099, -0.0804, 0.1328, -0.2312, 0.0836, 0.1643, 0.1008, 0.1825, -0.0282, 0.0113,
    -0.0507, -0.0861, -0.1772, -0.0161, 0.0072, -0.0772, 0.0159, 0.0139,
])  # fmt: skip


def test_the_descriptor_is_dlibs_own_but_for_the_8_bits_of_the_weights(needs_models):
    needs_models("dlib-resnet")
    recognizer = load_recognizer("dlib-resnet")
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None] / 255
    chip = (recognizer.framing.crop(photo, LANDMARKS) * 255).round() / 255
    assert chip.mean((0, 2, 3)) * 255 == pytest.approx(torch.tensor([165.096, 139.226, 115.228]), abs=0.05)
    found = recognizer.network(recognizer.framing.normalize(chip))[0].numpy()
    # dlib does not normalize its descriptors, so their lengths have to agree as well.
    np.testing.assert_allclose(found, DESCRIPTOR, rtol=0, atol=0.015)
    assert found @ DESCRIPTOR / np.linalg.norm(found) / np.linalg.norm(DESCRIPTOR) > 0.999


def literal_convolution(x, weights, name, stride, padding):
    """dlib's con and affine layers on (H, W, in), one output pixel at a time."""
    kernel = weights[f"{name}/conv/filters"]
    x = np.pad(x, [(padding, padding), (padding, padding), (0, 0)])
    rows, columns = ((size - 3) // stride + 1 for size in x.shape[:2])
    y = np.zeros((rows, columns, kernel.shape[3]))
    for r, c in np.ndindex(rows, columns):
        window = x[r * stride : r * stride + 3, c * stride : c * stride + 3]
        y[r, c] = np.tensordot(window, kernel, 3) + weights[f"{name}/conv/bias"]
    return y * weights[f"{name}/scale/weights"] + weights[f"{name}/scale/biases"]


def literal_block(x, weights, name, down):
    """dlib's residual (or residual_down) and the relu behind it, on (H, W, C)."""
    y = np.maximum(literal_convolution(x, weights, f"{name}/conv1", *((2, 0) if down else (1, 1))), 0)
    y = literal_convolution(y, weights, f"{name}/conv2", 1, 1)
    if down:  # avg_pool<2,2,2,2>
        x = np.array([
            [x[r : r + 2, c : c + 2].mean((0, 1)) for c in range(0, x.shape[1] - 1, 2)]
            for r in range(0, x.shape[0] - 1, 2)
        ])  # fmt: skip
    # add_prev: of the larger size in each dimension, what is not there counting as zero.
    total = np.zeros(np.maximum(x.shape, y.shape))
    total[: x.shape[0], : x.shape[1], : x.shape[2]] += x
    total[: y.shape[0], : y.shape[1], : y.shape[2]] += y
    return np.maximum(total, 0)


@settings(deadline=None, max_examples=40)
@given(
    down=st.booleans(),
    rows=st.integers(3, 10),
    columns=st.integers(3, 10),
    factor=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_a_block_is_dlibs_at_any_size(down, rows, columns, factor, seed):
    name = "conv8_down" if down else "conv8_1"
    channels = (3, 3 * factor if down else 3)
    random = np.random.default_rng(seed)
    weights = {}
    for part, inputs in (("conv1", channels[0]), ("conv2", channels[1])):
        weights[f"{name}/{part}/conv/filters"] = random.normal(size=(3, 3, inputs, channels[1]))
        for entry in ("conv/bias", "scale/weights", "scale/biases"):
            weights[f"{name}/{part}/{entry}"] = random.normal(size=channels[1])
    x = random.normal(size=(rows, columns, channels[0]))
    block = _Block({key: torch.from_numpy(value) for key, value in weights.items()}, name)
    found = block(torch.from_numpy(x).permute(2, 0, 1)[None])[0].permute(1, 2, 0).detach().numpy()
    np.testing.assert_allclose(found, literal_block(x, weights, name, down), rtol=1e-9, atol=1e-9)
