import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.data.cifar10 import CIFAR10_CLASSES, read_cifar10

DATA = Path(os.environ.get("FAIRVEIL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def _python2_batch(pixels, labels):
    """The published files' own instructions, put together by hand, since no Python 3 writes them."""

    def string(value):
        return b"T" + len(value).to_bytes(4, "little") + value

    def number(value):
        return b"J" + value.to_bytes(4, "little", signed=True)

    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    state = b"(K\x01(" + number(pixels.shape[0]) + number(pixels.shape[1]) + b"t" + kind + b"\x89"
    array = start + state + string(pixels.tobytes()) + b"tb"
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + listed + b"u."


def test_the_published_pickles_are_read(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
    for number in range(5):
        (folder / f"data_batch_{number + 1}").write_bytes(_python2_batch(pixels[number : number + 1], [number]))
    (folder / "test_batch").write_bytes(_python2_batch(pixels[5:], [9]))
    train, test = read_cifar10(tmp_path), read_cifar10(folder, split="test")
    assert train.labels.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(train.images, torch.from_numpy(pixels[:5]).view(5, 3, 32, 32))
    assert test.labels.tolist() == [9]
    assert train.classes == CIFAR10_CLASSES


class _Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": _Harm()}, protocol=2))
    with pytest.raises(FairveilError, match="test_batch is not a batch of CIFAR-10"):
        read_cifar10(tmp_path, split="test")
    assert not (tmp_path / "harmed").exists()


def test_folders_of_pictures_are_read(tmp_path):
    for number, name in enumerate(CIFAR10_CLASSES):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "test" / name / "0.png")
    read = read_cifar10(tmp_path, split="test")
    assert read.images[:, 0, 0, 0].tolist() == list(range(10))
    assert read.name == "CIFAR-10 (test)"


def test_what_is_not_cifar_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FairveilError, match="holds no CIFAR-10"):
        read_cifar10(tmp_path)
    monkeypatch.delenv("FAIRVEIL_DATA", raising=False)
    with pytest.raises(FairveilError, match="CIFAR-10 was not found"):
        read_cifar10()
    (tmp_path / "cifar10_jpeg.npz").write_bytes(b"PK broken")
    with pytest.raises(FairveilError, match="is not a whole"):
        read_cifar10(tmp_path)


@pytest.mark.slow
def test_the_packed_test_split_is_whole_and_balanced():
    if not (DATA / "cifar10_jpeg.npz").exists():
        pytest.skip(f"cifar10_jpeg.npz is not in {DATA}: set FAIRVEIL_DATA to the folder it is in.")
    test = read_cifar10(DATA, split="test")
    assert test.images.shape == (10_000, 3, 32, 32)
    assert test.labels.bincount().tolist() == [1000] * 10
    assert test.classes == CIFAR10_CLASSES
    # the published means of the channels, which JPEG hardly moves
    means = test.images.double().mean((0, 2, 3)) / 255
    assert torch.allclose(means, torch.tensor([0.494, 0.485, 0.450], dtype=torch.float64), atol=5e-3)
