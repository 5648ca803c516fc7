"""CIFAR-10, from the forms in which people have it (Krizhevsky, "Learning multiple layers of features", 2009)."""

import pickle
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from fairveil.assets.pickles import ArraysOnly, PickledDtype
from fairveil.base.errors import FairveilError, shown
from fairveil.data.images import LabeledImages, read_image_folder
from fairveil.data.layouts import pack_folder

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_PACKED, _PICKLED = "cifar10_jpeg.npz", "cifar-10-batches-py"
_NAME = "CIFAR-10"
_SHAPE = (3, 32, 32)


def read_cifar10(source: Path | None = None, *, split: Literal["train", "test"] = "train") -> LabeledImages:
    """Read CIFAR-10: 50,000 pictures to train on or 10,000 to test with, of 32 × 32 pixels.

    Args:
        source: the folder `cifar-10-batches-py` as published, or one that holds it; or `cifar10_jpeg.npz`, or a folder
            that holds it; or a folder of pictures with `train` and `test`, each with a folder a class. By default the
            folder that the environment variable FAIRVEIL_DATA names.
        split: which part.

    Raises:
        FairveilError: there is no such thing there, or it is damaged.
    """
    if source is None:
        source = pack_folder()
        if source is None:
            raise FairveilError(
                "CIFAR-10 was not found: name the folder of cifar-10-batches-py, or of its pictures, "
                "or set FAIRVEIL_DATA to the folder it is in."
            )
    for packed in (source, source / _PACKED):
        if packed.is_file():
            return _read_packed(packed, split)
    for pickled in (source, source / _PICKLED):
        if (pickled / "test_batch").is_file():
            return _read_pickled(pickled, split)
    if (source / split).is_dir():
        return replace(read_image_folder(source / split), name=f"{_NAME} ({split})")
    raise FairveilError(
        f"{shown(source)} holds no CIFAR-10: it should be {_PICKLED}, {_PACKED}, "
        "or a folder with train and test in it, each with a folder of pictures for each class."
    )


def _read_packed(path: Path, split: str) -> LabeledImages:
    """From one archive of JPEG bytes: `<split>_jpeg`, `<split>_offsets`, `<split>_labels`, `class_names`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            content = archive[f"{split}_jpeg"].tobytes()
            offsets = archive[f"{split}_offsets"].tolist()
            labels = archive[f"{split}_labels"].astype(np.int64)
            classes = tuple(str(name) for name in archive["class_names"])
        images = np.empty((len(labels), 32, 32, 3), dtype=np.uint8)
        for row, (start, end) in enumerate(pairwise(offsets)):
            with Image.open(BytesIO(content[start:end]), formats=["JPEG"]) as picture:
                images[row] = np.asarray(picture.convert("RGB"))
    except Exception as error:  # archives and decoders raise whatever a damaged file leads them to
        raise FairveilError(f"{shown(path)} is not a whole {_PACKED}: get it anew.") from error
    # (N, H, W, C) → (N, C, H, W)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return LabeledImages(pixels, torch.from_numpy(labels), classes, f"{_NAME} ({split})")


def _read_pickled(folder: Path, split: str) -> LabeledImages:
    """From the published folder of pickles, each a dictionary of pixel rows (N, 3072) and a list of labels."""
    files = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    images, labels = [], []
    for path in (folder / file for file in files):
        try:
            with path.open("rb") as opened:
                content = _BatchUnpickler(opened, encoding="bytes").load()
            pixels = content[b"data"].array
            if not pixels.flags.c_contiguous:
                raise pickle.UnpicklingError("pixels are rows of bytes")
            images.append(pixels.reshape(-1, *_SHAPE))
            labels.append(np.array(content[b"labels"], dtype=np.int64))
        except Exception as error:  # a hostile pickle can make its reader raise whatever it likes
            raise FairveilError(
                f"{shown(path)} is not a batch of CIFAR-10, so it was not read: get it anew."
            ) from error
    return LabeledImages(
        torch.from_numpy(np.concatenate(images)),
        torch.from_numpy(np.concatenate(labels)),
        CIFAR10_CLASSES,
        f"{_NAME} ({split})",
    )


class _PickledBytes(PickledDtype):
    """Stands for the type of the pixels, as Python 2 wrote it: its name is bytes, and its order means nothing."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in (b"u1", "u1"):
            raise pickle.UnpicklingError("pixels are bytes")
        super().__init__("u1")

    def __setstate__(self, state: object) -> None:
        pass


class _BatchUnpickler(ArraysOnly):
    """An unpickler of arrays of bytes."""

    def find_class(self, module: str, name: str) -> Any:
        return _PickledBytes if (module, name) == ("numpy", "dtype") else super().find_class(module, name)
