"""Pretrained recognizers, by name."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor, nn

from fairveil import assets
from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.faces.backbones import DlibResNet
from fairveil.faces.frbench import PREFIX, load_frbench
from fairveil.faces.graphs import read_onnx
from fairveil.faces.graphs.tensorflow import read_tensorflow, read_tfjs, read_tfjs_weights
from fairveil.faces.graphs.tflite import read_tflite
from fairveil.faces.recognizers import Framing, MatchThreshold, Recognizer, check_names
from fairveil.faces.trained import RANDOM, random_recognizer


def _measured(similarity: float, false_non_match_rate: float) -> MatchThreshold:
    """A threshold as `bench/thresholds.py` measured it on Labeled Faces in the Wild."""
    return MatchThreshold(
        similarity,
        1e-3,
        false_non_match_rate,
        "false match rate 0.1 % on Labeled Faces in the Wild, 3,356 photos of 1,679 people (5.6 million pairs)",
    )


def _tfjs(name: str, output: str) -> Callable[[], nn.Module]:
    return lambda: read_tfjs(assets.path(f"{name}.json"), assets.path(f"{name}.bin"), output)


def _dlib() -> nn.Module:
    manifest = json.loads(assets.path("dlib-resnet.json").read_text())[0]["weights"]
    return DlibResNet(read_tfjs_weights(manifest, assets.path("dlib-resnet.bin")))


@dataclass(frozen=True)
class ZooEntry:
    """A pretrained recognizer.

    Attributes:
        dimension: length of its embeddings.
        framing: the crop it wants; settled by measurement where its source says little.
        network: reads it from its artifacts, fetching them if need be.
        threshold: measured match threshold.
    """

    dimension: int
    framing: Framing
    network: Callable[[], Callable[[Tensor], Tensor]]
    threshold: MatchThreshold


_IMAGENET_BGR = (103.939, 116.779, 123.68)

ZOO = {
    "mobilefacenet-512": ZooEntry(
        512,
        Framing(channels="BGR", mean=(127.0, 127.0, 127.0), scale=128.0),
        lambda: read_onnx(assets.path("mobilefacenet-512")),
        _measured(0.3368, 0.0125),
    ),
    "mobilefacenet-192": ZooEntry(
        192,
        Framing(),
        lambda: read_tflite(assets.path("mobilefacenet-192")),
        _measured(0.4518, 0.0173),
    ),
    "faceres": ZooEntry(
        1024,
        Framing(size=224, channels="BGR", mean=_IMAGENET_BGR, scale=1.0),
        _tfjs("faceres", "global_pooling/Mean"),
        _measured(0.6099, 0.1097),
    ),
    "faceres-deep": ZooEntry(
        1024,
        Framing(size=224, channels="BGR", mean=_IMAGENET_BGR, scale=1.0),
        _tfjs("faceres-deep", "global_pooling/Mean"),
        _measured(0.7562, 0.4472),
    ),
    "mobileface": ZooEntry(
        256,
        Framing(mean=(0.0, 0.0, 0.0), scale=1.0),
        _tfjs("mobileface", "batchnorm0/add_1"),
        _measured(0.3815, 0.3172),
    ),
    "dlib-resnet": ZooEntry(
        128,
        Framing(size=150, zoom=1.08, drop=-0.14, mean=(122.782, 117.001, 104.298), scale=256.0),
        _dlib,
        _measured(0.9282, 0.0751),
    ),
    "facenet-512": ZooEntry(
        512,
        Framing(size=160, zoom=0.9, drop=-0.05),
        lambda: read_tensorflow(assets.path("facenet-512"), "embeddings"),
        _measured(0.5751, 0.1276),
    ),
}
"""Every pretrained recognizer by name."""

DEFAULT_ENSEMBLE = ("mobilefacenet-512", "mobilefacenet-192", "faceres", "dlib-resnet")
"""The recognizers `protect` attacks unless told otherwise."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "MobileFaceNet": ("mobilefacenet-512", "mobilefacenet-192"),
    "FaceRes": ("faceres", "faceres-deep"),
    "dlib": ("dlib-resnet",),
    "MobileFace": ("mobileface",),
    "FaceNet": ("facenet-512",),  # of another network, training set and maker than all others; no ensemble has it
}
"""Recognizers that are of one kind: what fools one mostly fools its relatives, so that only a whole family is a test of
how a protection carries over."""


def relatives(name: str) -> tuple[str, ...]:
    """The family of a recognizer, itself included; alone if it has none.

    >>> relatives("faceres")
    ('faceres', 'faceres-deep')
    """
    return next((family for family in FAMILIES.values() if name in family), (name,))


def without_family(family: str) -> tuple[str, ...]:
    """The default ensemble without a family of recognizers.

    >>> without_family("MobileFaceNet")
    ('faceres', 'dlib-resnet')
    """
    return tuple(name for name in DEFAULT_ENSEMBLE if name not in FAMILIES[family])


_BY_PREFIX = {PREFIX: load_frbench, RANDOM: random_recognizer}


def recognizers_of(given: Iterable[Recognizer | str]) -> list[Recognizer]:
    """Recognizers, of which some may be named.

    Raises:
        FairveilError: there is none, two have one name, or a name is unknown.
    """
    recognizers = [load_recognizer(one) if isinstance(one, str) else one for one in given]
    if not recognizers:
        raise FairveilError("No recognizer is given: name one, or leave the argument out for the default ones.")
    check_names(recognizers)
    return recognizers


@lru_cache(maxsize=len(ZOO))
def load_recognizer(name: str) -> Recognizer:
    """A recognizer by name: of the zoo or of frbench, whose weights are fetched on first use, or of random weights.

    `fairveil.faces.frbench` and `fairveil.faces.trained.random_recognizer` say what their names look like.

    Raises:
        FairveilError: there is no recognizer of this name, or its weights cannot be had.
    """
    for prefix, load in _BY_PREFIX.items():
        if name.startswith(prefix):
            return load(name)
    if name not in ZOO:
        raise FairveilError(f"The zoo has no recognizer {name!r}.{did_you_mean(name, ZOO)} It has {', '.join(ZOO)}.")
    entry = ZOO[name]
    return Recognizer(name, entry.network(), entry.framing, entry.threshold)
