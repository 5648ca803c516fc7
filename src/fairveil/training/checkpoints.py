"""Where a run stands after an epoch, on disk, so that another process can go on from there bit for bit."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairveil.base.errors import FairveilError, clipped, shown
from fairveil.base.files import atomic_path

_FORMAT = 1
_NOT_SET = "not set"
_WORD = re.compile(r"\w+(?:\.\w+)*|\W")  # names and numbers, and each sign between them
_AROUND = 6  # words and signs that are shown on both sides of what differs: a setting is told by its name
_LONGEST = 160


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
    told = []
    for name in sorted({*made_with, *before}, key=[*made_with, *before].index):
        now, then = made_with.get(name, "none"), before.get(name, "none")
        if now != then:
            told.append(f"other {name} ({_differing(then, now)})")
    if told:
        raise FairveilError(
            f"{shown(path)} was trained with {' and '.join(told)}: train on with the same, remove the file to start "
            "anew, or name another."
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


def finished_epochs(path: Path) -> int:
    """How many epochs a checkpoint of the training loop holds; 0 where there is none that can be read."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return len(saved["content"]["epochs"])
    except Exception:  # a damaged file can make its reader raise whatever it likes
        return 0


def _differing(then: str, now: str) -> str:
    """In what two descriptions differ: by setting where they have settings, else where their words do."""
    try:
        old, new = json.loads(then), json.loads(now)
        names = [*new, *(name for name in old if name not in new)]
        return ", ".join(
            f"{name} {old.get(name, _NOT_SET)}, now {new.get(name, _NOT_SET)}"
            for name in names
            if old.get(name, _NOT_SET) != new.get(name, _NOT_SET)
        )
    except (ValueError, AttributeError, TypeError):
        return _where_words_differ(then, now)


def _where_words_differ(then: str, now: str) -> str:
    """The parts of two texts between what they begin and end with alike, cut at words and to what can be read."""
    old, new = _WORD.findall(then), _WORD.findall(now)
    start = next((place for place, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), None)
    first = min(len(old), len(new)) if start is None else start
    rest = min(len(old), len(new)) - first
    same = (one == other for one, other in zip(reversed(old), reversed(new), strict=False))
    last = min(rest, next((count for count, alike in enumerate(same) if not alike), rest))
    first = max(0, first - _AROUND)
    last = max(0, last - _AROUND)
    parts = []
    for words in (old, new):
        middle = clipped("".join(words[first : len(words) - last]).strip(), _LONGEST)
        parts.append(f"{'…' * (first > 0)}{middle}{'…' * (last > 0 and not middle.endswith('…'))}")
    return f"{parts[0]}, now {parts[1]}"
