"""Normalisation of images, and of activations with statistics for every setting of a block."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones.knob import BITS, WIDTH
from penstock.backbones.precision import Convolution

EPSILON = 1e-5
"""Added to variances, as in Ioffe and Szegedy, Batch Normalization (ICML 2015)."""


@final
class SettingNorm(nn.Module):
    """Batch normalisation with an affine map a width and statistics a width and precision.

    A layer fed by fewer channels or coarser numbers has outputs of another mean and spread; one
    set of statistics for all would ruin every setting but one (switchable batch normalisation,
    Yu et al., Slimmable Neural Networks, ICLR 2019).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths, precisions = len(WIDTH.choices), len(BITS.choices)
        self.weight = nn.Parameter(torch.ones(widths, channels))
        self.bias = nn.Parameter(torch.zeros(widths, channels))
        self.register_buffer("mean", torch.zeros(widths, precisions, channels))
        self.register_buffer("variance", torch.ones(widths, precisions, channels))
        self.mean: Tensor
        self.variance: Tensor
        self.momentum: float | None = 0.1
        """Share of the newest batch in the running statistics while training; None averages all."""
        self._batches = [[0] * precisions for _ in range(widths)]

    def forget(self) -> None:
        """Start the statistics anew, as averages over all batches that come."""
        self.momentum = None
        self._batches = [[0] * len(row) for row in self._batches]

    def forward(self, x: Tensor, width: float, bits: float) -> Tensor:
        """Normalise [n, C, H, W]; C may be less than all channels, then the first C are used."""
        w, b, used = WIDTH.index(width), BITS.index(bits), x.shape[1]
        momentum = 0.0
        if self.training:
            self._batches[w][b] += 1
            momentum = self.momentum or 1 / self._batches[w][b]
        return functional.batch_norm(
            x,
            self.mean[w, b, :used],
            self.variance[w, b, :used],
            self.weight[w, :used],
            self.bias[w, :used],
            training=self.training,
            momentum=momentum,
            eps=EPSILON,
        )

    def scale_and_shift(self, width: float, bits: float, used: int) -> tuple[Tensor, Tensor]:
        """What evaluation multiplies the first `used` channels by, and then adds: [used] each."""
        w, b = WIDTH.index(width), BITS.index(bits)
        scale = self.weight[w, :used] * (self.variance[w, b, :used] + EPSILON).rsqrt()
        return scale, self.bias[w, :used] - self.mean[w, b, :used] * scale


def convolve_and_normalise(
    convolution: Convolution,
    norm: SettingNorm,
    x: Tensor,
    width: float,
    bits: float,
    out_channels: int | None = None,
) -> Tensor:
    """A convolution [n, C, H, W] -> [n, out_channels, H', W'] and the normalisation after it.

    While nothing learns, the normalisation's scale goes into the weights where these are fewer
    numbers than the output: one pass over the output less.
    """
    outputs = x.shape[0] * x.shape[2] * x.shape[3] // convolution.stride**2
    used = out_channels or len(convolution.weight)
    learns = norm.training or torch.is_grad_enabled()
    folds = not learns and outputs > convolution.weight[0].numel()
    return convolution(  # type: ignore[no-any-return]
        x,
        bits,
        used,
        finish=lambda raw: norm(raw, width, bits),
        scale_and_shift=norm.scale_and_shift(width, bits, used) if folds else None,
    )


@final
class ImageNorm(nn.Module):
    """Brings images in [0, 1] to mean 0 and deviation 1, as measured on the training images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((channels, 1, 1), 0.5))
        self.register_buffer("deviation", torch.full((channels, 1, 1), 0.25))
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """[n, C, H, W] -> [n, C, H, W]."""
        return (images - self.mean) / self.deviation
