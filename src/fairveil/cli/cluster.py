"""The options --ray and --ray-address, which commands have whose work can be spread over machines."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.base.executors import Executor

# Two options rather than one with an optional value, which would take the name of a photo for an address.
OnRay = Annotated[bool, typer.Option("--ray", help="Run on a Ray cluster (extra: cluster).")]
RayAddress = Annotated[
    str | None, typer.Option(help="Run on the Ray cluster at this address; local starts one here.", show_default=False)
]


def cluster_address(ray: bool, address: str | None) -> str | None:
    """The address of the cluster to run on, by the two options; None to run here.

    >>> cluster_address(True, None), cluster_address(False, "local"), cluster_address(False, None)
    ('auto', 'local', None)
    """
    return address or ("auto" if ray else None)


@contextmanager
def ray_cluster(address: str) -> "Iterator[Executor]":
    """A Ray cluster on which networks get as many threads as they would here, so that results are the same."""
    import torch

    from fairveil.base.executors import executor

    with executor(ray=address, threads=torch.get_num_threads()) as cluster:
        yield cluster
