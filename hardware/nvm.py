"""Cells of non-volatile memory: how they miss their target, drift and rustle.

Conductances in microsiemens, times in seconds after programming. Fits of IBM/aihwkit
(`inference/noise`, MIT licence), as its sources name them. Fits of one data set differ by a factor
of 3 between authors (sandialabs/cross-sim against aihwkit at zero conductance): repeat a claim with
`spread` from 0.5 to 3.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from penstock.backbones import InputError
from penstock.backbones.errors import did_you_mean

FIRST_READ_S: Final = 20.0
"""Seconds after programming at which drift begins to count. Source: IBM/aihwkit, t_0."""


class Device(ABC):
    """A kind of cell; `g` are conductances as shares of the largest, of any shape."""

    g_max_us: float
    """Largest conductance, in microsiemens."""

    @abstractmethod
    def programming_us(self, g: Tensor) -> Tensor:
        """Deviation of a programmed conductance from its target g, in microsiemens."""

    @abstractmethod
    def drift(self, g: Tensor, draw: Tensor) -> Tensor:
        """Exponent of the drift of cells with target g, from standard normal draws; 0 for none."""

    @abstractmethod
    def read_us(self, g: Tensor, now_us: Tensor, time_s: float) -> Tensor:
        """Deviation of a read of a cell with programmed g that now conducts `now_us`."""

    def program(self, g: Tensor, draw: Tensor, spread: float) -> Tensor:
        """Conductances in microsiemens after programming to g, from standard normal draws."""
        return (g * self.g_max_us + spread * self.programming_us(g) * draw).clamp(min=0)

    def age(self, programmed_us: Tensor, exponent: Tensor, time_s: float) -> Tensor:
        """Conductances after so many seconds: G * ((t + 20 s) / 20 s)^-exponent."""
        return programmed_us * ((time_s + FIRST_READ_S) / FIRST_READ_S) ** -exponent


@final
@dataclass(frozen=True, slots=True)
class Pcm(Device):
    """Phase-change memory, fit of Nandakumar et al. (2019) in IBM/aihwkit."""

    g_max_us: float = 25.0

    def programming_us(self, g: Tensor) -> Tensor:
        """0.26348 + 1.9650 g - 1.1731 g^2, at 25 microsiemens."""
        return (0.26348 + 1.9650 * g - 1.1731 * g.square()) * (self.g_max_us / 25)

    def drift(self, g: Tensor, draw: Tensor) -> Tensor:
        """Mean and deviation fall with ln g."""
        ln = g.clamp(min=1e-7).log()
        mean = (-0.0155 * ln + 0.0244).clamp(0.049, 0.1)
        deviation = (-0.0125 * ln - 0.0059).clamp(0.008, 0.045)
        return (mean + deviation * draw).abs()

    def read_us(self, g: Tensor, now_us: Tensor, time_s: float) -> Tensor:
        """G(t) * min(0.2, 0.0088 / g^0.65) * sqrt(ln((t + 250 ns) / 500 ns))."""
        share = (0.0088 / g.pow(0.65).clamp(min=1e-3)).clamp(max=0.2)
        return now_us * share * _flicker(time_s)


@final
@dataclass(frozen=True, slots=True)
class ReRam(Device):
    """Filamentary ReRAM, fit of Wan et al. (2022) in IBM/aihwkit; relaxed for 1 s, 1 or 2 days."""

    relaxed: str = "1d"
    """"1s", "1d" or "2d": how long after programming the spread was measured."""
    g_max_us: float = 40.0

    def programming_us(self, g: Tensor) -> Tensor:
        """A polynomial of fourth order in g, at 40 microsiemens."""
        value = torch.zeros_like(g)
        for coefficient in reversed(_WAN[self.relaxed]):
            value = value * g + coefficient
        return value * (self.g_max_us / 40)

    def drift(self, g: Tensor, draw: Tensor) -> Tensor:
        """None: relaxation is in the spread."""
        return torch.zeros_like(g)

    def read_us(self, g: Tensor, now_us: Tensor, time_s: float) -> Tensor:
        """1 % of the largest weight, whatever the state [IBM/aihwkit: about 1 %]: of two cells."""
        return torch.full_like(g, 0.01 / 2**0.5 * self.g_max_us)


@final
@dataclass(frozen=True, slots=True)
class StateIndependent(Device):
    """Cells whose errors do not depend on their state (IBM/aihwkit)."""

    g_max_us: float = 25.0

    def programming_us(self, g: Tensor) -> Tensor:
        """0.2 microsiemens."""
        return torch.full_like(g, 0.2)

    def drift(self, g: Tensor, draw: Tensor) -> Tensor:
        """0.1 with deviation 0.05."""
        return (0.1 + 0.05 * draw).abs()

    def read_us(self, g: Tensor, now_us: Tensor, time_s: float) -> Tensor:
        """1 microsiemens * sqrt(ln((t + 250 ns) / 500 ns)), times the share that conducts now."""
        return now_us / self.g_max_us * _flicker(time_s)


_WAN: Final = {
    "1s": (0.348, 16.030, -43.853, 45.393, -16.815),
    "1d": (0.701, 22.086, -50.773, 47.095, -16.458),
    "2d": (0.782, 20.274, -43.507, 37.062, -11.934),
}
"""Of 1, g, g^2, ...: deviations in microsiemens. Source: IBM/aihwkit, fit of Wan et al. (2022)."""

DEVICES: Final[dict[str, Device]] = {
    "pcm": Pcm(),
    "reram_1s": ReRam("1s"),
    "reram_1d": ReRam("1d"),
    "reram_2d": ReRam("2d"),
    "state_independent": StateIndependent(),
}
"""By the names that a description of a machine uses."""


def device(name: str) -> Device:
    """A kind of cell by its name.

    Raises:
        InputError: if there is none of that name.
    """
    if name not in DEVICES:
        raise InputError(
            f"a cell is one of {', '.join(DEVICES)}, got {name!r}.{did_you_mean(name, DEVICES)}"
        )
    return DEVICES[name]


def _flicker(time_s: float) -> float:
    """Growth of 1/f noise: sqrt(ln((t + 250 ns) / 500 ns)), t counted from the first read on."""
    ratio = (time_s + FIRST_READ_S + 250e-9) / 500e-9
    return float(torch.tensor(ratio, dtype=torch.float64).log().sqrt())
