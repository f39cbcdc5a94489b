"""The matrix products of a block, and who performs them: exactly, or a machine in its own way.

Letters: `n` lanes, `I, O` channels in and out, `k` kernel, `H, W` height and width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

from penstock.backbones.block import Block
from penstock.backbones.knob import Setting


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


@dataclass(frozen=True, slots=True)
class Product:
    """A convolution or matrix-vector product with the affine map behind it, about to be performed.

    `raw` is what an array of multipliers sums up; `finish` makes the pre-activation of it: bias, or
    a normalisation. What stands behind is not linear, and no part of the product.
    """

    layer: nn.Module
    """Whose product it is."""
    x: Operand
    """[n, I, H, W]; or [n, I], of tokens [n, I, T]."""
    weight: Operand
    """[O, C, k, k] or [O, C]: the part that is used, the first so many of each of the layer's. C is
    the I of a group."""
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


def run_block(block: Block, x: Tensor, setting: Setting, by: Perform = exact) -> Tensor:
    """Run a block, every matrix product of its layers performed by `by`.

    Layers of plain torch (`nn.Conv2d`, `nn.Linear`) are included. Products of two activations, as
    in attention, and element-wise operations stay exact.

    Args:
        block: to be run.
        x: its input, [n, C, H, W].
        setting: of the block's own knobs.
        by: given one product after the other, in the order of the block.
    """
    if by is exact:
        y: Tensor = block(x, setting)
        return y
    with _Performing(block, by):
        y = block(x, setting)
    return y


@final
class _Performing(TorchFunctionMode):
    """While it is entered, products go to someone."""

    def __init__(self, block: Block, by: Perform) -> None:
        super().__init__()
        self._block, self._by = block, by

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is perform:
            return self._perform(*args)
        if function in _PLAIN:
            return _PLAIN[function](self._perform, self._block, *args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _perform(self, product: Product) -> Tensor:
        names = {module: name for name, module in self._block.named_modules()}
        own = names.get(product.layer, "")
        name = f"{self._block.name}.{own}" if own else self._block.name
        return self._by(replace(product, name=name))


def _owner(block: Block, weight: Tensor) -> nn.Module:
    """The layer that a weight belongs to."""
    for module in block.modules():
        if any(weight is own for own in module.parameters(recurse=False)):
            return module
    return block


def _plain_linear(
    by: Perform, block: Block, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """The features of tokens [n, T, I] lie last; those of a product second."""

    def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)

    each = (-1, *[1] * (input.dim() - 2))
    product = Product(
        _owner(block, weight),
        Operand(input.movedim(-1, 1)),
        Operand(weight),
        weight,
        multiply,
        (lambda raw: raw) if bias is None else lambda raw: raw + bias.view(each),
        shift=bias,
    )
    return by(product).movedim(1, -1)


def _plain_convolution(
    by: Perform,
    block: Block,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *args: Any,
    **more: Any,
) -> Tensor:
    product = Product(
        _owner(block, weight),
        Operand(input),
        Operand(weight),
        weight,
        lambda x, w, b: functional.conv2d(x, w, b, *args, **more),
        (lambda raw: raw) if bias is None else lambda raw: raw + bias.view(-1, 1, 1),
        shift=bias,
    )
    return by(product)


_PLAIN: Final[Mapping[Any, Callable[..., Tensor]]] = {
    functional.linear: _plain_linear,
    torch.conv2d: _plain_convolution,
}
