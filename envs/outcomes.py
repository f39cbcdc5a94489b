"""What the engine says of a step: rewards, ends, and what became of the inputs answered in it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the inputs answered in one step.

    Letters: `k` inputs, `R` resources, `D` blocks, `K` knobs.
    """

    lanes: Tensor  # [k] which lanes, in order
    inputs: Tensor  # [k] which images
    right: Tensor  # [k] bool
    cost: Tensor  # [k, R] float64, stem, exits on the way and the policy included
    exit: Tensor  # [k] the block after which the answer was given
    over: Tensor  # [k] bool, whether a hard budget was exceeded
    overruled: Tensor  # [k] decisions that were not allowed and were replaced
    lost: Tensor  # [k] transfers that the machine gave up and counted in its state as "lost"
    choices: Tensor  # [k, D, K] index chosen before each block of each knob, -1 where none was


@dataclass(frozen=True, slots=True)
class Step:
    """What a step brought; `N` lanes."""

    reward: Tensor  # [N] float32
    done: Tensor  # [N] bool, the stream is over and the lane rests until it is started again
    outcomes: Outcomes
