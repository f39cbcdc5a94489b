"""A core that skips multiplications by zero: exact results, time and energy as the data have it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from penstock.backbones import Block, InputError, Knob, Product, Setting, restrict
from penstock.backbones.knob import numbers
from penstock.backbones.traced import traced
from penstock.hardware.cost import Cost, Job
from penstock.hardware.machine import Machine, State
from penstock.hardware.sparse_loop import Kernel, Loop, Mode, cycles, most_cycles
from penstock.hardware.sparse_reads import Multiply, kernel_of, zero_activations, zero_weights


@final
@dataclass(frozen=True)
class Sparse(Machine):
    """Runs every product as a loop on an in-order core, which skips steps that multiply by zero.

        cycles  = overhead + steps * full - steps where x = 0 * (full - x_zero)
                  - steps where only w = 0 * (full - w_zero)
        latency = cycles / clock_hz
        energy  = cycles * cycle_j

    on top of what the inner machine charges; `penstock.hardware.sparse_loop` says what the loops
    are and what a step takes. The zeros are those that are really multiplied: of activations and
    weights as all machines around and inside of this one leave them, each as often as it is read;
    -0.0 is one. The zeros around an image lie in memory: they are read, and multiplied or skipped,
    like any others. Four lanes hold neighbouring channels of a pixel; a step is skipped if all are
    zero.

    After Sen et al., SparCE (arXiv 1711.06315); loops and cycles are a [reconstruction]. No result
    changes as long as weights and activations are finite: 0 * inf would have been NaN. MACs are
    counted as if nothing were skipped. Left out: element-wise operations, products of two
    activations, the energy of the skip logic, caches, and that a skipped instruction may take less
    or more than the mean energy of a cycle.
    """

    inner: Machine
    """Runs the block; multiplications and memories should cost nothing there."""
    mac_cycles: Mapping[int, int]
    """Bits of both operands -> cycles of a multiply-accumulate."""
    clock_hz: float
    """Cycles per second."""
    cycle_j: float
    """Joules per cycle of core and memories."""
    mode: Mode = "one_entry"
    """What is done about zeros: "dense", "branch", "one_entry" or "two_entries"."""
    lanes: int = 1
    """Channels that are multiplied at once; 4 is SIMD."""
    scheduled: bool = False
    """Whether the loops' waits are filled with independent instructions."""
    load_cycles: int = 1
    """Of a load."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.lanes, self.load_cycles, *self.mac_cycles.values()) < 1 or self.clock_hz <= 0:
            raise InputError(
                "lanes, load_cycles and mac_cycles are at least 1 and clock_hz is above 0, got "
                f"{self.lanes}, {self.load_cycles}, {dict(self.mac_cycles)} and "
                f"{self.clock_hz:g}; raise them"
            )

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Those of the inner machine."""
        return self.inner.knobs

    def reset(self, n: int, rng: torch.Generator) -> State:
        """The inner machine's conditions."""
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Run the block exactly, and charge each lane the cycles that its zeros leave.

        A mask computes every choice: it is charged the most that the full one can cost.
        """
        own = restrict(job.setting, job.block)
        if numbers(own) != own:
            y, cost, state = self.inner.run(job, state, rng)
            return y, cost + self._most(job.block, own, tuple(job.x.shape[1:])), state
        spent = torch.zeros(len(job.x), dtype=torch.float64)

        def count(product: Product) -> Tensor:
            nonlocal spent
            z, x, weight = _watched(product, job)
            spent = spent + self._cycles(product, z, x, weight)
            return z

        y, cost, state = self.inner.run(replace(job, perform=count), state, rng)
        return y, cost + self._paid(spent), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """What it costs where the fewest zeros help: the dense loop, or the branches in vain."""
        return self.inner.price(block, setting, shape) + self._most(block, setting, shape)

    def ideal(self) -> Machine:
        """The same around the inner machine without its faults: this one has none."""
        return replace(self, inner=self.inner.ideal())

    def _cycles(self, product: Product, z: Tensor, x: Tensor, weight: Tensor) -> Tensor | int:
        """Of one product, for each lane."""
        if not len(x):
            return 0
        kernel, loop = kernel_of(x, weight, z), self._loop(product.weight.bits)
        if self.mode == "dense":
            return most_cycles(kernel, loop)
        asked = x, weight, product.multiply, kernel, self.lanes
        zero_w = zero_weights(*asked).cpu() if self.mode == "two_entries" else 0
        return cycles(kernel, loop, zero_activations(*asked).cpu(), zero_w)

    def _loop(self, bits: int) -> Loop:
        if bits not in self.mac_cycles:
            raise InputError(
                f"this machine has mac_cycles of {sorted(self.mac_cycles)} bits, got {bits}; "
                "add them to the machine"
            )
        return Loop(self.mode, self.mac_cycles[bits], self.load_cycles, self.lanes, self.scheduled)

    def _most(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        own = numbers(restrict(setting, block))
        each = traced(block, own, shape, _kernel)
        return self._paid(sum(most_cycles(kernel, self._loop(bits)) for kernel, bits in each))

    def _paid(self, spent: Tensor | int) -> Cost:
        return Cost(energy_j=spent * self.cycle_j, latency_s=spent / self.clock_hz)


def _watched(product: Product, job: Job) -> tuple[Tensor, Tensor, Tensor]:
    """Have a product performed; what comes out, and the operands that were multiplied.

    Machines around this one disturb the operands inside of `job.perform`, so that they are seen
    where they are multiplied; a machine that multiplies in its own way gets what it was given.
    """
    plain: Multiply = product.multiply
    given = (product.x.values, product.weight.values)
    seen = []

    def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.shape == given[0].shape and weight.shape == given[1].shape:
            seen.append((x, weight))
        return plain(x, weight, bias)

    z = job.perform(replace(product, multiply=multiply))
    return z, *(seen or [given])[0]


def _kernel(product: Product, z: Tensor) -> tuple[Kernel, int]:
    """The shape of a product, and its bits."""
    return kernel_of(product.x.values, product.weight.values, z), product.weight.bits
