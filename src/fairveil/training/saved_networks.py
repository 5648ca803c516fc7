"""Trained networks of the catalogue as one portable file: weights, what they are of, and how they came about."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fairveil.errors import FairveilError
from fairveil.files import atomic_path
from fairveil.photos import shown
from fairveil.training.networks import ResidualNetwork, build_network

_FORMAT = "fairveil network 1"


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
        FairveilError: the file is there already.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    metadata = {"format": _FORMAT, "network": name, "classes": json.dumps(classes), "about": json.dumps(about)}
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(save(tensors, metadata))
    except FileExistsError as error:
        raise FairveilError(f"{shown(path)} is there already: choose another name.") from error


def load_network(path: Path) -> tuple[ResidualNetwork, tuple[str, ...], dict[str, Any]]:
    """Read a network: itself in evaluation mode, from pixels in [0, 1] to logits; its classes; and about it.

    Raises:
        FairveilError: there is no such file, or it holds no network of fairveil's.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise FairveilError(f"{shown(path)} holds no network that this version of fairveil reads.")
            tensors: dict[str, torch.Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        classes = tuple(json.loads(metadata["classes"]))
        channels = tensors["features.1.weight"].shape[1]
        network = build_network(metadata["network"], len(classes), seed=0, channels=channels)
        network.load_state_dict(tensors)
        about: dict[str, Any] = json.loads(metadata["about"])
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise FairveilError(
            f"{shown(path)} is not there or is damaged: give a file of fairveil sanitize train."
        ) from error
    return network.eval(), classes, about
