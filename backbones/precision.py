"""Convolutions whose weights and activations can be rounded at run time, emulated exactly."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones.knob import BITS

LOW_BITS = tuple(int(bits) for bits in BITS.choices if bits != BITS.full)
"""The precisions that are emulated; at 32 nothing is rounded."""


@final
class Convolution(nn.Module):
    """A 2-d convolution of which the first channels can be used, at 4, 8 or 32 bits.

    Rounding is uniform and symmetric, its zero exact: weights per output channel on
    -(2^(b-1)-1)..2^(b-1)-1, scaled by their largest; activations per tensor with a step calibrated
    on data (`calibrate_steps`), on 0..2^b-1 where they come out of a ReLU, else on the signed grid.
    Gradients pass straight through the rounding and stop where it saturates.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int, signed: bool
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.register_buffer("steps", torch.full((len(LOW_BITS),), 0.1))
        self.steps: Tensor  # [precisions], distance of neighbouring levels of the activations
        self.stride, self.padding, self.signed = stride, kernel // 2, signed

    def forward(
        self,
        x: Tensor,
        bits: float,
        out_channels: int | None = None,
        scale_and_shift: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """[n, C, H, W] -> [n, out_channels, H', W'], using the first C input channels.

        Each output channel can be scaled and shifted, [out_channels] both, at no further pass.
        """
        weight = self.weight[:out_channels, : x.shape[1]]
        if bits != BITS.full:
            weight = round_weight(weight, int(bits))
            step = self.steps[BITS.index(bits)]
            x = round_activation(x, step, int(bits), self.signed)
        bias = None
        if scale_and_shift is not None:
            scale, bias = scale_and_shift
            weight = weight * scale.view(-1, 1, 1, 1)
        return functional.conv2d(x, weight, bias, stride=self.stride, padding=self.padding)


def round_weight(weight: Tensor, bits: int) -> Tensor:
    """Weights [O, I, k, k] on 2^bits - 1 levels per output channel."""
    top = 2 ** (bits - 1) - 1
    scale = weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=1e-12) / top
    if not torch.is_grad_enabled():
        return _round(weight, scale.view(-1, 1, 1, 1), -top, top)
    return torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros_like(scale, dtype=torch.int32), 0, -top, top
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


def best_step(x: Tensor, bits: int, signed: bool) -> Tensor:
    """The step with the least squared error on these activations, of 40 clipping points."""
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    largest = x.abs().amax().clamp(min=1e-6)
    steps = largest * torch.linspace(0.05, 1.0, 40, device=x.device) / top
    rounded = (round_activation(x, step, bits, signed) for step in steps)
    errors = torch.stack([(y - x).square().mean() for y in rounded])
    best: Tensor = steps[errors.argmin()]
    return best
