"""Networks of one thread each, several of them side by side: results do not depend on how many cores there are.

A network that is spread over several threads has them wait for each other after every layer. On an idle machine that
gains little, and on a busy one each layer waits for whichever thread has no core. A network that has one thread waits
for nobody, and several of them wait for each other once a step.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Together = Callable[[Sequence[Callable[[], Any]]], list[Any]]
"""Calls functions and gives their results, in order."""


@contextmanager
def one_thread() -> Iterator[int]:
    """Give networks that are run in this block one thread each.

    Yields:
        How many threads they had, which is how many of them may well be run `side_by_side`.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    if before > 1:  # else nothing is touched, as it belongs to the whole process
        torch.set_num_threads(1)
    try:
        yield before
    finally:
        if before > 1:
            torch.set_num_threads(before)


@contextmanager
def side_by_side(cores: int) -> Iterator[Together]:
    """Functions to be called at once in as many threads, or one after the other where there is one core.

    Which of them run at once changes no result, as each has one thread for its networks. The first ones begin first:
    name those first that take long.

    >>> with side_by_side(2) as together:
    ...     together([lambda: torch.get_num_threads(), lambda: 2])
    [1, 2]
    """
    if cores == 1:
        yield lambda functions: [function() for function in functions]
        return
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def together(functions: Sequence[Callable[[], Any]]) -> list[Any]:
            futures = [pool.submit(function) for function in functions]
            return [future.result() for future in futures]

        yield together


def value_and_gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    """The values of a function and the gradient of their sum, both detached.

    >>> value_and_gradient(lambda x: x.square(), torch.tensor([3.0, 1.0]))
    (tensor([9., 1.]), tensor([6., 2.]))
    """
    with torch.enable_grad():
        leaf = at.detach().requires_grad_(True)
        values = function(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient
