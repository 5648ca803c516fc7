"""What a foreign graph may take: memory and arithmetic are counted before any of it is spent."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from fairveil.base.errors import FairveilError

LARGEST = 1 << 31
"""Bytes of the largest model file, which is also the most that protobuf takes."""

_ROOM, _UNFOLDING = 1 << 24, 32
"""Bytes of all results while a file is read: so many, and so many times its own. A tenth of it is alive at once in
honest ones: packed weights are unfolded, laid out anew and multiplied by what follows them."""

_READING_WORK = 1 << 32
"""Multiplications that constants may take; exporters leave next to none."""

MISFITS = (RuntimeError, ValueError, IndexError, TypeError, KeyError, ArithmeticError)
"""What operators raise whose inputs or settings do not fit together."""

_PRODUCTS = {torch.ops.aten.mm: 0, torch.ops.aten.bmm: 0, torch.ops.aten.addmm: 1}
"""Products of matrices, by the place of their first factor."""

_POOLS = {torch.ops.aten.max_pool2d_with_indices, torch.ops.aten.avg_pool2d}
_VISIT = 64
"""An entry of a pool's window takes torch as long as so many multiplications of a convolution."""

_BLOCK = 16
"""torch's library of convolutions works on copies whose channels are filled up to a multiple of this."""


class ResourceBudget(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses, within its block, an operation that would exceed a budget, before it is carried out.

    Each operation is first run on outlines of its inputs, which have a shape and no content. All results count, also
    those that are let go at once and those that only look at others: that is simple, and more than what is needed.

    Args:
        memory: bytes of all results together.
        work: multiplications of all convolutions and products of matrices together; pools count as `_VISIT` says.
        refusal: makes the exception of what would be exceeded, in a few words.

    >>> with ResourceBudget(1000, 1000, MemoryError):
    ...     torch.ones(1, 1).expand(10, 10).sum().item()
    100.0
    """

    def __init__(self, memory: int, work: float, refusal: Callable[[str], Exception]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory, self.work, self.refusal = memory, work, refusal

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out one operation, if it can be afforded."""
        kwargs = kwargs or {}
        with self:  # in inference mode operations come whole, which elsewhere come as the ones they are made of
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        if torch.Tag.data_dependent_output not in func.tags:  # such as a tensor's one number, which takes no memory
            self._spend(func, *tree_map_only(Tensor, _outline, (args, kwargs)))
        return func(*args, **kwargs)

    def _spend(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if "device" in kwargs or not any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs))):
            kwargs = kwargs | {"device": "meta"}
        results = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
        self.memory -= sum(result.nbytes for result in results) + _filling(func, args, results)
        if self.memory < 0:
            raise self.refusal("would take more memory than is proportionate")
        self.work -= _multiplications(func, args, results)
        if self.work < 0:
            raise self.refusal("would take more arithmetic than is proportionate")


def _outline(tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def reading(source: str, size: int) -> ResourceBudget:
    """Keeps what is made of a model's file in proportion to it, before any picture is seen.

    Args:
        source: what error messages call the file.
        size: its bytes.
    """

    def refusal(what: str) -> FairveilError:
        return FairveilError(f"{source} {what} to its {size:,} bytes, so it was not read.")

    return ResourceBudget(_ROOM + _UNFOLDING * size, _READING_WORK, refusal)


def _filling(func: Any, args: Any, results: list[Tensor]) -> int:
    """Bytes a convolution takes beside its pictures and its result, to fill their channels up."""
    if func.overloadpacket is not torch.ops.aten.convolution:
        return 0
    pictures: tuple[Tensor, Tensor] = (args[0], results[0])
    return sum(-x.shape[1] % _BLOCK * x[:, :1].nbytes for x in pictures)


def _multiplications(func: Any, args: Any, results: list[Tensor]) -> int:
    kind = func.overloadpacket
    if kind in _POOLS:
        return results[0].numel() * int(math.prod(args[1])) * _VISIT
    if kind is torch.ops.aten.convolution:
        weight = args[1]
        return int(results[0].numel() * (weight.numel() // max(weight.shape[0], 1)))
    if kind in _PRODUCTS:
        return results[0].numel() * int(args[_PRODUCTS[kind]].shape[-1])
    return 0
