"""The matrix products of a block, and who performs them: exactly, or a machine in its own way.

Letters: `n` lanes, `I, O` channels in and out, `k` kernel, `H, W` height and width.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary


@dataclass(frozen=True, slots=True)
class Operand:
    """One side of a product, and how a memory would hold it."""

    values: Tensor
    """What takes part in the product; multiples of `step` where there is one."""
    bits: int = 32
    """Of each number: 32 is a float, less a two's complement or unsigned integer."""
    step: Tensor | None = None
    """What 1 of that integer is worth, to be broadcast over `values`; None for floats."""
    signed: bool = True
    """Whether the integer has a sign."""
    protected: bool = False
    """Whether integers of 8 bits have 6, and the top one or sign three times (`layout`)."""


@dataclass(frozen=True, slots=True)
class Product:
    """A convolution or matrix-vector product with the affine map behind it, about to be performed.

    `raw` is what an array of multipliers sums up; `finish` makes the pre-activation of it: bias, or
    a normalisation. What stands behind is not linear, and no part of the product.
    """

    layer: nn.Module
    """Whose product it is."""
    x: Operand
    """[n, I, H, W]; or [n, I], of tokens and series [n, I, T]."""
    weight: Operand
    """[O, C, k, k], [O, C, k] or [O, C]: the part that is used, the first so many of each of the
    layer's. C is the I of a group."""
    stored: Tensor
    """The layer's whole weight, of which `weight` is that part."""
    multiply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """(x, weight, bias [O] or None) -> [n, O, H', W'], [n, O] or [n, O, T]."""
    finish: Callable[[Tensor], Tensor]
    """Raw sums -> pre-activations, of the same shape."""
    scale: Tensor | None = None
    """[O]: what `finish` multiplies by, where that is to be folded into the weights."""
    shift: Tensor | None = None
    """[O]: what `finish` adds, where that is to be folded into the product."""
    name: str = ""
    """Where the layer stands in its network, as in "blocks.3.first"; known while a block runs."""

    @property
    def groups(self) -> int:
        """Of channels that are multiplied apart from each other."""
        return self.x.values.shape[1] // self.weight.values.shape[1]

    def raw(self) -> Tensor:
        """The sums alone."""
        return self.multiply(self.x.values, self.weight.values, None)

    def exact(self) -> Tensor:
        """The pre-activations without a fault, by the fewest passes over the output."""
        if self.shift is None:
            return self.finish(self.raw())
        weight = self.weight.values
        if self.scale is not None:
            weight = weight * self.scale.view(-1, *[1] * (weight.dim() - 1))
        return self.multiply(self.x.values, weight, self.shift)

    def with_values(self, x: Tensor | None = None, weight: Tensor | None = None) -> "Product":
        """The same product of other numbers, of the same shape each."""
        changed = self
        if x is not None:
            changed = replace(changed, x=replace(self.x, values=x))
        if weight is not None:
            changed = replace(changed, weight=replace(self.weight, values=weight))
        return changed


Perform = Callable[[Product], Tensor]
"""Something that performs products: gives the pre-activations, [n, O, H', W'] or [n, O]."""

exact: Final[Perform] = Product.exact


def perform(product: Product) -> Tensor:
    """Have a product performed by whoever performs them now: see `run_block`.

    Layers of your own call this, where plain torch would not tell how their numbers are stored or
    what is folded into them.
    """
    x = product.x.values
    if has_torch_function_unary(x):
        y: Tensor = handle_torch_function(perform, (x,), product)
        return y
    return product.exact()
