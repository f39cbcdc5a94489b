"""The clock of every stream: inputs that come and wait, a battery that drains and fills."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from penstock.envs.activations import Rows
from penstock.envs.arrivals import Arrivals
from penstock.envs.battery import Battery
from penstock.envs.observation import Column
from penstock.hardware import RESOURCES

ENERGY, LATENCY = RESOURCES.index("energy_j"), RESOURCES.index("latency_s")


@dataclass(frozen=True, slots=True)
class Next:
    """What comes on lanes whose input is over. `N` lanes, `d` inputs dropped."""

    going: Tensor  # [N] bool, lanes with another input
    ended: Tensor  # [N] bool, lanes whose stream is over
    waited_s: Tensor | None  # [N] until it came; None: nobody waits
    dropped_rows: Tensor  # [d] lanes
    dropped_places: Tensor  # [d] which inputs of their streams


@final
class Timeline:
    """The time of N lanes, from the first input of each stream on.

    Args:
        inputs: of a stream.
        lanes: N.
        arrivals: None lets every input wait until it is wanted.
        battery: None is the mains.
        joule: how many joules one of the battery's is.
        need_j: the least that an input takes, idle power included, in joules.
    """

    def __init__(
        self,
        inputs: int,
        lanes: int,
        arrivals: Arrivals | None,
        battery: Battery | None,
        joule: float,
        need_j: float,
    ) -> None:
        self._inputs, self._arrivals, self._battery = inputs, arrivals, battery
        self._joule, self._need_j = joule, need_j
        self.time_s = torch.zeros(lanes, dtype=torch.float64)
        """[N]: since the stream began, where that matters."""
        self._none = torch.zeros(0, dtype=torch.int64)
        self.position = torch.zeros(lanes, dtype=torch.int64)
        """[N]: which input of its stream a lane carries."""
        self._come_s = torch.zeros(lanes, inputs + 1, dtype=torch.float64)
        self._come = torch.zeros(lanes, dtype=torch.int64)  # how many inputs have come
        self.charge_j = torch.zeros(lanes, dtype=torch.float64)
        """[N]: of the battery."""
        self._phase = torch.zeros(lanes, dtype=torch.float64)
        self.columns: tuple[Column, ...] = ()
        if arrivals is not None:
            self.columns += (Column("waiting", 0, 1),)
            self.columns += (Column("delay", 0, 1),) * arrivals.hurried
        if battery is not None:
            self.columns += (Column("battery", 0, 1),)
            if battery.sun_s > 0:
                clock = (Column(name, -1, 1) for name in ("day_sin", "day_cos"))
                self.columns += (Column("harvest", 0, 1), *clock)

    @property
    def idle_w(self) -> float:
        """What the device takes whether it computes or not, in watts."""
        return self._battery.idle_w * self._joule if self._battery else 0.0

    def open(self, rows: Tensor, rng: torch.Generator) -> Next:
        """Start streams on lanes [k]: their first inputs."""
        self.time_s[rows] = 0.0
        self._come[rows] = 0
        self.position[rows] = -1
        mask = torch.zeros_like(self.time_s, dtype=torch.bool)
        mask[rows] = True
        if self._arrivals is not None:
            self._come_s[rows, :-1] = self._arrivals.draw(len(rows), self._inputs, rng)
            self._come_s[rows, -1] = torch.inf
        if self._battery is not None:
            share, self._phase[rows] = self._battery.draw(len(rows), rng)
            self.charge_j[rows] = share * self._battery.capacity_j * self._joule
        return self.advance(mask)

    def spend(self, cost: Tensor, mask: Tensor) -> None:
        """Let the time pass that the lanes of a mask took, and take the energy; cost is [R, N]."""
        if self._arrivals is not None or self._battery is not None:
            self._pass(slice(None), cost[LATENCY] * mask, cost[ENERGY] * mask)
            self._receive(mask.nonzero().squeeze(1))

    def _pass(self, rows: Rows, seconds: Tensor, energy_j: Tensor) -> None:
        """Let time pass on lanes [k], in which something took energy beside idle power."""
        if self._battery is not None:
            battery, time_s, phase = self._battery, self.time_s[rows], self._phase[rows]
            gained_j = battery.harvested_j(time_s, seconds, phase) - battery.idle_w * seconds
            charge_j = self.charge_j[rows] - energy_j + gained_j * self._joule
            self.charge_j[rows] = charge_j.clamp(0, battery.capacity_j * self._joule)
        self.time_s[rows] += seconds

    def late(self) -> Tensor | None:
        """Whether the deadline of what lanes carry has passed, [N] bool; None: there is none."""
        if self._arrivals is None or not self._arrivals.hurried:
            return None
        return self._delay_s() > self._arrivals.deadline_s

    def advance(self, mask: Tensor) -> Next:
        """Find the next input of the lanes of a mask that is worth a start, and wait for it."""
        if self._arrivals is None and self._battery is None:
            self.position += mask
            ended = mask & (self.position == self._inputs)
            return Next(mask ^ ended, ended, None, self._none, self._none)
        rows = mask.nonzero().squeeze(1)
        before = self.time_s.clone()
        places = [(self._none, self._none)]
        going, ended = torch.zeros_like(mask), torch.zeros_like(mask)
        while len(rows):
            self.position[rows] += 1
            places += self._skip_stale(rows)
            over = self.position[rows] >= self._inputs
            ended[rows[over]] = True
            rows = rows[~over]
            self._await(rows)
            paid = self._pays(rows)
            going[rows[paid]] = True
            rows = rows[~paid]
            places.append((rows, self.position[rows]))
        lanes, dropped = [torch.cat(each) for each in zip(*places, strict=True)]
        return Next(going, ended, self.time_s - before, lanes, dropped)

    def observe(self) -> list[Tensor]:
        """The columns, [N] each."""
        shown = []
        if self._arrivals is not None:
            waiting = (self._come - self.position - 1).clamp(min=0)
            shown.append((waiting / self._arrivals.capacity).clamp(max=1))
            if self._arrivals.hurried:
                delay = self._delay_s() / self._arrivals.deadline_s
                shown.append(delay.clamp(0, 1))
        if self._battery is not None:
            shown.append(self.charge_j / (self._battery.capacity_j * self._joule))
            if self._battery.sun_s > 0:
                shown.append(self._battery.harvest_share(self.time_s, self._phase))
                shown += self._battery.clock(self.time_s, self._phase)
        return shown

    def _delay_s(self) -> Tensor:
        place = self.position.clamp(max=self._inputs - 1).unsqueeze(1)
        return self.time_s - self._come_s.gather(1, place).squeeze(1)

    def _receive(self, rows: Tensor) -> None:
        """Count who came meanwhile to lanes [k]."""
        while self._arrivals is not None and len(rows):
            rows = rows[self._come_s[rows, self._come[rows]] <= self.time_s[rows]]
            self._come[rows] += 1

    def _skip_stale(self, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Drop what waited too long or has no room: lanes and places, once a round."""
        if self._arrivals is None:
            return []
        arrivals, dropped, stale = self._arrivals, [], rows
        self._receive(rows)
        while len(stale):
            place = self.position[stale]
            past = self.time_s[stale] - arrivals.deadline_s > self._come_s[stale, place]
            crowded = self._come[stale] - place > arrivals.capacity
            stale = stale[(place < self._inputs) & (past | crowded)]
            dropped.append((stale, self.position[stale]))
            self.position[stale] += 1
        return dropped

    def _await(self, rows: Tensor) -> None:
        """Stand idle until the next input of lanes [k] comes."""
        if self._arrivals is not None:
            come_s = self._come_s[rows, self.position[rows]]
            wait_s = (come_s - self.time_s[rows]).clamp(min=0)
            self._pass(rows, wait_s, torch.zeros_like(wait_s))
            self._come[rows] = torch.maximum(self._come[rows], self.position[rows] + 1)

    def _pays(self, rows: Tensor) -> Tensor:
        """Whether the charge of lanes [k] pays the cheapest way to an answer, bool."""
        if self._battery is None:
            return torch.ones(len(rows), dtype=torch.bool)
        return self.charge_j[rows] >= self._need_j
