"""Networks that say which findings an X-ray shows (section 6.3.2), and their portable files."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.base.tensor_files import load_copies, read_tensors, write_tensors
from fairveil.data.xrays import DenseNet121, Preparation
from fairveil.training import NETWORKS, Training, build_network

PAPER = Training(
    epochs=20,
    batch_size=56,
    learning_rate=1e-4,
    optimizer="adam",
    weight_decay=1e-4,
    schedule="steps",
    milestones=tuple(epoch / 20 for epoch in range(1, 20)),
    decay=0.1,
)
"""The settings of section 6.9.1: after five of its twenty epochs the learning rate is next to nothing.

Section 6.4.1 says that all models are trained with weight decay and dropout, and no section how much of either: they
are those of the DenseNet's authors (Huang et al. 2017). The code that the text refers to has none of both.
"""

PAPER_DROPOUT = 0.2
"""See `PAPER`."""


class XraySettings(BaseModel):
    """How a network is trained to find.

    Attributes:
        network: "densenet-121", or one of `fairveil.training.NETWORKS`.
        width: channels of the first stage of the latter, if not as usual.
        preparation: of X-rays, after the augmentation.
        augment: whether they are turned, scaled and shifted at random (section 6.9.1).
        weighted: whether the loss of a finding's presence is weighed by how many more are absent, up to 20 times.
        dropout: of "densenet-121".
        training: the rest; its seed is replaced.
        stratified: whether every batch holds each group in proportion to its share, rather than by chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = "densenet-121"
    width: int | None = Field(None, ge=8, le=512)
    preparation: Preparation = Preparation(channels=3)
    augment: bool = True
    weighted: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)
    training: Training = PAPER
    stratified: bool = False


PUBLISHED = XraySettings(dropout=PAPER_DROPOUT, training=PAPER)
"""What table 6.1 trains, as far as the text tells."""

SMALL = XraySettings(
    network="resnet-8-fast",
    preparation=Preparation(),
    training=Training(epochs=12, batch_size=56, learning_rate=2e-3, optimizer="adam", weight_decay=0.0),
    stratified=True,
)
"""What two processor cores train in a minute, on X-rays of 32 to 64 pixels."""


def build_xray_network(settings: XraySettings, findings: int, *, seed: int) -> nn.Module:
    """An untrained network from prepared X-rays to a logit for each finding.

    Raises:
        FairveilError: there is no such network.
    """
    channels: Literal[1, 3] = settings.preparation.channels
    if settings.network == "densenet-121":
        return DenseNet121(findings, channels=channels, seed=seed, drop_rate=settings.dropout)
    if settings.network in NETWORKS:
        return build_network(settings.network, findings, seed=seed, channels=channels, width=settings.width)
    raise FairveilError(f"There is no network {settings.network!r}: choose from densenet-121, {', '.join(NETWORKS)}.")


_KIND = {"format": "fairveil finder 1", "what": "network for X-rays", "maker": "fairveil fair train --task findings"}


class XrayClassifier(nn.Module):
    """From X-rays, pixels in [0, 1], float (B, 1, S, S), to logits of findings (B, K).

    Attributes:
        findings: what the logits are of.
        size: S, of the X-rays it was trained on.
        about: how it was trained and how good it is.
    """

    def __init__(
        self, network: nn.Module, settings: XraySettings, findings: tuple[str, ...], size: int, about: dict[str, Any]
    ) -> None:
        super().__init__()
        self.network, self.preparation = network, settings.preparation
        self.findings, self.size, self.about = findings, size, about

    def forward(self, xrays: Tensor) -> Tensor:
        """X-rays to logits; their sigmoids are probabilities."""
        logits: Tensor = self.network(self.preparation(xrays))
        return logits


def save_xray_classifier(
    path: Path,
    network: nn.Module,
    settings: XraySettings,
    findings: tuple[str, ...],
    *,
    size: int,
    about: dict[str, Any],
) -> None:
    """Write a network of `XrayExperiment.fit`, whole or not at all, as safetensors.

    Args:
        path: a new file.
        network: on any device.
        settings: it was built and trained with.
        findings: what its logits are of, in their order.
        size: side of the X-rays, in pixels.
        about: what JSON can hold of how it was trained and how good it is.

    Raises:
        FairveilError: the file already exists or cannot be written.
    """
    metadata = {
        "settings": settings.model_dump_json(),
        "findings": json.dumps(findings),
        "size": str(size),
        "about": json.dumps(about),
    }
    write_tensors(path, network.state_dict(), metadata, format=_KIND["format"])


def load_xray_classifier(path: Path) -> XrayClassifier:
    """Read a network, in evaluation mode and frozen. Nothing in the file is run.

    Raises:
        FairveilError: there is no such file, it is damaged, or it holds no network for X-rays.
    """
    with read_tensors(path, **_KIND) as (tensors, metadata):
        settings = XraySettings.model_validate_json(metadata["settings"])
        findings = tuple(json.loads(metadata["findings"]))
        with torch.device("meta"):  # no memory for weights that the file may not hold
            network = build_xray_network(settings, len(findings), seed=0)
        load_copies(network, tensors)
        classifier = XrayClassifier(network, settings, findings, int(metadata["size"]), json.loads(metadata["about"]))
    return classifier.eval().requires_grad_(False)
