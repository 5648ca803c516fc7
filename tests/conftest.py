"""What tests of several folders share."""

from collections.abc import Callable
from functools import cache

import pytest

from fairveil import assets
from fairveil.errors import FairveilError


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
