"""The options --ray and --ray-address, which commands have whose work can be spread over machines."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.executors import Executor

# Two options rather than one with an optional value, which would take the name of a photo for an address.
OnRay = Annotated[bool, typer.Option("--ray", help="Run on a Ray cluster (extra: cluster).")]
RayAddress = Annotated[str, typer.Option(help="Of the cluster; auto finds it, local starts one here.")]


@contextmanager
def ray_cluster(address: str) -> "Iterator[Executor]":
    """A Ray cluster on which networks get as many threads as they would here, so that results are the same."""
    import torch

    from fairveil.executors import executor

    with executor(ray=address, threads=torch.get_num_threads()) as cluster:
        yield cluster
