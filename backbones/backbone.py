"""A network as a stack of blocks, with a head wherever it may answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from penstock.backbones.block import STEM, Block
from penstock.backbones.knob import EXIT, FULL, Knob, Setting

Argument = float | int | str | bool | list[int]
"""What a builder may be called with: what fits into the header of a file of weights."""


@dataclass(frozen=True, slots=True)
class Call:
    """The function that builds a backbone and what it was called with: enough to build it again."""

    builder: str
    """"module:function", as in "penstock.backbones:resnet"."""
    arguments: Mapping[str, Argument]


@final
class Backbone(nn.Module):
    """Stem, blocks and heads; `heads[i]` is the exit after block i, or None.

    Letters: `n` lanes, `C, H, W` channels, height and width. Images are floats in [0, 1]; the stem
    normalises them.

    Raises:
        ValueError: if there are not as many heads as blocks, or the last block has none.
    """

    def __init__(
        self,
        stem: Block,
        blocks: Sequence[Block],
        heads: Sequence[Block | None],
        *,
        shape: tuple[int, int, int],
        classes: int,
        call: Call | None = None,
    ) -> None:
        super().__init__()
        if len(heads) != len(blocks):
            raise ValueError(f"{len(blocks)} blocks need as many heads (or None), got {len(heads)}")
        if not heads or heads[-1] is None:
            raise ValueError("the last block needs a head, got None; the network must answer")
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.exits = nn.ModuleDict({str(i): h for i, h in enumerate(heads) if h is not None})
        stem.name = STEM
        for index in range(self.depth):
            self.block(index).name = f"blocks.{index}"
            if (head := self.head(index)) is not None:
                head.name = f"exits.{index}"
        self.shape = shape
        """(C, H, W) of an image."""
        self.classes = classes
        self.call = call

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    def block(self, index: int) -> Block:
        """The block at a depth, counted from 0."""
        return self.blocks[index]  # type: ignore[return-value]

    def head(self, index: int) -> Block | None:
        """The exit after a block, or None."""
        key = str(index)
        return self.exits[key] if key in self.exits else None  # type: ignore[return-value]

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`exit`, then every knob that some block has, in order of first appearance."""
        found = {EXIT.name: EXIT}
        for index in range(self.depth):
            for knob in self.block(index).knobs:
                if found.setdefault(knob.name, knob) != knob:
                    raise ValueError(
                        f"knob {knob.name!r} has choices {found[knob.name].choices} in one block "
                        f"and {knob.choices} in another; give it the same choices everywhere"
                    )
        return tuple(found.values())

    def answers(
        self,
        images: Tensor,
        settings: Setting | Sequence[Setting] = FULL,
        *,
        stem: Setting = FULL,
        run: "Run | None" = None,
    ) -> dict[int, Tensor]:
        """What every head says: {block index: logits [n, classes]}, the last one the final answer.

        Args:
            images: floats in [0, 1], [n, C, H, W].
            settings: one for all blocks, or one a block; knobs that a block lacks stand at full.
            stem: the setting of the stem.
            run: runs stem, blocks and heads, as a machine would; None: exactly.
        """
        run = run or run_exactly
        each = [settings] * self.depth if isinstance(settings, Mapping) else settings
        if len(each) != self.depth:
            raise ValueError(f"{self.depth} blocks need as many settings, got {len(each)}")
        x = run(self.stem, images, stem)
        logits = {}
        for index, setting in enumerate(each):
            x = run(self.block(index), x, setting)
            head = self.head(index)
            if head is not None:
                logits[index] = run(head, x, setting)
        return logits

    def forward(self, images: Tensor, settings: Setting | Sequence[Setting] = FULL) -> Tensor:
        """The answer of the last head, [n, classes]."""
        return self.answers(images, settings)[self.depth - 1]


Run = Callable[[Block, Tensor, Setting], Tensor]
"""Runs a block on lanes [n, C, H, W] under a setting, which may name knobs that it lacks."""


def run_exactly(block: Block, x: Tensor, setting: Setting) -> Tensor:
    """Run a block, without any machine."""
    y: Tensor = block(x, restrict(setting, block))
    return y


RunAt = Callable[[float, torch.Generator], Run]
"""How blocks are run after a share of all steps of a fit, 0..1; draws come from the generator."""


def exactly_at(progress: float, rng: torch.Generator) -> Run:
    """Exactly, from the first step to the last."""
    return run_exactly


def restrict(setting: Setting, block: Block) -> Setting:
    """The part of a setting that a block has knobs for."""
    names = {knob.name for knob in block.knobs}
    return {name: value for name, value in setting.items() if name in names}
