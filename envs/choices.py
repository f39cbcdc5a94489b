"""What was chosen for the inputs under way."""

from collections import deque
from collections.abc import Callable, Sequence
from math import prod
from typing import final

import torch
from torch import Tensor

from penstock.envs.actions import strides


@final
class Choices:
    """The last decisions of all lanes, from which those of one input are told when asked for.

    A lane decides once a step and stage, so its stages lie in the last steps, one behind the other.
    Letters: `N` lanes, `S` stages, `K` knobs, exit first; `k` some lanes.
    """

    def __init__(self, stages: int, sizes: Sequence[int]) -> None:
        self._stages = stages
        self._past: deque[tuple[Tensor, Tensor]] = deque(maxlen=stages)
        stride = strides(sizes[1:])
        combinations = torch.arange(prod(sizes[1:])).unsqueeze(1)
        indices = combinations // stride % torch.tensor(sizes[1:], dtype=torch.int64)
        self._indices = torch.cat([torch.ones_like(combinations), indices], dim=1)  # [M, K]

    def note(self, running: Tensor, combination: Tensor) -> None:
        """Who went on, [N] bool, and with which combination, [N]; kept, not copied."""
        self._past.appendleft((running, combination))

    def since(self, stage: Tensor) -> Callable[[Tensor], Tensor]:
        """How to tell the choices of lanes that now decided in a stage, [N].

        Returns:
            A function of lanes [k] that gives an index per stage and knob, [k, S, K]; -1 where none
            was chosen.
        """
        past = tuple(self._past)

        def choices(rows: Tensor) -> Tensor:
            chosen = torch.full((len(rows), self._stages, self._indices.shape[1]), -1)
            now = stage[rows]
            for ago, (running, combination) in enumerate(past):
                at, some = now - ago, now >= ago
                went_on = some & running[rows]
                lanes = went_on.nonzero().squeeze(1)
                chosen[lanes, at[lanes]] = self._indices[combination[rows[lanes]]]
                left = (some & ~went_on).nonzero().squeeze(1)
                chosen[left, at[left], 0] = 0
            return chosen

        return choices
