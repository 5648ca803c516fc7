"""Where a run stands after an epoch, on disk, so that another process can go on from there bit for bit."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairveil.errors import FairveilError
from fairveil.files import atomic_path
from fairveil.photos import shown

_FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any], made_with: dict[str, str]) -> None:
    """Write a checkpoint in the place of the last, which stays whole until this one is.

    Args:
        path: where to; its folder is made if need be.
        content: tensors, numbers, strings, and lists and dictionaries of them.
        made_with: all that the run depends on, in words, by what each is called.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=True) as temporary:
        torch.save({"format": _FORMAT, "made_with": json.dumps(made_with), "content": content}, temporary)


def load_checkpoint(path: Path, made_with: dict[str, str]) -> dict[str, Any]:
    """Read a checkpoint without running anything it may hold.

    Raises:
        FairveilError: it is damaged, or was made with something other than `made_with`, which the sentence names.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        before = json.loads(saved["made_with"])
        content: dict[str, Any] = saved["content"]
        if saved["format"] != _FORMAT:
            raise ValueError(saved["format"])
    except Exception as error:  # a damaged file can make its reader raise whatever it likes
        raise FairveilError(
            f"{shown(path)} is not a checkpoint that fairveil can read: remove it, or name another file."
        ) from error
    for name in [*made_with, *(set(before) - set(made_with))]:
        now, then = made_with.get(name, "none"), before.get(name, "none")
        if now != then:
            raise FairveilError(
                f"{shown(path)} was trained with other {name} ({_differing(then, now)}): "
                "train on with the same, remove the file to start anew, or name another."
            )
    return content


def described(thing: object) -> str:
    """What an object is, in words that are the same in another process."""
    if thing is None:
        return "none"
    weights = f" {weights_fingerprint(thing)}" if isinstance(thing, nn.Module) else ""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(thing)) + weights


def weights_fingerprint(module: nn.Module) -> str:
    """The SHA-256 of a module's parameters and buffers, with their names and shapes."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _differing(then: str, now: str) -> str:
    """In what two descriptions differ: by setting where they have settings, else both, cut to what can be read."""
    try:
        old, new = json.loads(then), json.loads(now)
        return ", ".join(f"{name} {old.get(name)}, now {new[name]}" for name in new if old.get(name) != new[name])
    except (ValueError, AttributeError):
        return f"{then[:60]}, now {now[:60]}"
