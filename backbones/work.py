"""What a block under a setting asks of any machine, counted by running it once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from penstock.backbones.block import Block
from penstock.backbones.errors import InputError
from penstock.backbones.evaluating import evaluating
from penstock.backbones.knob import Setting


@dataclass(frozen=True, slots=True)
class Work:
    """What ONE input asks of a block: multiplications and the bytes that they read and write."""

    macs: float = 0.0
    """Multiply-accumulates of convolutions and matrix products; FLOPs would be twice this."""
    weight_bytes: float = 0.0
    """Weights read by them, at the precision of the setting; only the part that is used."""
    input_bytes: float = 0.0
    """Activations read by them, at the precision of the setting."""
    output_bytes: float = 0.0
    """Activations written by them, at the precision of the setting."""
    weight_bits: int = 32
    activation_bits: int = 32

    @property
    def none(self) -> bool:
        """Whether nothing at all was left to do."""
        return self.macs == self.weight_bytes == self.input_bytes == self.output_bytes == 0


_counted: WeakKeyDictionary[Block, dict[Any, Work]] = WeakKeyDictionary()


def work(block: Block, setting: Setting, shape: tuple[int, ...]) -> Work:
    """The work of one input of `shape` (C, H, W) under a setting of numbers.

    The block is run once on zeros, in evaluation mode, under a counter of the multiplications that
    it really calls; element-wise operations and normalisation are not counted. Remembered per
    block, setting and shape.

    Raises:
        InputError: if the block has a layer whose multiplications cannot be counted.
        ValueError: if the setting holds a mask, which leaves no work out.
    """
    if any(isinstance(value, Tensor) for value in setting.values()):
        raise ValueError("work is counted for a setting of numbers, got a mask; pass one choice")
    key = (tuple(sorted(setting.items())), shape)
    known = _counted.setdefault(block, {})
    if key not in known:
        known[key] = _count(block, setting, shape)
    return known[key]


def _count(block: Block, setting: Mapping[str, Any], shape: tuple[int, ...]) -> Work:
    like = next(block.parameters(), torch.empty(0))
    with _in_single_steps(), evaluating(block), _Counter() as counter:
        block(torch.zeros(1, *shape, device=like.device, dtype=like.dtype), setting)
    bits = int(setting.get("bits", 32))
    return Work(
        macs=counter.macs,
        weight_bytes=counter.weights * bits / 8,
        input_bytes=counter.inputs * bits / 8,
        output_bytes=counter.outputs * bits / 8,
        weight_bits=bits,
        activation_bits=bits,
    )


@contextmanager
def _in_single_steps() -> Iterator[None]:
    """Without the ways in which torch runs several products as one, where none can be counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # In inference mode torch hands convolutions and linear layers on as a whole.
        with torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


_UNCOUNTABLE: Final = {
    torch.ops.aten.lstm,
    torch.ops.aten.gru,
    torch.ops.aten.rnn_tanh,
    torch.ops.aten.rnn_relu,
    torch.ops.aten.mkldnn_rnn_layer,
    torch.ops.aten._cudnn_rnn,
    torch.ops.aten.miopen_rnn,
}


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the multiplications that pass by, and the numbers that they read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = self.weights = self.inputs = self.outputs = 0.0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket in _UNCOUNTABLE:
            raise InputError(
                "the multiplications of torch's recurrent layers cannot be counted, as they run in "
                f"one piece, got {function.overloadpacket}; write the block with nn.LSTMCell, "
                "nn.GRUCell or nn.RNNCell"
            )
        count = flop_registry.get(function.overloadpacket)
        if count is not None:
            operands = [a for a in args if isinstance(a, Tensor) and a.dim() >= 2]
            self.macs += count(*args, **(kwargs or {}), out_val=result) / 2
            self.inputs += prod(operands[0].shape)
            self.weights += prod(operands[1].shape)
            self.outputs += prod(result.shape)
        return result
