"""What converters do to numbers: rounding to the levels between two ends."""

from torch import Tensor


def largest(x: Tensor) -> Tensor:
    """Magnitude in each lane, [n, 1, ...]."""
    most: Tensor = x.detach().abs().flatten(1).amax(dim=1)
    return most.clamp(min=1e-12).view(-1, *[1] * (x.dim() - 1))


def convert(x: Tensor, top: Tensor, bits: int) -> Tensor:
    """Rounded to 2^bits - 1 levels from -top to top; gradients pass straight through inside."""
    levels = (1 << (bits - 1)) - 1
    step = top / levels
    inside = x.clamp(-top, top)
    return inside + ((inside / step).round() * step - inside).detach()


def reach(total: Tensor) -> Tensor:
    """Four times the root of the mean square of each lane, [n, 1, ...]: few sums lie beyond."""
    top: Tensor = 4 * total.detach().flatten(1).square().mean(dim=1).sqrt()
    return top.clamp(min=1e-12).view(-1, *[1] * (total.dim() - 1))
