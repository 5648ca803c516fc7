import math

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from fairveil import assets
from fairveil.base.errors import FairveilError
from fairveil.faces.alignment import TEMPLATE
from fairveil.faces.graphs import read_onnx
from fairveil.faces.probing import check_tells_apart
from fairveil.faces.recognizers import Framing, MatchThreshold, Recognizer, StatedFraming, check_names
from fairveil.faces.zoo import ZOO, load_recognizer


class _Pixels(nn.Module):
    """A network whose features are what it was shown."""

    def forward(self, crops):
        return crops.flatten(1)


def test_the_framing_of_112_pixels_is_the_template():
    assert torch.allclose(Framing().landmarks, TEMPLATE)


def test_a_framing_twice_the_size_puts_pixel_centers_right():
    # Pixel k of a picture enlarged twofold around pixel edges lies at 2k + 1/2.
    assert torch.allclose(Framing(size=224).landmarks, TEMPLATE * 2 + 0.5)


def test_zoom_and_drop_move_the_face_as_said():
    plain, changed = Framing(size=100), Framing(size=100, zoom=0.5, drop=0.1)
    eyes, eyes_changed = plain.landmarks[1] - plain.landmarks[0], changed.landmarks[1] - changed.landmarks[0]
    assert torch.allclose(eyes_changed, eyes / 2, atol=1e-4)
    center = (plain.landmarks - 49.5) / 2 + 49.5
    assert torch.allclose(changed.landmarks, center + torch.tensor([0.0, 10.0]), atol=1e-4)


def test_the_network_sees_the_stated_numbers_and_channel_order():
    framing = Framing(size=2, channels="BGR", mean=(1.0, 2.0, 3.0), scale=4.0)
    red = torch.zeros(1, 3, 2, 2)
    red[:, 0] = 1.0
    assert framing.normalize(red)[0, :, 0, 0].tolist() == [-0.25, -0.5, 63.0]


def test_embeddings_are_unit_vectors_of_the_framed_face():
    photo = torch.rand(1, 3, 150, 150)
    recognizer = Recognizer("pixels", _Pixels())
    embeddings = recognizer.embed(photo, torch.stack([TEMPLATE + 10, TEMPLATE + 20]))
    assert embeddings.shape == (2, 3 * 112 * 112)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2))
    direct = recognizer.embed_crops(photo[:, :, 10:122, 10:122])
    assert torch.allclose(embeddings[:1], direct, atol=1e-4)


def test_the_mirrored_embedding_does_not_change_when_the_crop_is_mirrored():
    recognizer = Recognizer("pixels", _Pixels())
    crops = torch.rand(2, 3, 112, 112)
    assert torch.allclose(
        recognizer.embed_crops(crops, mirror=True).view(2, 3, 112, 112),
        recognizer.embed_crops(crops.flip(-1), mirror=True).view(2, 3, 112, 112),
        atol=1e-6,
    )


def test_embedding_is_differentiable_to_the_pixels():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).double()
    recognizer = Recognizer.from_module(network, name="small", framing=Framing(size=8))
    photo = torch.rand(1, 3, 12, 12, dtype=torch.float64, requires_grad=True)
    landmarks = (TEMPLATE / 10)[None].double()
    assert torch.autograd.gradcheck(lambda x: recognizer.embed(x, landmarks), photo)


def test_a_module_is_frozen_and_put_into_evaluation_mode():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(3 * 8 * 8, 4))
    recognizer = Recognizer.from_module(network, name="small", framing=Framing(size=8), threshold=0.3)
    assert not any(parameter.requires_grad for parameter in recognizer.parameters())
    crops = torch.rand(1, 3, 8, 8)
    assert torch.equal(recognizer.embed_crops(crops), recognizer.embed_crops(crops))
    assert recognizer.threshold.similarity == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda crops: crops.flatten(1) * float("nan"), "not finite"),
        (lambda crops: crops.flatten(1) / 0, "not finite"),
        (lambda crops: crops.flatten(1)[:, :5] * 0, "zeros only"),
        (lambda crops: crops.sum(), r"shape \(\) for 2 faces"),
        (lambda crops: crops.flatten(1).sum(1), r"shape \(2,\) for 2 faces"),
        (lambda crops: crops, r"shape \(2, 3, 8, 8\) for 2 faces"),
        (lambda crops: crops.flatten(1)[:1], r"shape \(1, 192\) for 2 faces"),
        (lambda crops: crops.flatten(1).norm(dim=1, keepdim=True), "one number for each face"),
    ],
)
def test_a_network_that_gives_no_usable_vectors_is_refused_by_name(network, words):
    recognizer = Recognizer("odd-one", network, Framing(size=8))
    with pytest.raises(FairveilError, match=f"odd-one gives .*{words}"):
        recognizer.embed_crops(torch.rand(2, 3, 8, 8))


def test_one_face_without_a_direction_is_enough_to_refuse():
    recognizer = Recognizer("odd-one", lambda crops: crops.flatten(1), Framing(size=8, mean=(0.0, 0.0, 0.0)))
    with pytest.raises(FairveilError, match="zeros only"):
        recognizer.embed_crops(torch.stack([torch.rand(3, 8, 8), torch.zeros(3, 8, 8)]))


def test_misspelled_channels_are_refused():
    with pytest.raises(FairveilError, match="'RGB' or 'BGR', not 'bgr'"):
        Framing(channels="bgr")


@pytest.mark.parametrize("similarity", [math.nan, 1.5, -2.0, math.inf])
def test_a_threshold_that_is_no_cosine_is_refused(similarity):
    with pytest.raises(FairveilError, match="from -1 to 1"):
        MatchThreshold.stated(similarity)


def test_recognizers_of_one_name_are_refused():
    check_names([Recognizer("a", _Pixels()), Recognizer("b", _Pixels())])
    with pytest.raises(FairveilError, match=r"one name.*a, a"):
        check_names([Recognizer("a", _Pixels()), Recognizer("a", _Pixels())])


def test_an_onnx_file_is_told_apart_by_its_content(tmp_path):
    numbers = []
    for axis in (1, 1, 2):
        graph = helper.make_graph(
            [helper.make_node("ReduceMean", ["x"], ["y"], axes=[axis, 3], keepdims=0)],
            "means",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
        )
        path = tmp_path / "mine.onnx"
        path.write_bytes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString(deterministic=True)
        )
        recognizer = Recognizer.from_onnx(path, framing=Framing(size=8))
        numbers.append(recognizer.sha256)
        assert recognizer.name == "mine" and len(recognizer.embed_crops(torch.rand(2, 3, 8, 8))) == 2
    assert numbers[0] == numbers[1] != numbers[2]


def exported(path, before, constants=(), *, kind=TensorProto.FLOAT, shape=(1, 3, 112, 112), outputs=None):
    """A network of the zoo behind other nodes; constants by name. Its own input is called "start"."""
    model = onnx.load(assets.path("mobilefacenet-512"))
    graph = model.graph
    nodes = [
        *before,
        helper.make_node("Identity", [before[-1].output[0] if before else "pixels"], [graph.input[0].name]),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("pixels", kind, shape))
    graph.initializer.extend(
        numpy_helper.from_array(np.float32(value), name) for name, value in dict(constants).items()
    )
    if outputs is not None:
        graph.node.extend(outputs[0])
        vector = graph.output[0]
        del graph.output[:]
        graph.output.extend(vector if entry is None else entry for entry in outputs[1])
    onnx.save(model, path)
    return path


CAST = helper.make_node("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT)
NORMALIZE = [helper.make_node("Sub", ["f", "m"], ["a"]), helper.make_node("Div", ["a", "s"], ["n"])]
AROUND = {"m": 127.5, "s": 128}
NORM = helper.make_node("ReduceL2", ["output"], ["norm"], axes=[1], keepdims=1)
NORM_INFO = helper.make_tensor_value_info("norm", TensorProto.FLOAT, (1, 1))
NORM_OPEN = helper.make_tensor_value_info("norm", TensorProto.FLOAT, ("batch", "length"))
EXPORTS = {
    "nothing before it": ([], {}, {}),
    "normalized inside": ([CAST, *NORMALIZE], AROUND, {}),
    "0 to 1 inside": ([CAST, *NORMALIZE], {"m": 0.5, "s": 0.5}, {}),
    "uint8": ([CAST, *NORMALIZE], AROUND, {"kind": TensorProto.UINT8}),
    "uint8, channels last": (
        [CAST, *NORMALIZE, helper.make_node("Transpose", ["n"], ["t"], perm=[0, 3, 1, 2])], AROUND,
        {"kind": TensorProto.UINT8, "shape": (1, 112, 112, 3)},
    ),
    "a norm first": ([], {}, {"outputs": ([NORM], [NORM_INFO, None])}),
    "a norm of open size first": ([], {}, {"outputs": ([NORM], [NORM_OPEN, None])}),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_of_one_network_give_one_vector(name, tmp_path):
    before, constants, declared = EXPORTS[name]
    plain = Recognizer("plain", read_onnx(assets.path("mobilefacenet-512")), Framing())
    mine = Recognizer.from_onnx(exported(tmp_path / "mine.onnx", before, constants, **declared))
    crops = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    assert (mine.embed_crops(crops) * plain.embed_crops(crops)).sum(1).min() > 0.99


def test_two_outputs_that_are_vectors_are_asked_about(tmp_path):
    twice = helper.make_node("Concat", ["output", "output"], ["twice"], axis=1)
    info = helper.make_tensor_value_info("twice", TensorProto.FLOAT, (1, 1024))
    path = exported(tmp_path / "mine.onnx", [], outputs=([twice], [info, None]))
    with pytest.raises(FairveilError, match=r"several are vectors, twice \(1024 numbers\), output \(512 numbers\)"):
        Recognizer.from_onnx(path)
    assert Recognizer.from_onnx(path, output="output").embed_crops(torch.rand(1, 3, 112, 112)).shape == (1, 512)


def test_a_norm_named_as_output_is_refused(tmp_path):
    path = exported(tmp_path / "mine.onnx", [], outputs=([NORM], [NORM_INFO, None]))
    with pytest.raises(FairveilError, match="one number for each face"):
        Recognizer.from_onnx(path, output="norm")


def test_a_network_to_which_everybody_is_alike_is_refused_at_once(tmp_path):
    path = exported(tmp_path / "mine.onnx", [])
    fed_wrongly = StatedFraming(mean=(127.5, 127.5, 127.5), scale=128.0**2)
    with pytest.raises(
        FairveilError,
        match=r"four people who look nothing alike .*cosine 0\.99.*0\.00778.*mean and scale",
    ):
        Recognizer.from_onnx(path, framing=fed_wrongly)


@pytest.mark.parametrize("name", ZOO)
def test_every_network_of_the_zoo_tells_people_apart(name):
    check_tells_apart(load_recognizer(name))
