"""A machine without faults: exact results, priced by the work that was done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from penstock.backbones import Block, InputError, Setting, Work, restrict, run_block, work
from penstock.backbones.knob import numbers
from penstock.hardware.cost import Cost, Job
from penstock.hardware.machine import Machine, State


@final
@dataclass(frozen=True)
class Digital(Machine):
    """Multipliers, an on-chip SRAM for activations and a memory for the weights.

        energy  = macs * mac_j[bits] + (input + output bytes) * sram_j_per_byte
                  + weight bytes * memory_j_per_byte
        latency = max(macs / macs_per_s[bits], weight bytes / memory_bytes_per_s) + launch_s

    Work that was left out costs nothing, not even a launch. Left out of the model: element-wise
    operations, leakage, the reuse of weights between the inputs of a batch (every input is priced
    as if it came alone), and the bandwidth of the SRAM.
    """

    mac_j: Mapping[int, float]
    """Bits of both operands -> joules per multiply-accumulate."""
    sram_j_per_byte: float
    """Joules per byte of activations read or written."""
    memory_j_per_byte: float
    """Joules per byte of weights fetched from where they are kept (DRAM, flash)."""
    macs_per_s: Mapping[int, float]
    """Bits -> multiply-accumulates per second that are really reached."""
    memory_bytes_per_s: float
    """Bytes of weights per second."""
    launch_s: float
    """Seconds to start a block."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(*self.macs_per_s.values(), self.memory_bytes_per_s) <= 0:
            raise InputError(
                "macs_per_s and memory_bytes_per_s are above 0, got "
                f"{dict(self.macs_per_s)} and {self.memory_bytes_per_s:g}; raise them"
            )

    def reset(self, n: int, rng: torch.Generator) -> State:
        """Nothing changes on this machine."""
        return {}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Run the block, exactly unless the job says otherwise; every lane costs the same."""
        setting = restrict(job.setting, job.block)
        y = run_block(job.block, job.x, setting, job.by)
        # A mask leaves no work out: it costs what the full choice costs.
        return y, self.price(job.block, numbers(setting), tuple(job.x.shape[1:])), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """Exactly what one lane costs."""
        return self.price_work(work(block, restrict(setting, block), shape))

    def price_work(self, asked: Work) -> Cost:
        """What this much work costs, whatever asked for it."""
        if asked.none:
            return Cost()
        bits = asked.weight_bits
        if bits not in self.mac_j or bits not in self.macs_per_s:
            raise InputError(
                f"this machine has prices for {sorted(self.mac_j)} bits, got {bits}; "
                "add a mac_j and a macs_per_s of it to the machine"
            )
        activations = (asked.input_bytes + asked.output_bytes) * self.sram_j_per_byte
        energy_j = (
            asked.macs * self.mac_j[bits]
            + activations
            + asked.weight_bytes * self.memory_j_per_byte
        )
        compute_s = asked.macs / self.macs_per_s[bits]
        memory_s = asked.weight_bytes / self.memory_bytes_per_s
        latency_s = max(compute_s, memory_s) + self.launch_s
        return Cost(energy_j=energy_j, latency_s=latency_s, macs=asked.macs)
