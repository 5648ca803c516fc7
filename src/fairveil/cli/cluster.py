"""The options --ray and --ray-address, which commands have whose work can be spread over machines."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.base.executors import Executor


@dataclass(frozen=True)
class ClusterOptions:
    """On which Ray cluster to run, if on any.

    Two options rather than one with an optional value, which would take the name of a photo for an address.
    """

    ray: Annotated[bool, typer.Option("--ray", help="Run on a Ray cluster (extra: cluster).")] = False
    ray_address: Annotated[
        str | None,
        typer.Option(help="Run on the Ray cluster at this address; local starts one here.", show_default=False),
    ] = None

    @property
    def address(self) -> str | None:
        """The address of the cluster to run on; None to run here.

        >>> ClusterOptions(ray=True).address, ClusterOptions(ray_address="local").address, ClusterOptions().address
        ('auto', 'local', None)
        """
        return self.ray_address or ("auto" if self.ray else None)


@contextmanager
def ray_cluster(address: str) -> "Iterator[Executor]":
    """A Ray cluster on which networks get as many threads as they would here, so that results are the same."""
    import torch

    from fairveil.base.executors import executor

    with executor(ray=address, threads=torch.get_num_threads()) as cluster:
        yield cluster
