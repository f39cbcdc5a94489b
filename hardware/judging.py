"""How often a network is right on a machine, and what that costs: one setting for all inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penstock.backbones import FULL, Backbone, Block, Images, Run, Setting, black
from penstock.backbones.evaluating import evaluating
from penstock.backbones.training import accuracies
from penstock.hardware.cost import RESOURCES, Cost
from penstock.hardware.machine import Machine
from penstock.hardware.through import through


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of running a network over images."""

    accuracy: float
    """Share of right answers."""
    cost: Cost
    """Of one input, the mean, all heads included."""


def judge(
    backbone: Backbone,
    images: Images,
    machine: Machine,
    setting: Setting = FULL,
    *,
    seeds: Sequence[int] = (0,),
) -> Judged:
    """Run a network on a machine over images, once for each seed: the means.

    With the same seeds a layer draws the same whatever the error rates of others are, and of a chip
    the same faults or fewer at a lower rate: what runs differ in is less by chance.

    Args:
        backbone: stays in the mode that it is in, and is run in evaluation mode.
        images: the fewer, the faster; 1000 to 3000 will do.
        machine: to run stem, blocks and heads.
        setting: of all blocks, the stem and the machine.
        seeds: of the machine's draws.
    """
    total, right = torch.zeros(len(RESOURCES), dtype=torch.float64), 0.0
    jobs: list[Cost] = []
    for seed in seeds:
        on_machine = through(machine, torch.Generator().manual_seed(seed), pay=jobs.append)

        def run(block: Block, x: Tensor, own: Setting, on_machine: Run = on_machine) -> Tensor:
            y = on_machine(block, x, own)
            total.add_(jobs.pop().rows().expand(len(x), -1).sum(dim=0))
            return y

        share = accuracies(backbone, images, setting, stem=setting, run=run)
        right += share[backbone.depth - 1]
    mean = (total / (len(seeds) * len(images))).tolist()
    return Judged(right / len(seeds), Cost(**dict(zip(RESOURCES, mean, strict=True))))


def spent(backbone: Backbone, machine: Machine, setting: Setting = FULL) -> Cost:
    """What a black image costs a network on a machine, all of its heads included."""
    costs: list[Cost] = []
    run = through(machine, torch.Generator(), pay=costs.append)
    with torch.no_grad(), evaluating(backbone):
        backbone.answers(black(backbone), setting, stem=setting, run=run)
    return sum(costs, Cost())


def each_adds(backbone: Backbone, machine: Machine, setting: Setting = FULL) -> dict[str, float]:
    """Joules that each machine adds to the one inside of it, for a black image; outermost first.

    >>> from penstock.backbones import tiny_resnet
    >>> from penstock.hardware import build_machine
    >>> joules = each_adds(tiny_resnet(), build_machine("analog_dram"))
    >>> list(joules), round(joules["Dram"] / sum(joules.values()), 2)
    (['Dram', 'Analog', 'Digital'], 0.99)
    """
    found, total_j = {}, float(spent(backbone, machine, setting).energy_j)
    while (inner := getattr(machine, "inner", getattr(machine, "near", None))) is not None:
        inner_j = float(spent(backbone, inner, setting).energy_j)
        found[type(machine).__name__] = total_j - inner_j
        machine, total_j = inner, inner_j
    return {**found, type(machine).__name__: total_j}
