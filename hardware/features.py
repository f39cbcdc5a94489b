"""Activations as they leave a device: rounded to a few bits, or as they are.

Letters: `n` lanes, `C, H, W` channels, height and width.
"""

from dataclasses import dataclass
from math import ceil, prod
from typing import Final

import torch
from torch import Tensor

from penstock.backbones import InputError

FLOAT_BITS: Final = 32
"""At so many bits nothing is rounded."""

GRID_BYTES: Final = 8
"""Two float32 an input: where its grid begins, and the step."""


@dataclass(frozen=True, slots=True)
class Coded:
    """Activations of n inputs: low + step * codes; at 32 bits the codes are the values."""

    codes: Tensor
    """[n, C, H, W], of uint8; at 32 bits of float32."""
    low: Tensor
    """[n, 1, 1, 1]: the smallest activation of each input."""
    step: Tensor
    """[n, 1, 1, 1]: (largest - smallest) / (2^bits - 1) of each input."""
    bits: int


def code(x: Tensor, bits: int) -> Coded:
    """Round activations [n, C, H, W] uniformly between the extremes of each input.

    Raises:
        InputError: for bits other than 1 to 8, and 32.
    """
    check_bits(bits)
    if bits == FLOAT_BITS:
        each = (len(x), *[1] * (x.dim() - 1))
        return Coded(x, x.new_zeros(each), x.new_ones(each), bits)
    codes, low, step = _rounded(x.detach(), bits)
    return Coded(codes.to(torch.uint8), low, step, bits)


def decode(coded: Coded) -> Tensor:
    """The activations that arrive, [n, C, H, W]."""
    return coded.codes if coded.bits == FLOAT_BITS else coded.codes * coded.step + coded.low


def arrived(x: Tensor, bits: int) -> Tensor:
    """What of activations [n, C, H, W] arrives; gradients pass straight through the rounding."""
    if bits == FLOAT_BITS:
        return x
    codes, low, step = _rounded(x.detach(), bits)
    y = codes.mul_(step).add_(low)
    return x + (y - x).detach() if x.requires_grad else y


def _rounded(x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes as floats [n, C, H, W], and the grid of each input."""
    inside = tuple(range(1, x.dim()))
    low, high = x.amin(dim=inside, keepdim=True), x.amax(dim=inside, keepdim=True)
    step = (high - low) / (2**bits - 1)
    # An input that is the same everywhere has a step of 0, and codes of 0.
    per_step = torch.where(step > torch.finfo(x.dtype).tiny, 1 / step, 0.0)
    return (x - low).mul_(per_step).round_(), low, step


def coded_bytes(shape: tuple[int, ...], bits: int) -> int:
    """Bytes of one input of shape (C, H, W), its grid included.

    >>> coded_bytes((16, 8, 8), 32), coded_bytes((16, 8, 8), 8), coded_bytes((3,), 4)
    (4096, 1032, 10)
    """
    check_bits(bits)
    packed = ceil(prod(shape) * bits / 8)
    return packed if bits == FLOAT_BITS else packed + GRID_BYTES


def check_bits(bits: float) -> None:
    """Refuse what no code is for.

    Raises:
        InputError: for bits other than 1 to 8, and 32.
    """
    if bits not in (*range(1, 9), FLOAT_BITS):
        raise InputError(
            f"features leave at 1 to 8 or at 32 bits, got {bits:g}; choose among these"
        )
