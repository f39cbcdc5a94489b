"""Convolutions whose weights and activations can be rounded at run time, emulated exactly."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones.knob import BITS
from penstock.backbones.product import Operand, Product, perform

LOW_BITS = tuple(int(bits) for bits in BITS.choices if bits != BITS.full)
"""The precisions that are emulated; at 32 nothing is rounded."""

SAMPLES = 50_000
"""Activations looked at when steps are chosen."""

MARGIN = 0.1
"""By which a number may exceed the largest that was seen before it is implausible, as a share of
that [estimate]."""

NARROW = 16
"""Input channels under which a 1 x 1 convolution of stride 2 that learns has its pixels picked for
it: in channels-last memory the gradient of oneDNN's own writes past its end, under 8 with AVX2 and
under 16 with AVX-512 (github.com/uxlfoundation/oneDNN/issues/6035, torch 2.13.0)."""


@final
class Convolution(nn.Module):
    """A 2-d convolution of which the first channels can be used, at 4, 8 or 32 bits.

    Rounding is uniform and symmetric, its zero exact: weights per output channel on
    -(2^(b-1)-1)..2^(b-1)-1, scaled by their largest; activations per tensor with a step calibrated
    on data (`calibrate_steps`), on 0..2^b-1 where they come out of a ReLU, else on the signed grid.
    Gradients pass straight through the rounding and stop where it saturates. With guard bits the
    weights have so many bits fewer, and what flips one of these is seen to be wrong.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int,
        signed: bool,
        guard_bits: int = 0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.register_buffer("steps", torch.full((len(LOW_BITS),), 0.1))
        self.steps: Tensor  # [precisions], distance of neighbouring levels of the activations
        self.stride, self.padding, self.signed = stride, kernel // 2, signed
        self.guard_bits = guard_bits

    def forward(
        self,
        x: Tensor,
        bits: float,
        out_channels: int | None = None,
        *,
        finish: Callable[[Tensor], Tensor] = lambda raw: raw,
        scale_and_shift: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """[n, C, H, W] -> [n, out_channels, H', W'], using the first C input channels.

        Args:
            x: the input.
            bits: of weights and input.
            out_channels: the first so many are computed; None: all.
            finish: what is done to the sums.
            scale_and_shift: the same as factors and terms, [out_channels] each, where that is
                faster.
        """
        weight = self.weight[:out_channels, : x.shape[1]]
        if bits == BITS.full:
            operands = Operand(x), Operand(weight)
        else:
            whole = int(bits)
            top = weight_top(whole, self.guard_bits)
            step, scale = self.steps[BITS.index(bits)], weight_step(weight, top)
            x = round_activation(x, step, whole, self.signed)
            w = round_weight(weight, scale, top)
            operands = (
                Operand(x, whole, step, self.signed),
                Operand(w, whole, scale.view(-1, 1, 1, 1), top=top),
            )
        folded, shift = scale_and_shift or (None, None)
        y: Tensor = perform(
            Product(self, *operands, self.weight, self._multiply, finish, folded, shift)
        )
        return y

    def _multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride = self.stride
        if weight.requires_grad and weight.shape[2] == 1 and weight.shape[1] < NARROW:
            x, stride = x[:, :, ::stride, ::stride], 1
        y: Tensor = functional.conv2d(x, weight, bias, stride=stride, padding=self.padding)
        return y


def weight_top(bits: int, guard_bits: int = 0) -> int:
    """The largest integer that a weight is stored as; 4 bits have none to spare.

    >>> weight_top(8), weight_top(8, guard_bits=1), weight_top(4, guard_bits=1)
    (127, 63, 7)
    """
    used = max(bits - guard_bits, min(bits, min(LOW_BITS)))
    return (1 << (used - 1)) - 1


def weight_step(weight: Tensor, top: int) -> Tensor:
    """The distance of neighbouring levels of weights [O, I, k, k], per output channel: [O]."""
    return weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=1e-12) / top


def round_weight(weight: Tensor, step: Tensor, top: int) -> Tensor:
    """Weights [O, I, k, k] on 2 top + 1 levels per output channel, `step` [O] apart."""
    if not torch.is_grad_enabled():
        return _round(weight, step.view(-1, 1, 1, 1), -top, top)
    return torch.fake_quantize_per_channel_affine(
        weight, step, torch.zeros_like(step, dtype=torch.int32), 0, -top, top
    )


def round_activation(x: Tensor, step: Tensor, bits: int, signed: bool) -> Tensor:
    """Activations on multiples of `step`, as many as `bits` can tell apart."""
    low, high = (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if not torch.is_grad_enabled():
        return _round(x, step, low, high)
    zero = torch.zeros(1, dtype=torch.int32, device=x.device)
    return torch.fake_quantize_per_tensor_affine(x, step.reshape(1), zero, low, high)


def _round(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """What torch's fake quantisation gives, bit for bit, without the mask of its gradient."""
    return (x * (1 / step)).round_().clamp_(low, high).mul_(step)


def best_step(x: Tensor, bits: int, signed: bool, bit_error_rate: float = 0.0) -> Tensor:
    """The step with the least squared error on these activations, of 40 clipping points.

    Where bits flip, what that does is part of the error, and twice as long steps are tried too: the
    top bit is then a guard, as what it flips to is read as 0.
    """
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    largest = x.abs().amax().clamp(min=1e-6)
    some = x.flatten()[:: max(1, x.numel() // SAMPLES)]
    count, most = (96, 2.5) if bit_error_rate else (40, 1.0)
    steps = largest * torch.linspace(0.05, most, count, device=x.device) / top

    def error(step: Tensor) -> Tensor:
        rounded = round_activation(some, step, bits, signed)
        found = (rounded - some).square().mean()
        if bit_error_rate:
            codes, limit = rounded / step, (1 + MARGIN) * (largest / step).clamp(max=top)
            found = found + bit_error_rate * flipped(codes, bits, signed, limit) * step.square()
        return found

    best: Tensor = steps[torch.stack([error(step) for step in steps]).argmin()]
    return best


def flipped(codes: Tensor, bits: int, signed: bool, limit: Tensor) -> Tensor:
    """What one flip of each bit in turn changes integers by: sums of squares, meaned over them.

    Args:
        codes: [n], floats.
        bits: of each.
        signed: in two's complement, or else none is negative.
        limit: magnitude beyond which what is read becomes 0.
    """
    patterns = torch.arange(1 << bits, device=codes.device)
    value = torch.where(patterns >> (bits - 1) > 0, patterns - (1 << bits), patterns)
    value = value if signed else patterns
    read = value[patterns ^ (1 << torch.arange(bits, device=codes.device).view(-1, 1))]
    changed = (read.masked_fill(read.abs() > limit, 0) - value).float().square().sum(dim=0)
    return changed[codes.round().long() & ((1 << bits) - 1)].mean()
