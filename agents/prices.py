"""Prices that make average budgets be met: Lagrange multipliers, one for every budget.

Letters: `B` buckets of budgets, `k` streams.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from math import log
from typing import final

import torch
from torch import Tensor

from penstock.agents.learner import Learner
from penstock.backbones import InputError
from penstock.envs import Lanes

State = Mapping[str, Tensor]
"""What a law remembers of each bucket, [B] or [B, ..]."""


class Law(ABC):
    """How a multiplier follows the error of a constraint; a frozen dataclass without state.

    Errors are shares: (mean cost - budget) / budget.
    """

    @abstractmethod
    def begin(self, price: Tensor) -> State:
        """The state in which multipliers [B] stand at a price."""

    @abstractmethod
    def step(self, state: State, error: Tensor) -> tuple[State, Tensor]:
        """After errors [B] of one update: the next state, and the multipliers [B]."""


@final
@dataclass(frozen=True)
class Lagrangian(Law):
    """Plain dual ascent: price <- max(0, price + rate * error).

    The multiplier of PPO-Lagrangian (Ray et al., Benchmarking Safe Exploration in Deep
    Reinforcement Learning, 2019), by plain steps in place of Adam's.
    """

    rate: float = 0.05
    """Of one update."""

    def begin(self, price: Tensor) -> State:
        """At that price."""
        return {"price": price}

    def step(self, state: State, error: Tensor) -> tuple[State, Tensor]:
        """Towards the budget."""
        price = (state["price"] + self.rate * error).clamp(min=0)
        return {"price": price}, price


@final
@dataclass(frozen=True)
class Pid(Law):
    """Proportional, integral and derivative control.

        p     <- smooth * p + (1 - smooth) * error
        i     <- max(0, i + integral * error)
        c     <- smooth * c + (1 - smooth) * error,   d = max(0, c - c of `delay` updates ago)
        price  = max(0, proportional * p + i + derivative * d)

    After Stooke et al., Responsive Safety in Reinforcement Learning by PID Lagrangian Methods (ICML
    2020), in the form of OmniSafe. Its constants there are 0.1, 0.01 and 0.01 for costs of about 25
    an episode; errors here are shares of the budget, and the first updates have no derivative.
    """

    proportional: float = 0.3
    integral: float = 0.05
    derivative: float = 0.3
    _: KW_ONLY
    smooth: float = 0.7
    delay: int = 5

    def begin(self, price: Tensor) -> State:
        """At that price, without error so far."""
        zero = torch.zeros_like(price)
        past = torch.full((*price.shape, self.delay), torch.nan, dtype=price.dtype)
        return {"p": zero, "i": price, "c": zero, "past": past}

    def step(self, state: State, error: Tensor) -> tuple[State, Tensor]:
        """Towards the budget, sooner where the error grows."""
        p = self.smooth * state["p"] + (1 - self.smooth) * error
        i = (state["i"] + self.integral * error).clamp(min=0)
        c = self.smooth * state["c"] + (1 - self.smooth) * error
        before, past = state["past"][..., 0], state["past"]
        d = torch.where(before.isnan(), 0.0, c - before).clamp(min=0)
        past = torch.cat([past[..., 1:], c.unsqueeze(-1)], dim=-1)
        price = (self.proportional * p + i + self.derivative * d).clamp(min=0)
        return {"p": p, "i": i, "c": c, "past": past}, price


def budget_prices(lanes: Lanes, learner: Learner) -> "BudgetPrices | None":
    """The prices that a learner moves for an engine; None where they are drawn.

    Raises:
        InputError: if they are to be moved, but there is no average budget to meet.
    """
    if learner.prices == "drawn":
        if not lanes.stream.price_observed:
            raise InputError(
                "price_observed = false lets a policy learn of prices by rewards alone, and with "
                'prices = "drawn" they follow nothing that it sees; set prices to lagrangian or pid'
            )
        return None
    if not lanes.stream.price_observed and learner.imitate:
        raise InputError(
            f"imitate = {learner.imitate} learns what plans do at a price, and price_observed = "
            "false hides it; leave one of them out"
        )
    least, most = lanes.ledger.average_range
    if not least < most:
        raise InputError(
            f"prices = {learner.prices!r} are moved until average budgets are met, but the stream "
            'draws none; give it one with kind = "average", a limit and a higher most'
        )
    low, high = lanes.stream.price
    law: Law = Pid(*learner.gains) if learner.prices == "pid" else Lagrangian(*learner.gains)
    return BudgetPrices(least, most, price=(low * high) ** 0.5, law=law)


@final
class BudgetPrices:
    """A price for every budget: one multiplier for each of B budgets, in between interpolated.

    Budgets are spaced evenly on a logarithmic scale, prices are read off on one, and never rise
    with the budget; beyond the ends they go on as between the last two. Deployed, the price of an
    input is that of the budget that is *left* for it, so that a stream that spent too much saves.

    Args:
        least: lowest budget for an input, in the unit of the resource.
        most: highest.
        price: where all multipliers start.
        law: how they move.
        buckets: B.
        replan: whether prices follow what is left, or stay those of the stream's own budget.
        reserve: how many inputs' budget a stream that replans keeps back: its last inputs may take
            more than there is, when prices can no longer mend it.

    Raises:
        InputError: if there are fewer than two buckets, or the budgets are not in order.
    """

    def __init__(
        self,
        least: float,
        most: float,
        *,
        price: float = 0.1,
        law: Law | None = None,
        buckets: int = 12,
        replan: bool = False,
        reserve: float = 0.0,
    ) -> None:
        if buckets < 2 or not 0 < least < most:
            raise InputError(
                "prices need two buckets or more between a least budget and a higher one, got "
                f"{buckets} between {least:g} and {most:g}; correct them"
            )
        self.law = law if law is not None else Pid()
        self.replan, self.reserve = replan, reserve
        self.budgets = torch.logspace(log(least), log(most), buckets, base=torch.e).double()
        """[B]."""
        self.prices = torch.full((buckets,), price, dtype=torch.float64)
        """[B]: the multipliers, as the law moved them."""
        self._state = self.law.begin(self.prices)
        self.overshoot = 0.0
        """Mean error of the streams before the last step, as a share of their budgets."""
        self.ended = 0
        """How many streams those were."""
        self.spread = 0.0
        """Their root mean square: how far from its budget a stream ends, as a share of it."""
        self._sums = torch.zeros(3, buckets, dtype=torch.float64)
        # of errors, their number and their squares

    def __call__(self, limit: Tensor, left: Tensor, to_come: Tensor) -> Tensor:
        """Prices [k] of streams with limits [k] for an input, of which so much is left [k].

        `to_come` counts the inputs for which it is left, [k].
        """
        budget = left - self.reserve * limit / to_come if self.replan else limit
        known, log_price = self.budgets.log(), self._falling().log()
        x = budget.clamp(min=1e-3 * float(self.budgets[0])).log()
        last = (torch.searchsorted(known, x.contiguous()) - 1).clamp(0, len(known) - 2)
        share = (x - known[last]) / (known[last + 1] - known[last])
        return (log_price[last] + share * (log_price[last + 1] - log_price[last])).exp()

    def note(self, limit: Tensor, cost: Tensor) -> None:
        """Take in the mean cost of an input of streams that ended, [k], beside their limits [k]."""
        known = self.budgets.log()
        gap = (known[1] - known[0]).clamp(min=1e-12)
        bucket = ((limit.log() - known[0]) / gap).round().long().clamp(0, len(known) - 1)
        error = (cost - limit) / limit
        for total, each in zip(self._sums, (error, torch.ones_like(error), error**2), strict=True):
            total.index_add_(0, bucket, each)

    def step(self) -> None:
        """Move the multipliers of budgets of which streams have ended since the last step."""
        errors, counts, squares = self._sums
        state, prices = self.law.step(self._state, errors / counts.clamp(min=1))
        self.ended = int(counts.sum())
        self.overshoot = float(errors.sum() / counts.sum().clamp(min=1))
        self.spread = float(squares.sum() / counts.sum().clamp(min=1)) ** 0.5
        met = counts > 0
        self._state = {
            name: torch.where(met.view(-1, *[1] * (new.dim() - 1)), new, self._state[name])
            for name, new in state.items()
        }
        self.prices = torch.where(met, prices, self.prices)
        self._sums = torch.zeros_like(self._sums)

    def scalars(self) -> dict[str, float]:
        """What a log shows."""
        pairs = zip(self.budgets.tolist(), self.prices.tolist(), strict=True)
        each = {f"price/{budget:.3g}": price for budget, price in pairs}
        summary = {"streams": self.ended, "overshoot": self.overshoot, "spread": self.spread}
        return {**{f"price/{name}": float(value) for name, value in summary.items()}, **each}

    def state(self) -> dict[str, Tensor]:
        """Everything that it takes to go on."""
        own = {"budgets": self.budgets, "prices": self.prices, "sums": self._sums}
        return {**own, **{f"{self._kind}.{name}": value for name, value in self._state.items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on as saved.

        Raises:
            InputError: if it is the state of other budgets or of another law.
        """
        names = {f"{self._kind}.{name}" for name in self._state}
        if not names <= set(state) or not torch.equal(state["budgets"], self.budgets):
            raise InputError(
                "the prices that were saved are of other budgets, or moved by another law; go on "
                "with the experiment that made them"
            )
        self.prices, self._sums = state["prices"], state["sums"]
        self._state = {name: state[f"{self._kind}.{name}"] for name in self._state}

    @property
    def _kind(self) -> str:
        return type(self.law).__name__

    def _falling(self) -> Tensor:
        """[B]: the multipliers without rises: the highest of all at no lower budget."""
        return self.prices.clamp(min=1e-9).flip(0).cummax(dim=0).values.flip(0)
