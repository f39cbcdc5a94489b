"""What each lane has spent, and what is left of its hard budgets."""

from typing import final

import torch
from torch import Tensor

from penstock.envs.activations import Rows
from penstock.envs.budget import SLACK, Prices
from penstock.envs.stream import Stream
from penstock.hardware import RESOURCES


@final
class Ledger:
    """The accounts of N lanes.

    Letters: `N` lanes, `n` some of them, `R` resources, `H` hard budgets.

    Raises:
        InputError: if a hard budget is below the cheapest way to an answer.
    """

    def __init__(self, stream: Stream, prices: Prices, lanes: int) -> None:
        self._resources = [RESOURCES.index(budget.resource) for budget in stream.budgets]
        self._per_input = torch.tensor([b.per == "input" for b in stream.budgets], dtype=torch.bool)
        self._observed = torch.tensor([b.observed for b in stream.budgets], dtype=torch.bool)
        self._cheapest = prices.cheapest[self._resources] * ~self._per_input  # [H]
        limits = [prices.limit(b, stream.inputs_per_episode) for b in stream.budgets]
        self.limits = torch.tensor(limits, dtype=torch.float64)  # [H]
        self.spent = torch.zeros(lanes, len(RESOURCES), dtype=torch.float64)
        """[N, R]: on the input that a lane carries."""
        self.left = self.limits.repeat(lanes, 1)
        """[N, H]: of each hard budget."""

    def open_stream(self, rows: Tensor) -> None:
        """Start all budgets of some lanes anew."""
        self.left[rows] = self.limits

    def open_input(self, rows: Tensor) -> None:
        """Start the accounts of the next input of some lanes; a stream's budgets stay."""
        self.spent[rows] = 0.0
        self.left[rows] = torch.where(self._per_input, self.limits, self.left[rows])

    def pay(self, rows: Rows, cost: Tensor) -> None:
        """Book a cost [n, R]."""
        self.spent[rows] += cost
        self.left[rows] -= cost[:, self._resources]

    def affordable(self, rows: Rows, inputs_after: Tensor) -> Tensor:
        """What may still be spent on the present input, [n, R]; infinite without a limit.

        Args:
            rows: n lanes.
            inputs_after: how many inputs of the stream come later, [n]; a budget per stream sets
                enough for the cheapest way aside for each of them.
        """
        free = self.left[rows] - inputs_after.unsqueeze(1) * self._cheapest  # [n, H]
        most = torch.full((len(free), len(RESOURCES)), float("inf"), dtype=torch.float64)
        for index, resource in enumerate(self._resources):
            most[:, resource] = torch.minimum(most[:, resource], free[:, index])
        return most

    def over(self, rows: Rows) -> Tensor:
        """Whether a hard budget was exceeded, [n] bool."""
        # Twice the slack: what was just allowed must not be blamed for rounding.
        return (self.left[rows] < -2 * SLACK * self.limits).any(dim=1)

    def shares(self, rows: Rows) -> Tensor:
        """What is left of each hard budget that is observed, as a share of it, in 0..1."""
        return (self.left[rows] / self.limits).clamp(0, 1)[:, self._observed]
