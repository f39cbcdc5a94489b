"""When the inputs of a stream come."""

from dataclasses import dataclass
from math import inf, isfinite

import torch
from torch import Tensor

from penstock.backbones import InputError


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Inputs come one after the other, wait until the network is free, and grow stale.

        gap      period_s on average; within a burst period_s / burst, and between two bursts
                 as much longer as keeps the average
        burst    1 + geometric inputs, `burst_inputs` on average
        jitter   each gap is multiplied by 1 - jitter + jitter * e, e exponential with mean 1:
                 0 is a clock, 1 a Poisson process where there are no bursts

    Of inputs that wait the oldest goes first. One that has waited past its deadline is dropped, and
    so is the oldest where more than `capacity` wait. An answer that comes after the deadline is
    worth nothing; a dropped input counts as answered wrong. Left out: answers for several inputs at
    once, as a batch would give.

    Raises:
        InputError: if a number is out of range.
    """

    period_s: float = 1.0
    """Seconds between two inputs, on average. [estimate] A camera that looks once a second."""
    burst: float = 1.0
    """How many times as fast inputs come within a burst; 1: they never do."""
    burst_inputs: float = 8.0
    """Inputs of a burst, on average. [estimate]"""
    jitter: float = 0.0
    """From 0, a clock, to 1, chance."""
    deadline_s: float = inf
    """From when an input comes until its answer is of no use."""
    capacity: int = 16
    """Inputs that wait at most."""

    def __post_init__(self) -> None:
        if not (0 < self.period_s < inf and self.deadline_s > 0 and self.capacity >= 1):
            raise InputError(
                "inputs come with a period_s and a deadline_s above 0 and a capacity of 1 or more, "
                f"got {self.period_s:g}, {self.deadline_s:g} and {self.capacity}; correct them"
            )
        if not (1 <= self.burst < inf and 1 <= self.burst_inputs < inf and 0 <= self.jitter <= 1):
            raise InputError(
                "burst and burst_inputs are 1 or more and jitter lies in 0..1, got "
                f"{self.burst:g}, {self.burst_inputs:g} and {self.jitter:g}; correct them"
            )

    @property
    def hurried(self) -> bool:
        """Whether there is a deadline."""
        return isfinite(self.deadline_s)

    def draw(self, n: int, inputs: int, rng: torch.Generator) -> Tensor:
        """Seconds at which the inputs of n streams come, [n, inputs] float64, rising from 0."""
        shape = (n, inputs)
        fresh = torch.rand(shape, generator=rng, dtype=torch.float64) < 1 / self.burst_inputs
        short_s = self.period_s / self.burst
        long_s = self.burst_inputs * self.period_s - (self.burst_inputs - 1) * short_s
        gap_s = torch.where(fresh, long_s, short_s)
        chance = -torch.rand(shape, generator=rng, dtype=torch.float64).clamp(min=1e-300).log()
        gap_s = gap_s * (1 - self.jitter + self.jitter * chance)
        gap_s[:, 0] = 0.0
        return gap_s.cumsum(dim=1)
