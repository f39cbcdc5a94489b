"""Residual networks for small images, with run, width, bits and exit knobs in one set of weights.

The family is that of He et al., Deep Residual Learning (CVPR 2016), section 4.2: three stages of
basic blocks with 1, 2 and 4 times the channels at full, half and quarter resolution.
"""

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones.backbone import Backbone, Call
from penstock.backbones.block import Block
from penstock.backbones.errors import InputError
from penstock.backbones.knob import BITS, RUN, WIDTH
from penstock.backbones.normalization import ImageNorm, SettingNorm
from penstock.backbones.precision import Convolution


@final
class Stem(Block):
    """Normalises an image and lifts it to the channels of the first stage."""

    knobs = (BITS,)

    def __init__(self, in_channels: int, channels: int, *, pool: bool) -> None:
        super().__init__()
        self.images = ImageNorm(in_channels)
        self.convolution = Convolution(in_channels, channels, 3, stride=1, signed=True)
        self.norm = SettingNorm(channels)
        self.pool = pool

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        """[n, C, H, W] in [0, 1] -> [n, channels, H, W], or half of H and W if pooled."""
        bits = setting.get("bits", BITS.full)
        x = self.convolution(self.images(x), bits)
        x = functional.relu(self.norm(x, WIDTH.full, bits), inplace=True)
        return functional.max_pool2d(x, 2) if self.pool else x


@final
class BasicBlock(Block):
    """Two 3x3 convolutions and a shortcut; only one with an identity shortcut can be skipped."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        identity = stride == 1 and in_channels == channels
        self.knobs = (RUN, WIDTH, BITS) if identity else (WIDTH, BITS)
        self.hidden = channels
        self.first = Convolution(in_channels, channels, 3, stride=stride, signed=False)
        self.first_norm = SettingNorm(channels)
        self.second = Convolution(channels, channels, 3, stride=1, signed=False)
        self.second_norm = SettingNorm(channels)
        self.shortcut: Convolution | None = None
        if not identity:
            self.shortcut = Convolution(in_channels, channels, 1, stride=stride, signed=False)
            self.shortcut_norm = SettingNorm(channels)

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        """[n, C, H, W] -> [n, channels, H/stride, W/stride]; x itself when it is not run."""
        if not setting.get("run", RUN.full):
            return x
        width, bits = setting.get("width", WIDTH.full), setting.get("bits", BITS.full)
        hidden = max(1, round(self.hidden * width))
        y = self.first_norm(self.first(x, bits, hidden), width, bits)
        y = functional.relu(y, inplace=True)
        y = self.second_norm(self.second(y, bits), width, bits)
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x, bits), width, bits)
        return functional.relu(y + x, inplace=True)


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
    pool: bool = False,
    channels: Sequence[int] = (16, 32, 64),
) -> Backbone:
    """A residual network of 6n + 2 layers for images of 8 to 64 pixels.

    Args:
        depth: 8, 14, 20, ... 110; three stages of n blocks.
        width: 1.0 gives the stages the channels of `channels`, 0.5 half as many.
        in_channels: 1 (grey) or 3 (colour).
        size: height and width of the images.
        classes: how many answers there are.
        pool: halve the resolution after the stem, which quarters the work of every block; meant
            for more channels. Not in He et al.
        channels: of the three stages; multiples of 16 are fastest.

    Raises:
        InputError: for a depth, size or number of channels outside the family.

    >>> resnet(8, 0.5, in_channels=1, size=8).depth
    3
    """
    if depth % 6 != 2 or not 8 <= depth <= 110:
        raise InputError(f"a resnet has a depth of 8, 14, 20, ... 110 (6n + 2), got {depth}")
    if not 8 <= size <= 64 or in_channels not in (1, 3):
        raise InputError(
            "a resnet takes images of 8 to 64 pixels with 1 or 3 channels, "
            f"got {size} pixels and {in_channels} channels; pass size= and channels= to convert"
        )
    if len(channels) != 3 or min(channels) < 1:
        raise InputError(
            f"a resnet has three stages of one or more channels, got channels={list(channels)}; "
            "pass three numbers, such as [16, 32, 64]"
        )
    stages = [max(4, round(count * width)) for count in channels]
    blocks: list[Block] = []
    heads: list[Block | None] = []
    before, per_stage = stages[0], (depth - 2) // 6
    for stage, after in enumerate(stages):
        for index in range(per_stage):
            stride = 2 if stage > 0 and index == 0 else 1
            blocks.append(BasicBlock(before, after, stride=stride))
            before = after
            heads.append(Head(after, classes) if index == per_stage - 1 else None)
    arguments: dict[str, float | int | str | bool | list[int]] = {
        "depth": depth,
        "width": width,
        "in_channels": in_channels,
        "size": size,
        "classes": classes,
        "pool": pool,
        "channels": list(channels),
    }
    return Backbone(
        Stem(in_channels, stages[0], pool=pool),
        blocks,
        heads,
        shape=(in_channels, size, size),
        classes=classes,
        call=Call("penstock.backbones:resnet", arguments),
    )


def tiny_resnet(
    *, in_channels: int = 1, size: int = 8, classes: int = 10, blocks_per_stage: int = 1
) -> Backbone:
    """A residual network of 8, 16 and 32 channels, for tests and for 8x8 digits."""
    return resnet(
        6 * blocks_per_stage + 2, 0.5, in_channels=in_channels, size=size, classes=classes
    )
