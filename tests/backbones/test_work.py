import gc
import weakref
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from penstock.backbones import BITS, WIDTH, Block, InputError, Work, resnet, work
from penstock.backbones.normalization import SettingNorm
from penstock.backbones.resnet import BasicBlock, Head, Stem


def identity() -> Block:
    return BasicBlock(4, 4, stride=1)


def test_block_with_identity_by_hand() -> None:
    # Two convolutions 4 -> 4, 3x3, on 5x6 pixels: 4 * 4 * 9 = 144 weights, times 30 pixels.
    # Each reads 4 * 30 = 120 numbers and writes as many; 4 bytes a number.
    assert work(identity(), {}, (4, 5, 6)) == Work(
        macs=2 * 144 * 30,
        weight_bytes=2 * 144 * 4,
        input_bytes=2 * 120 * 4,
        output_bytes=2 * 120 * 4,
        weight_bits=32,
        activation_bits=32,
    )


def test_block_without_identity_by_hand() -> None:
    # 6x6 pixels become 3x3 = 9. First 4 -> 8, 3x3: 288 weights; second 8 -> 8, 3x3: 576;
    # shortcut 4 -> 8, 1x1: 32. First and shortcut read 4 * 36 = 144 numbers, the second 8 * 9 = 72;
    # all three write 72.
    assert work(BasicBlock(4, 8, stride=2), {}, (4, 6, 6)) == Work(
        macs=(288 + 576 + 32) * 9,
        weight_bytes=(288 + 576 + 32) * 4,
        input_bytes=(144 + 72 + 144) * 4,
        output_bytes=3 * 72 * 4,
    )


@pytest.mark.parametrize("pool", [False, True])
def test_stem_by_hand(pool: bool) -> None:
    # 3 -> 8, 3x3, on 8x8 pixels: 216 weights, times 64 pixels; pooling multiplies nothing.
    assert work(Stem(3, 8, pool=pool), {}, (3, 8, 8)) == Work(
        macs=216 * 64, weight_bytes=216 * 4, input_bytes=3 * 64 * 4, output_bytes=8 * 64 * 4
    )


def test_head_by_hand() -> None:
    # 8 means -> 10 classes; the averaging multiplies nothing.
    assert work(Head(8, 10), {}, (8, 4, 4)) == Work(
        macs=80, weight_bytes=80 * 4, input_bytes=8 * 4, output_bytes=10 * 4
    )


def test_resnet_20_by_hand() -> None:
    # Stem 3 * 16 * 9 * 1024 = 442 368. Stage 1: 6 convolutions 16 -> 16 at 1024 pixels,
    # 6 * 2 359 296. Stages 2 and 3: the first convolution costs half, five cost 2 359 296 again,
    # the 1x1 shortcut 16 * 32 * 256 = 32 * 64 * 64 = 131 072. Last head 64 * 10.
    by_hand = 442_368 + 6 * 2_359_296 + 2 * (1_179_648 + 5 * 2_359_296 + 131_072) + 640
    backbone = resnet(20)
    macs, x = work(backbone.stem, {}, backbone.shape).macs, torch.rand(1, *backbone.shape)
    with torch.no_grad():
        x = backbone.eval().stem(x, {})
        for index in range(backbone.depth):
            macs += work(backbone.block(index), {}, tuple(x.shape[1:])).macs
            x = backbone.block(index)(x, {})
    head = backbone.head(backbone.depth - 1)
    assert head is not None
    macs += work(head, {}, tuple(x.shape[1:])).macs
    assert macs == by_hand == 40_813_184


@pytest.mark.parametrize("rest", [{}, {"width": 0.5}, {"bits": 4}])
def test_what_is_not_run_asks_for_nothing(rest: Mapping[str, float]) -> None:
    skipped = work(identity(), {"run": 0, **rest}, (4, 5, 6))
    assert skipped.none
    assert not work(identity(), {"run": 1, **rest}, (4, 5, 6)).none
    assert Work().none


@pytest.mark.parametrize("width", WIDTH.choices)
def test_width_scales_both_convolutions(width: float) -> None:
    # Of the 120 numbers between the convolutions only a share is written and read again.
    assert work(identity(), {"width": width}, (4, 5, 6)) == Work(
        macs=width * 2 * 144 * 30,
        weight_bytes=width * 2 * 144 * 4,
        input_bytes=(120 + width * 120) * 4,
        output_bytes=(width * 120 + 120) * 4,
    )


def test_width_leaves_the_shortcut_alone() -> None:
    full = work(BasicBlock(4, 8, stride=2), {}, (4, 6, 6)).macs
    assert work(BasicBlock(4, 8, stride=2), {"width": 0.5}, (4, 6, 6)).macs == (full + 32 * 9) / 2


@pytest.mark.parametrize("bits", BITS.choices)
def test_bits_scale_bytes_and_no_multiplication(bits: int) -> None:
    full, rounded = (work(identity(), {"bits": b}, (4, 5, 6)) for b in (32, bits))
    assert rounded == Work(
        macs=full.macs,
        weight_bytes=full.weight_bytes * bits / 32,
        input_bytes=full.input_bytes * bits / 32,
        output_bytes=full.output_bytes * bits / 32,
        weight_bits=bits,
        activation_bits=bits,
    )


def test_counted_once() -> None:
    block = identity()
    first = work(block, {"bits": 8, "width": 0.5}, (4, 5, 6))
    assert work(block, {"width": 0.5, "bits": 8}, (4, 5, 6)) is first
    assert work(block, {"width": 0.5, "bits": 8}, (4, 6, 6)) is not first
    assert work(identity(), {"bits": 8, "width": 0.5}, (4, 5, 6)) is not first


def test_block_is_not_kept_alive() -> None:
    block = identity()
    work(block, {}, (4, 5, 6))
    gone = weakref.ref(block)
    del block
    gc.collect()
    assert gone() is None


def test_counting_leaves_no_trace() -> None:
    block = identity().train()
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    work(block, {}, (4, 5, 6))
    assert block.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in block.state_dict().items())
    assert all(parameter.grad is None for parameter in block.parameters())


def test_counting_thaws_nothing() -> None:
    block = identity().train()
    frozen = next(part for part in block.modules() if isinstance(part, SettingNorm)).eval()
    work(block, {}, (4, 5, 6))
    assert block.training and not frozen.training


class Holding(Block):
    """A layer of torch over tokens, the image's columns."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        y = self.layer(x.flatten(2))
        out: Tensor = y[0] if isinstance(y, tuple) else y
        return out.view_as(x)


def test_inference_mode_counts_the_same() -> None:
    with torch.inference_mode():
        counted = work(identity(), {}, (4, 5, 6))
    assert counted == work(identity(), {}, (4, 5, 6))
    assert counted.macs == 2 * 144 * 30


def test_attention_in_one_piece_by_hand() -> None:
    # 4 tokens of 6: attention 4 products with 6x6 weights, 4 * 4 * 36 = 576, and two of tokens with
    # tokens, 2 * 4 * 4 * 6 = 192; behind it 6 -> 10 -> 6, 4 * 120 = 480.
    layer = nn.TransformerEncoderLayer(6, 2, 10, batch_first=True)
    assert work(Holding(layer), {}, (4, 2, 3)).macs == 576 + 192 + 480


def test_what_cannot_be_counted_is_said() -> None:
    with pytest.raises(InputError, match="recurrent layers cannot be counted"):
        work(Holding(nn.LSTM(6, 6, batch_first=True)), {}, (4, 2, 3))


def test_halves_are_counted_too() -> None:
    assert work(identity().half(), {}, (4, 5, 6)).macs == 2 * 144 * 30


def test_mask_leaves_no_work_out() -> None:
    with pytest.raises(ValueError, match="a setting of numbers, got a mask; pass one choice"):
        work(identity(), {"run": torch.zeros(1)}, (4, 5, 6))
