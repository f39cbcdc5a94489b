"""The policy's own network as a block, so that the machine prices every decision too."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from penstock.backbones import Block, Setting
from penstock.backbones.block import POLICY
from penstock.hardware import Cost, Machine


@final
class Controller(Block):
    """A multilayer perceptron from an observation to one number a choice; only priced, never run.

    It has no knobs: float32, as the learners train it. The critic is not deployed and not counted.
    A memory is an LSTM in front, counted by its four matrices.
    """

    name = POLICY

    def __init__(self, columns: int, hidden: Sequence[int], choices: int, memory: int = 0) -> None:
        super().__init__()
        self.gates = nn.Linear(columns + memory, 4 * memory) if memory else None
        self.memory = memory
        sizes = (memory or columns, *hidden, choices)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        """[n, columns] -> [n, choices]."""
        if self.gates is not None:
            remembered = x.new_zeros(len(x), self.memory)
            x = self.gates(torch.cat([x, remembered], dim=1))[:, : self.memory]
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).tanh()
        logits: Tensor = last(x)
        return logits


def decision_cost(
    machine: Machine,
    setting: Setting,
    columns: int,
    hidden: Sequence[int],
    outputs: int,
    memory: int = 0,
) -> Cost:
    """What a machine asks for one decision.

    Args:
        machine: runs the policy too.
        setting: its knobs.
        columns: of an observation.
        hidden: sizes of the hidden layers.
        outputs: numbers that it gives.
        memory: units of its LSTM, 0 without one.
    """
    with torch.random.fork_rng(devices=[]):  # the weights are drawn, and never looked at
        controller = Controller(columns, hidden, outputs, memory)
    return machine.price(controller, setting, (columns,))
