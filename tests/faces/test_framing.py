"""One small network, exported in the ways that real exports come in: fed by its own declarations it sees the same."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fairveil.base.errors import FairveilError
from fairveil.faces.framing import Framing, StatedFraming, described, framing_of
from fairveil.faces.graphs import read_onnx

NODE = helper.make_node
RANDOM = np.random.default_rng(5)
WEIGHT = RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32)
SIDE = 16
NCHW, NHWC = (1, 3, SIDE, SIDE), (1, SIDE, SIDE, 3)
IMAGENET, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROPS = torch.from_numpy(RANDOM.uniform(size=(3, 3, SIDE, SIDE)).astype(np.float32))


def export(path, nodes, constants=(), *, shape=NCHW, kind=TensorProto.FLOAT, name="pixels", opset=17, properties=()):
    """A network that begins with these nodes, from the input to "start"; returns its path."""
    tail = [
        NODE("Conv", ["start", "weight"], ["conv"]),
        NODE("GlobalAveragePool", ["conv"], ["pooled"]),
        NODE("Flatten", ["pooled"], ["vector"]),
    ]
    graph = helper.make_graph(
        [*nodes, *tail],
        "test",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.asarray(value), key)
            for key, value in {"weight": WEIGHT, **dict(constants)}.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for key, value in properties:
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def f32(*values, shape=None):
    return np.asarray(values if len(values) > 1 else values[0], np.float32).reshape(shape or ())


def rgb(values, shape):
    return np.asarray(values, np.float32).reshape(shape)


PER_CHANNEL = {"m": rgb(IMAGENET, (1, 3, 1, 1)), "s": rgb(SPREAD, (1, 3, 1, 1))}
IN_BYTES = {"m": rgb(np.multiply(255, IMAGENET), (3, 1, 1)), "s": rgb(np.multiply(255, SPREAD), (3, 1, 1))}
STANDARD = [NODE("Sub", ["pixels", "m"], ["a"]), NODE("Div", ["a", "s"], ["start"])]
BYTES, UNIT, SIGNED = (0, 255), (0, 1), (-1, 1)

# name: nodes, constants, how it is declared, what it takes, and what the network behind is to see of pixels 0 to 1
DECLARED = {
    "subtract, multiply": (
        [NODE("Sub", ["pixels", "m"], ["a"]), NODE("Mul", ["a", "s"], ["start"])],
        {"m": f32(127.5), "s": f32(1 / 128)}, {}, BYTES, lambda x: (255 * x - 127.5) / 128,
    ),
    "subtract, divide": (STANDARD, {"m": f32(127.5), "s": f32(128)}, {}, BYTES, lambda x: (255 * x - 127.5) / 128),
    "multiply, then subtract": (
        [NODE("Mul", ["s", "pixels"], ["a"]), NODE("Sub", ["a", "one"], ["start"])],
        {"s": f32(1 / 127.5), "one": f32(1)}, {}, BYTES, lambda x: 2 * x - 1,
    ),
    "add a negative": (
        [NODE("Add", ["m", "pixels"], ["a"]), NODE("Div", ["a", "s"], ["start"])],
        {"m": f32(-127.5), "s": f32(127.5)}, {}, BYTES, lambda x: 2 * x - 1,
    ),
    "only a division by 255": ([NODE("Div", ["pixels", "s"], ["start"])], {"s": f32(255)}, {}, BYTES, lambda x: x),
    "only mean colors": (
        [NODE("Sub", ["pixels", "m"], ["start"])],
        {"m": rgb((123.7, 116.8, 103.9), (1, 3, 1, 1))}, {}, BYTES,
        lambda x: 255 * x - torch.tensor([123.7, 116.8, 103.9]).view(3, 1, 1),
    ),
    "a mean picture": (
        STANDARD, {"m": np.full((3, SIDE, SIDE), 120, np.float32), "s": f32(64)}, {}, BYTES,
        lambda x: (255 * x - 120) / 64,
    ),
    "per channel, of bytes": (STANDARD, IN_BYTES, {}, BYTES, lambda x: (x - rgb_(IMAGENET)) / rgb_(SPREAD)),
    "per channel, of 0 to 1": (STANDARD, PER_CHANNEL, {}, UNIT, lambda x: (x - rgb_(IMAGENET)) / rgb_(SPREAD)),
    "per channel, after a division": (
        [NODE("Div", ["pixels", "t"], ["p"]), NODE("Sub", ["p", "m"], ["a"]), NODE("Div", ["a", "s"], ["start"])],
        {**PER_CHANNEL, "t": f32(255)}, {}, BYTES, lambda x: (x - rgb_(IMAGENET)) / rgb_(SPREAD),
    ),
    "half and twice": (
        [NODE("Sub", ["pixels", "m"], ["a"]), NODE("Mul", ["a", "s"], ["start"])],
        {"m": f32(0.5), "s": f32(2)}, {}, UNIT, lambda x: 2 * x - 1,
    ),
    "times 255 first": (
        [NODE("Mul", ["pixels", "t"], ["p"]), NODE("Sub", ["p", "m"], ["a"]), NODE("Div", ["a", "s"], ["start"])],
        {"t": f32(255), "m": f32(127.5), "s": f32(128)}, {}, UNIT, lambda x: (255 * x - 127.5) / 128,
    ),
    "from -1 to 1 to bytes": (
        [NODE("Mul", ["pixels", "m"], ["a"]), NODE("Add", ["a", "m"], ["start"])],
        {"m": f32(127.5)}, {}, SIGNED, lambda x: 255 * x,
    ),
    "from -1 to 1 to mean colors": (
        [
            NODE("Add", ["pixels", "one"], ["p"]), NODE("Div", ["p", "two"], ["u"]),
            NODE("Sub", ["u", "m"], ["a"]), NODE("Div", ["a", "s"], ["start"]),
        ],
        {**PER_CHANNEL, "one": f32(1), "two": f32(2)}, {}, SIGNED, lambda x: (x - rgb_(IMAGENET)) / rgb_(SPREAD),
    ),
    "uint8": (
        [NODE("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT), NODE("Sub", ["f", "m"], ["a"]),
         NODE("Mul", ["a", "s"], ["start"])],
        {"m": f32(127.5), "s": f32(1 / 128)}, {"kind": TensorProto.UINT8}, BYTES, lambda x: (255 * x - 127.5) / 128,
    ),
    "int32, nothing else": (
        [NODE("Cast", ["pixels"], ["start"], to=TensorProto.FLOAT)], {}, {"kind": TensorProto.INT32}, BYTES,
        lambda x: 255 * x,
    ),
    "uint8, channels last": (
        [NODE("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT), NODE("Sub", ["f", "m"], ["a"]),
         NODE("Mul", ["a", "s"], ["t"]), NODE("Transpose", ["t"], ["start"], perm=[0, 3, 1, 2])],
        {"m": rgb((127.5,) * 3, (3,)), "s": f32(1 / 128)}, {"kind": TensorProto.UINT8, "shape": NHWC}, BYTES,
        lambda x: (255 * x - 127.5) / 128,
    ),
    "transposed first, sizes open": (
        [NODE("Transpose", ["pixels"], ["t"], perm=[0, 3, 1, 2]), NODE("Sub", ["t", "m"], ["a"]),
         NODE("Div", ["a", "s"], ["start"])],
        IN_BYTES, {"shape": (None, None, None, None)}, BYTES, lambda x: (x - rgb_(IMAGENET)) / rgb_(SPREAD),
    ),
    "a double": (
        [NODE("Sub", ["pixels", "m"], ["a"]), NODE("Div", ["a", "s"], ["d"]),
         NODE("Cast", ["d"], ["start"], to=TensorProto.FLOAT)],
        {"m": np.float64(127.5), "s": np.float64(128)}, {"kind": TensorProto.DOUBLE}, BYTES,
        lambda x: (255 * x - 127.5) / 128,
    ),
    "a fixed batch of four": (
        [*STANDARD[:1], NODE("Div", ["a", "s"], ["d"]), NODE("Reshape", ["d", "shape"], ["start"])],
        {"m": f32(127.5), "s": f32(128), "shape": np.array([4, 3, SIDE, SIDE])}, {"shape": (4, 3, SIDE, SIDE)}, BYTES,
        lambda x: (255 * x - 127.5) / 128,
    ),
    "called pixel_values": (
        [NODE("Sub", ["pixel_values", "m"], ["a"]), NODE("Div", ["a", "s"], ["start"])],
        {"m": f32(127.5), "s": f32(128)}, {"name": "pixel_values"}, BYTES, lambda x: (255 * x - 127.5) / 128,
    ),
    "batch norm, by its statistics": (
        [NODE("BatchNormalization", ["pixels", "g", "b", "m", "v"], ["start"], epsilon=1e-5)],
        {"g": rgb((1, 1, 1), (3,)), "b": rgb((0, 0, 0), (3,)), "m": rgb((130, 110, 100), (3,)),
         "v": rgb((60**2, 58**2, 57**2), (3,))}, {}, BYTES,
        lambda x: (255 * x - rgb_((130, 110, 100))) / rgb_((60, 58, 57)),
    ),
    "batch norm, by its factors": (
        [NODE("BatchNormalization", ["pixels", "g", "b", "m", "v"], ["start"], epsilon=1e-12)],
        {"g": rgb((1 / 128,) * 3, (3,)), "b": rgb((-127.5 / 128,) * 3, (3,)), "m": rgb((0, 0, 0), (3,)),
         "v": rgb((1, 1, 1), (3,))}, {}, BYTES, lambda x: (255 * x - 127.5) / 128,
    ),
    "batch norm of 0 to 1": (
        [NODE("BatchNormalization", ["pixels", "g", "b", "m", "v"], ["start"], epsilon=1e-12)],
        {"g": rgb((1, 1, 1), (3,)), "b": rgb((0, 0, 0), (3,)), "m": rgb(IMAGENET, (3,)),
         "v": rgb(np.square(SPREAD), (3,))}, {}, UNIT, lambda x: (x - rgb_(IMAGENET)) / rgb_(SPREAD),
    ),
    "a convolution that scales": (
        [NODE("Conv", ["pixels", "k", "b"], ["start"])],
        {"k": (np.eye(3) / 128).astype(np.float32).reshape(3, 3, 1, 1), "b": rgb((-127.5 / 128,) * 3, (3,))}, {},
        BYTES, lambda x: (255 * x - 127.5) / 128,
    ),
    "a convolution of each channel that scales": (
        [NODE("Conv", ["pixels", "k", "b"], ["start"], group=3)],
        {"k": np.full((3, 1, 1, 1), 1 / 128, np.float32), "b": rgb((-127.5 / 128,) * 3, (3,))}, {},
        BYTES, lambda x: (255 * x - 127.5) / 128,
    ),
    "limited first": (
        [NODE("Clip", ["pixels", "low", "high"], ["p"]), NODE("Mul", ["p", "t"], ["start"])],
        {"low": f32(0), "high": f32(1), "t": f32(2)}, {}, UNIT, lambda x: 2 * x,
    ),
    "blue first, by its means": (
        [NODE("Sub", ["pixels", "m"], ["start"])],
        {"m": rgb((103.9, 116.8, 123.7), (1, 3, 1, 1))}, {}, BYTES,
        lambda x: 255 * x.flip(1) - rgb_((103.9, 116.8, 123.7)),
    ),
    "swapped, then means of blue first": (
        [NODE("Gather", ["pixels", "order"], ["p"], axis=1), NODE("Sub", ["p", "m"], ["start"])],
        {"order": np.array([2, 1, 0]), "m": rgb((103.9, 116.8, 123.7), (1, 3, 1, 1))}, {}, BYTES,
        lambda x: 255 * x.flip(1) - rgb_((103.9, 116.8, 123.7)),
    ),
    "said in the file's properties": (
        [NODE("Identity", ["pixels"], ["start"])], {},
        {"properties": [("Image.NominalPixelRange", "NominalRange_0_255"), ("Image.BitmapPixelFormat", "Bgr8")]},
        BYTES, lambda x: 255 * x.flip(1),
    ),
}  # fmt: skip


def rgb_(values):
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)


def behind(seen):
    return torch.nn.functional.conv2d(seen, torch.from_numpy(WEIGHT)).mean((2, 3))


@pytest.mark.parametrize("name", DECLARED)
def test_what_a_graph_declares_is_what_it_is_fed(name, tmp_path):
    nodes, constants, declared, span, sees = DECLARED[name]
    network = read_onnx(export(tmp_path / "mine.onnx", nodes, constants, **declared))
    sizes_open = declared.get("shape", NCHW)[1] is None
    framing = framing_of(network, StatedFraming(size=SIDE) if sizes_open else None)
    assert (framing.size, framing.span) == (SIDE, pytest.approx(span))
    assert torch.allclose(network(framing.normalize(CROPS)), behind(sees(CROPS)), rtol=1e-3, atol=1e-3)
    assert f"numbers from {span[0]} to {span[1]}" in described(network, framing)


def test_a_graph_that_says_nothing_is_fed_as_arcface_is(tmp_path):
    network = read_onnx(export(tmp_path / "mine.onnx", [NODE("Identity", ["pixels"], ["start"])]))
    assert framing_of(network) == Framing(size=SIDE)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_graph_that_resizes_and_normalizes_is_fed_by_what_follows(mode, tmp_path):
    nodes = [
        NODE("Resize", ["pixels", "", "", "sizes"], ["r"], mode=mode),
        NODE("Sub", ["r", "m"], ["a"]),
        NODE("Div", ["a", "s"], ["start"]),
    ]
    constants = {"sizes": np.array([1, 3, 11, 23]), "m": f32(127.5), "s": f32(128)}
    path = export(tmp_path / "mine.onnx", nodes, constants)
    network = read_onnx(path)
    framing = framing_of(network)
    assert framing.span == (0, 255)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"pixels": 255 * CROPS[:1].numpy()})
    np.testing.assert_allclose(network(framing.normalize(CROPS[:1])).numpy(), expected, rtol=1e-3, atol=1e-4)


SWAPS = {
    "Gather": ([NODE("Gather", ["pixels", "order"], ["start"], axis=1)], {"order": np.array([2, 1, 0])}),
    "Slice": (
        [NODE("Slice", ["pixels", "from", "to", "axis", "step"], ["start"])],
        {"from": np.array([-1]), "to": np.array([-(2**31)]), "axis": np.array([1]), "step": np.array([-1])},
    ),
    "Split and Concat": (
        [NODE("Split", ["pixels"], ["r", "g", "b"], axis=1), NODE("Concat", ["b", "g", "r"], ["start"], axis=1)],
        {},
    ),
    "Conv": (
        [NODE("Conv", ["pixels", "k"], ["start"])],
        {"k": np.eye(3, dtype=np.float32)[::-1].reshape(3, 3, 1, 1).copy()},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SWAPS)
def test_swapped_channels_are_asked_about(name, tmp_path):
    network = read_onnx(export(tmp_path / "mine.onnx", *SWAPS[name]))
    with pytest.raises(FairveilError, match=r"swaps red and blue first.*`channels=RGB` or `channels=BGR`"):
        framing_of(network)
    framing = framing_of(network, StatedFraming(channels="RGB"))
    assert torch.allclose(network(framing.normalize(CROPS)), behind(Framing().normalize(CROPS).flip(1)), atol=1e-4)


OPEN = {
    "a factor that could be of two": ([NODE("Mul", ["pixels", "t"], ["start"])], {"t": f32(2)}),
    "a mean nobody takes off": ([NODE("Sub", ["pixels", "t"], ["start"])], {"t": f32(20)}),
    "turned round": ([NODE("Neg", ["pixels"], ["start"])], {}),
    "channels of two minds": ([NODE("Sub", ["pixels", "t"], ["start"])], {"t": rgb((127, 0.5, 127), (3, 1, 1))}),
    "limits of something else": (
        [NODE("Clip", ["pixels", "low", "high"], ["start"])], {"low": f32(-3), "high": f32(9)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN)
def test_arithmetic_that_leaves_the_numbers_open_is_asked_about(name, tmp_path):
    network = read_onnx(export(tmp_path / "mine.onnx", *OPEN[name]))
    with pytest.raises(FairveilError, match=r"mine.onnx does arithmetic with the pixels first .*`mean=0` `scale=1`,"):
        framing_of(network)
    assert framing_of(network, StatedFraming(mean=(0.0, 0.0, 0.0), scale=255.0)).span == (0, 1)


def test_properties_and_arithmetic_that_contradict_each_other_are_asked_about(tmp_path):
    properties = [("Image.NominalPixelRange", "Normalized_0_1")]
    constants = {"m": f32(127.5), "s": f32(128)}
    network = read_onnx(export(tmp_path / "mine.onnx", STANDARD, constants, properties=properties))
    with pytest.raises(FairveilError, match="not what it says of itself"):
        framing_of(network)


def test_what_is_said_contradicts_no_whole_numbers(tmp_path):
    nodes = [NODE("Cast", ["pixels"], ["start"], to=TensorProto.FLOAT)]
    network = read_onnx(export(tmp_path / "mine.onnx", nodes, kind=TensorProto.UINT8))
    for said in (Framing(size=SIDE), StatedFraming(mean=(127.5,) * 3, scale=128.0)):
        with pytest.raises(FairveilError, match=r"takes whole numbers, and would be fed -0.996 to 0.996: leave"):
            framing_of(network, said)


def test_what_is_said_goes_before_what_is_read(tmp_path):
    network = read_onnx(export(tmp_path / "mine.onnx", STANDARD, IN_BYTES))
    said = StatedFraming(mean=(1.0, 2.0, 3.0), scale=4.0, channels="BGR")
    assert framing_of(network, said) == Framing(size=SIDE, mean=(1.0, 2.0, 3.0), scale=4.0, channels="BGR")
    with pytest.raises(FairveilError, match="leave mean and scale out, or give 0 and 1"):
        framing_of(network, Framing(size=SIDE))  # a whole framing says more than its maker may have meant


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 3, 112, 96), "cuts squares"), ((1, 1, 16, 16), "pictures of 1 channel;"), ((1, 4, 16, 16), "4 channels;")],
)
def test_pictures_that_fairveil_does_not_make_are_refused(shape, words, tmp_path):
    network = read_onnx(export(tmp_path / "mine.onnx", [NODE("Identity", ["pixels"], ["start"])], shape=shape))
    with pytest.raises(FairveilError, match=words):
        framing_of(network)


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.BOOL])
def test_inputs_that_hold_no_pixels_are_refused(kind, tmp_path):
    nodes = [NODE("Cast", ["pixels"], ["start"], to=TensorProto.FLOAT)]
    with pytest.raises(FairveilError, match="export it for float or uint8"):
        read_onnx(export(tmp_path / "mine.onnx", nodes, kind=kind))


@pytest.mark.parametrize(
    "wrong",
    [{"size": 4}, {"scale": 0.0}, {"scale": float("nan")}, {"mean": (float("inf"),) * 3}, {"channels": "GBR"}],
)
def test_what_no_framing_can_have_is_refused(wrong):
    with pytest.raises(FairveilError):
        StatedFraming(**wrong)
