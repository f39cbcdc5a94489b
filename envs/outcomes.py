"""What the engine says of a step: rewards, ends, and what became of the inputs answered in it."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import final

import torch
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

    def take(self, rows: Tensor) -> "Outcomes":
        """Some of them: indices or a mask, [k]."""
        return Outcomes(*(getattr(self, field.name)[rows] for field in fields(Outcomes)))


def join(first: Outcomes, second: Outcomes) -> Outcomes:
    """One behind the other."""
    pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in fields(Outcomes))
    return Outcomes(*(torch.cat(pair) for pair in pairs))


@dataclass(frozen=True, slots=True)
class Ended:
    """The streams that ended in one step. `d` of them, `B` budgets."""

    lanes: Tensor  # [d]
    limits: Tensor  # [d, B] of the stream, or of one input of it
    left: Tensor  # [d, B] of them


@dataclass(frozen=True, slots=True)
class Answers:
    """The same of all lanes side by side; what stands at lanes outside of the mask means nothing.

    Letters: `N` lanes, `R` resources.
    """

    mask: Tensor  # [N] bool, lanes that answered
    inputs: Tensor  # [N]
    right: Tensor  # [N] bool
    worth: Tensor  # [N] float64
    late: Tensor | None  # [N] bool; None where there is no deadline
    cost: Tensor  # [R, N] float64
    depth: Tensor  # [N] stages that were run
    exits: Tensor  # [S + 1] the last block that was run, by depth
    over: Tensor  # [N] bool
    overruled: Tensor  # [N]
    lost: Tensor | None  # [N]; None where nothing is counted
    choices: Callable[[Tensor], Tensor]  # lanes [k] -> [k, S, K]

    def gathered(self) -> Outcomes:
        """One row an answer."""
        rows = self.mask.nonzero().squeeze(1)
        right = self.right[rows]
        return Outcomes(
            lanes=rows,
            inputs=self.inputs[rows],
            right=right,
            worth=self.worth[rows],
            missed=torch.zeros_like(right) if self.late is None else self.late[rows],
            cost=self.cost[:, rows].T,
            exit=self.exits[self.depth[rows]],
            over=self.over[rows],
            overruled=self.overruled[rows],
            lost=torch.zeros_like(rows) if self.lost is None else self.lost[rows],
            choices=self.choices(rows),
        )


@final
class Step:
    """What a step brought; `N` lanes. Details are gathered when they are asked for."""

    def __init__(
        self,
        reward: Tensor,
        done: Tensor,
        answers: Answers,
        dropped: Outcomes | None,
        limits: Tensor,
        left: Tensor,
    ) -> None:
        self.reward = reward
        """[N] float32."""
        self.done = done
        """[N] bool: the stream is over, and the lane rests until it is started again."""
        self.answers = answers
        """Of all lanes side by side."""
        self._dropped, self._limits, self._left = dropped, limits, left

    @cached_property
    def outcomes(self) -> Outcomes:
        """What became of inputs: those that were answered, then those that were dropped."""
        answered = self.answers.gathered()
        return answered if self._dropped is None else join(answered, self._dropped)

    @cached_property
    def ended(self) -> Ended:
        """What became of streams."""
        rows = self.done.nonzero().squeeze(1)
        return Ended(rows, self._limits[rows], self._left[rows])
