"""Exposing a network to a machine while it is fitted, a little more from step to step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

import torch

from penstock.backbones import Backbone, InputError, Run, RunAt, black
from penstock.backbones.evaluating import evaluating
from penstock.hardware.bound import check_network
from penstock.hardware.machine import Machine
from penstock.hardware.through import through


@dataclass(frozen=True, slots=True)
class Exposure:
    """A machine's knob that moves while a network is fitted on that machine.

    One mechanism for noise-injected training (Qin and Vucinic, arXiv 1811.10649), weight-noise
    training and the curricular retraining of EDEN (Koppula et al., MICRO 2019): what is disturbed
    is the machine's business, how fast it grows is said here.

    >>> ramp = Exposure("snr_db", start=20, stop=0, until=0.5)
    >>> [ramp.value(share) for share in (0.0, 0.25, 0.5, 1.0)]
    [20.0, 10.0, 0.0, 0.0]
    """

    knob: str
    """Of the machine; values between its choices are allowed."""
    start: float
    """At the first step."""
    stop: float
    """From `until` on, and where the network is watched and its statistics are measured."""
    until: float = 0.5
    """Share of the steps after which the knob stands at `stop`."""
    steps: int = 0
    """Moves in so many equal stairs; 0 moves a little at each step."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Where other knobs stand, of the machine or of all blocks; unnamed ones stand at full."""

    def __post_init__(self) -> None:
        if not (isfinite(self.start) and isfinite(self.stop)):
            raise InputError(
                f"an exposure starts and stops at finite numbers, got {self.start} and "
                f"{self.stop}; correct them"
            )
        if not 0 <= self.until <= 1 or self.steps < 0:
            raise InputError(
                "an exposure moves until a share of 0..1, in 0 or more stairs, got "
                f"until = {self.until} and steps = {self.steps}; correct them"
            )

    def value(self, progress: float) -> float:
        """Where the knob stands after a share of all steps."""
        moved = min(1.0, progress / self.until) if self.until else 1.0
        if self.steps:
            moved = int(moved * self.steps) / self.steps
        return float(self.start + (self.stop - self.start) * moved)

    def run_at(self, machine: Machine, backbone: Backbone | None = None) -> RunAt:
        """For `fit`: blocks run on a machine that has those knobs.

        Args:
            machine: has the knob that moves.
            backbone: has the others that the machine lacks, as in {"bits": 8}; a fit that turns
                those itself (`full_share` below 1) goes before.

        Raises:
            InputError: if they lack one of them, or the machine was made for another network or
                cannot run this one with the knob where it starts and stops.
        """
        choices = {knob.name: knob.choices for knob in machine.knobs}
        own = list(choices)
        blocks = [knob.name for knob in backbone.knobs] if backbone is not None else []
        for name, known in ((self.knob, own), *((name, own + blocks) for name in self.others)):
            if name not in known:
                raise InputError(
                    f"there are the knobs {', '.join(known) or 'none'}, got an exposure of "
                    f"{name!r}; name one of them"
                )

        ends = ((self.knob, self.start), (self.knob, self.stop), *self.others.items())
        for name, value in ends:
            if name in choices and not min(choices[name]) <= value <= max(choices[name]):
                raise InputError(
                    f"{name} lies from {min(choices[name]):g} to {max(choices[name]):g} on this "
                    f"machine, got {value:g} in an exposure; move it, or add choices"
                )

        def at(progress: float, rng: torch.Generator) -> Run:
            return through(machine, rng, {**self.others, self.knob: self.value(progress)})

        if backbone is not None:
            check_network(machine, backbone)
            with torch.no_grad(), evaluating(backbone):
                for progress in (0.0, 1.0):
                    backbone.answers(black(backbone), run=at(progress, torch.Generator()))
        return at
