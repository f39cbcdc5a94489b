"""What each lane has spent, and what is left of its budgets."""

from collections.abc import Sequence
from math import exp, inf, log
from typing import final

import torch
from torch import Tensor

from penstock.backbones import InputError
from penstock.envs.activations import Rows
from penstock.envs.budget import SLACK, Budget
from penstock.envs.observation import Column
from penstock.envs.outcomes import Ended
from penstock.envs.prices import Prices
from penstock.hardware import RESOURCES


@final
class Ledger:
    """The accounts of N lanes.

    Letters: `N` lanes, `n` some of them, `R` resources, `B` budgets, `H` hard ones. In costs lanes
    lie side by side in memory, as a short last dimension is slow to go through.

    Raises:
        InputError: if a budget is below the cheapest way to an answer.
    """

    def __init__(self, budgets: Sequence[Budget], inputs: int, prices: Prices, lanes: int) -> None:
        self._resources = [RESOURCES.index(budget.resource) for budget in budgets]
        self._hard = [i for i, budget in enumerate(budgets) if budget.kind == "hard"]
        self._whole = torch.tensor([budget.whole for budget in budgets], dtype=torch.bool)
        self._per_input = not bool(self._whole.all())
        self._never = torch.zeros(lanes, dtype=torch.bool)
        self._drawn = any(budget.drawn for budget in budgets)
        self._inputs = inputs
        least = [prices.limit(budget, inputs) for budget in budgets]
        per_input = [inputs if b.kind == "average" else 1 for b in budgets]
        self._least = torch.tensor(least, dtype=torch.float64) * torch.tensor(per_input)  # [B]
        spans = [log(budget.most / budget.limit) if budget.most else 0.0 for budget in budgets]
        self._span = torch.tensor(spans, dtype=torch.float64)  # [B]
        cheapest = prices.cheapest[self._resources] * self._whole
        self._cheapest = cheapest[self._hard]  # [H]
        self.resources = [self._resources[i] for i in self._hard]
        """Of the hard budgets, as places in `RESOURCES`."""
        self._left_shown = [i for i in self._hard if budgets[i].observed]
        self.hard_columns = [
            f"{budgets[i].resource}_per_{budgets[i].per}" for i in self._left_shown
        ]
        self._limit_shown = [i for i, b in enumerate(budgets) if b.drawn and b.observed]
        self._rate_shown = [
            i
            for i, b in enumerate(budgets)
            if b.whole and b.observed and (b.drawn or b.kind == "average")
        ]
        self.columns = (
            *(Column(f"budget_{budgets[i].resource}", 0, 1) for i in self._limit_shown),
            *(Column(f"rate_{budgets[i].resource}", 0, 2) for i in self._rate_shown),
        )
        average = [i for i, budget in enumerate(budgets) if budget.kind == "average"]
        self._average = average[0] if average else None
        self.limits = self._least.repeat(lanes, 1)
        """[N, B]: of an input or, where there is one account for all, of a stream."""
        self.left = self.limits.clone()
        """[N, B]: of each budget."""
        self.spent = torch.zeros(len(RESOURCES), lanes, dtype=torch.float64)
        """[R, N]: on the input that a lane carries."""

    def open_stream(self, rows: Tensor, rng: torch.Generator, limit: Tensor | None) -> None:
        """Start all budgets of some lanes anew.

        Args:
            rows: [k].
            rng: draws limits, where they are drawn.
            limit: of the average budget, for one input of each stream, [k]; None draws it.
        """
        limits = self._least.expand(len(rows), -1)
        if self._drawn:
            share = torch.rand(len(rows), len(self._least), generator=rng, dtype=torch.float64)
            limits = limits * (self._span * share).exp()
        # Replaced, never changed in place, so that what was can be kept.
        self.limits = self.limits.index_copy(0, rows, limits)
        if limit is not None:
            if self._average is None:
                raise InputError(
                    "a limit was given to streams that have no average budget; add one, with "
                    'kind = "average"'
                )
            self.limits[rows, self._average] = limit.double() * self._inputs
        self.left = self.left.index_copy(0, rows, self.limits[rows])

    def open_input(self, mask: Tensor, cost: Tensor) -> None:
        """Start the accounts of the next input of some lanes, whose stem took something, [R, N].

        A stream's budgets stay.
        """
        self.spent = torch.where(mask, cost, self.spent)
        if self._per_input:
            fresh = mask.unsqueeze(1) & ~self._whole
            self.left = torch.where(fresh, self.limits, self.left)
        if self._resources:
            self.left = self.left - (cost[self._resources] * mask).T

    def pay(self, cost: Tensor) -> None:
        """Book a cost [R, N]."""
        self.spent = self.spent + cost
        if self._resources:
            self.left = self.left - cost[self._resources].T

    def affordable(self, rows: Rows, position: Tensor) -> Tensor | None:
        """What hard budgets leave for the present input, [n, H]; None if there are none.

        Args:
            rows: n lanes.
            position: which input of its stream each carries, [n]; a budget per stream sets enough
                for the cheapest way aside for each that comes later.
        """
        if not self._hard:
            return None
        after = (self._inputs - 1 - position).clamp(min=0)
        return self.left[rows][:, self._hard] - after.unsqueeze(1) * self._cheapest

    def over(self) -> Tensor:
        """Whether a hard budget was exceeded, [N] bool."""
        if not self._hard:
            return self._never
        # Twice the slack: what was just allowed must not be blamed for rounding.
        beyond = self.left < -2 * SLACK * self.limits
        return beyond[:, self._hard].any(dim=1)

    @property
    def average_range(self) -> tuple[float, float]:
        """Least and most of the average budget for an input; twice infinity without one."""
        if self._average is None:
            return inf, inf
        least = float(self._least[self._average]) / self._inputs
        return least, least * exp(float(self._span[self._average]))

    def averages(self, ended: Ended) -> tuple[Tensor, Tensor]:
        """Limit of the average budget and mean cost of an input of streams that ended, [d]."""
        limits, left = (
            each[:, self._average] / self._inputs for each in (ended.limits, ended.left)
        )
        return limits, limits - left

    def rates(self, rows: Tensor, inputs_left: Tensor) -> tuple[Tensor, Tensor]:
        """Limit of the average budget for an input, and what is left of it for each left, [n].

        Infinite without such a budget.
        """
        if self._average is None:
            free = torch.full((len(rows),), torch.inf, dtype=torch.float64)
            return free, free
        limit, left = self.limits[rows, self._average], self.left[rows, self._average]
        return limit / self._inputs, left / inputs_left

    def observe(self, rows: Rows, position: Tensor) -> list[Tensor]:
        """The columns of some lanes, [n] each; they carry input `position` of their streams."""
        if not self._resources:
            return []
        left, limits = self.left[rows], self.limits[rows]
        shares = [(left[:, i] / limits[:, i]).clamp(0, 1) for i in self._left_shown]
        span = self._span.clamp(min=1e-9)
        placed = [
            ((limits[:, i] / self._least[i]).log() / span[i]).clamp(0, 1) for i in self._limit_shown
        ]
        part = self._inputs / (self._inputs - position).clamp(min=1)
        rates = [(left[:, i] / limits[:, i] * part).clamp(0, 2) for i in self._rate_shown]
        return shares + placed + rates
