"""A radio link from a device to a server: how long a transfer takes, and what energy.

Letters: `n` lanes.
"""

from dataclasses import dataclass
from functools import cache
from math import log
from typing import Final, final

import torch
from torch import Tensor

from penstock.backbones import InputError
from penstock.hardware.machine import State
from penstock.hardware.traces import Bandwidth, Traces, constant


@final
@dataclass(frozen=True)
class Radio:
    """Power while it sends: joules_per_bit * bits per second + power_w.

    One that is fitted to phones of 2012; modern radios send more bits per joule.
    """

    joules_per_bit: float
    """1e-9 J/bit are 1 mW per Mbit/s."""
    power_w: float
    """Whatever the bandwidth."""


LTE: Final = Radio(438.39e-9, 1.28804)
"""438.39 mW per Mbit/s and 1288.04 mW, sending. [recalled] Huang et al., A Close Examination of
Performance and Power Characteristics of 4G LTE Networks (MobiSys 2012), table 4."""

THREE_G: Final = Radio(868.98e-9, 0.81788)
"""868.98 mW per Mbit/s and 817.88 mW, sending. [recalled] As above."""

WIFI: Final = Radio(283.17e-9, 0.13286)
"""283.17 mW per Mbit/s and 132.86 mW, sending. [recalled] As above."""


@final
@dataclass(frozen=True)
class Link:
    """Bandwidth, round-trip time and the device's power while it sends and waits.

        seconds = time in which the changing bandwidth carries the bits, + rtt_s once
        energy  = joules_per_bit * bits + power_w * seconds sending + idle_w * seconds waiting

    A stream draws a trace, where in it it starts and a round-trip time. Left out: the answer's
    transfer (some bytes, within the round trip), packets and their headers, slow start, the tail of
    a radio that falls asleep late, and other traffic than the trace's own.

    Raises:
        InputError: if a number is out of range.
    """

    bandwidth: float | Bandwidth
    """Of the uplink: bits per second that never change, or where traces come from."""
    rtt_s: float
    """Round-trip time without any transfer; a trace's own goes before."""
    rtt_most_s: float | None = None
    """A stream's lies between `rtt_s` and this, evenly on a logarithmic scale; None: `rtt_s`."""
    radio: Radio = WIFI
    """What sending takes."""
    idle_w: float = 0.3
    """Watts of the whole device while it waits. [estimate] A phone, screen off: 0.1 to 1 W."""
    floor_bps: float = 1e4
    """No uplink is slower: traces hold seconds of nothing. [estimate]"""

    def __post_init__(self) -> None:
        numbers = (self.rtt_s, self._rtt_most_s - self.rtt_s, self.idle_w, self.floor_bps - 1)
        if min(numbers) < 0 or (self.rtt_s == 0 and self._rtt_most_s > 0):
            raise InputError(
                "a link has an idle_w of at least 0, a floor_bps of at least 1 and "
                f"0 < rtt_s <= rtt_most_s, got {self.idle_w:g}, {self.floor_bps:g}, "
                f"{self.rtt_s:g} and {self.rtt_most_s}; correct them"
            )

    @property
    def _rtt_most_s(self) -> float:
        return self.rtt_s if self.rtt_most_s is None else self.rtt_most_s

    @property
    def slowest_bps(self) -> float:
        """The bandwidth that a stream can meet at worst."""
        return _traces(self.bandwidth, self.floor_bps).slowest_bps

    @property
    def longest_rtt_s(self) -> float:
        """The round-trip time that a stream can meet at worst."""
        known = _traces(self.bandwidth, self.floor_bps).longest_rtt_s
        return self._rtt_most_s if known is None else known

    def begin(self, n: int, rng: torch.Generator) -> State:
        """What n streams meet as they start.

        `log10_bps` and `rtt_s` [n] are what holds now. `time_s` [n, 1] since the stream began and
        `trace` [n, 3] (number, second, share) are no policy's business, which the second dimension
        says.
        """
        drawn = _traces(self.bandwidth, self.floor_bps).draw(n, rng)
        uniform = torch.rand(n, generator=rng, dtype=torch.float64)
        span = log(self._rtt_most_s / self.rtt_s) if self.rtt_s else 0.0
        state = {
            "time_s": torch.zeros(n, 1, dtype=torch.float64),
            "trace": drawn,
            "rtt_s": self.rtt_s * (span * uniform).exp(),
            "log10_bps": torch.zeros(n, dtype=torch.float64),
        }
        return self.later(state, 0.0)

    def later(self, state: State, seconds: Tensor | float) -> State:
        """The state after so many seconds, [n] or a number."""
        return self.look(self.advance(state, seconds))

    def advance(self, state: State, seconds: Tensor | float) -> State:
        """The same, what is seen of the link being left as it was."""
        time_s = state["time_s"].squeeze(1) + seconds
        return {**state, "time_s": time_s.unsqueeze(1)}

    def look(self, state: State) -> State:
        """The state with what is seen of the link now."""
        traces, time_s = _traces(self.bandwidth, self.floor_bps), state["time_s"].squeeze(1)
        rtt_s = traces.rtt_s(state["trace"], time_s)
        return {
            **state,
            "rtt_s": state["rtt_s"] if rtt_s is None else rtt_s,
            "log10_bps": traces.bandwidth_bps(state["trace"], time_s).log10(),
        }

    def transfer_s(self, state: State, bits: Tensor | float) -> Tensor:
        """[n] seconds that so many bits take from now on, without the round trip."""
        traces = _traces(self.bandwidth, self.floor_bps)
        return traces.transfer_s(state["trace"], state["time_s"].squeeze(1), bits)

    def sent_bits(self, state: State, seconds: Tensor | float) -> Tensor:
        """[n] bits that leave in so many seconds from now on."""
        traces = _traces(self.bandwidth, self.floor_bps)
        return traces.sent_bits(state["trace"], state["time_s"].squeeze(1), seconds)

    def energy_j(
        self, bits: Tensor | float, sending_s: Tensor | float, waiting_s: Tensor | float
    ) -> Tensor | float:
        """Of the device, for a transfer."""
        radio = self.radio
        return radio.joules_per_bit * bits + radio.power_w * sending_s + self.idle_w * waiting_s


@cache
def _traces(bandwidth: float | Bandwidth, floor_bps: float) -> Traces:
    """Made once in a process; a link itself holds a few numbers."""
    if isinstance(bandwidth, int | float):
        return Traces([constant(bandwidth)], min(floor_bps, bandwidth))
    return Traces(bandwidth.recordings(), floor_bps)
