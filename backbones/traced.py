"""What the products of a block are like, found by running it once on zeros."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from penstock.backbones.block import Block
from penstock.backbones.evaluating import evaluating
from penstock.backbones.performing import run_block
from penstock.backbones.product import Product

Description = TypeVar("Description")

_known: WeakKeyDictionary[Block, dict[Any, tuple[Any, ...]]] = WeakKeyDictionary()


def traced(
    block: Block,
    setting: Mapping[str, Any],
    shape: tuple[int, ...],
    describe: Callable[[Product, Tensor], Description],
) -> tuple[Description, ...]:
    """A description of each product of a block for one input, in the order of execution.

    Args:
        block: left in the mode that it is in; remembered per block, setting, shape and function.
        setting: of its knobs, in numbers.
        shape: of an input, (C, H, W).
        describe: given a product and what comes out of it.
    """
    key = (describe, tuple(sorted(setting.items())), shape)
    known = _known.setdefault(block, {})
    if key in known:
        return known[key]
    found: list[Description] = []

    def note(product: Product) -> Tensor:
        z = product.exact()
        found.append(describe(product, z))
        return z

    like = next(block.parameters(), torch.empty(0))
    zeros = torch.zeros(1, *shape, device=like.device, dtype=like.dtype)
    with torch.no_grad(), evaluating(block):
        run_block(block, zeros, setting, note)
    return known.setdefault(key, tuple(found))
