"""The ONNX reader against onnxruntime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fairveil.base.errors import FairveilError
from fairveil.faces.graphs import read_onnx

NODE = helper.make_node
RANDOM = np.random.default_rng(0)


def values(*shape, low=-1.0, high=1.0):
    return RANDOM.uniform(low, high, shape).astype(np.float32)


def build(nodes, constants=(), *, shape=(1, 4, 6, 6), opset=17):
    """A model from "x" to "y"; constants by name."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def read(model, path, output=None):
    path.write_bytes(model.SerializeToString())
    return read_onnx(path, output)


def check(model, path, shape=(1, 4, 6, 6), x=None):
    """Ours and onnxruntime's result agree."""
    x = values(*shape) if x is None else x
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(["y"], {"x": x})
    found = read(model, path)(torch.from_numpy(x)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


I64 = np.int64
ONE_OPERATOR = {
    "abs": (NODE("Abs", ["x"], ["y"]), {}),
    "slice backwards": (
        NODE("Slice", ["x", "from", "to", "axes", "steps"], ["y"]),
        {
            "from": np.array([-1, 4]),
            "to": np.array([-(2**31), 0]),
            "axes": np.array([1, 3]),
            "steps": np.array([-1, -2]),
        },
    ),
    "second of equal pieces": (NODE("Split", ["x"], ["unused", "y"], axis=1), {}),
    "second of unequal pieces": (NODE("Split", ["x", "w"], ["unused", "y"], axis=-1), {"w": np.array([1, 5])}),
    "add per channel": (NODE("Add", ["x", "c"], ["y"]), {"c": values(4, 1, 1)}),
    "sub from constant": (NODE("Sub", ["c", "x"], ["y"]), {"c": values(1)}),
    "mul": (NODE("Mul", ["x", "c"], ["y"]), {"c": values(1, 4, 1, 1)}),
    "div": (NODE("Div", ["x", "c"], ["y"]), {"c": values(4, 1, 1, low=1, high=2)}),
    "pow": (NODE("Pow", ["x", "c"], ["y"]), {"c": np.float32(2)}),
    "neg": (NODE("Neg", ["x"], ["y"]), {}),
    "exp": (NODE("Exp", ["x"], ["y"]), {}),
    "max with a number": (NODE("Max", ["c", "x"], ["y"]), {"c": np.float32(0.2)}),
    "min with a number": (NODE("Min", ["x", "c"], ["y"]), {"c": np.float32(0.2)}),
    "max with a vector": (NODE("Max", ["x", "c"], ["y"]), {"c": values(6)}),
    "relu": (NODE("Relu", ["x"], ["y"]), {}),
    "prelu per channel": (NODE("PRelu", ["x", "c"], ["y"]), {"c": values(4, 1, 1)}),
    "prelu with one slope": (NODE("PRelu", ["x", "c"], ["y"]), {"c": values(1)}),
    "leaky relu": (NODE("LeakyRelu", ["x"], ["y"], alpha=0.3), {}),
    "sigmoid": (NODE("Sigmoid", ["x"], ["y"]), {}),
    "tanh": (NODE("Tanh", ["x"], ["y"]), {}),
    "hard sigmoid": (NODE("HardSigmoid", ["x"], ["y"], alpha=0.7, beta=0.4), {}),
    "hard swish": (NODE("HardSwish", ["x"], ["y"]), {}),
    "clip": (NODE("Clip", ["x", "low", "high"], ["y"]), {"low": np.float32(-0.3), "high": np.float32(0.4)}),
    "clip above only": (NODE("Clip", ["x", "", "high"], ["y"]), {"high": np.float32(0.4)}),
    "softmax": (NODE("Softmax", ["x"], ["y"], axis=1), {}),
    "identity": (NODE("Identity", ["x"], ["y"]), {}),
    "dropout": (NODE("Dropout", ["x"], ["y"]), {}),
    "flatten": (NODE("Flatten", ["x"], ["y"]), {}),
    "reshape": (NODE("Reshape", ["x", "c"], ["y"]), {"c": np.array([0, -1, 3], I64)}),
    "transpose": (NODE("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1]), {}),
    "unsqueeze": (NODE("Unsqueeze", ["x", "c"], ["y"]), {"c": np.array([2, -1], I64)}),
    "concat": (NODE("Concat", ["x", "x"], ["y"], axis=1), {}),
    "global average": (NODE("GlobalAveragePool", ["x"], ["y"]), {}),
    "global maximum": (NODE("GlobalMaxPool", ["x"], ["y"]), {}),
    "reduce mean": (NODE("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0), {}),
    "reduce sum": (NODE("ReduceSum", ["x", "c"], ["y"]), {"c": np.array([-1], I64)}),
    "reduce max": (NODE("ReduceMax", ["x"], ["y"], axes=[1]), {}),
    "reduce l2": (NODE("ReduceL2", ["x"], ["y"], axes=[1]), {}),
    "lp normalization": (NODE("LpNormalization", ["x"], ["y"], axis=1, p=2), {}),
    "gather one": (NODE("Gather", ["x", "c"], ["y"], axis=1), {"c": np.array(-1, I64)}),
    "gather some": (NODE("Gather", ["x", "c"], ["y"], axis=2), {"c": np.array([[0, 5], [1, 1]], I64)}),
    "cast": (NODE("Cast", ["x"], ["y"], to=TensorProto.FLOAT), {}),
    "matmul": (NODE("MatMul", ["x", "c"], ["y"]), {"c": values(6, 5)}),
    "pad": (NODE("Pad", ["x", "c", "v"], ["y"]), {"c": np.array([0, 0, 1, 0, 0, 2, 0, 3], I64), "v": np.float32(7)}),
    "pad reflect": (NODE("Pad", ["x", "c"], ["y"], mode="reflect"), {"c": np.array([0, 0, 1, 2, 0, 0, 3, 1], I64)}),
    "pad edge": (NODE("Pad", ["x", "c"], ["y"], mode="edge"), {"c": np.array([0, 0, 1, 2, 0, 0, 3, 1], I64)}),
    "batch normalization": (
        NODE("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"], epsilon=1e-3),
        {"g": values(4), "b": values(4), "m": values(4), "v": values(4, low=0.1)},
    ),
    "slice": (
        NODE("Slice", ["x", "s", "e", "a", "t"], ["y"]),
        {
            "s": np.array([-3, 0], I64),
            "e": np.array([2**62, -1], I64),
            "a": np.array([2, 1], I64),
            "t": np.array([2, 1], I64),
        },
    ),
}


@pytest.mark.parametrize("place", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("rounding", [None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("wanted", [("scales", [1, 1, 0.5, 1.5]), ("sizes", [1, 4, 9, 4]), ("sizes", [1, 4, 1, 3])])
def test_any_resize_gives_what_onnxruntime_gives(place, rounding, wanted, path):
    mode = {"mode": "linear"} if rounding is None else {"mode": "nearest", "nearest_mode": rounding}
    inputs = ["x", "", "wanted"] if wanted[0] == "scales" else ["x", "", "", "wanted"]
    values_wanted = np.asarray(wanted[1], np.float32 if wanted[0] == "scales" else np.int64)
    node = NODE("Resize", inputs, ["y"], coordinate_transformation_mode=place, **mode)
    check(build([node], {"wanted": values_wanted}), path)


def test_a_size_computed_while_running_is_resized_to(path):
    nodes = [
        NODE("Shape", ["x"], ["shape"], end=2),
        NODE("Concat", ["shape", "sides"], ["sizes"], axis=0),
        NODE("Resize", ["x", "", "", "sizes"], ["y"], mode="linear"),
    ]
    check(build(nodes, {"sides": np.array([9, 5])}), path)


@pytest.mark.parametrize(
    ("node", "constants", "message"),
    [
        (NODE("Resize", ["x", "", "s"], ["y"], mode="cubic"), {"s": np.ones(4, np.float32)}, "mode='cubic'"),
        (NODE("Resize", ["x", "", "s"], ["y"]), {"s": np.full(4, -1, np.float32)}, "which are none"),
        (NODE("Split", ["x", "w"], ["y", "z"], axis=1), {"w": np.array([4])}, "1 widths for 2 pieces"),
        (NODE("Slice", ["x", "w", "w", "w", "w"], ["y"]), {"w": np.array([0])}, "a step of 0"),
    ],
)
def test_odd_resizes_splits_and_slices_are_refused(node, constants, message, path):
    with pytest.raises(FairveilError, match=message):
        read(build([node], constants), path)


def test_a_resize_beyond_all_proportion_is_refused_before_it_takes_memory(path):
    model = build([NODE("Resize", ["x", "", "s"], ["y"])], {"s": np.array([1, 1, 1e8, 1e8], np.float32)})
    with pytest.raises(FairveilError, match="more memory than is proportionate"):
        read(model, path)(torch.ones(1, 4, 6, 6))


@pytest.mark.parametrize("name", ONE_OPERATOR)
def test_an_operator_gives_what_onnxruntime_gives(name, path):
    node, constants = ONE_OPERATOR[name]
    check(build([node], constants), path)


@pytest.mark.parametrize(
    ("node", "opset"),
    [
        (NODE("Softmax", ["x"], ["y"]), 11),
        (NODE("Clip", ["x"], ["y"], min=-0.1, max=0.2), 6),
        (NODE("Squeeze", ["p"], ["y"], axes=[2, 3]), 11),
        (NODE("Unsqueeze", ["x"], ["y"], axes=[1]), 11),
        (NODE("Slice", ["x"], ["y"], axes=[2], starts=[1], ends=[-1]), 9),
        (NODE("Pad", ["x"], ["y"], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5), 10),
        (NODE("Dropout", ["x"], ["y"], ratio=0.4), 10),
    ],
    ids=lambda value: getattr(value, "op_type", value),
)
def test_older_operator_sets_give_what_onnxruntime_gives(node, opset, path):
    nodes = [NODE("GlobalAveragePool", ["x"], ["p"]), node] if "p" in node.input else [node]
    check(build(nodes, opset=opset), path)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    automatic=st.sampled_from(["NOTSET", "VALID", "SAME_UPPER"]),
    group=st.sampled_from([1, 3]),
    bias=st.booleans(),
)
def test_any_convolution_gives_what_onnxruntime_gives(
    tmp_path_factory, *, size, kernel, strides, dilations, pads, automatic, group, bias
):
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if automatic == "NOTSET":
        padding = {"pads": pads}
        assume(all(s + pads[i] + pads[i + 2] >= e for i, (s, e) in enumerate(zip(size, extents, strict=True))))
    else:
        padding = {"auto_pad": automatic}
        assume(automatic == "SAME_UPPER" or all(s >= e for s, e in zip(size, extents, strict=True)))
        assume(automatic == "VALID" or dilations == (1, 1))  # onnxruntime refuses it
    node = NODE(
        "Conv",
        ["x", "w", "b"][: 2 + bias],
        ["y"],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=group,
        **padding,
    )
    model = build([node], {"w": values(6, 3 // group, *kernel), "b": values(6)}, shape=(1, 3, *size))
    check(model, tmp_path_factory.mktemp("onnx") / "model.onnx", (1, 3, *size))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["MaxPool", "AveragePool"]),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    kernel=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    same=st.booleans(),
    count=st.integers(0, 1),
)
def test_any_pool_gives_what_onnxruntime_gives(tmp_path_factory, *, kind, size, kernel, strides, pads, same, count):
    extra = {"auto_pad": "SAME_UPPER"} if same else {"pads": pads}
    # onnxruntime mistakes a stride wider than the window for negative padding
    assume(not same or all(s <= k for s, k in zip(strides, kernel, strict=True)))
    if kind == "AveragePool" and not same:
        extra["count_include_pad"] = count
    node = NODE(kind, ["x"], ["y"], kernel_shape=kernel, strides=strides, **extra)
    shape = (1, 3, *size)
    check(build([node], shape=shape), tmp_path_factory.mktemp("onnx") / "model.onnx", shape)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_scales_and_transposes(transposed, path):
    weight = values(5, 144) if transposed else values(144, 5)
    nodes = [
        NODE("Flatten", ["x"], ["f"]),
        NODE("Gemm", ["f", "w", "b"], ["y"], alpha=0.5, beta=2.0, transB=transposed),
    ]
    check(build(nodes, {"w": weight, "b": values(5)}), path)


def residual_network(batch):
    """Convolutions with batch norms, a shortcut, a reshape fixed to the batch, a linear layer."""
    nodes = [
        NODE("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        NODE("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"]),
        NODE("PRelu", ["n1", "s"], ["r1"]),
        NODE("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=8),
        NODE("Add", ["c2", "r1"], ["a"]),
        NODE("BatchNormalization", ["a", "g", "b", "m", "v"], ["n2"]),
        NODE("Reshape", ["n2", "shape"], ["flat"]),
        NODE("MatMul", ["flat", "fc"], ["y"]),
    ]
    constants = {
        "w1": values(8, 3, 3, 3), "b1": values(8), "w2": values(8, 1, 3, 3), "s": values(8, 1, 1),
        "g": values(8), "b": values(8), "m": values(8), "v": values(8, low=0.1),
        "shape": np.array([batch, -1], I64), "fc": values(8 * 36, 5),
    }  # fmt: skip
    return build(nodes, constants, shape=(batch, 3, 6, 6))


@pytest.mark.parametrize("exported", [1, 2])
def test_a_batch_fixed_at_export_does_not_bind(exported, path):
    model = residual_network(exported)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = values(6, 3, 6, 6)
    expected = [session.run(None, {"x": x[i : i + exported]})[0] for i in range(0, 6, exported)]
    graph = read(model, path)
    np.testing.assert_allclose(graph(torch.from_numpy(x)), np.concatenate(expected), rtol=1e-4, atol=1e-5)
    assert graph(torch.from_numpy(x[:1])).shape == (1, 5)


@pytest.mark.parametrize("exported", [1, 2])
@pytest.mark.parametrize("computed", [False, True])
def test_unit_vectors_as_pytorch_exports_them(exported, computed, path):
    nodes = [
        NODE("Flatten", ["x"], ["f"]),
        NODE("Shape", ["f"], ["s"]),
        NODE("ReduceL2", ["f"], ["n"], axes=[1]),
        NODE("Clip", ["n", "least"], ["c"]),
        NODE("Expand", ["c", "s" if computed else "fixed"], ["e"]),
        NODE("Div", ["f", "e"], ["y"]),
    ]
    constants = {"least": np.float32(1e-12), "fixed": np.array([exported, 144], I64)}
    model = build(nodes, constants, shape=(exported, 4, 6, 6))
    check(model, path, (exported, 4, 6, 6))
    vectors = read_onnx(path)(torch.randn(5, 4, 6, 6))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))


def test_a_shape_computed_while_running_is_followed(path):
    """PyTorch exports x.view(x.size(0), -1) this way."""
    nodes = [
        NODE("Shape", ["x"], ["s"]),
        NODE("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0, I64))),
        NODE("Gather", ["s", "zero"], ["n"], axis=0),
        NODE("Unsqueeze", ["n", "axes"], ["n1"]),
        NODE("Concat", ["n1", "rest"], ["target"], axis=0),
        NODE("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"axes": np.array([0], I64), "rest": np.array([-1], I64)}
    model = build(nodes, constants, shape=("n", 4, 6, 6))
    check(model, path, (5, 4, 6, 6))


def test_pictures_may_be_channels_last_in_the_graph(path):
    nodes = [NODE("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), NODE("Conv", ["t", "w"], ["y"])]
    model = build(nodes, {"w": values(5, 3, 3, 3)}, shape=(1, 6, 7, 3))
    x = values(1, 6, 7, 3)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    found = read(model, path)(torch.from_numpy(x).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_weights_are_read(path):
    half = build([NODE("Mul", ["x", "c"], ["y"])], {"c": values(4, 1, 1).astype(np.float16)})
    x = torch.from_numpy(values(2, 4, 6, 6))
    expected = x.numpy() * numpy_helper.to_array(half.graph.initializer[0]).astype(np.float32)
    np.testing.assert_allclose(read(half, path)(x), expected, rtol=1e-6)


def test_an_inner_tensor_can_be_the_output(path):
    model = build([NODE("Neg", ["x"], ["inner"]), NODE("Exp", ["inner"], ["y"])])
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(read(model, path, "inner")(x), -x)
    with pytest.raises(FairveilError, match="no output 'outer'"):
        read_onnx(path, "outer")


def test_only_what_the_output_needs_must_be_known(path):
    model = build([NODE("Neg", ["x"], ["y"]), NODE("NonZero", ["x"], ["unused"])])
    assert read(model, path)(torch.ones(1, 4, 6, 6)).mean() == -1


REFUSED = {
    "unknown operator": ([NODE("Einsum", ["x"], ["y"], equation="i")], {}, r"operator Einsum.*It reads Abs, Add"),
    "foreign domain": ([NODE("Relu", ["x"], ["y"], domain="com.evil")], {}, "com.evil.Relu"),
    "attribute value": ([NODE("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], ceil_mode=1)], {}, "ceil_mode=1"),
    "attribute": ([NODE("Relu", ["x"], ["y"], strange=3)], {}, "attribute strange=3"),
    "kernel shape": ([NODE("Conv", ["x", "c"], ["y"], kernel_shape=[5, 5])], {"c": values(2, 4, 3, 3)}, "5, 5"),
    "weights computed": ([NODE("Conv", ["x", "x"], ["y"])], {}, "must be constant"),
    "missing tensor": ([NODE("Add", ["x", "ghost"], ["y"])], {}, "'ghost'"),
    "cycle": ([NODE("Add", ["x", "b"], ["a"]), NODE("Neg", ["a"], ["b"]), NODE("Neg", ["b"], ["y"])], {}, "itself"),
    "constant output": ([NODE("Neg", ["c"], ["y"])], {"c": values(3)}, "does not depend on the picture"),
    "text": ([NODE("Add", ["x", "c"], ["y"])], {"c": np.array(["a"], object)}, "cannot compute"),
    "training": ([NODE("BatchNormalization", ["x", *"cccc"], ["y"], training_mode=1)], {"c": values(4)}, "training"),
    "misfit": ([NODE("MatMul", ["c", "c"], ["d"]), NODE("Add", ["x", "d"], ["y"])], {"c": values(2, 3)}, "do not fit"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_implemented_is_refused_by_name(name, path):
    nodes, constants, message = REFUSED[name]
    with pytest.raises(FairveilError, match=message):
        read(build(nodes, constants), path)


def test_a_bomb_of_constants_is_refused(path):
    """Forty doublings would be 16 TB."""
    nodes = [NODE("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(40)]
    nodes.append(NODE("Add", ["x", "c40"], ["y"]))
    with pytest.raises(FairveilError, match="more memory than is proportionate"):
        read(build(nodes, {"c0": values(4)}), path)
    outer = [NODE("Add", ["c", "r"], ["s"]), NODE("Add", ["x", "s"], ["y"])]
    with pytest.raises(FairveilError, match="more memory than is proportionate"):
        read(build(outer, {"c": values(1, 20000), "r": values(20000, 1)}), path)


def test_weights_in_another_file_are_refused_unread(path, tmp_path):
    model = build([NODE("Add", ["x", "c"], ["y"])], {"c": values(4, 6, 6)})
    (tmp_path / "secret.bin").write_bytes(bytes(576))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "secret.bin")
    model.graph.initializer[0].ClearField("raw_data")
    with pytest.raises(FairveilError, match="another file"):
        read(model, path)


def test_a_tensor_that_is_not_as_long_as_its_shape_is_refused(path):
    model = build([NODE("Add", ["x", "c"], ["y"])], {"c": values(4, 6, 6)})
    model.graph.initializer[0].dims[0] = 2**40
    with pytest.raises(FairveilError, match=r"tensor 'c' cannot be read"):
        read(model, path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_broken_file_is_a_clear_error(tmp_path_factory, data):
    whole = residual_network(1).SerializeToString()
    broken = data.draw(
        st.one_of(
            st.binary(max_size=200),
            st.integers(0, len(whole) - 1).map(lambda n: whole[:n]),
            st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)).map(
                lambda at: whole[: at[0]] + bytes([at[1]]) + whole[at[0] + 1 :]
            ),
        )
    )
    path = tmp_path_factory.mktemp("onnx") / "broken.onnx"
    path.write_bytes(broken)
    try:
        read_onnx(path)  # one changed byte may well leave a sound model
    except FairveilError as error:
        assert "broken.onnx" in str(error)


def test_a_missing_file_is_a_clear_error(tmp_path: Path):
    with pytest.raises(FairveilError, match="Cannot read"):
        read_onnx(tmp_path / "none.onnx")


HUGE = np.array([1, 4, 1 << 15, 1 << 15])
BOMBS = {
    "a picture spread out": ([NODE("GlobalMaxPool", ["x"], ["g"]), NODE("Expand", ["g", "c"], ["e"])], HUGE),
    "padding": ([NODE("Pad", ["x", "c"], ["e"])], np.array([0, 0, 0, 0, 0, 0, 1 << 15, 1 << 15])),
    "padding that a pool takes away again": (
        [NODE("MaxPool", ["x"], ["e"], kernel_shape=[9, 9], strides=[9999, 9999], pads=[0, 0, 1 << 15, 1 << 15])],
        np.array(0),
    ),
    "doublings": (
        [NODE("Concat", [f"d{i}" if i else "x"] * 2, [f"d{i + 1}" if i < 39 else "e"], axis=2) for i in range(40)],
        np.array(0),
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_that_a_picture_sets_off_is_refused_before_it_takes_memory(name, path):
    nodes, constant = BOMBS[name]
    graph = read(build([*nodes, NODE("Exp", ["e"], ["y"])], {"c": constant}), path)
    with pytest.raises(FairveilError, match="more memory than is proportionate for a picture"):
        graph(torch.ones(1, 4, 6, 6))


def test_arithmetic_without_end_is_refused(path):
    nodes = [NODE("Expand", ["x", "c"], ["e"]), NODE("Conv", ["e", "w"], ["f"]), NODE("GlobalMaxPool", ["f"], ["y"])]
    graph = read(
        build(nodes, {"c": np.array([1, 4, 2000, 2000]), "w": values(8, 4, 300, 300)}, shape=(1, 4, 1, 1)), path
    )
    with pytest.raises(FairveilError, match="more arithmetic than is proportionate"):
        graph(torch.ones(1, 4, 1, 1))


def test_operators_that_do_not_fit_the_picture_are_a_sentence(path):
    graph = read(build([NODE("MatMul", ["x", "c"], ["y"])], {"c": values(5, 2)}), path)
    with pytest.raises(FairveilError, match="its operators do not fit each other, this size or this number"):
        graph(torch.ones(1, 4, 6, 6))


def test_what_was_afforded_once_is_not_counted_again_and_gives_the_same(path):
    graph = read(build([NODE("Conv", ["x", "w"], ["y"])], {"w": values(3, 4, 3, 3)}), path)
    x = torch.rand(2, 4, 6, 6, requires_grad=True)
    first, second = graph(x), graph(x)
    assert torch.equal(first, second)
    assert torch.equal(*(torch.autograd.grad(y.sum(), x)[0] for y in (first, second)))


WEIGHT = {"w": values(64, 64, 3, 3)}
CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    "nodes",
    [
        [NODE("Conv", [f"c{i}" if i else "x", "w"], [f"c{i + 1}"], **CONV) for i in range(400)],
        [
            NODE("Conv", ["x", "w"], ["c0"], **CONV),
            *[NODE("Mul", [f"c{i}", "two"], [f"c{i + 1}"]) for i in range(400)],
        ],
    ],
    ids=["many convolutions share their weights", "a convolution takes over one factor after another"],
)
def test_weights_are_not_copied_without_end(nodes, path):
    model = build([*nodes, NODE("Neg", ["c400"], ["y"])], WEIGHT | {"two": np.float32(2)}, shape=(1, 64, 6, 6))
    with pytest.raises(FairveilError, match="more memory than is proportionate to its"):
        read(model, path)


def test_a_few_factors_behind_one_another_are_taken_over(path):
    nodes = [NODE("Conv", ["x", "w"], ["a"]), NODE("Mul", ["a", "c"], ["b"]), NODE("Mul", ["b", "c"], ["y"])]
    check(build(nodes, {"w": values(3, 4, 3, 3), "c": np.float32(2)}), path)
    assert len(read_onnx(path).nodes) == 2  # the way in, and the convolution


def test_weights_that_do_not_fit_each_other_are_a_sentence(path):
    nodes = [NODE("Conv", ["x", "w", "b"], ["a"]), NODE("Mul", ["a", "c"], ["y"])]
    with pytest.raises(FairveilError, match="its operators do not fit each other"):
        read(build(nodes, {"w": values(8, 4, 3, 3), "b": values(3), "c": values(8, 1, 1)}), path)


MEAN = NODE("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=0)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([MEAN, NODE("Cast", ["m"], ["s"], to=TensorProto.INT64), NODE("Expand", ["c", "s"], ["y"])], "from pixels"),
        ([MEAN, NODE("Expand", ["c", "m"], ["y"])], "not 1 entries of torch.float32"),
        ([MEAN, NODE("Reshape", ["x", "m"], ["y"])], "not 1 entries of torch.float32"),
    ],
    ids=["cast", "expand", "reshape"],
)
def test_a_shape_made_of_pixels_is_refused(nodes, message, path):
    graph = read(build(nodes, {"c": values(1)}), path)
    with pytest.raises(FairveilError, match=message):
        graph(torch.ones(1, 4, 6, 6))


def test_a_shape_made_of_sizes_may_be_cast(path):
    nodes = [
        NODE("Shape", ["x"], ["s"]),
        NODE("Cast", ["s"], ["t"], to=TensorProto.INT64),
        NODE("Reshape", ["x", "t"], ["y"]),
    ]
    check(build(nodes), path)


def test_the_budget_holds_for_every_number_of_pictures(path):
    """All pixels of a batch times all of them: 4 MB for one picture, 377 GB for 300."""
    nodes = [NODE("Reshape", ["x", "flat"], ["f"])]
    nodes += [NODE("Unsqueeze", ["f", axis], [axis[0]]) for axis in ("column", "row")]
    nodes += [NODE("MatMul", ["c", "r"], ["p"]), NODE("Reshape", ["p", "each"], ["y"])]
    shapes = {"flat": [-1], "column": [1], "row": [0], "each": [-1, 1 << 20]}
    graph = read(build(nodes, shapes, shape=("n", 1, 32, 32)), path)
    assert graph(torch.ones(1, 1, 32, 32)).shape == (1, 1 << 20)
    with pytest.raises(FairveilError, match="more memory than is proportionate"):
        graph(torch.ones(300, 1, 32, 32))


def test_another_number_of_pictures_than_the_graph_takes_is_a_sentence(path):
    graph = read(build([NODE("Add", ["x", "c"], ["y"])], {"c": values(8, 4, 1, 1)}), path)
    assert graph(torch.ones(8, 4, 6, 6)).shape == (8, 4, 6, 6)
    with pytest.raises(FairveilError, match="2 at a time: its operators do not fit"):
        graph(torch.ones(2, 4, 6, 6))


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_windows_over_windows_are_arithmetic(kind, path):
    nodes = [NODE("Pad", ["x", "c"], ["p"]), NODE(kind, ["p"], ["y"], kernel_shape=[305, 305])]
    graph = read(build(nodes, {"c": np.array([0, 0, 0, 0, 0, 0, 609, 609])}, shape=(1, 1, 1, 1)), path)
    with pytest.raises(FairveilError, match="more arithmetic than is proportionate"):
        graph(torch.ones(1, 1, 1, 1))


@pytest.mark.parametrize(
    "node",
    [NODE("Conv", ["x", "w"], ["y"]), NODE("MatMul", ["x", "m"], ["y"])],
    ids=lambda node: node.op_type,
)
def test_arithmetic_is_counted_in_inference_mode_too(node, path, monkeypatch):
    monkeypatch.setattr("fairveil.faces.graphs.module.WORK", 500)
    graph = read(build([node], {"w": values(3, 4, 3, 3), "m": values(6, 5)}), path)
    with torch.inference_mode(), pytest.raises(FairveilError, match="more arithmetic than is proportionate"):
        graph(torch.ones(1, 4, 6, 6))


@pytest.mark.parametrize(("channels", "refused"), [(1, True), (16, False)])
def test_channels_that_a_convolution_fills_up_are_memory(channels, refused, path, monkeypatch):
    monkeypatch.setattr("fairveil.faces.graphs.module.MEMORY", 400_000 * channels)
    weights, shape = {"w": values(channels, channels, 3, 3)}, (1, channels, 64, 64)
    graph = read(build([NODE("Conv", ["x", "w"], ["y"])], weights, shape=shape), path)
    pictures = torch.ones(shape)
    if not refused:
        assert graph(pictures).shape == (1, channels, 62, 62)
        return
    with pytest.raises(FairveilError, match="more memory than is proportionate"):
        graph(pictures)


def test_an_attribute_that_refers_to_a_functions_argument_is_refused(path):
    node = NODE("LeakyRelu", ["x"], ["y"], alpha=0.1)
    node.attribute[0].ref_attr_name = "slope"
    with pytest.raises(FairveilError, match="its attribute 'alpha' has no value"):
        read(build([node]), path)


@pytest.mark.parametrize("kind", ["INT4", "INT8", "UINT16", "FLOAT8E4M3FN", "COMPLEX64"])
def test_numbers_that_would_unfold_are_refused_unread(kind, path):
    model = build([NODE("Neg", ["x"], ["y"])], {"c": values(2)})
    model.graph.initializer[0].data_type = getattr(TensorProto, kind)
    with pytest.raises(FairveilError, match=f"'c' holds {kind} values, which fairveil cannot compute with"):
        read(model, path)


MANY = np.ones(65, np.int64)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([NODE("Reshape", ["x", "c"], ["y"])], "65 entries in input 1"),
        ([NODE("Transpose", ["x"], ["y"], perm=[0] * 65)], "65 entries in perm"),
        (
            [NODE("Shape", ["x"], ["s"]), NODE("Gather", ["s", "c"], ["t"]), NODE("Reshape", ["x", "t"], ["y"])],
            "not 65",
        ),
        ([NODE("Shape", ["x"], ["s"]), NODE("Gather", ["s", "c"], ["t"]), NODE("Expand", ["x", "t"], ["y"])], "not 65"),
    ],
    ids=["constant", "attribute", "computed reshape", "computed expansion"],
)
def test_more_dimensions_than_a_tensor_can_have_are_refused(nodes, message, path):
    with pytest.raises(FairveilError, match=message):
        read(build(nodes, {"c": MANY}), path)(torch.ones(1, 4, 6, 6))


def test_a_tensor_of_more_dimensions_than_there_can_be_is_refused(path):
    model = build([NODE("Add", ["x", "c"], ["y"])], {"c": values(4, 6, 6)})
    model.graph.initializer[0].dims.extend([1] * 62)
    with pytest.raises(FairveilError, match="a shape that no tensor has"):
        read(model, path)


def test_a_device_is_no_model():
    with pytest.raises(FairveilError, match="Cannot read /dev/null: it is not an ordinary file"):
        read_onnx("/dev/null")
