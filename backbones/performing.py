"""Runs a block with its matrix products performed by someone: those of plain torch layers too."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from penstock.backbones.backbone import Backbone, restrict
from penstock.backbones.block import Block
from penstock.backbones.errors import InputError
from penstock.backbones.evaluating import evaluating
from penstock.backbones.knob import FULL, Setting
from penstock.backbones.order import black
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
        InputError: if weights take part in what is not one of these products. Numbers that a block
            computes from its weights before it multiplies by them are not known as weights.
    """
    if by is exact:
        y: Tensor = block(x, setting)
        return y
    with _Performing(block, by):
        y = block(x, setting)
    return y


@torch.no_grad()
def perform_network(
    backbone: Backbone, by: Perform, images: Tensor | None = None, setting: Setting = FULL
) -> None:
    """Have every product of a network performed once, in evaluation mode.

    Args:
        backbone: left as it was.
        by: given one product after the other.
        images: floats in [0, 1], [n, C, H, W]; None: a single black one.
        setting: of the knobs of stem and blocks.
    """

    def run(block: Block, x: Tensor, own: Setting) -> Tensor:
        return run_block(block, x, restrict(own, block), by)

    with evaluating(backbone):
        images = black(backbone) if images is None else images
        backbone.answers(images, setting, stem=setting, run=run)


@final
class _Performing(TorchFunctionMode):
    """While it is entered, products go to someone."""

    def __init__(self, block: Block, by: Perform) -> None:
        super().__init__()
        self._block, self._by = block, by
        self._owners = {_place(w): m for m in block.modules() for w in m.parameters(recurse=False)}
        self._names = {module: name for name, module in block.named_modules()}
        self._used: dict[str, int] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is perform:
            return self.perform(*args)
        if function in _PLAIN:
            return _PLAIN[function](self, *args, **(kwargs or {}))
        if function in _WHOLE or (function in _MATRIX and self._weighs((args, kwargs or {}))):
            raise InputError(
                "machines perform the products of linear layers and of convolutions in one and two "
                f"dimensions, got {getattr(function, '__name__', function)} in "
                f"{self._block.name}; write the block with nn.Linear, nn.Conv1d or nn.Conv2d"
            )
        return function(*args, **(kwargs or {}))

    def perform(self, product: Product) -> Tensor:
        """Have it performed under the name of its place; one used again is another, "#2"."""
        own = self._names.get(product.layer, "")
        name = f"{self._block.name}.{own}" if own else self._block.name
        count = self._used[name] = self._used.get(name, 0) + 1
        return self._by(replace(product, name=name if count == 1 else f"{name}#{count}"))

    def owner(self, weight: Tensor) -> nn.Module:
        """The layer that a weight, or the part of it that is given, belongs to."""
        return self._owners.get(_place(weight), self._block)

    def _weighs(self, value: Any) -> bool:
        """Whether a weight, or a view of one, is among what a function is given."""
        if isinstance(value, Tensor):
            return _place(value) in self._owners
        if isinstance(value, Mapping):
            return any(map(self._weighs, value.values()))
        return isinstance(value, list | tuple) and any(map(self._weighs, value))


def _place(weight: Tensor) -> int:
    """Where in memory the whole of it begins."""
    return weight.untyped_storage().data_ptr()


def _plain_linear(
    performing: _Performing, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """The features of tokens [n, T, I] lie last; those of a product second."""

    def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)

    each = (-1, *[1] * (input.dim() - 2))
    product = Product(
        performing.owner(weight),
        Operand(input.movedim(-1, 1)),
        Operand(weight),
        weight,
        multiply,
        (lambda raw: raw) if bias is None else lambda raw: raw + bias.view(each),
        shift=bias,
    )
    return performing.perform(product).movedim(1, -1)


def _plain_convolution(convolve: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Of one or two dimensions."""

    def plain(
        performing: _Performing,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **more: Any,
    ) -> Tensor:
        each = (-1, *[1] * (weight.dim() - 2))
        product = Product(
            performing.owner(weight),
            Operand(input),
            Operand(weight),
            weight,
            lambda x, w, b: convolve(x, w, b, *args, **more),
            (lambda raw: raw) if bias is None else lambda raw: raw + bias.view(each),
            shift=bias,
        )
        return performing.perform(product)

    return plain


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
    torch.tensordot,
    torch.inner,
    torch.dot,
    torch.addmv,
    torch.addbmm,
    torch.chain_matmul,
    torch.linalg.matmul,
    torch.linalg.multi_dot,
    torch.linalg.vecdot,
    torch.convolution,
    Tensor.matmul,
    Tensor.__matmul__,
    Tensor.__rmatmul__,
    Tensor.mm,
    Tensor.bmm,
    Tensor.mv,
    Tensor.dot,
    Tensor.inner,
    Tensor.addmm,
    Tensor.addmv,
    Tensor.addbmm,
    Tensor.baddbmm,
}
"""Products of two tensors, of which one may be a weight."""
