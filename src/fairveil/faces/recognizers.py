"""Recognizers: from a picture and the landmarks of a face to a unit vector that says whose face it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.base.files import sha256_of
from fairveil.faces.framing import Framing, StatedFraming, framing_of
from fairveil.faces.graphs import read_onnx
from fairveil.faces.probing import check_tells_apart

__all__ = ["Framing", "MatchThreshold", "Recognizer", "StatedFraming", "check_names"]


@dataclass(frozen=True)
class MatchThreshold:
    """The cosine similarity from which a recognizer says "the same person", and how it was found.

    Attributes:
        similarity: the threshold, in [-1, 1].
        false_match_rate: the share of pairs of different people that reach it.
        false_non_match_rate: the share of pairs of the same person that do not.
        measured_on: the faces and the number of pairs.
    """

    similarity: float
    false_match_rate: float
    false_non_match_rate: float
    measured_on: str

    @classmethod
    def stated(cls, similarity: float) -> "MatchThreshold":
        """A threshold that the user gives, with error rates that nobody measured.

        Raises:
            FairveilError: it is no cosine.
        """
        if not -1 <= similarity <= 1:
            raise FairveilError(f"A match threshold is a cosine similarity, from -1 to 1, not {similarity}.")
        return cls(similarity, float("nan"), float("nan"), "the user's word")


class Recognizer(nn.Module):
    """A face recognizer from pixels to unit vectors, differentiable down to the pixels.

    Args:
        name: what reports call it.
        network: maps normalized crops (B, 3, size, size) to features (B, D).
        framing: which crop the network wants, and its normalization.
        threshold: from which similarity on two faces are taken for one person; None where nobody measured it.
        sha256: of the file the network came from, where a name alone does not tell it; None otherwise.
    """

    def __init__(
        self,
        name: str,
        network: Callable[[Tensor], Tensor],
        framing: Framing | None = None,
        threshold: MatchThreshold | None = None,
        *,
        sha256: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.framing = framing or Framing()
        self.threshold = threshold
        self.sha256 = sha256

    @classmethod
    def from_onnx(
        cls,
        path: Path | str,
        *,
        name: str | None = None,
        framing: Framing | StatedFraming | None = None,
        output: str | None = None,
        threshold: float | None = None,
    ) -> "Recognizer":
        """A user's own model from an ONNX file.

        Args:
            path: the file; its graph takes (B, 3, size, size) or (B, size, size, 3) and gives (B, D).
            name: what reports call it; the file's name by default.
            framing: the crop the model expects. What is left out is read from the graph: its size, whether it takes
                whole numbers, what it does to pixels first. Where that says nothing, it is what ArcFace has (112×112
                RGB, (x - 127.5) / 128).
            output: which of the graph's outputs is the embedding; by default the only one that is a vector.
            threshold: the similarity from which two faces match, if known.

        Raises:
            FairveilError: the file is no readable ONNX model, or uses an operator we do not know (it is named); it is
                open what numbers it takes, or which output is the embedding; or faces of people who look nothing
                alike come out as good as the same.
        """
        network = read_onnx(Path(path), output)
        known = None if threshold is None else MatchThreshold.stated(threshold)
        wanted = framing_of(network, framing)
        recognizer = cls(name or Path(path).stem, network, wanted, known, sha256=sha256_of(Path(path)))
        check_tells_apart(recognizer)
        return recognizer

    @classmethod
    def from_module(
        cls, module: nn.Module, *, name: str, framing: Framing | None = None, threshold: float | None = None
    ) -> "Recognizer":
        """Any torch module that maps (B, 3, size, size) to (B, D), put into evaluation mode and frozen."""
        known = None if threshold is None else MatchThreshold.stated(threshold)
        return cls(name, module.eval().requires_grad_(False), framing, known)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    def embed(self, images: Tensor, landmarks: Tensor, *, mirror: bool = False) -> Tensor:
        """Embed one face per image.

        Args:
            images: RGB in [0, 1], shape (B, 3, H, W); (1, 3, H, W) if all faces are in one image.
            landmarks: five points per face, shape (B, 5, 2), in image pixels.
            mirror: add the embedding of the mirrored crop before normalizing, as face.evoLVe and LowKey's code do.

        Returns:
            Unit vectors of shape (B, D).

        Raises:
            FairveilError: as `embed_crops`.
        """
        return self.embed_crops(self.framing.crop(images, landmarks), mirror=mirror)

    def embed_crops(self, crops: Tensor, *, mirror: bool = False) -> Tensor:
        """Embed crops that are framed already: RGB in [0, 1], (B, 3, size, size) to unit vectors (B, D).

        Raises:
            FairveilError: what the network gives is not one vector per crop, holds numbers that are none, or has no
                direction, so that nothing could be said of any similarity.
        """
        features = self.network(self.framing.normalize(crops))
        if mirror:
            features = features + self.network(self.framing.normalize(crops.flip(-1)))
        if features.dim() > 2 and set(features.shape[2:]) == {1}:  # as fully convolutional networks give vectors
            features = features.flatten(1)
        if features.dim() != 2 or len(features) != len(crops):
            raise FairveilError(
                f"The recognizer {self.name} gives numbers of shape {tuple(features.shape)} for {len(crops)} faces "
                "instead of one vector for each: choose another output of its network (`output=NAME`)."
            )
        if features.shape[1] < 2:
            raise FairveilError(
                f"The recognizer {self.name} gives one number for each face, such as the length of a vector, and any "
                "two of them would match: choose another output of its network (`output=NAME`)."
            )
        lengths = features.detach().norm(dim=1)
        if not bool((lengths.isfinite() & (lengths > 0)).all()):
            what = "zeros only" if bool(lengths.isfinite().all()) else "numbers that are not finite"
            raise FairveilError(
                f"The recognizer {self.name} gives {what} for a face: check the file of its network, and that it is "
                "framed as it was trained."
            )
        return F.normalize(features, dim=-1)


def check_names(recognizers: Sequence[Recognizer]) -> None:
    """Refuse recognizers that results could not tell apart.

    Raises:
        FairveilError: two have one name.
    """
    names = [recognizer.name for recognizer in recognizers]
    if len(set(names)) < len(names):
        raise FairveilError(f"Two recognizers have one name, so nobody could tell them apart: {', '.join(names)}.")
