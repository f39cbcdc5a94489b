"""Traces from a generator, where measured ones are missing or may not be used."""

from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import Tensor

from penstock.backbones import InputError
from penstock.hardware.traces import PARTS, Bandwidth, Part, Trace, check_part

APART: Final = 1_000_003
"""Between the seeds of two parts."""


@final
@dataclass(frozen=True)
class Switched(Bandwidth):
    """Another bandwidth until a second of each stream, and a share of it from then on.

    To see how soon a policy gets used to it. Streams start where the traces do.
    """

    bandwidth: Bandwidth
    """What is switched."""
    at_s: float
    """When, since a stream began."""
    share: float = 0.2
    """Of the bandwidth that is left."""

    def __post_init__(self) -> None:
        if self.at_s <= 0 or self.share <= 0:
            raise InputError(
                "a bandwidth is switched at a second and to a share above 0, got "
                f"{self.at_s:g} and {self.share:g}; correct them"
            )

    def at(self, part: Part) -> "Switched":
        """The other bandwidth's of that part."""
        return replace(self, bandwidth=self.bandwidth.at(part))

    def recordings(self) -> list[Trace]:
        """Cut in two where they are switched; a trace that ends before stays as it is."""
        return [self._switched(trace) for trace in self.bandwidth.recordings()]

    def _switched(self, trace: Trace) -> Trace:
        before = trace.time_s[:-1] < self.at_s
        inside = bool(before.any() and trace.time_s[-1] > self.at_s)
        if not inside:
            return replace(trace, from_start=True)
        count = int(before.sum())
        cut = [*range(count), *range(count - 1, len(before))]  # the piece in the middle, twice
        time_s = torch.cat(
            [trace.time_s[:count], trace.time_s.new_tensor([self.at_s]), trace.time_s[count:]]
        )
        if float(trace.time_s[count]) == self.at_s:  # nothing to cut
            cut, time_s = list(range(len(before))), trace.time_s
        share = torch.where(time_s[:-1] < self.at_s, 1.0, self.share)
        rtt_s = None if trace.rtt_s is None else trace.rtt_s[cut]
        bandwidth_bps = trace.bandwidth_bps[cut] * share
        return replace(
            trace, time_s=time_s, bandwidth_bps=bandwidth_bps, rtt_s=rtt_s, from_start=True
        )


@final
@dataclass(frozen=True)
class Synthetic(Bandwidth):
    """Bandwidth that jumps between levels, wanders around them and fails now and then.

        level   exp(log median_bps + spread * z), one z ~ N(0, 1) for each of the states; every
                second the state is drawn anew with probability 1 / dwell_s
        around  x <- correlation * x + noise * sqrt(1 - correlation^2) * N(0, 1), each second
        outage  with probability `outage` a second has `outage_share` of level * exp(x)
        round trip  exp(log rtt_s + rtt_spread * z), another z for each state; if `rtt_s` is given

    A Markov-modulated log-normal of one sample a second [estimate]. The default varies as traces of
    3G do (coefficient of variation 0.5, correlation of neighbouring seconds 0.8); spread 1.4 and
    noise 0.8 as those of 5G while driving (1.4, 0.8). Left out: hours of the day, and the effect of
    what is sent on what can be sent.
    """

    median_bps: float = 5e6
    """Median of the levels; the mean is higher."""
    spread: float = 0.6
    """Standard deviation of the logarithm of the levels."""
    noise: float = 0.3
    """Standard deviation of the logarithm around a level."""
    states: int = 3
    """Levels of a trace."""
    dwell_s: float = 30.0
    """Mean seconds between two draws of the state."""
    correlation: float = 0.8
    """Of the noise of neighbouring seconds."""
    outage: float = 0.02
    """Share of the seconds."""
    outage_share: float = 0.02
    """Of the bandwidth that an outage leaves."""
    rtt_s: float | None = None
    """Median round-trip time of the states; None: the link's, which a stream keeps."""
    rtt_spread: float = 0.5
    """Standard deviation of its logarithm over the states. [estimate]"""
    traces: int = 64
    """How many are drawn; streams take theirs from these."""
    length_s: int = 600
    """Of each."""
    seed: int = 0
    """Of all draws."""
    part: Part = "train"
    """Each has draws of its own; "train" follows the split of the images where there is one."""

    def __post_init__(self) -> None:
        check_part(self.part)
        if self.part == "all":
            raise InputError(
                'a generator draws for "train", "validation" or "test", got part = "all"; take one'
            )
        shares = (self.outage, self.outage_share, self.correlation)
        if min(self.median_bps, self.traces, self.length_s, self.states) <= 0 or self.dwell_s < 1:
            raise InputError(
                "a generator needs a median_bps, traces, length_s and states above 0 and a dwell_s "
                f"of 1 or more, got {self.median_bps:g}, {self.traces}, {self.length_s}, "
                f"{self.states} and {self.dwell_s:g}; correct them"
            )
        if (self.rtt_s is not None and self.rtt_s <= 0) or self.rtt_spread < 0:
            raise InputError(
                "a generator has an rtt_s above 0, or none, and an rtt_spread of at least 0, got "
                f"{self.rtt_s} and {self.rtt_spread:g}; correct them"
            )
        if not all(0 <= share <= 1 for share in shares) or min(self.spread, self.noise) < 0:
            raise InputError(
                "outage, outage_share and correlation lie in 0..1, spread and noise are at least "
                f"0, got {shares}, {self.spread:g} and {self.noise:g}; correct them"
            )

    def at(self, part: Part) -> "Synthetic":
        """With the draws of a split, unless others than those to train on were asked for."""
        return replace(self, part=part) if self.part == "train" else self

    def recordings(self) -> list[Trace]:
        """Draw them."""
        time_s = torch.arange(self.length_s + 1, dtype=torch.float64)
        bandwidth_bps, rtt_s = self.drawn()
        if self.rtt_s is None:
            return [Trace(time_s, row) for row in bandwidth_bps]
        return [Trace(time_s, *rows) for rows in zip(bandwidth_bps, rtt_s, strict=True)]

    def drawn(self) -> tuple[Tensor, Tensor]:
        """Bits per second and round-trip times, both [traces, length_s]."""
        rng = torch.Generator().manual_seed(self.seed + APART * PARTS.index(self.part))
        n, steps = self.traces, self.length_s

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=rng, dtype=torch.float64)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=rng, dtype=torch.float64)

        levels = self.spread * normal(n, self.states)
        drawn = torch.randint(self.states, (n, steps), generator=rng)
        # The state in force is that of the last second at which one was drawn.
        second = torch.arange(steps).expand(n, steps)
        changed = (uniform(n, steps) < 1 / self.dwell_s) | (second == 0)
        last = torch.where(changed, second, 0).cummax(dim=1).values
        state = drawn.gather(1, last)
        level = levels.gather(1, state)
        x, fresh, around = torch.zeros(n, dtype=torch.float64), normal(steps, n), []
        for step in fresh * self.noise * (1 - self.correlation**2) ** 0.5:
            x = self.correlation * x + step
            around.append(x)
        bandwidth_bps: Tensor = self.median_bps * (level + torch.stack(around, dim=1)).exp()
        left = torch.where(uniform(n, steps) < self.outage, self.outage_share, 1.0)
        rtt_s = (self.rtt_s or 0.0) * (self.rtt_spread * normal(n, self.states)).exp()
        return bandwidth_bps * left, rtt_s.gather(1, state)
