"""Noise in proportion to a signal, and the gradient of that.

Letters: `G` groups of numbers that share a power, `K` numbers of a group, `C` channels, or 1 where
they are in one group.
"""

from typing import Any, final

import torch
from torch import Tensor

NEAR = 1e-3
"""A variance of this share of the mean square is counted again, from the mean on: in float32 the
difference of the two sums would be off by a thousandth."""


def power(z: Tensor, kind: str, scope: str, reference: str) -> Tensor:
    """Of a signal [n, O, ...].

    Args:
        z: the signal.
        kind: "ac" is the variance, "total" the mean square.
        scope: "layer" is one power for all outputs, "channel" one for each.
        reference: "input" is one power for each input, "batch" one for all.

    Returns:
        [G, 1, C].
    """
    return _power(_rows(_lying(z), scope, reference), kind)


def disturb(
    z: Tensor, noise: Tensor, share: float, kind: str, scope: str, reference: str
) -> Tensor:
    """A signal [n, O, ...] with noise of a share of its power, which its gradient knows of.

    A network that takes the noise for a constant learns to shout, and the noise follows: it learns
    far slower.

    Args:
        z: the signal.
        noise: of variance 1, in the shape of the signal.
        share: noise power over signal power.
        kind: as of `power`, and so are `scope` and `reference`.
        scope: see there.
        reference: see there.
    """
    if z.numel() == 0:
        return z
    lying = _lying(z)
    rows, lying_noise = (_rows(each, scope, reference) for each in (lying, _lying(noise)))
    found: Tensor = _Disturbed.apply(rows, lying_noise, share, kind)  # type: ignore[no-untyped-call]
    return found.view(lying.shape).movedim(-1, 1)


@final
class _Disturbed(torch.autograd.Function):
    """Rows [G, K, C] with noise; its own gradient passes memory half as often as torch's would."""

    @staticmethod
    def forward(context: Any, rows: Tensor, noise: Tensor, share: float, kind: str) -> Tensor:
        found = _power(rows, kind)
        context.save_for_backward(rows, noise, found)
        context.share, context.kind = share, kind
        # What no gradient needs is overwritten: new memory takes longer than the sum.
        there = None if context.needs_input_grad[0] else noise
        return torch.addcmul(rows, noise, (found * share).sqrt().to(rows.dtype), out=there)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        (gradient,), (rows, noise, found) = gradients, context.saved_tensors
        # d sqrt(share P) / dz = sqrt(share / P) (z - middle) / K; where P is 0 there is no noise.
        slope = (context.share / found).sqrt().masked_fill(found == 0, 0) / rows.shape[1]
        slope = slope * (gradient * noise).sum(dim=1, keepdim=True, dtype=_wide(rows))
        grown = torch.addcmul(gradient, rows, slope.to(rows.dtype))
        middle = (_middle(rows, context.kind) * slope).to(rows.dtype)
        return grown.sub_(middle), None, None, None


def _lying(z: Tensor) -> Tensor:
    """Channels last, as images lie in memory: reducing that is ten times as fast."""
    return z.movedim(1, -1)


def _rows(lying: Tensor, scope: str, reference: str) -> Tensor:
    groups = len(lying) if reference == "input" else 1
    return lying.reshape(groups, -1, lying.shape[-1] if scope == "channel" else 1)


def _power(rows: Tensor, kind: str) -> Tensor:
    found = _mean_square(rows)
    if kind == "total":
        return found
    middle = _middle(rows, kind)
    varied: Tensor = (found - middle.square()).clamp(min=0)
    if bool((varied < NEAR * found).any()):  # the difference of nearly equal numbers
        return _mean_square(rows - middle)
    return varied


def _mean_square(rows: Tensor) -> Tensor:
    kind = _wide(rows)
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=kind)
    found: Tensor = norm.square() / rows.shape[1]
    return found


def _wide(rows: Tensor) -> torch.dtype:
    """In which sums are taken: floats at least."""
    return torch.promote_types(rows.dtype, torch.float32)


def _middle(rows: Tensor, kind: str) -> Tensor:
    """What power is counted from: the mean, or 0."""
    if kind == "ac":
        return rows.mean(dim=1, keepdim=True, dtype=_wide(rows))
    return torch.zeros((), device=rows.device)
