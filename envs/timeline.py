"""The clock of every stream: inputs that come and wait, a battery that drains and fills."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from penstock.envs.arrivals import Arrivals
from penstock.envs.battery import Battery
from penstock.envs.observation import Column


@dataclass(frozen=True, slots=True)
class Next:
    """What comes on lanes whose input is over. `k` lanes, `p` of them go on, `d` inputs dropped."""

    rows: Tensor  # [p] lanes with another input
    waited_s: Tensor  # [p] until it came
    ended: Tensor  # lanes whose stream is over
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
        """[N]: since the stream began."""
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
            self.columns += (Column("harvest", 0, 1),) * (battery.sun_s > 0)

    @property
    def idle_w(self) -> float:
        """What the device takes whether it computes or not, in watts."""
        return self._battery.idle_w * self._joule if self._battery else 0.0

    def open(self, rows: Tensor, rng: torch.Generator) -> Next:
        """Start streams on lanes [k]: their first inputs."""
        self.time_s[rows] = 0.0
        self._come[rows] = 0
        self.position[rows] = -1
        if self._arrivals is not None:
            self._come_s[rows, :-1] = self._arrivals.draw(len(rows), self._inputs, rng)
            self._come_s[rows, -1] = torch.inf
        if self._battery is not None:
            share, self._phase[rows] = self._battery.draw(len(rows), rng)
            self.charge_j[rows] = share * self._battery.capacity_j * self._joule
        return self.advance(rows)

    def pass_(self, rows: Tensor | slice, seconds: Tensor, energy_j: Tensor) -> None:
        """Let time pass on lanes [k], in which something took energy beside idle power."""
        if self._battery is not None:
            battery, time_s, phase = self._battery, self.time_s[rows], self._phase[rows]
            gained_j = battery.harvested_j(time_s, seconds, phase) - battery.idle_w * seconds
            charge_j = self.charge_j[rows] - energy_j + gained_j * self._joule
            self.charge_j[rows] = charge_j.clamp(0, battery.capacity_j * self._joule)
        self.time_s[rows] += seconds

    def late(self, rows: Tensor) -> Tensor:
        """Whether the deadline of what lanes [k] carry has passed, bool."""
        if self._arrivals is None:
            return torch.zeros(len(rows), dtype=torch.bool)
        return self._delay_s(rows) > self._arrivals.deadline_s

    def advance(self, rows: Tensor) -> Next:
        """Find the next input of lanes [k] that is worth a start, and wait for it."""
        none = rows[:0]
        if self._arrivals is None and self._battery is None:
            self.position[rows] += 1
            over = self.position[rows] == self._inputs
            present = rows[~over]
            return Next(present, 0 * self.time_s[present], rows[over], none, none)
        before = self.time_s.clone()
        going, ended, places = [none], [none], [(none, none)]
        while len(rows):
            self.position[rows] += 1
            places += self._skip_stale(rows)
            over = self.position[rows] >= self._inputs
            ended.append(rows[over])
            rows = rows[~over]
            self._await(rows)
            paid = self._pays(rows)
            going.append(rows[paid])
            rows = rows[~paid]
            places.append((rows, self.position[rows]))
        present = torch.cat(going)
        waited_s = self.time_s[present] - before[present]
        return Next(
            present,
            waited_s,
            torch.cat(ended),
            torch.cat([lanes for lanes, _ in places]),
            torch.cat([place for _, place in places]),
        )

    def observe(self) -> list[Tensor]:
        """The columns, [N] each."""
        shown = []
        if self._arrivals is not None:
            everyone = torch.arange(len(self.time_s))
            waiting = (self._come - self.position - 1).clamp(min=0)
            shown.append((waiting / self._arrivals.capacity).clamp(max=1))
            if self._arrivals.hurried:
                delay = self._delay_s(everyone) / self._arrivals.deadline_s
                shown.append(delay.clamp(0, 1))
        if self._battery is not None:
            shown.append(self.charge_j / (self._battery.capacity_j * self._joule))
            if self._battery.sun_s > 0:
                shown.append(self._battery.harvest_share(self.time_s, self._phase))
        return shown

    def _delay_s(self, rows: Tensor) -> Tensor:
        place = self.position[rows].clamp(max=self._inputs - 1)
        return self.time_s[rows] - self._come_s[rows, place]

    def _skip_stale(self, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Drop what waited too long or has no room: lanes and places, once a round."""
        if self._arrivals is None:
            return []
        arrivals, late = self._arrivals, rows
        while len(late):  # who came meanwhile
            late = late[self._come_s[late, self._come[late]] <= self.time_s[late]]
            self._come[late] += 1
        dropped = []
        stale = rows
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
            self.pass_(rows, wait_s, torch.zeros_like(wait_s))
            self._come[rows] = torch.maximum(self._come[rows], self.position[rows] + 1)

    def _pays(self, rows: Tensor) -> Tensor:
        """Whether the charge of lanes [k] pays the cheapest way to an answer, bool."""
        if self._battery is None:
            return torch.ones(len(rows), dtype=torch.bool)
        return self.charge_j[rows] >= self._need_j
