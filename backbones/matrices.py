"""The matrices that a block multiplies by, as an array of cells or multipliers meets them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from penstock.backbones.block import Block
from penstock.backbones.product import Product
from penstock.backbones.traced import traced


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix of a block, or one for each group of channels, and how often ONE input meets it."""

    name: str
    """Of the layer, as in "blocks.3.first"."""
    rows: int
    """Inputs of a matrix-vector product: channels in of a group, times the taps of the kernel."""
    columns: int
    """Outputs of all groups: channels out."""
    vectors: int
    """Matrix-vector products of an input: the pixels of the output, its tokens, or 1."""
    taps: int
    """Rows of one channel in: the area of the kernel."""
    inputs: int
    """Activations read, each counted once."""
    weight_bits: int
    activation_bits: int
    groups: int = 1
    """Of channels that are multiplied apart from each other."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of an input."""
        return self.rows * self.columns * self.vectors

    @property
    def outputs(self) -> int:
        """Activations written."""
        return self.columns * self.vectors


def matrices(
    block: Block, setting: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[Matrix, ...]:
    """The matrices of a block for an input of `shape` (C, H, W), in the order of execution.

    Args:
        block: run once on zeros, in evaluation mode; remembered per block, setting and shape.
        setting: of its knobs, in numbers.
        shape: of an input.
    """
    return traced(block, setting, shape, _matrix)


def _matrix(product: Product, z: Tensor) -> Matrix:
    weight = product.weight
    return Matrix(
        product.name,
        rows=weight.values[0].numel(),
        columns=len(weight.values),
        vectors=z[0, 0].numel(),
        taps=weight.values[0, 0].numel(),
        inputs=product.x.values[0].numel(),
        weight_bits=weight.bits,
        activation_bits=product.x.bits,
        groups=product.groups,
    )
