"""Runs a block with its matrix products performed by someone: those of plain torch layers too."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from penstock.backbones.block import Block
from penstock.backbones.errors import InputError
from penstock.backbones.knob import Setting
from penstock.backbones.product import Operand, Perform, Product, exact, perform


def run_block(block: Block, x: Tensor, setting: Setting, by: Perform = exact) -> Tensor:
    """Run a block, every matrix product of its layers performed by `by`.

    Layers of plain torch (`nn.Conv1d`, `nn.Conv2d`, `nn.Linear`) are included. Products of two
    activations, as in attention, and element-wise operations stay exact.

    Args:
        block: to be run.
        x: its input, [n, C, H, W].
        setting: of the block's own knobs.
        by: given one product after the other, in the order of the block.

    Raises:
        InputError: if weights take part in what is not one of these products.
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
        if function in _WHOLE or (function in _MATRIX and _weighs(args)):
            raise InputError(
                "machines perform the products of linear layers and of convolutions in one and two "
                f"dimensions, got {getattr(function, '__name__', function)} in "
                f"{self._block.name}; write the block with nn.Linear, nn.Conv1d or nn.Conv2d"
            )
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


def _plain_convolution(convolve: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Of one or two dimensions."""

    def plain(
        by: Perform,
        block: Block,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **more: Any,
    ) -> Tensor:
        each = (-1, *[1] * (weight.dim() - 2))
        product = Product(
            _owner(block, weight),
            Operand(input),
            Operand(weight),
            weight,
            lambda x, w, b: convolve(x, w, b, *args, **more),
            (lambda raw: raw) if bias is None else lambda raw: raw + bias.view(each),
            shift=bias,
        )
        return by(product)

    return plain


def _weighs(arguments: tuple[Any, ...]) -> bool:
    """Whether a weight is among them."""
    return any(isinstance(each, nn.Parameter) for each in arguments)


_PLAIN: Final[Mapping[Any, Callable[..., Tensor]]] = {
    functional.linear: _plain_linear,
    torch.conv1d: _plain_convolution(torch.conv1d),
    torch.conv2d: _plain_convolution(torch.conv2d),
}

_WHOLE: Final = {
    torch.conv3d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
    functional.bilinear,
    functional.multi_head_attention_forward,
    torch._native_multi_head_attention,
    torch._transformer_encoder_layer_fwd,
    torch.lstm,
    torch.gru,
    torch.rnn_tanh,
    torch.rnn_relu,
    torch.lstm_cell,
    torch.gru_cell,
    torch.rnn_tanh_cell,
    torch.rnn_relu_cell,
}
"""Products with weights that torch performs in a way of its own."""

_MATRIX: Final = {
    torch.matmul,
    torch.mm,
    torch.bmm,
    torch.addmm,
    torch.baddbmm,
    torch.mv,
    torch.einsum,
    Tensor.matmul,
    Tensor.__matmul__,
    Tensor.__rmatmul__,
    Tensor.mm,
    Tensor.bmm,
    Tensor.mv,
}
"""Products of two matrices, of which one may be a weight."""
