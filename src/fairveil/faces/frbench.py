"""Stronger recognizers for those who have the network and a GPU: the models of the package frbench (extra: zoo).

frbench (MIT) names more than forty backbones trained with ArcFace, CosFace and other heads, and fetches their weights
from its own release page at run time. `frbench:irse-100/arcface/ms1m` is one of them here.
"""

from importlib import import_module
from typing import Any

from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.faces.alignment import TEMPLATE, TEMPLATE_SIZE
from fairveil.faces.recognizers import Framing, Recognizer

PREFIX = "frbench:"
"""What names of these recognizers begin with; backbone, head and training data follow, with slashes between."""


class NormalizedBackbone(nn.Module):
    """A backbone behind the normalization it was trained with.

    Args:
        backbone: maps (B, 3, size, size) to features (B, D).
        mean: of each channel on the scale 0 to 1, in the backbone's order, any shape of three numbers.
        std: what each channel is divided by, likewise.
        bgr: whether the backbone takes blue first.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, mean: Tensor, std: Tensor, *, bgr: bool) -> None:
        super().__init__()
        self.backbone, self.bgr = backbone, bgr
        self.register_buffer("mean", mean.reshape(3, 1, 1))
        self.register_buffer("std", std.reshape(3, 1, 1))

    def forward(self, crops: Tensor) -> Tensor:
        """RGB in [0, 1], (B, 3, size, size), to features (B, D)."""
        features: Tensor = self.backbone(((crops.flip(1) if self.bgr else crops) - self.mean) / self.std)
        return features


def load_frbench(name: str) -> Recognizer:
    """A recognizer of frbench by its name here; its weights are fetched on first use.

    Raises:
        FairveilError: frbench is not installed, has no such model or cannot fetch it, or the model wants a crop that
            a `Framing` cannot describe.
    """
    parts = name.removeprefix(PREFIX).split("/")
    if len(parts) != 3 or not all(parts):
        raise FairveilError(f"{name!r} names no model of frbench: write it like {PREFIX}irse-100/arcface/ms1m.")
    try:
        frbench: Any = import_module("frbench")
    except (ImportError, RuntimeError) as error:  # torchvision, which it needs, fails in either way
        raise FairveilError(
            f"{name} needs the package frbench, which cannot be imported ({error}): in a clone of "
            "fairveil, pip install '.[zoo]', with a torchvision that fits the torch you have."
        ) from error
    try:
        pipeline = frbench.FR(*parts, eager_load=True)
    except frbench.FRBenchError as error:
        raise FairveilError(f"frbench cannot give {name}: {error}") from error
    before = pipeline.preprocessor
    height, width = pipeline.input_size
    template = TEMPLATE * (width / TEMPLATE_SIZE)
    if height != width or (before.template.cpu() - template).abs().max() > 0.01 * width:
        raise FairveilError(f"{name} wants a crop of its own that fairveil does not cut: choose another model.")
    network = NormalizedBackbone(pipeline.backbone, before.mean, before.std, bgr=before.channel == "bgr")
    framing = Framing(size=width, mean=(0.0, 0.0, 0.0), scale=255.0)
    return Recognizer.from_module(network, name=name, framing=framing)
