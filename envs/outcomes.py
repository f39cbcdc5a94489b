"""What the engine says of a step: rewards, ends, and what became of the inputs answered in it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the inputs answered in one step, and of those that were dropped.

    Letters: `k` inputs, `R` resources, `S` stages, `K` knobs.
    """

    lanes: Tensor  # [k] which lanes, those that answered first and in order
    inputs: Tensor  # [k] which inputs
    right: Tensor  # [k] bool, in time and right
    worth: Tensor  # [k] float64, of the answer; 0 if it was late
    missed: Tensor  # [k] bool, late or dropped
    cost: Tensor  # [k, R] float64, stem, exits on the way and the policy included
    exit: Tensor  # [k] the block after which the answer was given; -1 if the input was dropped
    over: Tensor  # [k] bool, whether a hard budget was exceeded
    overruled: Tensor  # [k] decisions that were not allowed and were replaced
    lost: Tensor  # [k] transfers that the machine gave up and counted in its state as "lost"
    choices: Tensor  # [k, S, K] index chosen before each stage of each knob, -1 where none was


@dataclass(frozen=True, slots=True)
class Ended:
    """The streams that ended in one step. `d` of them, `R` resources, `B` budgets."""

    lanes: Tensor  # [d]
    cost: Tensor  # [d, R] of all inputs
    limits: Tensor  # [d, B] of the stream, or of one input of it
    left: Tensor  # [d, B] of them
    worth: Tensor  # [d] of all answers


@dataclass(frozen=True, slots=True)
class Step:
    """What a step brought; `N` lanes."""

    reward: Tensor  # [N] float32
    done: Tensor  # [N] bool, the stream is over and the lane rests until it is started again
    outcomes: Outcomes
    ended: Ended
