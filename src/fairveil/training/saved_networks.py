"""Trained networks of the catalogue as one portable file: weights, what they are of, and how they came about."""

import json
from pathlib import Path
from typing import Any

from fairveil.base.tensor_files import read_tensors, write_tensors
from fairveil.training.networks import ResidualNetwork, build_network

_KIND = {"format": "fairveil network 1", "what": "network", "maker": "fairveil sanitize train"}


def save_network(
    path: Path, network: ResidualNetwork, name: str, classes: tuple[str, ...], about: dict[str, Any]
) -> None:
    """Write a network of `build_network`, whole or not at all, as safetensors.

    Args:
        path: a new file.
        network: on any device.
        name: by which it was built.
        classes: what its logits mean, in their order.
        about: how it was trained and how good it is: what JSON can hold.

    Raises:
        FairveilError: the file already exists or cannot be written.
    """
    metadata = {"network": name, "classes": json.dumps(classes), "about": json.dumps(about)}
    write_tensors(path, network.state_dict(), metadata, format=_KIND["format"])


def load_network(path: Path) -> tuple[ResidualNetwork, tuple[str, ...], dict[str, Any]]:
    """Read a network: itself in evaluation mode, from pixels in [0, 1] to logits; its classes; and about it.

    Raises:
        FairveilError: there is no such file, or it holds no network of fairveil's.
    """
    with read_tensors(path, **_KIND) as (tensors, metadata):
        classes = tuple(json.loads(metadata["classes"]))
        channels = tensors["features.1.weight"].shape[1]
        network = build_network(metadata["network"], len(classes), seed=0, channels=channels)
        network.load_state_dict(tensors)
        about: dict[str, Any] = json.loads(metadata["about"])
    return network.eval(), classes, about
