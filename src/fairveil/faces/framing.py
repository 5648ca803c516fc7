"""Which crop a recognizer's network wants to see, and in which numbers."""

from dataclasses import dataclass, fields
from typing import get_args

import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.faces.alignment import TEMPLATE, TEMPLATE_SIZE, similarity_transform, warp
from fairveil.faces.graphs.declarations import ChannelOrder, Declarations, Numbers, declarations
from fairveil.faces.graphs.module import GraphModule


@dataclass(frozen=True)
class Framing:
    """What a recognizer's network wants to see: which square around the face, at what size, in which numbers.

    Attributes:
        size: side of the crop, in pixels.
        zoom: size of the face in the crop relative to the standard 112×112 template (1 is the template; less shows
            more of the surroundings).
        drop: how far the face sits below its place in the template, as a share of the crop's side.
        channels: the order in which the network takes the colors.
        mean: what is taken off each channel, in that order, on the scale 0 to 255.
        scale: what the difference is then divided by.

    Raises:
        FairveilError: another order of the channels.
    """

    size: int = TEMPLATE_SIZE
    zoom: float = 1.0
    drop: float = 0.0
    channels: ChannelOrder = "RGB"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    scale: float = 128.0

    def __post_init__(self) -> None:
        """Refuse a misspelled order of the channels, which would otherwise be taken for RGB."""
        if self.channels not in get_args(ChannelOrder):
            raise FairveilError(f"A network takes its colors as 'RGB' or 'BGR', not {self.channels!r}.")

    @property
    def landmarks(self) -> Tensor:
        """Where the five landmarks lie in the crop: shape (5, 2), in pixels."""
        # Pixel centers are at integers, so the crop's own center is at (size - 1) / 2.
        centered = (TEMPLATE - (TEMPLATE_SIZE - 1) / 2) * (self.zoom * self.size / TEMPLATE_SIZE)
        return centered + (self.size - 1) / 2 + torch.tensor([0.0, self.drop * self.size])

    def crop(self, images: Tensor, landmarks: Tensor, *, antialias: bool = True) -> Tensor:
        """Cut the crops the network sees: (B, 3, H, W) and (B, 5, 2) to (B, 3, size, size), still in [0, 1].

        Args:
            images: RGB in [0, 1].
            landmarks: five points per face, in image pixels.
            antialias: see `warp`.
        """
        return warp(images, similarity_transform(landmarks, self.landmarks), self.size, antialias=antialias)

    def normalize(self, crops: Tensor) -> Tensor:
        """From RGB in [0, 1] to the numbers and channel order the network was trained on; shape unchanged."""
        ordered = crops.flip(1) if self.channels == "BGR" else crops
        return (ordered * 255 - crops.new_tensor(self.mean).view(3, 1, 1)) / self.scale

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest number the network is fed."""
        return (0 - max(self.mean)) / self.scale, (255 - min(self.mean)) / self.scale


@dataclass(frozen=True)
class StatedFraming:
    """What somebody says of a framing; what they leave out (None) is read from the network's file.

    Attributes:
        size: as in `Framing`.
        mean: as in `Framing`.
        scale: as in `Framing`.
        channels: as in `Framing`.

    Raises:
        FairveilError: a size or a scale that nothing can have, or another order of the channels.
    """

    size: int | None = None
    mean: tuple[float, float, float] | None = None
    scale: float | None = None
    channels: ChannelOrder | None = None

    def __post_init__(self) -> None:
        """Refuse what no framing can have."""
        if self.size is not None and not 8 <= self.size <= 1024:
            raise FairveilError(f"A recognizer's crop has a side of 8 to 1024 pixels, not {self.size}.")
        if self.scale is not None and not (0 < self.scale < float("inf")):
            raise FairveilError(f"The scale, which pixels are divided by, is a positive number, not {self.scale}.")
        if self.mean is not None and not all(abs(value) < float("inf") for value in self.mean):
            raise FairveilError(f"The mean, which is taken off the pixels, is one number or three, not {self.mean}.")
        if self.channels not in (None, *get_args(ChannelOrder)):
            raise FairveilError(f"A network takes its colors as 'RGB' or 'BGR', not {self.channels!r}.")

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return any(getattr(self, entry.name) is not None for entry in fields(self))


_MEAN, _UNSCALED = (0.0, 0.0, 0.0), 1.0
_FED: dict[Numbers, tuple[tuple[float, float, float], float]] = {
    "bytes": (_MEAN, _UNSCALED),
    "unit": (_MEAN, 255.0),
    "signed": ((127.5, 127.5, 127.5), 127.5),
}
"""The mean and scale that make numbers of this kind out of pixels."""

_SPANS: dict[Numbers, tuple[float, float]] = {"bytes": (0, 255), "unit": (0, 1), "signed": (-1, 1)}
_SLACK = 0.1  # of a span, by which numbers may miss it


def framing_of(network: GraphModule, stated: StatedFraming | Framing | None = None) -> Framing:
    """How to feed a foreign network: as somebody says, and in what they leave out as its own file says.

    Args:
        network: the graph.
        stated: what is known of it. A whole `Framing` is taken at its word, if it does not contradict the graph.

    Returns:
        The framing. Where nobody says anything: 112×112 RGB, (x - 127.5) / 128, as ArcFace has it.

    Raises:
        FairveilError: the graph begins with arithmetic, or with a swap of channels, that leaves open what it takes, and
            nobody said; or what was said contradicts the graph.
    """
    if network.channels not in (None, 3):
        raise FairveilError(
            f"{network.source} takes pictures of {network.channels} channel{'s'[: network.channels != 1]}; fairveil "
            "has three to give, red, green and blue."
        )
    declared = declarations(network)
    if isinstance(stated, Framing):
        if not _agrees(stated, declared.numbers):
            raise _contradiction(network, declared, stated)
        return stated
    stated = stated or StatedFraming()
    plain = Framing()
    mean, scale = (plain.mean, plain.scale) if declared.numbers is None else _FED[declared.numbers]
    if stated.mean is None and stated.scale is None and declared.question is not None:
        raise FairveilError(f"{network.source} {declared.question}")
    if stated.channels is None and declared.swapped and declared.channels is None:
        raise FairveilError(
            f"{network.source} swaps red and blue first, which does not tell which of them it takes first: "
            "say so with `channels=RGB` or `channels=BGR`."
        )
    if stated.mean is not None or stated.scale is not None:  # one without the other is half a sentence
        mean, scale = stated.mean or _MEAN, stated.scale or _UNSCALED
    framing = Framing(
        size=stated.size or _declared_size(network) or plain.size,
        mean=mean,
        scale=scale,
        channels=stated.channels or declared.channels or plain.channels,
    )
    if declared.whole and not _agrees(framing, "bytes"):
        raise _contradiction(network, declared, framing)
    return framing


def _declared_size(network: GraphModule) -> int | None:
    """The side of the pictures a graph takes, if it says."""
    height, width = network.picture
    if height is not None and width is not None and height != width:
        raise FairveilError(
            f"{network.source} takes pictures of {height}×{width} (height × width), which fairveil does not cut: "
            "it cuts squares. Export the network for a square."
        )
    return height or width


def _agrees(framing: Framing, numbers: Numbers | None) -> bool:
    """Whether a framing feeds numbers of a kind, give or take a tenth of their span."""
    if numbers is None:
        return True
    (low, high), fed = _SPANS[numbers], framing.span
    return max(abs(fed[0] - low), abs(fed[1] - high)) <= _SLACK * (high - low)


def _contradiction(network: GraphModule, declared: Declarations, framing: Framing) -> FairveilError:
    numbers: Numbers = declared.numbers or "bytes"
    mean, scale = _FED[numbers]
    return FairveilError(
        f"{network.source} {declared.reason}, and would be fed {framing.span[0]:.3g} to {framing.span[1]:.3g}: "
        f"leave mean and scale out, or give {mean[0]:g} and {scale:g}."
    )


def described(network: GraphModule, framing: Framing) -> str:
    """One sentence on how an ONNX file is fed, and why."""
    declared = declarations(network)
    low, high = framing.span
    why = f", since it {declared.reason}" if _agrees(framing, declared.numbers) and declared.reason else ""
    return (
        f"{network.source} is fed crops of {framing.size}×{framing.size}, {framing.channels}, numbers from "
        f"{low:.3g} to {high:.3g}{why}; its output is {network.output}."
    )


__all__ = ["Framing", "StatedFraming", "described", "framing_of"]
