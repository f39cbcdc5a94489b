"""Running a whole network on a machine, outside of an environment: to fit it or to look at it."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from penstock.backbones import FULL, Block, Run, Setting
from penstock.backbones.block import STEM
from penstock.hardware.cost import Cost, Job
from penstock.hardware.machine import Machine


def through(
    machine: Machine,
    rng: torch.Generator,
    setting: Setting = FULL,
    *,
    pay: Callable[[Cost], object] = lambda cost: None,
) -> Run:
    """What `Backbone.answers` takes as `run`, to have a machine run stem, blocks and heads.

    The machine's conditions are drawn at each stem.

    Args:
        machine: to run everything.
        rng: its only source of randomness.
        setting: of the machine's knobs; settings of `answers` that name one go before.
        pay: told what each job cost.

    Examples:
        >>> from penstock.backbones import tiny_resnet
        >>> from penstock.hardware import build_machine
        >>> run = through(build_machine("phone"), torch.Generator())
        >>> tiny_resnet().eval().answers(torch.rand(2, 1, 8, 8), run=run)[2].shape
        torch.Size([2, 10])
    """
    state: Mapping[str, Tensor] = {}

    def run(block: Block, x: Tensor, own: Setting) -> Tensor:
        nonlocal state
        if block.name == STEM:
            state = machine.reset(len(x), rng)
        y, cost, state = machine.run(Job(block, x, {**setting, **own}), state, rng)
        pay(cost)
        return y

    return run
