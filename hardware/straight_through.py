"""Numbers that stand for others, which learn in their place."""

from collections.abc import Sequence
from math import inf, isfinite
from typing import Any, final

import torch
from torch import Tensor


def standing_for(stored: Tensor, seen: Tensor, limits: Sequence[float] = (-inf, inf)) -> Tensor:
    """What was read, with the gradient of what was stored; a sum of both would round.

    Where what was stored lies beyond the limits itself, it has no say in what is read, and a
    gradient that leads it further out would lead it out for ever: that one is stopped.

    Args:
        stored: what learns.
        seen: what was read of it.
        limits: lowest and highest that can be read.
    """
    if seen is stored or not stored.requires_grad:
        return seen
    result: Tensor = _StraightThrough.apply(stored, seen, *limits)  # type: ignore[no-untyped-call]
    return result


@final
class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, stored: Tensor, seen: Tensor, low: float, high: float) -> Tensor:
        context.limits = low, high
        if isfinite(low) or isfinite(high):
            context.save_for_backward(stored)
        return seen

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        (gradient,), (low, high) = gradients, context.limits
        if context.saved_tensors:
            (stored,) = context.saved_tensors
            outwards = (stored > high) & (gradient < 0) | (stored < low) & (gradient > 0)
            gradient = gradient.masked_fill(outwards, 0)
        return gradient, None, None, None
