"""A battery that every input drains, and that a harvester may fill."""

from dataclasses import dataclass
from math import inf, pi

import torch
from torch import Tensor

from penstock.backbones import InputError


@dataclass(frozen=True, slots=True)
class Battery:
    """Energy for the inputs of a stream.

        charge' = charge + harvest - idle_w * seconds - what inputs took, between 0 and capacity_j
        harvest power = harvest_w, or, with sun_s, harvest_w * pi * max(0, sin(2 pi t / sun_s + p)),
                 which is harvest_w on average; each stream draws its p

    An input for which the charge does not pay the cheapest way to an answer is dropped as it comes.
    Choices that the charge could not pay are masked. Left out: losses of charging, the voltage that
    falls with the charge, ageing.

    Raises:
        InputError: if a number is out of range.
    """

    capacity_j: float = 50.0
    """What it holds."""
    start: tuple[float, float] = (0.2, 1.0)
    """Least and most share of it at a stream's start; drawn evenly."""
    idle_w: float = 0.0
    """What the device takes whether it computes or not."""
    harvest_w: float = 0.0
    """What comes in, on average."""
    sun_s: float = 0.0
    """Seconds from one noon to the next; 0 for power that stays the same."""
    relative: bool = True
    """Whether joules are counted in what the full network takes for an input."""

    def __post_init__(self) -> None:
        low, high = self.start
        if not (0 < self.capacity_j < inf and 0 <= low <= high <= 1):
            raise InputError(
                "a battery has a capacity_j above 0 and starts between two shares of it, got "
                f"{self.capacity_j:g} and {self.start}; correct them"
            )
        numbers = (self.idle_w, self.harvest_w, self.sun_s)
        if not all(0 <= number < inf for number in numbers):
            raise InputError(
                "idle_w, harvest_w and sun_s of a battery are 0 or more, got "
                f"{', '.join(f'{number:g}' for number in numbers)}; correct them"
            )

    def draw(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Shares of the capacity and phases of the sun of n streams, [n] float64 each."""
        low, high = self.start
        uniform = torch.rand(2, n, generator=rng, dtype=torch.float64)
        return low + (high - low) * uniform[0], 2 * pi * uniform[1]

    def harvest_share(self, time_s: Tensor, phase: Tensor) -> Tensor:
        """Power that comes in now, as a share of the most that ever does, [n]."""
        if self.sun_s == 0:
            return torch.ones_like(time_s)
        return (2 * pi * time_s / self.sun_s + phase).sin().clamp(min=0)

    def clock(self, time_s: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Sine and cosine of the time of day, [n] each: noon is 1 and 0, dusk 0 and -1."""
        angle = 2 * pi * time_s / self.sun_s + phase
        return angle.sin(), angle.cos()

    def harvested_j(self, time_s: Tensor, seconds: Tensor, phase: Tensor) -> Tensor:
        """Energy that comes in from time_s on, [n], in the battery's own joules."""
        if self.sun_s == 0:
            return self.harvest_w * seconds
        turn = 2 * pi / self.sun_s
        start = turn * time_s + phase
        return self.harvest_w * pi / turn * (_lit(start + turn * seconds) - _lit(start))


def _lit(angle: Tensor) -> Tensor:
    """The integral of max(0, sin) from 0 to an angle."""
    turns = (angle / (2 * pi)).floor()
    rest = angle - 2 * pi * turns
    return 2 * turns + 1 - rest.clamp(max=pi).cos()
