"""Networks of one thread each, several of them side by side: results do not depend on how many cores there are.

A network that is spread over several threads has them wait for each other after every layer. On an idle machine that
gains little, and on a busy one each layer waits for whichever thread has no core. A network that has one thread waits
for nobody, and several of them wait for each other once a step.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
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


def apply_side_by_side(
    together: Together, parts: Sequence[tuple[Callable[[Tensor], Tensor], Tensor]]
) -> tuple[Tensor, ...]:
    """Apply functions to tensors, one each, and their gradients likewise: `side_by_side` forward and backward.

    It is differentiable once, with respect to the tensors and to nothing else that the functions read.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> with side_by_side(2) as together:
    ...     square, cube = apply_side_by_side(together, [(torch.square, x), (lambda x: x**3, x)])
    ...     torch.autograd.grad(square + cube, x)
    (tensor(33.),)
    """
    functions, inputs = zip(*parts, strict=True)
    outputs: tuple[Tensor, ...] = _SideBySide.apply(together, functions, *inputs)  # type: ignore[no-untyped-call]
    return outputs


class _SideBySide(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, together: Together, functions: Sequence[Callable[[Tensor], Tensor]], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        def apply(function: Callable[[Tensor], Tensor], leaf: Tensor) -> Tensor:
            with torch.set_grad_enabled(leaf.requires_grad):  # threads do not know of `no_grad` around them
                return function(leaf)

        needed = ctx.needs_input_grad[2:]
        leaves = [tensor.detach().requires_grad_(need) for tensor, need in zip(inputs, needed, strict=True)]
        outputs = together([partial(apply, *pair) for pair in zip(functions, leaves, strict=True)])
        ctx.together, ctx.pairs = together, list(zip(outputs, leaves, strict=True))
        return tuple(output.detach() for output in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        def gradient(output: Tensor, leaf: Tensor, above: Tensor) -> Tensor | None:
            return torch.autograd.grad(output, leaf, above)[0] if leaf.requires_grad else None

        calls = [
            partial(gradient, output, leaf, above) for (output, leaf), above in zip(ctx.pairs, gradients, strict=True)
        ]
        return None, None, *ctx.together(calls)
