"""Builders of operators that several formats have under different names."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from fairveil.faces.graphs import operators as ops
from fairveil.faces.graphs.assembly import Operation, Step


def plain(operator: Callable[..., Tensor], *, inputs: int = 1) -> Callable[[Operation], Step]:
    """A builder of an operator without attributes on one tensor, or on as many as are said."""

    def build(operation: Operation) -> Step:
        if len(operation.inputs) != inputs:  # only in a damaged file
            raise operation.error(f"has {len(operation.inputs)} inputs and must have {inputs}")
        return operator, operation.inputs

    return build


def bound(operation: Operation, side: Literal["max", "min"]) -> Step:
    """Build the greater or lesser of two tensors; against a constant number that is a limit."""
    for index, other in ((0, 1), (1, 0)):
        if operation.is_constant(index) and operation.constant(index).numel() == 1:
            limit = operation.number(index)
            return ops.Clamp(low=limit) if side == "max" else ops.Clamp(high=limit), (operation.inputs[other],)
    return torch.maximum if side == "max" else torch.minimum, operation.inputs


def reshape(operation: Operation) -> Step:
    """Build TensorFlow's reshaping: its second input is the shape, in which a zero means nothing else."""
    batch = None if operation.is_constant(0) else operation.graph.batch
    return partial(ops.reshape, target=operation.integers(1), batch=batch), operation.inputs[:1]
