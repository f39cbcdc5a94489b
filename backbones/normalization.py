"""Normalisation of images, and of activations with statistics for every setting of a block."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones.knob import BITS, WIDTH


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
