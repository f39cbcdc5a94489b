"""A learned policy on streams, and the prices at which it meets every budget.

Letters: `P` prices, `k` streams of `L` inputs, `B` budgets.
"""

from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from penstock.agents.play import policy_actions
from penstock.agents.policy import Policy
from penstock.agents.prices import BudgetPrices
from penstock.backbones import InputError
from penstock.envs import Lanes, Step
from penstock.hardware import RESOURCES


@final
class Learned:
    """Asks a policy, at prices that its budget calls for.

    Args:
        policy: asked deterministically.
        prices: None leaves them to the engine: drawn, or given at the start of a stream.
    """

    def __init__(self, policy: Policy, prices: BudgetPrices | None = None) -> None:
        self.policy, self.prices = policy, prices
        self._state: Any = None
        self._fresh = np.zeros(0, dtype=np.bool_)

    def begin(self, lanes: Lanes) -> None:
        """A new engine."""
        lanes.pricing = self.prices
        self._state, self._fresh = None, np.zeros(lanes.n, dtype=np.bool_)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """What was remembered of the streams before is forgotten."""
        self._fresh[rows.numpy()] = True

    def act(self, lanes: Lanes) -> Tensor:
        """An index per knob, [N, K]."""
        actions, self._state = policy_actions(self.policy, lanes, self._state, self._fresh)
        self._fresh = np.zeros(lanes.n, dtype=np.bool_)
        return actions

    def learn(self, lanes: Lanes, step: Step) -> None:
        """A policy that was learned learns no more."""


def price_curve(policy: Policy, lanes: Lanes, streams: Tensor, prices: Tensor) -> Tensor:
    """The mean cost of an input that a policy comes to at each price, [P].

    Args:
        policy: one that knows the price.
        lanes: of validation inputs, with a lane for each price and stream.
        streams: input numbers, [k, L]; every price meets the same.
        prices: [P].

    Raises:
        InputError: if the engine has another number of lanes.
    """
    count, length = streams.shape
    if lanes.n != count * len(prices):
        raise InputError(
            f"{len(prices)} prices on {count} streams need as many lanes, got {lanes.n}; make an "
            f"engine of {count * len(prices)}"
        )
    decider = Learned(policy)
    decider.begin(lanes)
    rows = torch.arange(lanes.n)
    lanes.start(rows, streams.repeat(len(prices), 1), price=prices.repeat_interleave(count))
    decider.start(lanes, rows)
    spent = torch.zeros(lanes.n, dtype=torch.float64)
    place = RESOURCES.index(lanes.stream.resource)
    while bool(lanes.active.any()):
        outcomes = lanes.step(decider.act(lanes)).outcomes
        spent.index_add_(0, outcomes.lanes, outcomes.cost[:, place].contiguous())
    return spent.view(len(prices), count).mean(dim=1) / length


def calibrated(
    policy: Policy,
    lanes: Lanes,
    streams: Tensor,
    least: float,
    most: float,
    *,
    points: int = 24,
    reserve: float = 2.0,
) -> BudgetPrices:
    """The price at which a policy meets each budget, read off its costs at many prices.

    Args:
        policy: one that knows the price.
        lanes: of validation inputs, with `points` lanes for each stream.
        streams: input numbers, [k, L].
        least: budget for an input, in the unit of the priced resource.
        most: budget for an input.
        points: prices that are tried, over the stream's range.
        reserve: inputs' budget that streams keep back, see `BudgetPrices`.

    Returns:
        Prices that follow what is left of a budget.
    """
    low, high = lanes.stream.price
    prices = torch.logspace(np.log10(low), np.log10(high), points, dtype=torch.float64)
    cost = price_curve(policy, lanes, streams, prices)
    # What is spent never rises with the price, but for chance.
    falling = cost.cummin(dim=0).values.numpy()
    found = BudgetPrices(least, most, replan=True, reserve=reserve)
    log_price = np.interp(
        found.budgets.log().numpy(), np.log(falling[::-1]), np.log(prices.numpy()[::-1])
    )
    found.prices = torch.from_numpy(np.exp(log_price))
    return found
