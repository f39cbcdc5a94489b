"""What it takes to turn a knob: weights that are loaded anew, a voltage that has to settle."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import final

import torch
from torch import Tensor

from penstock.backbones import InputError, Knob
from penstock.envs.observation import Column
from penstock.hardware import RESOURCES


@dataclass(frozen=True, slots=True)
class Switching:
    """Paid by each decision at which a knob stands elsewhere than at the one before.

    The first decision of a stream pays nothing. Blocks without the knob leave it where it stands.

    Raises:
        InputError: if a number is out of range.
    """

    knob: str
    """Its name: "bits", "width", "dram_v", ..."""
    energy_j: float = 0.0
    """Of one turn."""
    latency_s: float = 0.0
    """Of one turn."""
    relative: bool = True
    """Whether both are shares of what the full network takes for an input."""

    def __post_init__(self) -> None:
        if not all(0 <= amount < inf for amount in (self.energy_j, self.latency_s)):
            raise InputError(
                f"turning {self.knob!r} takes an energy_j and a latency_s of 0 or more, got "
                f"{self.energy_j:g} and {self.latency_s:g}; correct them"
            )

    def cost(self, full: Tensor) -> Tensor:
        """What one turn takes, [R], given what the full network does."""
        cost = torch.zeros_like(full)
        for name, amount in (("energy_j", self.energy_j), ("latency_s", self.latency_s)):
            place = RESOURCES.index(name)
            cost[place] = amount * (float(full[place]) if self.relative else 1.0)
        return cost


@final
class Switches:
    """Where knobs that cost to turn stand, on N lanes.

    Letters: `N` lanes, `K` knobs but `exit`, `J` of them that cost to turn, `S` stages.

    Raises:
        InputError: if a knob is not offered.
    """

    def __init__(
        self,
        rules: Sequence[Switching],
        knobs: Sequence[Knob],
        own: Tensor,
        full: Tensor,
        lanes: int,
    ) -> None:
        names = [knob.name for knob in knobs]
        for rule in rules:
            if rule.knob not in names:
                raise InputError(
                    f"turning {rule.knob!r} should cost something, but it is not offered; the "
                    f"policy turns {', '.join(names) or 'nothing'}"
                )
        self.columns = tuple(Column(f"last_{rule.knob}", 0, 1) for rule in rules)
        self._knobs = [names.index(rule.knob) for rule in rules]
        self._own = own[:, self._knobs]  # [S, J]
        self._sizes = torch.tensor([len(knobs[k].choices) for k in self._knobs])
        costs = [rule.cost(full) for rule in rules]
        self.costs = torch.stack(costs) if costs else full.new_zeros(0, len(full))
        """[J, R] of one turn."""
        self.most = self._own.double() @ self.costs
        """[S, R]: what turning every knob takes in a stage."""
        self._last = torch.full((lanes, len(rules)), -1)

    def open(self, rows: Tensor) -> None:
        """Streams start with knobs that nobody has set."""
        self._last[rows] = -1

    def turn(self, running: Tensor, stage: Tensor, chosen: Tensor) -> Tensor:
        """Note where knobs stand, and say what turning them took, [R, N].

        Args:
            running: which lanes turn any, [N] bool.
            stage: [N].
            chosen: an index per knob but `exit`, [N, K].
        """
        own = self._own[stage] & running.unsqueeze(1)  # [N, J]
        now = chosen[:, self._knobs]
        turned = own & (now != self._last) & (self._last >= 0)
        self._last = torch.where(own, now, self._last)
        return (turned.double() @ self.costs).T

    def observe(self) -> list[Tensor]:
        """One column a knob, [N] each."""
        if not self._knobs:
            return []
        shown = (self._last + 1).double() / self._sizes
        return list(shown.unbind(dim=1))
