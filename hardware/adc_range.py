"""How far the converters behind the columns of a chip should reach."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from penstock.backbones import Backbone, Product, exact, perform_network
from penstock.hardware.crossbar import Crossbar

SAMPLES = 1_000_000
"""Sums looked at per tile when its range is set."""


@torch.no_grad()
def calibrate_range(
    machine: Crossbar, backbone: Backbone, images: Tensor, rng: torch.Generator
) -> Crossbar:
    """The machine with the range of every column converter set on some images.

    A range is the 99.9th percentile of what its row tile adds up, in magnitude; too wide a range
    wastes levels, too narrow a one cuts sums off.

    Args:
        machine: at the full choice of its knobs.
        backbone: of which every layer gets ranges.
        images: some hundred, floats in [0, 1], [n, C, H, W].
        rng: of the noise.
    """
    found: dict[str, Sequence[float]] = {}
    bits, votes = machine.adc_bits[-1], machine.votes[-1]

    def note(product: Product) -> Tensor:
        found[product.name] = [
            _percentile(total) for total in machine.sums(product, machine.cells(product))
        ]
        return machine.read(product, exact, bits, votes, rng)

    perform_network(backbone, note, images)
    return replace(machine, adc_range=found)


def _percentile(x: Tensor) -> float:
    flat = x.abs().flatten()
    high: Tensor = flat[:: max(1, len(flat) // SAMPLES) | 1].quantile(0.999)
    return float(high)
