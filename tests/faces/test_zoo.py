"""The pretrained recognizers, with their real weights: as stated, differentiable, and as other runtimes run them."""

import base64
import copy
import json
import math

import ai_edge_litert.interpreter as litert
import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from skimage import data

from fairveil import assets
from fairveil.base.errors import FairveilError
from fairveil.faces import zoo
from fairveil.faces.graphs.tensorflow import nodes_and_weights
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, load_recognizer

PHOTO = torch.from_numpy(data.astronaut()[40:200, 145:305]).permute(2, 0, 1)[None] / 255
# Read off the enlarged picture by hand: left eye, right eye, nose, left and right corner of the mouth.
LANDMARKS = torch.tensor([[[58.5, 61.0], [102.3, 63.3], [79.0, 87.5], [58.5, 100.0], [101.5, 100.5]]])
NOISE = torch.rand(PHOTO.shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=ZOO)
def recognizer(request, needs_models):
    needs_models(request.param)
    return load_recognizer(request.param)


def test_embeddings_are_unit_vectors_of_the_stated_dimension(recognizer):
    embeddings = recognizer.embed(torch.cat([PHOTO, NOISE]), LANDMARKS.expand(2, -1, -1))
    assert embeddings.shape == (2, ZOO[recognizer.name].dimension)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_a_batch_gives_what_one_by_one_gives(recognizer):
    together = recognizer.embed(torch.cat([PHOTO, NOISE]), LANDMARKS.expand(2, -1, -1))
    alone = torch.cat([recognizer.embed(photo, LANDMARKS) for photo in (PHOTO, NOISE)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_gradient_reaches_the_pixels_and_is_that_of_finite_differences(recognizer):
    """In double precision, along one random direction, for one random functional of the embedding."""
    exact = copy.deepcopy(recognizer).double()
    random = torch.Generator().manual_seed(1)
    photo, landmarks = PHOTO.double().requires_grad_(), LANDMARKS.double()
    weights = torch.randn(1, ZOO[recognizer.name].dimension, generator=random, dtype=torch.float64)
    direction = torch.randn(photo.shape, generator=random, dtype=torch.float64)
    embedding = exact.embed(photo, landmarks)
    torch.testing.assert_close(embedding.detach().float(), recognizer.embed(PHOTO, LANDMARKS), atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad((embedding * weights).sum(), photo)
    assert gradient.isfinite().all()
    assert (gradient != 0).any(1).float().mean() > 0.25  # the framed face fills more than that of this photo
    # So small because a larger step crosses kinks of the ReLUs.
    step = 1e-8
    with torch.no_grad():
        ahead, behind = (exact.embed(photo + sign * step * direction, landmarks) for sign in (1, -1))
    difference = ((ahead - behind) * weights).sum() / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-3, atol=1e-4)


def test_a_face_brightened_or_mirrored_stays_itself_and_noise_is_somebody_else(recognizer):
    left_to_right = LANDMARKS[:, [1, 0, 2, 4, 3]]
    mirrored = torch.stack([PHOTO.shape[3] - 1 - left_to_right[..., 0], left_to_right[..., 1]], -1)
    face = recognizer.embed(PHOTO, LANDMARKS)
    brightened = recognizer.embed((PHOTO * 1.08 + 0.02).clamp(0, 1), LANDMARKS)
    mirrored = recognizer.embed(PHOTO.flip(-1), mirrored)
    noise = recognizer.embed(NOISE, LANDMARKS)
    # 1 - similarity, for dlib's network has all embeddings in one narrow cone.
    distance_to = [1 - float((face * other).sum()) for other in (brightened, mirrored, noise)]
    assert max(distance_to[:2]) < 0.1
    assert distance_to[2] > 10 * max(distance_to[:2])


def test_mobilefacenet_512_is_what_onnxruntime_makes_of_its_file(needs_models):
    needs_models("mobilefacenet-512")
    pictures = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(2)) * 2 - 1
    session = onnxruntime.InferenceSession(assets.path("mobilefacenet-512"))
    (expected,) = session.run(None, {session.get_inputs()[0].name: pictures.numpy()})
    found = load_recognizer("mobilefacenet-512").network(pictures).numpy()
    assert_close(found, expected, 1e-5)


def test_mobilefacenet_192_is_what_litert_makes_of_its_file(needs_models):
    needs_models("mobilefacenet-192")
    interpreter = litert.Interpreter(str(assets.path("mobilefacenet-192")))
    entrance, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    pictures = torch.rand(*entrance["shape"], generator=torch.Generator().manual_seed(2)) * 2 - 1
    interpreter.allocate_tensors()
    interpreter.set_tensor(entrance["index"], pictures.numpy())
    interpreter.invoke()
    expected = interpreter.get_tensor(exit_["index"])
    found = load_recognizer("mobilefacenet-192").network(pictures.permute(0, 3, 1, 2)).numpy()
    assert_close(found, expected, 1e-4)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("faceres", "global_pooling/Mean"),
        ("faceres-deep", "global_pooling/Mean"),
        ("mobileface", "batchnorm0/add_1"),
    ],
)
def test_tensorflow_js_models_are_what_a_literal_walk_of_their_file_gives(name, output, needs_models):
    needs_models(name)
    recognizer = load_recognizer(name)
    pictures = recognizer.framing.normalize(recognizer.framing.crop(PHOTO, LANDMARKS))
    expected = walk(assets.path(f"{name}.json"), assets.path(f"{name}.bin"), output, pictures.permute(0, 2, 3, 1))
    assert_close(recognizer.network(pictures).numpy(), expected.numpy(), 1e-4)


def test_facenet_is_what_a_literal_walk_of_its_graph_gives(needs_models):
    needs_models("facenet-512")
    recognizer = load_recognizer("facenet-512")
    pictures = recognizer.framing.normalize(recognizer.framing.crop(PHOTO, LANDMARKS))
    nodes, weights = nodes_and_weights(assets.path("facenet-512").read_bytes())
    expected = walk_nodes(nodes, weights, "embeddings", pictures.permute(0, 2, 3, 1))
    assert_close(recognizer.network(pictures).numpy(), expected.numpy(), 1e-4)


def assert_close(found, expected, tolerance):
    """To a tolerance relative to the largest entry."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-3


def read_weights(document, content):
    """Literally what the manifest says, for the number formats these files have."""
    weights, offset = {}, 0
    for entry in document["weightsManifest"][0]["weights"]:
        stored = np.dtype(entry.get("quantization", entry)["dtype"])
        count = math.prod(entry["shape"])
        array = np.frombuffer(content, stored, count, offset).reshape(entry["shape"])
        weights[entry["name"]] = torch.tensor(array.astype(entry["dtype"]))
        offset += count * stored.itemsize
    assert offset == len(content)
    return weights


def convolve(node, x, kernel):
    """Conv2D or DepthwiseConv2dNative: (B, H, W, C) by HWIO."""
    strides = [int(stride) for stride in node["attr"]["strides"]["list"]["i"][1:3]]
    x = x.permute(0, 3, 1, 2)
    if base64.b64decode(node["attr"]["padding"]["s"]) == b"SAME":
        totals = [
            max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
            for size, stride, extent in zip(x.shape[2:], strides, kernel.shape[:2], strict=True)
        ]
        x = F.pad(x, [side for total in reversed(totals) for side in (total // 2, total - total // 2)])
    if node["op"] == "Conv2D":
        return F.conv2d(x, kernel.permute(3, 2, 0, 1), stride=strides).permute(0, 2, 3, 1)
    kernel = kernel.permute(2, 3, 0, 1).flatten(0, 1)[:, None]
    return F.conv2d(x, kernel, stride=strides, groups=x.shape[1]).permute(0, 2, 3, 1)


def pool(node, x, reduction):
    """MaxPool or AvgPool without padding, window by window: (B, H, W, C)."""
    assert base64.b64decode(node["attr"]["padding"]["s"]) == b"VALID"
    (_, rows, columns, _), (_, down, right, _) = (
        [int(entry) for entry in node["attr"][name]["list"]["i"]] for name in ("ksize", "strides")
    )
    windows = x.unfold(1, rows, down).unfold(2, columns, right)  # (B, H, W, C, rows, columns)
    return reduction(windows.flatten(-2))


def normalize_batch(node, x, gain, shift, mean, variance):
    return gain * (x - mean) / (variance + node["attr"]["epsilon"]["f"]).sqrt() + shift


OPERATIONS = {
    "AvgPool": lambda node, a: pool(node, a, lambda windows: windows.mean(-1)),
    "BiasAdd": lambda _, a, b: a + b,
    "ConcatV2": lambda _, *inputs: torch.cat(inputs[:-1], int(inputs[-1])),
    "FusedBatchNorm": normalize_batch,
    "MaxPool": lambda node, a: pool(node, a, lambda windows: windows.amax(-1)),
    "Rsqrt": lambda _, a: 1 / a.sqrt(),
    "Square": lambda _, a: a * a,
    "Sum": lambda node, a, axes: a.sum(axes.tolist(), keepdim=node["attr"]["keep_dims"]["b"]),
    "Conv2D": convolve,
    "DepthwiseConv2dNative": convolve,
    "Add": lambda _, a, b: a + b,
    "AddV2": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Relu": lambda _, a: F.relu(a),
    "Relu6": lambda _, a: F.relu6(a),
    "Minimum": lambda _, a, b: torch.minimum(a, b),
    "Maximum": lambda _, a, b: torch.maximum(a, b),
    "Mean": lambda _, a, axes: a.mean(axes.tolist()),
    "Pad": lambda _, a, widths: F.pad(a, [side for pair in reversed(widths.tolist()) for side in pair]),
    "Reshape": lambda _, a, shape: a.reshape(shape.tolist()),
    "MatMul": lambda _, a, b: a @ b,
}


def walk(model, weights, output, pictures):
    """Evaluate a graph node by node, each by its definition: pictures (B, H, W, 3) to the node `output`."""
    document = json.loads(model.read_text())
    values = read_weights(document, weights.read_bytes())
    return walk_nodes(document["modelTopology"]["node"], values, output, pictures)


def walk_nodes(listed, values, output, pictures):
    """The same for nodes and values of constants that were read already."""
    nodes = {node["name"]: node for node in listed}

    def value(name):
        name = name.removesuffix(":0")
        if name not in values:
            node = nodes[name]
            inputs = [value(source) for source in node.get("input", ())]
            values[name] = pictures if node["op"] == "Placeholder" else OPERATIONS[node["op"]](node, *inputs)
        return values[name]

    return value(output)


def test_an_unknown_recognizer_is_refused_with_the_nearest_name():
    with pytest.raises(FairveilError, match=r"'mobilefacenet-521'.*Did you mean mobilefacenet-512\?"):
        load_recognizer("mobilefacenet-521")
    with pytest.raises(FairveilError, match=r"'zzz'\. It has .*dlib-resnet"):
        load_recognizer("zzz")


def test_a_recognizer_is_read_once(needs_models):
    needs_models("mobileface")
    assert load_recognizer("mobileface") is load_recognizer("mobileface")


def test_the_default_ensemble_is_of_the_zoo_and_leaves_one_family_out_to_judge_it():
    assert set(DEFAULT_ENSEMBLE) <= set(zoo.ZOO)
    assert not set(zoo.FAMILIES["FaceNet"]) & set(DEFAULT_ENSEMBLE)
    assert sorted(name for family in zoo.FAMILIES.values() for name in family) == sorted(zoo.ZOO)
