"""Every input under settings that do not look at it: what learning has to beat, and the oracle's.

Letters: `I` inputs, `A` configurations (a setting a block, and an exit), `R` resources.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock.backbones import RUN, Images, every_setting
from penstock.envs import Lanes
from penstock.hardware import RESOURCES, Job, Machine

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """A setting for every block, the same for all inputs."""

    name: str
    settings: tuple[Mapping[str, float], ...]  # D of them


@dataclass(frozen=True, slots=True)
class Statics:
    """The outcome of every input under every configuration."""

    names: tuple[str, ...]  # A of them
    settings: NDArray[np.int64]  # [A] configurations that differ only in the exit share a number
    runs: NDArray[np.bool_]  # [A, D] the blocks that are run
    uniform: NDArray[np.bool_]  # [A] those with one setting for all blocks
    right: NDArray[np.bool_]  # [I, A]
    confidence: Array  # [I, A] largest probability
    cost: Array  # [I, A, R]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Which configurations skip a block, [A]."""
        skipping: NDArray[np.bool_] = np.logical_not(np.all(self.runs, axis=1))
        return skipping

    def take(self, chosen: NDArray[np.bool_]) -> "Statics":
        """Some of the configurations: `chosen` is [A] bool."""
        names = tuple(name for name, keep in zip(self.names, chosen, strict=True) if keep)
        return Statics(
            names,
            self.settings[chosen],
            self.runs[chosen],
            self.uniform[chosen],
            self.right[:, chosen],
            self.confidence[:, chosen],
            self.cost[:, chosen],
        )

    def mean(self, resource: str) -> tuple[Array, Array]:
        """Mean cost and accuracy of each configuration, [A] each."""
        accuracy: Array = self.right.mean(axis=0)
        cost: Array = self.cost[:, :, RESOURCES.index(resource)].mean(axis=0)
        return cost, accuracy


def record_statics(
    lanes: Lanes,
    images: Images,
    plans: Sequence[Plan],
    *,
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> Statics:
    """Run images under every uniform setting, and under plans, with every exit.

    Args:
        lanes: gives backbone, machine and the choices offered.
        images: I of them.
        plans: settings block by block, as `find_plans` found them on validation images.
        seed: of the machine.
        progress: called after each setting.
    """
    depth = lanes.backbone.depth
    uniform = [Plan(describe(s), (s,) * depth) for s in uniform_settings(lanes)]
    exits = [i for i in range(depth) if lanes.prices.exits[i]]
    parts = []
    for plan in (*uniform, *plans):
        parts.append(run_plan(lanes, images, plan.settings, seed=seed))
        progress()
    runs = [
        [setting.get(RUN.name, RUN.full) != 0 for setting in plan.settings]
        for plan in (*uniform, *plans)
    ]
    return Statics(
        names=tuple(f"{p.name}, exit {index}" for p in (*uniform, *plans) for index in exits),
        settings=np.repeat(np.arange(len(runs)), len(exits)),
        runs=np.repeat(np.array(runs, dtype=np.bool_), len(exits), axis=0),
        uniform=np.repeat(np.arange(len(runs)) < len(uniform), len(exits)),
        right=np.concatenate([right for right, _, _ in parts], axis=1),
        confidence=np.concatenate([sure for _, sure, _ in parts], axis=1),
        cost=np.concatenate([cost for _, _, cost in parts], axis=1),
    )


def uniform_settings(lanes: Lanes) -> list[Mapping[str, float]]:
    """Every combination of the choices offered, the same in all blocks, none skipped."""
    knobs = [knob for knob in lanes.offered if knob.name != RUN.name]
    dearest = lanes.prices.settings[-1]
    return [{**dearest, **setting} for setting in every_setting(knobs)]


def describe(setting: Mapping[str, float]) -> str:
    """A setting in words: "width 0.5, bits 8"."""
    return ", ".join(f"{name} {value:g}" for name, value in setting.items() if name != RUN.name)


@torch.no_grad()
def run_plan(
    lanes: Lanes,
    images: Images,
    settings: Sequence[Mapping[str, float]],
    *,
    seed: int,
    batch: int = 500,
) -> tuple[NDArray[np.bool_], Array, Array]:
    """One setting a block, every exit on the way: right and confidence [I, E], cost [I, E, R]."""
    backbone, machine = lanes.backbone, lanes.machine
    rng = torch.Generator().manual_seed(seed)
    right, confidence, costs = [], [], []
    for start in range(0, len(images), batch):
        chunk = images.take(torch.arange(start, min(start + batch, len(images))))
        x = (chunk.pixels.to(lanes.device).float() / 255).contiguous(
            memory_format=torch.channels_last
        )
        state = machine.reset(len(chunk), rng)
        spent = torch.zeros(len(chunk), len(RESOURCES), dtype=torch.float64)
        dearest = lanes.prices.settings[-1]
        x, spent, state = _run(machine, Job(backbone.stem, x, dearest), state, rng, spent)
        answers: list[tuple[Tensor, Tensor]] = []
        for index, setting in enumerate(settings):
            job = Job(backbone.block(index), x, setting)
            x, spent, state = _run(machine, job, state, rng, spent)
            head = backbone.head(index)
            if head is not None:
                job = Job(head, x, dearest)
                logits, spent, state = _run(machine, job, state, rng, spent)
                answers.append((logits.softmax(dim=1).cpu(), spent))
        said = torch.stack([p for p, _ in answers], dim=1)  # [i, exits, classes]
        right.append(said.argmax(dim=2) == chunk.labels.unsqueeze(1))
        confidence.append(said.amax(dim=2))
        costs.append(torch.stack([c for _, c in answers], dim=1))
    return (
        torch.cat(right).numpy(),
        torch.cat(confidence).double().numpy(),
        torch.cat(costs).numpy(),
    )


def _run(
    machine: Machine, job: Job, state: Mapping[str, Tensor], rng: torch.Generator, spent: Tensor
) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
    y, cost, state = machine.run(job, state, rng)
    return y, spent + cost.rows(), state
