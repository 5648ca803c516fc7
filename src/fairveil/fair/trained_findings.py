"""Networks that find what X-rays show, as one portable file."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairveil.base.tensor_files import read_tensors, write_tensors
from fairveil.fair.findings import XraySettings, build_finder

_KIND = {"format": "fairveil finder 1", "what": "network for X-rays", "maker": "fairveil fair train --task findings"}


class Finder(nn.Module):
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


def save_finder(
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


def load_finder(path: Path) -> Finder:
    """Read a network, in evaluation mode and frozen. Nothing in the file is run.

    Raises:
        FairveilError: there is no such file, it is damaged, or it holds no network for X-rays.
    """
    with read_tensors(path, **_KIND) as (tensors, metadata):
        settings = XraySettings.model_validate_json(metadata["settings"])
        findings = tuple(json.loads(metadata["findings"]))
        with torch.device("meta"):  # no memory for weights that the file may not hold
            network = build_finder(settings, len(findings), seed=0)
        # copies, so that the file may be changed or taken away
        network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
        finder = Finder(network, settings, findings, int(metadata["size"]), json.loads(metadata["about"]))
    return finder.eval().requires_grad_(False)
