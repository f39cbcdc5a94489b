"""Crossbars whose conductances drift while a stream goes on.

Letters: `n` lanes, `A` ages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from math import inf, log
from typing import Any, final

import torch
from torch import Tensor

from penstock.backbones import Block, InputError, Knob, Setting
from penstock.backbones.block import STEM
from penstock.hardware.apart import RunJob, run_apart
from penstock.hardware.bound import machines
from penstock.hardware.cost import Cost, Job
from penstock.hardware.crossbar import Crossbar
from penstock.hardware.machine import Condition, Machine, State


@final
@dataclass(frozen=True)
class Ageing(Machine):
    """Crossbars that grow older: all that are wrapped were programmed so long before a stream.

        G(t) = G * ((t + 20 s) / 20 s)^-exponent      of each cell, by `Device.age`

    Exponents are those of the cells, 0.05 to 0.1 in phase-change memory (fit of Nandakumar et al.,
    2019, in IBM/aihwkit; Joshi et al., Nature Communications 2020, found 0.06 on average
    [recalled]). A stream starts at an age of its own, and the age grows by whatever time passes.
    Conductances move with the logarithm of time, so they are computed at a few `ages_s` alone: an
    input meets those of the age that is nearest, logarithmically, as it begins. The chip is never
    programmed anew.

    `log10_age_s` is observed.

    Raises:
        InputError: if ages are out of range, or nothing that is wrapped is a crossbar.
    """

    inner: Machine
    """Crossbars, perhaps within others; their own `time_s` does not count."""
    ages_s: Sequence[float] = (1e2, 1e4, 1e6)
    """Ages at which conductances are computed, rising; recordings hold every input at each."""
    start_s: Sequence[float] = (1e1, 1e7)
    """Least and most age at which a stream starts, drawn evenly on a logarithmic scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ages = list(self.ages_s)
        if not ages or sorted(set(ages)) != ages or not (0 < ages[0] and ages[-1] < inf):
            raise InputError(f"ages_s are seconds above 0 that rise, got {ages}; correct them")
        if len(self.start_s) != 2 or not 0 < self.start_s[0] <= self.start_s[1] < inf:
            raise InputError(
                "start_s is the least and the most age, above 0, at which a stream starts, got "
                f"{list(self.start_s)}; correct it"
            )
        if not any(isinstance(each, Crossbar) for each in machines(self.inner)):
            raise InputError(
                "what grows older is a Crossbar, perhaps within other machines, got "
                f"{type(self.inner).__name__} without one; wrap one that has it"
            )

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Those of what it wraps."""
        return self.inner.knobs

    def reset(self, n: int, rng: torch.Generator) -> State:
        """Ages are drawn.

        `log10_age_s` is [n]; `age_s` and `met` [n, 1], the age and which of `ages_s` the input
        meets, are no policy's business, which the second dimension says.
        """
        inner, (low, high) = self.inner.reset(n, rng), self.start_s
        share = torch.rand(n, generator=rng, dtype=torch.float64)
        state = self._at(inner, low * (log(high / low) * share).exp())
        return {**state, "met": self._nearest(state)}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        """Run lanes of different ages apart."""
        if job.block.name == STEM:
            state = {**state, "met": self._nearest(state)}
        met = state["met"].squeeze(1)

        def at(age_s: float) -> RunJob:
            return lambda job, own, rng: aged(self.inner, age_s).run(job, own, rng)

        places = [(met == place, at(age_s)) for place, age_s in enumerate(self.ages_s)]
        y, cost, state = run_apart(job, state, rng, places)
        return y, cost, self._older(state, cost.latency_s)

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        """That of what it wraps."""
        return self.inner.price(block, setting, shape)

    def later(self, state: State, seconds: Tensor) -> State:
        """Older by so many seconds."""
        return self._older(self.inner.later(state, seconds), seconds)

    def next_input(self, state: State) -> State:
        """The age that is met is settled."""
        state = self.inner.next_input(state)
        return {**state, "met": self._nearest(state)}

    def bill(self, cost: Cost, state: State) -> tuple[Cost, State]:
        """As recorded; it takes time, too."""
        cost, state = self.inner.bill(cost, state)
        return cost, self._older(state, cost.latency_s)

    def conditions(self) -> Sequence[Condition]:
        """Every age, with each condition of what it wraps."""
        inner = self.inner.conditions()
        return [{"age_s": float(age_s), **each} for age_s in self.ages_s for each in inner]

    def condition(self, state: State) -> Tensor:
        """The age that is met, and what else is."""
        met = state["met"].squeeze(1)
        return met * len(self.inner.conditions()) + self.inner.condition(state)

    def ideal(self) -> Machine:
        """Exact at every age, so that one will do."""
        return replace(self, inner=self.inner.ideal(), ages_s=self.ages_s[:1])

    def _at(self, state: State, age_s: Tensor) -> State:
        return {**state, "age_s": age_s.unsqueeze(1), "log10_age_s": age_s.log10()}

    def _older(self, state: State, seconds: Tensor | float) -> State:
        return self._at(state, state["age_s"].squeeze(1) + seconds)

    def _nearest(self, state: State) -> Tensor:
        """Which of `ages_s` is nearest on a logarithmic scale, [n, 1]."""
        middles = [(one * two) ** 0.5 for one, two in pairwise(self.ages_s)]
        bounds = torch.tensor(middles, dtype=torch.float64)
        return torch.bucketize(state["age_s"], bounds)


def aged(machine: Machine, time_s: float) -> Machine:
    """The same machine, every crossbar in it so long after programming."""
    found: Machine = _aged(machine, time_s)
    return found


def _aged(thing: Any, time_s: float) -> Any:
    if isinstance(thing, Crossbar):
        thing = replace(thing, time_s=float(time_s))
    if not isinstance(thing, Machine) or not is_dataclass(thing):
        return thing
    old = {field.name: getattr(thing, field.name) for field in fields(thing)}
    new = {name: _aged(value, time_s) for name, value in old.items()}
    changed = {name: value for name, value in new.items() if value is not old[name]}
    return replace(thing, **changed) if changed else thing
