"""What each lane has spent, and what is left of its budgets."""

from collections.abc import Sequence
from math import log
from typing import final

import torch
from torch import Tensor

from penstock.backbones import InputError
from penstock.envs.activations import Rows
from penstock.envs.budget import SLACK, Budget
from penstock.envs.observation import Column
from penstock.envs.prices import Prices
from penstock.hardware import RESOURCES


@final
class Ledger:
    """The accounts of N lanes.

    Letters: `N` lanes, `n` some of them, `R` resources, `B` budgets, `H` hard ones.

    Raises:
        InputError: if a budget is below the cheapest way to an answer.
    """

    def __init__(self, budgets: Sequence[Budget], inputs: int, prices: Prices, lanes: int) -> None:
        self._resources = [RESOURCES.index(budget.resource) for budget in budgets]
        self._hard = [i for i, budget in enumerate(budgets) if budget.kind == "hard"]
        self._whole = torch.tensor([budget.whole for budget in budgets], dtype=torch.bool)
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
        self.spent = torch.zeros(lanes, len(RESOURCES), dtype=torch.float64)
        """[N, R]: on the input that a lane carries."""
        self.total = torch.zeros(lanes, len(RESOURCES), dtype=torch.float64)
        """[N, R]: on the stream so far."""

    def open_stream(self, rows: Tensor, rng: torch.Generator, limit: Tensor | None) -> None:
        """Start all budgets of some lanes anew.

        Args:
            rows: [k].
            rng: draws limits, where they are drawn.
            limit: of the average budget, for one input of each stream, [k]; None draws it.
        """
        if self._drawn:
            share = torch.rand(len(rows), len(self._least), generator=rng, dtype=torch.float64)
            self.limits[rows] = self._least * (self._span * share).exp()
        if limit is not None:
            if self._average is None:
                raise InputError(
                    "a limit was given to streams that have no average budget; add one, with "
                    'kind = "average"'
                )
            self.limits[rows, self._average] = limit.double() * self._inputs
        self.left[rows] = self.limits[rows]
        self.total[rows] = 0.0

    def open_input(self, rows: Tensor) -> None:
        """Start the accounts of the next input of some lanes; a stream's budgets stay."""
        self.spent[rows] = 0.0
        if len(self._least):
            self.left[rows] = torch.where(self._whole, self.left[rows], self.limits[rows])

    def pay(self, rows: Rows, cost: Tensor) -> None:
        """Book a cost [n, R]."""
        self.spent[rows] += cost
        self.total[rows] += cost
        if len(self._least):
            self.left[rows] -= cost[:, self._resources]

    def affordable(self, rows: Rows, inputs_after: Tensor) -> Tensor:
        """What hard budgets leave for the present input, [n, H].

        Args:
            rows: n lanes.
            inputs_after: how many inputs of the stream come later, [n]; a budget per stream sets
                enough for the cheapest way aside for each of them.
        """
        left = self.left[rows][:, self._hard]
        return left - inputs_after.unsqueeze(1) * self._cheapest

    def over(self, rows: Tensor) -> Tensor:
        """Whether a hard budget was exceeded, [n] bool."""
        # Twice the slack: what was just allowed must not be blamed for rounding.
        beyond = self.left[rows] < -2 * SLACK * self.limits[rows]
        return beyond[:, self._hard].any(dim=1)

    def rates(self, rows: Tensor, inputs_left: Tensor) -> tuple[Tensor, Tensor]:
        """Limit of the average budget for an input, and what is left of it for each left, [n].

        Infinite without such a budget.
        """
        if self._average is None:
            free = torch.full((len(rows),), torch.inf, dtype=torch.float64)
            return free, free
        limit, left = self.limits[rows, self._average], self.left[rows, self._average]
        return limit / self._inputs, left / inputs_left

    def shares(self) -> list[Tensor]:
        """What is left of each hard budget that is observed, as a share of it, in 0..1, [N]."""
        return [(self.left[:, i] / self.limits[:, i]).clamp(0, 1) for i in self._left_shown]

    def observe(self, inputs_left: Tensor) -> list[Tensor]:
        """The columns, [N] each; `inputs_left` counts the present one, [N]."""
        span = self._span.clamp(min=1e-9)
        limits = [
            ((self.limits[:, i] / self._least[i]).log() / span[i]).clamp(0, 1)
            for i in self._limit_shown
        ]
        part = self._inputs / inputs_left.clamp(min=1)
        rates = [(self.left[:, i] / self.limits[:, i] * part).clamp(0, 2) for i in self._rate_shown]
        return limits + rates
