"""What a policy sees of a lane: named columns with ranges."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Final, final

import torch
from torch import Tensor
from torch.nn import functional

FEATURES: Final = 16
"""Columns that hold pooled activations."""

UNKNOWN: Final = (0.0, 0.0, 0.0, 1.0, 0.0)
"""First, second, third, entropy and answered before any exit was run."""


@dataclass(frozen=True, slots=True)
class Column:
    """One number of an observation."""

    name: str
    low: float
    high: float


@final
class Observation:
    """The layout of the columns, and the functions that fill them. `n` lanes.

    | columns | meaning | range |
    |---|---|---|
    | feature_0..15 | activations before the block, averaged over the image and over groups of channels, x / (1 + x) | 0, 1 |
    | first, second, third | probabilities of the three likeliest classes, said by the last exit that was run; 0 before one | 0, 1 |
    | entropy | of that exit, 1 is a uniform guess; 1 before one | 0, 1 |
    | answered | whether an exit can be taken | 0, 1 |
    | block_0.. | which block comes next, of those before which decisions are taken; all 0 after the last | 0, 1 |
    | spent | on this input, as a share of the full network's cost | 0, 2 |
    | price | of the stream, 0 the lowest and 1 the highest, logarithmic; 0 where it is not observed | 0, 1 |
    | inputs_left | share of the stream's inputs that come after this one | 0, 1 |
    | left_.. | of a hard budget, as a share of it | 0, 1 |
    | budget_.. | where the stream's own limit lies between the least and the most that are drawn, logarithmic | 0, 1 |
    | rate_.. | what is left of a stream's budget for each input to come, as a share of the limit of one | 0, 2 |
    | waiting | inputs that have come and wait, as a share of those that can | 0, 1 |
    | delay | time since the input came, as a share of its deadline | 0, 1 |
    | battery | its charge, as a share of its capacity | 0, 1 |
    | harvest | power that comes in now, as a share of the most | 0, 1 |
    | day_sin, day_cos | what a clock says of the sun: noon is 1 and 0, dusk 0 and -1 | -1, 1 |
    | last_.. | where a knob that costs to switch stood last, as a share of its choices; 0 at first | 0, 1 |
    | machine_.. | the machine's state, where it is one number a lane | unbounded |
    | ago_1_.. | each from budget_.. on, as it was when the input before was over; 0 before the first | as they are |
    """  # noqa: E501

    def __init__(
        self,
        first: Sequence[int],
        rules: Sequence[Column] = (),
        hard: Sequence[str] = (),
        states: Sequence[str] = (),
        history: int = 0,
    ) -> None:
        changing = (*rules, *(Column(f"machine_{name}", -inf, inf) for name in states))
        self.columns: tuple[Column, ...] = (
            *(Column(f"feature_{i}", 0, 1) for i in range(FEATURES)),
            *(Column(name, 0, 1) for name in ("first", "second", "third", "entropy", "answered")),
            *(Column(f"block_{i}", 0, 1) for i in first),
            Column("spent", 0, 2),
            Column("price", 0, 1),
            Column("inputs_left", 0, 1),
            *(Column(f"left_{name}", 0, 1) for name in hard),
            *changing,
            *(
                Column(f"ago_{ago}_{column.name}", column.low, column.high)
                for ago in range(1, history + 1)
                for column in changing
            ),
        )
        self.features = slice(0, FEATURES)
        self.confidence = slice(FEATURES, FEATURES + 5)
        self.network = slice(0, FEATURES + 5)
        self.answered = FEATURES + 4
        self.block = slice(FEATURES + 5, FEATURES + 5 + len(first))
        self.seen = slice(0, self.block.stop)
        self.account = slice(self.block.stop, self.block.stop + 3 + len(hard))
        self.changing = slice(self.account.stop, self.account.stop + len(changing))
        self.depth = len(first)
        self.states = tuple(states)

    def where(self, name: str) -> int:
        """The index of a column."""
        return [column.name for column in self.columns].index(name)


def pooled(x: Tensor) -> Tensor:
    """Activations [n, C, H, W] as [n, FEATURES] in 0..1."""
    means, channels = x.mean(dim=(2, 3)).abs(), x.shape[1]
    if channels == FEATURES:
        groups = means
    elif channels % FEATURES == 0:
        groups = means.view(-1, FEATURES, channels // FEATURES).mean(dim=2)
    else:
        groups = functional.adaptive_avg_pool1d(means.unsqueeze(1), FEATURES).squeeze(1)
    return groups / (1 + groups)


def confidence(logits: Tensor) -> Tensor:
    """Logits [n, classes] as [n, 5]: first, second, third, entropy, answered."""
    probability = logits.softmax(dim=1)
    classes = probability.shape[1]
    top = probability.topk(min(3, classes), dim=1).values
    if classes < 3:
        top = functional.pad(top, (0, 3 - classes))
    entropy = torch.special.entr(probability).sum(dim=1, keepdim=True)
    entropy = entropy.div_(log(classes)).clamp_(0, 1)
    return torch.cat([top, entropy, torch.ones_like(entropy)], dim=1)
