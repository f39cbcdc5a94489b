"""The parts of a network in the order in which they run, and what each of them is given."""

import torch
from torch import Tensor

from penstock.backbones.backbone import Backbone
from penstock.backbones.block import Block
from penstock.backbones.evaluating import evaluating
from penstock.backbones.knob import Setting


def black(backbone: Backbone) -> Tensor:
    """A black image [1, C, H, W], of the type and on the device of a network's weights."""
    like = next(backbone.parameters(), torch.empty(0))
    return torch.zeros(1, *backbone.shape, device=like.device, dtype=like.dtype)


@torch.no_grad()
def in_order(backbone: Backbone) -> list[tuple[Block, tuple[int, ...]]]:
    """Stem, blocks and heads, each with the shape (C, H, W) of its input: found by running once."""
    found: list[tuple[Block, tuple[int, ...]]] = []

    def run(block: Block, x: Tensor, setting: Setting) -> Tensor:
        found.append((block, tuple(x.shape[1:])))
        y: Tensor = block(x, {})
        return y

    with evaluating(backbone):
        backbone.answers(black(backbone), run=run)
    return found
