"""Residual networks for small images, with run, width, bits and exit knobs in one set of weights.

The family is that of He et al., Deep Residual Learning (CVPR 2016), section 4.2: three stages of
basic blocks with 1, 2 and 4 times the channels at full, half and quarter resolution.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones.backbone import Argument, Backbone, Call
from penstock.backbones.block import Block
from penstock.backbones.errors import InputError
from penstock.backbones.knob import BITS, RUN, WIDTH
from penstock.backbones.normalization import ImageNorm, SettingNorm, convolve_and_normalise
from penstock.backbones.precision import Convolution


@final
class Stem(Block):
    """Normalises an image and lifts it to the channels of the first stage."""

    knobs = (BITS,)

    def __init__(
        self, in_channels: int, channels: int, *, pool: bool, protected: bool = False
    ) -> None:
        super().__init__()
        self.images = ImageNorm(in_channels)
        self.convolution = Convolution(
            in_channels, channels, 3, stride=1, signed=True, protected=protected
        )
        self.norm = SettingNorm(channels)
        self.pool = pool

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        """[n, C, H, W] in [0, 1] -> [n, channels, H, W], or half of H and W if pooled."""
        bits = setting.get("bits", BITS.full)
        x = convolve_and_normalise(self.convolution, self.norm, self.images(x), WIDTH.full, bits)
        if self.pool:
            x = functional.max_pool2d(x, 2)  # before the ReLU, with which it commutes: less to do
        return functional.relu(x, inplace=True)


@final
class BasicBlock(Block):
    """Two 3x3 convolutions and a shortcut; only one with an identity shortcut can be skipped."""

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, protected: bool = False
    ) -> None:
        super().__init__()
        convolution = partial(Convolution, signed=False, protected=protected)
        identity = stride == 1 and in_channels == channels
        self.knobs = (RUN, WIDTH, BITS) if identity else (WIDTH, BITS)
        self.hidden = channels
        self.first = convolution(in_channels, channels, 3, stride=stride)
        self.first_norm = SettingNorm(channels)
        self.second = convolution(channels, channels, 3, stride=1)
        self.second_norm = SettingNorm(channels)
        self.shortcut: Convolution | None = None
        if not identity:
            self.shortcut = convolution(in_channels, channels, 1, stride=stride)
            self.shortcut_norm = SettingNorm(channels)

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        """[n, C, H, W] -> [n, channels, H/stride, W/stride]; x itself when it is not run."""
        if not setting.get("run", RUN.full):
            return x
        width, bits = setting.get("width", WIDTH.full), setting.get("bits", BITS.full)
        hidden = max(1, round(self.hidden * width))
        y = convolve_and_normalise(self.first, self.first_norm, x, width, bits, hidden)
        y = functional.relu(y, inplace=True)
        y = convolve_and_normalise(self.second, self.second_norm, y, width, bits)
        if self.shortcut is not None:
            x = convolve_and_normalise(self.shortcut, self.shortcut_norm, x, width, bits)
        return functional.relu(y.add_(x), inplace=True)


@final
class Head(Block):
    """Averages over the image and names the class."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        """[n, C, H, W] -> logits [n, classes]."""
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def resnet(
    depth: int = 20,
    width: float = 1.0,
    *,
    in_channels: int = 3,
    size: int = 32,
    classes: int = 10,
    protected: bool = False,
) -> Backbone:
    """A residual network of 6n + 2 layers for images of 8 to 64 pixels, an exit after each stage.

    Args:
        depth: 8, 14, 20, ... 110; three stages of n blocks.
        width: 1.0 gives 16, 32 and 64 channels, 0.5 half as many.
        in_channels: 1 (grey) or 3 (colour).
        size: height and width of the images.
        classes: how many answers there are.
        protected: store the top bit of 8-bit numbers three times, which leaves 6 bits: a memory
            that flips one of the three does no harm.

    Raises:
        InputError: for a depth or size outside the family.

    >>> resnet(8, 0.5, in_channels=1, size=8).depth
    3
    """
    if depth % 6 != 2 or not 8 <= depth <= 110:
        raise InputError(f"a resnet has a depth of 8, 14, 20, ... 110 (6n + 2), got {depth}")
    n = (depth - 2) // 6
    return _stack(
        Call("penstock.backbones:resnet", {"depth": depth, "width": width}),
        channels=[max(4, round(count * width)) for count in (16, 32, 64)],
        blocks=(n, n, n),
        strides=(1, 2, 2),
        exits=(n - 1, 2 * n - 1),
        pool=False,
        in_channels=in_channels,
        size=size,
        classes=classes,
        protected=protected,
    )


def staged_resnet(
    channels: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[int],
    *,
    exits: Sequence[int] = (),
    pool: bool = False,
    in_channels: int = 3,
    size: int = 32,
    classes: int = 10,
    protected: bool = False,
) -> Backbone:
    """A residual network of any stages, for images of 8 to 64 pixels.

    Early exits pay where the image has shrunk soon and much work is left behind them, as in Huang
    et al., Multi-Scale Dense Networks (ICLR 2018): a first stage of one block, then long ones.

    Args:
        channels: of each stage; the stem has those of the first. Multiples of 16 are fastest.
        blocks: how many each stage has.
        strides: of the first block of each stage; 2 halves the resolution.
        exits: the blocks, counted from 0, after which there is a head; the last always has one.
        pool: halve the resolution after the stem, which quarters the work of every block.
        in_channels: 1 (grey) or 3 (colour).
        size: height and width of the images.
        classes: how many answers there are.
        protected: as of `resnet`.

    Raises:
        InputError: if the stages do not agree in number, or a number is out of range.

    >>> staged_resnet([8, 16], [1, 2], [1, 2], exits=[1], size=8).depth
    3
    """
    arguments: dict[str, Argument] = {
        "channels": list(channels),
        "blocks": list(blocks),
        "strides": list(strides),
        "exits": list(exits),
        "pool": pool,
    }
    if not 1 <= len(channels) == len(blocks) == len(strides) or min(*channels, *blocks) < 1:
        raise InputError(
            "channels, blocks and strides give one number of 1 or more for each stage, got "
            f"channels={list(channels)}, blocks={list(blocks)} and strides={list(strides)}; "
            "make them equally long"
        )
    if not set(strides) <= {1, 2} or not set(exits) <= set(range(sum(blocks))):
        raise InputError(
            f"strides are 1 or 2 and exits lie from 0 to {sum(blocks) - 1}, got "
            f"strides={list(strides)} and exits={list(exits)}; choose among these"
        )
    return _stack(
        Call("penstock.backbones:staged_resnet", arguments),
        channels=channels,
        blocks=blocks,
        strides=strides,
        exits=exits,
        pool=pool,
        in_channels=in_channels,
        size=size,
        classes=classes,
        protected=protected,
    )


def tiny_resnet(
    *, in_channels: int = 1, size: int = 8, classes: int = 10, blocks_per_stage: int = 1
) -> Backbone:
    """A residual network of 8, 16 and 32 channels, for tests and for 8x8 digits."""
    return resnet(
        6 * blocks_per_stage + 2, 0.5, in_channels=in_channels, size=size, classes=classes
    )


def _stack(
    call: Call,
    *,
    channels: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[int],
    exits: Sequence[int],
    pool: bool,
    in_channels: int,
    size: int,
    classes: int,
    protected: bool,
) -> Backbone:
    """Stem, stages and heads; `call` lacks the arguments that are about images."""
    if not 8 <= size <= 64 or in_channels not in (1, 3):
        raise InputError(
            "a resnet takes images of 8 to 64 pixels with 1 or 3 channels, "
            f"got {size} pixels and {in_channels} channels; pass size= and channels= to convert"
        )
    bodies: list[Block] = []
    heads: list[Block | None] = []
    before, last = channels[0], sum(blocks) - 1
    for after, count, stride in zip(channels, blocks, strides, strict=True):
        for index in range(count):
            stride_here = 1 if index else stride
            bodies.append(BasicBlock(before, after, stride=stride_here, protected=protected))
            before, number = after, len(heads)
            heads.append(Head(after, classes) if number in exits or number == last else None)
    about = {"in_channels": in_channels, "size": size, "classes": classes}
    about |= {"protected": True} if protected else {}
    return Backbone(
        Stem(in_channels, channels[0], pool=pool, protected=protected),
        bodies,
        heads,
        shape=(in_channels, size, size),
        classes=classes,
        call=Call(call.builder, {**call.arguments, **about}),
    )
