"""Convolutions whose weights and activations can be rounded at run time, emulated exactly."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones.knob import BITS
from penstock.backbones.layout import exposed_bits, used_bits
from penstock.backbones.product import Operand, Product, perform

LOW_BITS = tuple(int(bits) for bits in BITS.choices if bits != BITS.full)
"""The precisions that are emulated; at 32 nothing is rounded."""

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
    Gradients pass straight through the rounding and stop where it saturates. Protected, 8-bit
    numbers have 6 bits, of which the top one is stored three times (`layout`).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int,
        signed: bool,
        protected: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.register_buffer("steps", torch.full((len(LOW_BITS),), 0.1))
        self.steps: Tensor  # [precisions], distance of neighbouring levels of the activations
        self.stride, self.padding, self.signed = stride, kernel // 2, signed
        self.protected = protected

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
            whole, used = int(bits), used_bits(int(bits), self.protected)
            step, scale = self.steps[BITS.index(bits)], weight_step(weight, used)
            x, w = round_activation(x, step, used, self.signed), round_weight(weight, scale, used)
            scale = scale.view(-1, 1, 1, 1)
            operands = (
                Operand(x, whole, step, self.signed, self.protected),
                Operand(w, whole, scale, protected=self.protected),
            )
        folded, shift = scale_and_shift or (None, None)
        y: Tensor = perform(
            Product(self, *operands, self.weight, self._multiply, finish, folded, shift)
        )
        return y

    def extra_repr(self) -> str:
        """What weights do not tell."""
        return f"stride={self.stride}, signed={self.signed}, protected={self.protected}"

    def _multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride = self.stride
        if weight.requires_grad and weight.shape[2] == 1 and weight.shape[1] < NARROW:
            x, stride = x[:, :, ::stride, ::stride], 1
        y: Tensor = functional.conv2d(x, weight, bias, stride=stride, padding=self.padding)
        return y


def weight_step(weight: Tensor, bits: int) -> Tensor:
    """The distance of neighbouring levels of weights [O, I, k, k], per output channel: [O]."""
    top = (1 << (bits - 1)) - 1
    return weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=1e-12) / top


def round_weight(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """Weights [O, I, k, k] on 2^bits - 1 levels per output channel, `step` [O] apart."""
    top = 2 ** (bits - 1) - 1
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


def best_step(
    x: Tensor, bits: int, signed: bool, bit_error_rate: float = 0.0, protected: bool = False
) -> Tensor:
    """The step with the least squared error on these activations, of 40 clipping points.

    The lowest e bits that flip by themselves at a rate p add p (1 + 4 + 16 + ..) = p (4^e - 1) / 3
    squares of the step: all of them, or those below the top one where that is protected.
    """
    used, exposed = used_bits(bits, protected), exposed_bits(bits, protected)
    top = 2 ** (used - 1) - 1 if signed else 2**used - 1
    largest = x.abs().amax().clamp(min=1e-6)
    steps = largest * torch.linspace(0.05, 1.0, 40, device=x.device) / top
    rounded = (round_activation(x, step, used, signed) for step in steps)
    errors = torch.stack([(y - x).square().mean() for y in rounded])
    errors += bit_error_rate * (4**exposed - 1) / 3 * steps.square()
    best: Tensor = steps[errors.argmin()]
    return best
