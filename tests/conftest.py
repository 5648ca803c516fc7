"""What tests of several folders share."""

import os
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray
from skimage import data
from torch import nn

from fairveil import assets, cli
from fairveil.base.errors import FairveilError
from fairveil.faces import zoo
from fairveil.faces.detection import Detector
from fairveil.faces.recognizers import Framing, Recognizer

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # tests beside each other share the cores
    threads = max(1, (os.cpu_count() or 1) // int(workers))
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for processes that tests start

settings.register_profile("fairveil", deadline=None)  # a busy machine is no defect
settings.load_profile("fairveil")


@cache
def _why_not(names: tuple[str, ...]) -> str | None:
    try:
        assets.fetch(assets.select(names))
    except FairveilError as reason:
        return str(reason)
    return None


@pytest.fixture(scope="session")
def needs_models() -> Callable[..., None]:
    """To be called with names of model files: they are fetched, or the test that needs them is skipped, saying why."""

    def need(*names: str) -> None:
        if reason := _why_not(names):
            pytest.skip(f"The model files of {', '.join(names)} cannot be had: {reason}")

    return need


@pytest.fixture(scope="session")
def detector(needs_models: Callable[..., None]) -> Detector:
    """MTCNN with its published weights."""
    needs_models("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet")
    return Detector.pretrained()


@pytest.fixture(scope="session")
def tiny_recognizers() -> list[Recognizer]:
    """Two small random recognizers that stand in for the zoo where only the way around them is tested."""
    recognizers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 14 * 14, 16))
        recognizers.append(
            Recognizer.from_module(network, name=f"tiny-{seed}", framing=Framing(size=32), threshold=0.9)
        )
    return recognizers


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """The public-domain portrait of Eileen Collins, (512, 512, 3): one face of about 110 pixels."""
    return data.astronaut()


@pytest.fixture
def run_fairveil(monkeypatch, capsys):
    """The command as a person runs it: gives exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fairveil", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def stand_in_zoo(monkeypatch):
    """To be called with recognizers, and with names of more that can be loaded but are not of the zoo."""

    def put(recognizers, more=()):
        by_name = {recognizer.name: recognizer for recognizer in (*recognizers, *more)}

        def load(name):
            if name not in by_name:
                raise FairveilError(f"The zoo has no recognizer {name!r}.")
            return by_name[name]

        monkeypatch.setattr(zoo, "ZOO", {recognizer.name: recognizer for recognizer in recognizers})
        monkeypatch.setattr(zoo, "load_recognizer", load)

    return put
