"""A machine that grows warm by its work, and slower once it is hot.

Letters: `n` lanes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from penstock.backbones import Block, InputError, Knob, Setting
from penstock.backbones.block import STEM
from penstock.hardware.cost import Cost, Job
from penstock.hardware.machine import Condition, Machine, State


@final
@dataclass(frozen=True)
class Heated(Machine):
    """Warms up by the energy of what it wraps, cools towards its surroundings, and throttles.

        C dT/dt  = P - (T - ambient) / R      P = energy / latency at work, idle power at rest
        slowdown = 1 + (slowest - 1) * (T - throttle) / band, from 1 to slowest
        latency  = slowdown * latency of what it wraps
        energy   = its energy + idle_w * the seconds that are added

    One heat capacity behind one resistance, solved exactly:
    T' = T_end + (T - T_end) exp(-t / (R C)) with T_end = ambient + R P. The clock falls and the
    voltage stays: work takes the same energy, and what is drawn anyway is drawn for longer. The
    thermometer is read as an input begins, and when the machine has stood idle; the clock that
    follows holds for the whole input. Left out: leakage that grows with the temperature, the slow
    warming of a case, and that a governor takes steps.

    `warmth` is observed: 0 at ambient temperature, 1 where throttling begins. All that is wrapped
    slows down, so a link stands outside: `Split(near=Heated(..))`.

    Raises:
        InputError: if a constant is out of range.
    """

    inner: Machine
    """What warms it, at full clock."""
    resistance_k_per_w: float
    """R, from what grows warm to the surroundings."""
    capacity_j_per_k: float
    """C, of what grows warm."""
    throttle_c: float
    """Temperature from which on the clock falls."""
    band_c: float
    """Degrees above it within which the clock falls to the lowest."""
    slowest: float
    """How many times as long work takes at the lowest clock."""
    idle_w: float = 0.0
    """What the device takes while nothing runs; it is in no bill but that of slower work."""
    ambient_c: float = 25.0
    """Of the surroundings, which stay as they are for a stream."""
    start: Sequence[float] = (0.0, 0.0)
    """Least and most warmth with which a stream starts; each draws its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        above = (self.resistance_k_per_w, self.capacity_j_per_k, self.band_c, self._span_c)
        if min(above) <= 0 or self.slowest < 1:
            raise InputError(
                "resistance_k_per_w, capacity_j_per_k and band_c are above 0, throttle_c above "
                f"ambient_c, and slowest at least 1, got {self.resistance_k_per_w:g}, "
                f"{self.capacity_j_per_k:g}, {self.band_c:g}, {self.throttle_c:g} and "
                f"{self.ambient_c:g}, and {self.slowest:g}; correct them"
            )
        if len(self.start) != 2 or not 0 <= self.start[0] <= self.start[1]:
            raise InputError(
                "start is the least and the most warmth, 0 at ambient temperature and 1 where "
                f"throttling begins, got {list(self.start)}; correct it"
            )

    @property
    def _span_c(self) -> float:
        return self.throttle_c - self.ambient_c

    @property
    def time_constant_s(self) -> float:
        """R C: seconds after which 63 % of the way to a new temperature are gone."""
        return self.resistance_k_per_w * self.capacity_j_per_k

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Those of the inner machine."""
        return self.inner.knobs

    @property
    def bounded_by(self) -> str:
        """How slow it may get."""
        return repr((self.slowest, self.idle_w))

    def temperature_c(self, state: State) -> Tensor:
        """What the thermometer said last, [n]."""
        return self.ambient_c + self._span_c * state["warmth"]

    def slowdown(self, warmth: Tensor) -> Tensor:
        """How many times as long work takes."""
        share = ((warmth - 1) * (self._span_c / self.band_c)).clamp(0, 1)
        return 1 + (self.slowest - 1) * share

    def reset(self, n: int, rng: torch.Generator) -> State:
        """Warmth is drawn.

        `warmth` is [n]; `slowdown`, and `unread_j` and `unread_s`, what was done since the
        thermometer was read, are [n, 1]: no policy's business.
        """
        inner, (low, high) = self.inner.reset(n, rng), self.start
        warmth = low + (high - low) * torch.rand(n, generator=rng, dtype=torch.float64)
        return {
            **inner,
            "warmth": warmth,
            "slowdown": self.slowdown(warmth).unsqueeze(1),
            "unread_j": torch.zeros(n, 1, dtype=torch.float64),
            "unread_s": torch.zeros(n, 1, dtype=torch.float64),
        }

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Run the job on the inner machine, at the clock of this input."""
        if job.block.name == STEM:
            state = self._clocked(state)
        y, cost, state = self.inner.run(job, state, rng)
        return y, *self._slowed(cost, state)

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """What it costs at the lowest clock."""
        cost = self.inner.price(block, setting, shape)
        return self._at_clock(cost, self.slowest)

    def later(self, state: State, seconds: Tensor) -> State:
        """It cools; who waits no time is as before."""
        state, idle_w = self.inner.later(state, seconds), torch.full_like(seconds, self.idle_w)
        read = self._read(state)
        warmth = self._after(read, idle_w * seconds, seconds)
        waited = seconds > 0
        return {
            **state,
            "warmth": torch.where(waited, warmth, state["warmth"]),
            "unread_j": state["unread_j"] * ~waited.unsqueeze(1),
            "unread_s": state["unread_s"] * ~waited.unsqueeze(1),
        }

    def next_input(self, state: State) -> State:
        """The thermometer is read, and the clock follows."""
        return self._clocked(self.inner.next_input(state))

    def bill(self, cost: Cost, state: State) -> tuple[Cost, State]:
        """At the clock of this input."""
        return self._slowed(*self.inner.bill(cost, state))

    def conditions(self) -> Sequence[Condition]:
        """Recorded cold: those of the inner machine, at full clock."""
        return [{"warmth": 0.0, **condition} for condition in self.inner.conditions()]

    def condition(self, state: State) -> Tensor:
        """That of the inner machine."""
        return self.inner.condition(state)

    def ideal(self) -> Machine:
        """Heat changes no result: the same around the ideal of what it wraps."""
        return replace(self, inner=self.inner.ideal())

    def _clocked(self, state: State) -> State:
        warmth = self._read(state)
        return {
            **state,
            "warmth": warmth,
            "slowdown": self.slowdown(warmth).unsqueeze(1),
            "unread_j": torch.zeros_like(state["unread_j"]),
            "unread_s": torch.zeros_like(state["unread_s"]),
        }

    def _slowed(self, cost: Cost, state: State) -> tuple[Cost, State]:
        cost = self._at_clock(cost, state["slowdown"].squeeze(1))
        unread_j = state["unread_j"].squeeze(1) + cost.energy_j
        unread_s = state["unread_s"].squeeze(1) + cost.latency_s
        done = {"unread_j": unread_j.unsqueeze(1), "unread_s": unread_s.unsqueeze(1)}
        return cost, {**state, **done}

    def _at_clock(self, cost: Cost, slowdown: Tensor | float) -> Cost:
        latency_s = slowdown * cost.latency_s
        energy_j = cost.energy_j + self.idle_w * (latency_s - cost.latency_s)
        return replace(cost, energy_j=energy_j, latency_s=latency_s)

    def _read(self, state: State) -> Tensor:
        """Warmth after what was done since the thermometer was read."""
        energy_j, seconds = state["unread_j"].squeeze(1), state["unread_s"].squeeze(1)
        return self._after(state["warmth"], energy_j, seconds)

    def _after(self, warmth: Tensor, energy_j: Tensor, seconds: Tensor) -> Tensor:
        """Warmth after seconds [n] in which energy [n] came in evenly; at once in no time."""
        x = seconds * (1 / self.time_constant_s)
        gone = -torch.expm1(-x)
        left = torch.where(x > 0, gone / x, 1.0)
        return warmth * (1 - gone) + energy_j * left * (1 / (self.capacity_j_per_k * self._span_c))
