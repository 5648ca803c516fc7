"""What is fuzzed: readers of files that strangers make, each with small valid files to start from."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pillow_heif
import polars as pl
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fairveil.assets import read_numpy_pickle
from fairveil.data.table import FaceTable
from fairveil.experiment.overrides import override, override_from_file
from fairveil.faces.graphs import GraphModule, read_onnx
from fairveil.faces.trained import load_trained
from fairveil.faces.vectors import Embeddings
from fairveil.images import read_photo
from fairveil.protection.lowkey import LowKey
from mutations import mutated

Odd = Callable[[random.Random], bytes]
"""Makes one odd input out of chance."""


@dataclass(frozen=True)
class Target:
    """A reader and what to feed it.

    Attributes:
        make: one odd file.
        read: reads a file of that content, in a folder of its own; it may raise FairveilError and nothing else.
        megabytes: of memory that reading one of these small files may take.
    """

    make: Odd
    read: Callable[[bytes, Path], None]
    megabytes: int = 300


def _one_of(seeds: Callable[[], Sequence[bytes]], *words: bytes) -> Odd:
    return lambda chance: mutated(chance.choice(seeds()), chance, words=words)


# -- photos ----------------------------------------------------------------------------------------------------------


@cache
def _photos() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8298] = 6, "Maker", "somebody"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a b="c"/></x:xmpmeta>'
    seeds = []
    for format, options in (
        ("JPEG", {"exif": exif, "xmp": xmp, "comment": b"hello", "dpi": (72, 72)}),
        ("JPEG", {"progressive": True}),
        ("PNG", {"exif": exif}),
        ("WEBP", {"exif": exif, "xmp": xmp}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"exif": exif, "compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "jpeg"}),
        ("AVIF", {"exif": exif}),
    ):
        seeds.append(_saved(picture, format, **options))
    seeds += [_saved(picture.convert(mode), "PNG") for mode in ("P", "LA", "1", "I;16")]
    seeds += [_saved(picture.convert(mode), format) for mode, format in (("CMYK", "JPEG"), ("CMYK", "TIFF"))]
    heif = BytesIO()
    pillow_heif.from_pillow(picture).save(heif, exif=exif.tobytes())
    return [*seeds, heif.getvalue()]


def _saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def _read_photo(data: bytes, folder: Path) -> None:
    read_photo(data)


# -- models ----------------------------------------------------------------------------------------------------------

_SIZES = (0, 1, -1, 2, 3, 7, -(2**31), 2**20, 2**31 - 1, 2**40, 2**62)


@cache
def _onnx_models() -> list[bytes]:
    def values(*shape: int) -> np.ndarray[Any, Any]:
        return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)

    node = helper.make_node
    long = [
        node("Conv", ["x", "w", "b"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["a", "b", "b", "b", "one"], ["n"], epsilon=0.1),
        node("PRelu", ["n", "slope"], ["p"]),
        node("Pad", ["p", "pads"], ["d"]),
        node("MaxPool", ["d"], ["m"], kernel_shape=[2, 2], strides=[1, 1]),
        node("Shape", ["m"], ["s"]),
        node("Gather", ["s", "zero"], ["g"]),
        node("Unsqueeze", ["g", "axes"], ["u"]),
        node("Concat", ["u", "rest"], ["t"], axis=0),
        node("Reshape", ["m", "t"], ["r"]),
        node("Expand", ["r", "wide"], ["e"]),
        node("ReduceMean", ["e"], ["f"], axes=[1], keepdims=0),
        node("Gemm", ["f", "v"], ["h"], transB=1),
        node("LpNormalization", ["h"], ["y"], p=2, axis=1),
    ]
    constants = {
        "w": values(4, 3, 3, 3), "b": values(4), "one": np.ones(4, np.float32), "slope": values(4, 1, 1),
        "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1]), "zero": np.array(0), "axes": np.array([0]),
        "rest": np.array([1, 36]), "wide": np.array([1, 2, 36]), "v": values(5, 36),
    }  # fmt: skip
    short = [
        node("Slice", ["x", "from", "to"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[0, 2, 3, 1]),
        node("Clip", ["t"], ["c"], min=0.0, max=1.0),
        node("Constant", [], ["k"], value=numpy_helper.from_array(values(3, 2))),
        node("MatMul", ["c", "k"], ["p"]),
        node("AveragePool", ["p"], ["q"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["q"], ["y"]),
    ]
    few = {"from": np.array([0, 0, 0, 0]), "to": np.array([9, 9, 6, 6])}
    models = []
    for nodes, named in ((long, constants), (short, few)):
        graph = helper.make_graph(
            nodes,
            "fuzz",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in named.items()],
        )
        opsets = [helper.make_opsetid("", 13)]
        models.append(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return models


def _odd_onnx(chance: random.Random) -> bytes:
    """Half of them are well-formed messages that say something odd, which flipped bits seldom are."""
    seed = chance.choice(_onnx_models())
    if chance.random() < 0.4:
        return mutated(seed, chance, words=(b"\x0a\x00", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"Pad"))
    model = onnx.load_model_from_string(seed)
    for _ in range(chance.randint(1, 3)):
        chance.choice(_ONNX_EDITS)(model.graph, chance)
    return model.SerializeToString()


def _odd_node(graph: Any, chance: random.Random) -> None:
    node = chance.choice(graph.node)
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    match chance.randrange(5):
        case 0 if node.input:
            node.input[chance.randrange(len(node.input))] = chance.choice([*names, "", "nowhere"])
        case 1 if node.output:
            node.output[0] = chance.choice(names)
        case 2:
            node.op_type = chance.choice([*(other.op_type for other in graph.node), "Expand", "Pow", "Exp", "Loop"])
        case 3:
            node.input.extend(chance.choice(names) for _ in range(chance.choice((1, 3))))
        case _:
            graph.node.add().CopyFrom(node)


def _odd_attribute(graph: Any, chance: random.Random) -> None:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    attribute = chance.choice(attributes)
    if attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(_SIZES)
        if chance.random() < 0.2:
            attribute.ints.extend([1] * chance.choice((1, 1000)))
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = chance.choice(_SIZES)
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = chance.choice((0.0, float("nan"), float("inf"), -1e38))
    else:
        attribute.type = chance.randrange(15)


def _odd_tensor(graph: Any, chance: random.Random) -> None:
    tensor = chance.choice(graph.initializer)
    match chance.randrange(6):
        case 0 if tensor.dims:
            tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(_SIZES)
        case 1:
            tensor.data_type = chance.randrange(26)
        case 2:
            tensor.dims.extend([1] * chance.choice((1, 60, 70)))
        case 3 if tensor.data_type == TensorProto.INT64:
            count = len(tensor.raw_data) // 8
            tensor.raw_data = np.array([chance.choice(_SIZES) for _ in range(count)], np.int64).tobytes()
        case 4:
            tensor.data_location = TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", chance.choice(("../../etc/passwd", "/dev/zero"))
        case _:
            tensor.raw_data = tensor.raw_data[: chance.randrange(len(tensor.raw_data) + 1)]


def _long_chain(graph: Any, chance: random.Random) -> None:
    """One node again and again, each time on what it gave before and on the same constants."""
    node = chance.choice(graph.node)
    if not node.input or not node.output:
        return
    first = last = node.output[0]
    readers = [other for other in graph.node if first in other.input]
    for number in range(chance.choice((3, 300))):
        again = graph.node.add()
        again.CopyFrom(node)
        again.input[0], again.output[0] = last, f"{first} {number}"
        last = again.output[0]
    for reader in readers:
        reader.input[list(reader.input).index(first)] = last


def _large_tensor(graph: Any, chance: random.Random) -> None:
    tensor = chance.choice(graph.initializer)
    times = chance.choice((300, 3000))
    if tensor.dims and len(tensor.raw_data) * times < 1 << 22:
        tensor.dims[0] = min(tensor.dims[0] * times, 2**62)
        tensor.raw_data *= times


def _large_windows(graph: Any, chance: random.Random) -> None:
    """Padding, and windows nearly as large as what was padded."""
    side = chance.choice((40, 300))
    for tensor in graph.initializer:
        if tensor.name == "pads":
            tensor.raw_data = np.array([0] * 6 + [2 * side] * 2).tobytes()
    for attribute in (
        attribute for node in graph.node if node.op_type.endswith("Pool") for attribute in node.attribute
    ):
        if attribute.name == "kernel_shape":
            attribute.ints[:] = [side] * len(attribute.ints)


_ONNX_EDITS = (_odd_node, _odd_node, _odd_attribute, _odd_tensor, _long_chain, _large_tensor, _large_windows)


def _read_onnx(data: bytes, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(data)
    _run(read_onnx(folder / "model.onnx"))


def _run(graph: GraphModule) -> None:
    height, width = graph.picture
    height, width = height or 8, width or 8
    if height * width <= 1 << 16:  # a recognizer's framing chooses the size of its pictures, not the file
        with torch.no_grad():
            graph(torch.zeros(2, 3, height, width))
            graph(torch.ones(2, 3, height, width))  # what was afforded once may cost more with other pixels,
            graph(torch.ones(5, 3, height, width))  # or with more of them


# -- tables, vectors and weights -------------------------------------------------------------------------------------


def _tables() -> list[bytes]:
    return [
        b'image,identity,gender\na/1.jpg,a,F\nb/2.jpg,b,M\n"c, d/3.jpg",,F\n',
        "\ufeffimage;identity\nä.jpg;ü\n".encode(),
        "image,identity\r\n../x.jpg,a\r\n/y.jpg,b\r\n".encode("utf-16"),
    ]


def _read_table(data: bytes, folder: Path) -> None:
    (folder / "faces.csv").write_bytes(data)
    FaceTable.from_csv(folder / "faces.csv")


@cache
def _arrays() -> list[bytes]:
    plain, packed = BytesIO(), BytesIO()
    np.save(plain, np.eye(3, 8, dtype=np.float32))
    np.savez_compressed(packed, vectors=np.zeros((3, 8), np.float32))
    return [plain.getvalue(), plain.getvalue(), packed.getvalue()]


def _read_array(data: bytes, folder: Path) -> None:
    (folder / "vectors.npy").write_bytes(data)
    Embeddings.from_array(folder / "vectors.npy", pl.DataFrame({"identity": ["a", "b", "c"]}))


@cache
def _parquets() -> list[bytes]:
    frame = pl.DataFrame({"image": ["a", "b"], "identity": ["x", None]})
    frame = frame.with_columns(pl.Series("net", [[1.0, 0.0], [0.6, 0.8]], dtype=pl.Array(pl.Float32, 2)))
    seeds = []
    for compression in ("zstd", "snappy", "uncompressed"):
        file = BytesIO()
        frame.write_parquet(file, compression=compression)  # type: ignore[arg-type]
        seeds.append(file.getvalue())
    return seeds


def _read_parquet(data: bytes, folder: Path) -> None:
    (folder / "faces.parquet").write_bytes(data)
    Embeddings.read(folder / "faces.parquet")


@cache
def _weights() -> list[bytes]:
    about = {"format": "fairveil recogniser 1", "about": "{}"}
    return [safetensors.torch.save({"a.weight": torch.ones(2, 3), "b": torch.zeros(4)}, about)]


def _read_weights(data: bytes, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(data)
    load_trained(folder / "model.safetensors")


@cache
def _pickles() -> list[bytes]:
    import pickle

    arrays = {"a": np.ones((2, 3), np.float32), "more": {"b": np.arange(4)}}
    return [pickle.dumps(arrays, protocol=protocol) for protocol in (3, 4)]


def _read_pickle(data: bytes, folder: Path) -> None:
    (folder / "arrays.pkl").write_bytes(data)
    read_numpy_pickle(folder / "arrays.pkl")


# -- settings --------------------------------------------------------------------------------------------------------


def _odd_assignment(chance: random.Random) -> bytes:
    """A key and a value as typed after --set, for a study or for the attack, whose number comes first."""
    names = ["steps", "smoothing", "ensembles.Mine", "seeds", "runs", "data", "training.epochs", "x", "", "a.b.c.d"]
    text = [
        "10", "none", "faceres,dlib-resnet", "1e999", "nan", "[1, 2]", "{a = 1}", '"x"', "true", "-1", "9" * 5000,
        "[" * 5000, "{a=" * 3000, "2020-01-01", "'''", "a.b = 1", "1\nother = 2", "\0", "٣", "0x" + "f" * 5000,
    ]  # fmt: skip
    line = f"{chance.choice(names)}={chance.choice(text)}".encode()
    return bytes([chance.randrange(256)]) + (mutated(line, chance) if chance.random() < 0.5 else line)


def _read_assignment(data: bytes, folder: Path) -> None:
    from fairveil.experiment.catalogue import studies  # which imports nearly everything

    text = data[1:].decode("utf-8", "surrogateescape")
    settings = [LowKey(), *(study.presets["smoke"] for study in studies().values())]
    override(settings[data[0] % len(settings)], [text])


def _read_settings_file(data: bytes, folder: Path) -> None:
    (folder / "settings.toml").write_bytes(data)
    override_from_file(LowKey(), folder / "settings.toml")


def _settings_files() -> list[bytes]:
    return [b'steps = 10\nsmoothing = "none"\n[table]\na = [1, 2]\n']


TARGETS: dict[str, Target] = {
    # Pictures of up to 120 million pixels are allowed, however small their files.
    "photos": Target(_one_of(_photos, b"IHDR", b"\xff\xc0", b"ispe", b"VP8X", b"Exif\0\0"), _read_photo, 3000),
    # A graph may take 1 GiB for each picture of a batch, alive at once or not.
    "onnx": Target(_odd_onnx, _read_onnx, 2500),
    "csv": Target(_one_of(_tables, b'"', b"," * 5000, b"\0", b"\r", b"\n" * 5000, b"image,"), _read_table),
    "npy": Target(_one_of(_arrays, b"'shape': (3, 99999999999)", b"'O'"), _read_array),
    "parquet": Target(_one_of(_parquets), _read_parquet),
    "safetensors": Target(_one_of(_weights, b"[0,99999999999]", b"{" * 3000), _read_weights),
    "pickle": Target(_one_of(_pickles, b"cos\nsystem\n", b"R", b"(" * 3000), _read_pickle),
    "overrides": Target(_odd_assignment, _read_assignment),
    "settings": Target(_one_of(_settings_files, b"[" * 3000, b"a." * 3000, b"9" * 5000, b"{a="), _read_settings_file),
}
