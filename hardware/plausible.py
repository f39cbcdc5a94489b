"""The values that a network's numbers take while nothing is wrong, to tell those that are wrong."""

from collections.abc import Sequence

import torch
from torch import Tensor

from penstock.backbones import FULL, Backbone, Product, Setting, perform_network
from penstock.hardware.layers import INPUT, WEIGHT


@torch.no_grad()
def plausible_ranges(
    backbone: Backbone,
    images: Tensor,
    settings: Sequence[Setting] = (FULL,),
    *,
    margin: float = 0.1,
) -> dict[str, tuple[float, float]]:
    """The range of every data type of the clean network, for `plausible` of a machine.

    Args:
        backbone: as trained; left as it was.
        images: some hundred, floats in [0, 1], [n, C, H, W].
        settings: of all blocks and the stem, each of them is run once.
        margin: by which the ends are moved away from 0, as a share of themselves [estimate].

    Returns:
        Data type, as in "blocks.3.first.input", -> (lowest, highest).
    """
    ranges: dict[str, tuple[float, float]] = {}

    def note(name: str, values: Tensor) -> None:
        low, high = (float(end) * (1 + margin) for end in values.aminmax())
        before = ranges.get(name, (low, high))
        ranges[name] = min(low, before[0]), max(high, before[1])

    def perform(product: Product) -> Tensor:
        note(f"{product.name}.{WEIGHT}", product.weight.values)
        note(f"{product.name}.{INPUT}", product.x.values)
        return product.exact()

    for setting in settings:
        perform_network(backbone, perform, images, setting)
    return ranges
