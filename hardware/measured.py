"""A machine whose seconds were measured on the processor at hand."""

from dataclasses import dataclass, replace
from math import isfinite
from typing import final

import torch
from torch import Tensor

from penstock.backbones import Backbone, Block, InputError, Knob, Setting, in_order, work
from penstock.backbones.block import POLICY
from penstock.hardware.cost import Cost, Job
from penstock.hardware.machine import Machine, State
from penstock.hardware.timings import asked, key, read_timings, structure


@final
@dataclass(frozen=True)
class Measured(Machine):
    """Another machine, with the seconds of a table that `penstock profile` wrote.

        latency = median seconds of the block under the setting, in a batch / inputs in the batch
        energy  = watts * latency, or what the other machine says

    Everything else is the other machine's; its seconds are dropped, so what adds seconds (a link)
    wraps this machine and not the other way round. Price and run are the same number.

    Left out: that a group of lanes is often smaller than the batch that was measured, and what the
    rest of the program costs beside network and policy. Measured seconds need not grow with the
    knobs: they scatter by a few percent, and bits that are emulated in floats take longer than the
    floats. They are reported as they were measured; no rule of `check_machine` bends them.

    Raises:
        InputError: if the table cannot be read, lacks the batch, or a number is not positive; when
            a block is run or priced that the table lacks or that was measured as another.
    """

    inner: Machine
    table: str
    """Path of the table, from where the program runs."""
    batch: int = 1
    """Inputs that are computed together, one of the batches of the table."""
    watts: float | None = None
    """What the processor draws while it computes; None leaves energy to the other machine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        batches = read_timings(self.table).batches
        if self.batch not in batches:
            known = ", ".join(map(str, batches))
            raise InputError(
                f"{self.table} holds times of batches of {known}, got batch = {self.batch}; "
                f"profile again with --batches {self.batch}"
            )
        if self.watts is not None and not (self.watts > 0 and isfinite(self.watts)):
            raise InputError(f"watts are positive and finite, got {self.watts}; leave them out")

    @property
    def bound(self) -> bool:
        """Always: seconds are those of one network."""
        return True

    def fits(self, backbone: Backbone) -> None:
        """Refuse a network that was not measured."""
        for block, shape in in_order(backbone):
            self.latency_s(block, {}, shape)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Those of the other machine."""
        return self.inner.knobs

    def reset(self, n: int, rng: torch.Generator) -> State:
        """The conditions of the other machine."""
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Have the other machine run the job, and charge what was measured."""
        y, cost, state = self.inner.run(job, state, rng)
        return y, self._timed(cost, job.block, job.setting, tuple(job.x.shape[1:])), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """What was measured; the rest as the other machine says."""
        return self._timed(self.inner.price(block, setting, shape), block, setting, shape)

    def ideal(self) -> Machine:
        """The ideal of the other machine, as fast as this one."""
        return replace(self, inner=self.inner.ideal())

    def _timed(self, cost: Cost, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        latency_s = self.latency_s(block, setting, shape)
        if self.watts is None:
            return replace(cost, latency_s=latency_s)
        return replace(cost, latency_s=latency_s, energy_j=self.watts * latency_s)

    def latency_s(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> float:
        """Seconds of one input of `shape` (C, H, W) as they stand in the table."""
        timed = read_timings(self.table).blocks.get(block.name)
        own = asked(block, setting)
        if timed is None or key(own) not in timed.seconds:
            under = f" under {own}" if own else ""
            raise InputError(
                f"{self.table} holds no time of {block.name}{under}; "
                f"profile the network that has it: penstock profile BACKBONE --out {self.table}"
            )
        if block.name == POLICY:
            if work(block, {}, shape).macs > timed.macs:
                raise InputError(
                    f"{self.table} was measured with a smaller policy ({timed.macs:g} "
                    f"multiplications) than this one ({work(block, {}, shape).macs:g}); "
                    "profile again with its --hidden layers"
                )
        elif timed.structure != structure(block, shape):
            raise InputError(
                f"{self.table} was measured on another network: its {block.name} is not the one "
                "that is run here; profile this network"
            )
        return timed.seconds[key(own)][self.batch] / self.batch
