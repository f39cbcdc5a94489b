"""What could be reached: with the labels, with what is predicted, and by one price in hindsight.

Letters: `n` inputs, `A` answers, `R` resources, `k` streams of `L` inputs.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from penstock.agents.bounds import front, hull
from penstock.agents.calibration import Progress, hindsight_prices
from penstock.agents.decider import Decider, Streams, run_streams
from penstock.agents.foresight import Foresight, best_step
from penstock.agents.rules import TimeSharing
from penstock.agents.standing import Conditions, charged, conditions, recorded, rows
from penstock.envs import Lanes, Step
from penstock.envs.recording import SAID
from penstock.hardware import RESOURCES


@dataclass(frozen=True, slots=True)
class Table:
    """Every input under every configuration, a way through the tree to an answer."""

    worth: Tensor  # [n, A] float64
    cost: Tensor  # [n, A, R] from stem to answer; infinite where nobody offers the way

    def means(self, resource: str) -> tuple[Tensor, Tensor]:
        """Cost and worth of each configuration, [A]."""
        cost = self.cost[:, :, RESOURCES.index(resource)].mean(dim=0)
        return cost, self.worth.mean(dim=0)

    def front(self, resource: str) -> Tensor:
        """The configurations that no other one beats in both, the cheapest first."""
        cost, worth = self.means(resource)
        known = cost.isfinite().nonzero().squeeze(1)
        best = torch.from_numpy(front(cost[known].numpy(), worth[known].numpy()))
        kept = known[best]
        return kept[cost[kept].argsort(stable=True)]

    def mix(self, resource: str, budget: float) -> tuple[TimeSharing, float]:
        """The two configurations, time shared, that are worth most on average, and how much.

        Raises:
            ValueError: if even the cheapest costs more than the budget on average.
        """
        cost, worth = self.means(resource)
        best = self.front(resource)
        a, b, share = hull(cost[best].numpy(), worth[best].numpy(), budget)
        first, second = int(best[a]), int(best[b])
        value = (1 - share) * float(worth[first]) + share * float(worth[second])
        return TimeSharing(first, second, share), value


def outcome_table(lanes: Lanes, inputs: Tensor, now: Conditions) -> Table:
    """What was recorded of inputs under all configurations.

    Where results were recorded under several conditions, each is a row: [C * n].

    Args:
        lanes: an engine that replays a recording; says what answers are worth.
        inputs: [n].
        now: what each of them meets, [n].
    """
    ahead, column = Foresight(lanes), SAID.index(lanes.stream.worth)
    recording = recorded(lanes)
    every, each = recording.rows(inputs), (now.bps, now.rtt_s, now.load)
    worth = recording.said[every][:, ahead.answers, column].double()
    now = Conditions(*(values.repeat(len(recording.conditions)) for values in each))
    return Table(worth, ahead.whole_cost(every, now))


@dataclass(frozen=True, slots=True)
class Allocation:
    """What an oracle takes, on average over inputs; `..` as in its arguments."""

    worth: Tensor  # [..]
    cost: Tensor  # [..], or [K] of several resources
    price: Tensor  # [..], or [K]; what budgets are worth at the margin


def oracle(score: Tensor, cost: Tensor, budget: Tensor, worth: Tensor | None = None) -> Allocation:
    """The best answer for each input under one budget on their mean cost.

        max mean worth   with   argmax_a score - price * cost   at the price that meets the budget

    found by bisection; the two choices around the price are mixed, so that the budget is met
    exactly, which is the optimum of the linear program where worth is the score. With the labels as
    score it is the label oracle, with what was predicted the realisable one.

    Args:
        score: by which is chosen, [.., n, A].
        cost: the same; infinite where there is no way.
        budget: [..].
        worth: what the answers are really worth, [.., n, A]; None: the score.

    Raises:
        ValueError: if the cheapest answers cost more than the budget.
    """
    worth, budget = score if worth is None else worth, budget.double()
    finite = cost.masked_fill(cost.isinf(), 0.0)
    scale = finite.amax(dim=(-2, -1))

    def at(price: Tensor) -> tuple[Tensor, Tensor]:
        chosen = (score - price[..., None, None] * cost).argmax(dim=-1, keepdim=True)
        return tuple(each.gather(-1, chosen).mean(dim=(-2, -1)) for each in (worth, cost))  # type: ignore[return-value]

    low = (1e-9 / scale).log()
    high = (1e9 / scale).log()
    if bool((at(high.exp())[1] > budget * (1 + 1e-9)).any()):
        raise ValueError("a budget lies below what the cheapest answers cost")
    high = torch.where(at(low.exp())[1] <= budget, low, high)
    for _ in range(64):
        middle = (low + high) / 2
        kept = at(middle.exp())[1] <= budget
        low, high = torch.where(kept, low, middle), torch.where(kept, middle, high)
    (dear_worth, dear), (cheap_worth, cheap) = at(low.exp()), at(high.exp())
    gap = (dear - cheap).clamp(min=0)
    share = torch.where(gap > 0, (budget - cheap) / gap.clamp(min=1e-300), 0.0).clamp(0, 1)
    return Allocation(
        cheap_worth + share * (dear_worth - cheap_worth),
        cheap + share * (dear - cheap),
        high.exp(),
    )


def oracle_of_many(
    score: Tensor, cost: Tensor, budgets: Tensor, worth: Tensor | None = None, steps: int = 600
) -> Allocation:
    """The same under budgets on several resources at once, by subgradients of the dual.

        price_k <- max(0, price_k + rate / sqrt(t) * (cost_k / budget_k - 1))

    The choices of the second half of the steps are averaged, then mixed with the answers that fit
    best into all budgets, as far as it takes to keep them.

    Args:
        score: by which is chosen, [n, A].
        cost: [n, A, K]; infinite where there is no way.
        budgets: on the mean of each, [K].
        worth: what the answers are really worth, [n, A]; None: the score.
        steps: of the ascent.

    Raises:
        ValueError: if the answers that take the least of the scarcest resource break a budget.
    """
    worth, budgets = score if worth is None else worth, budgets.double()
    shares = cost / budgets
    rows = torch.arange(len(score))
    tightest = shares.amax(dim=2).argmin(dim=1)
    least = shares[rows, tightest].mean(dim=0)
    if bool((least > 1 + 1e-9).any()):
        raise ValueError("budgets lie below what the cheapest answers cost")
    price = torch.zeros_like(budgets)
    total, value, counted = torch.zeros_like(budgets), 0.0, 0
    for t in range(1, steps + 1):
        paid = shares.masked_fill(shares.isinf(), 1e9) @ price
        chosen = (score - paid).masked_fill(shares[:, :, 0].isinf(), -torch.inf).argmax(dim=1)
        spent = shares[rows, chosen].mean(dim=0)
        price = (price + (spent - 1) / t**0.5).clamp(min=0)
        if 2 * t > steps:
            total, value = total + spent, value + float(worth[rows, chosen].mean())
            counted += 1
    mean, value = total / counted, value / counted
    over = (mean - 1).clamp(min=0) / (mean - least).clamp(min=1e-300)
    share = float(torch.where(mean > 1, over, 0.0).max())
    kept = float(worth[rows, tightest].mean())
    return Allocation(
        torch.tensor((1 - share) * value + share * kept, dtype=torch.float64),
        ((1 - share) * mean + share * least) * budgets,
        price / budgets,
    )


@final
class Told:
    """The rule of `Priced` by someone who was told what every answer is worth, at every node.

    With the best price that could be given with hindsight this is the label oracle.
    """

    def begin(self, lanes: Lanes) -> None:
        """Look at the tree."""
        self._ahead, recording = Foresight(lanes), recorded(lanes)
        lanes.pricing = None
        self._worth = recording.said[:, self._ahead.answers, SAID.index(lanes.stream.worth)]

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Nothing is remembered."""

    def act(self, lanes: Lanes) -> Tensor:
        """The first step of the best plan."""
        worth, charge = self._worth[rows(lanes)].double(), charged(lanes, lanes.price)
        return best_step(self._ahead, lanes, worth, charge, conditions(lanes))

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Nothing is learned."""


def sequential_oracle(
    rule: Decider,
    lanes: Lanes,
    streams: Tensor,
    limits: Tensor,
    *,
    tries: int = 12,
    seed: Tensor | int = 0,
    progress: Progress = lambda count: None,
) -> Streams:
    """What a rule comes to at the best fixed price of each stream, in hindsight.

    That of `Priced` is the ceiling for those who see what it sees and plan as it plans; one that
    plans better may lie above. That of `Told` is the label oracle. Every stream is a mix, in
    expectation, of its runs at the two prices around its limit; `exit_each` is that of the higher
    price.

    Args:
        rule: reads `lanes.price`.
        lanes: the engine.
        streams: input numbers, [k, L].
        limits: on the mean cost of an input, [k].
        tries: runs of all streams.
        seed: of the streams' draws.
        progress: called with the number of inputs that are over.
    """
    resource = lanes.stream.resource
    prices = hindsight_prices(
        rule, lanes, streams, limits, tries=tries, seed=seed, progress=progress
    )
    dear, cheap = (
        run_streams(rule, lanes, streams, prices=each, seed=seed, progress=progress)
        for each in prices
    )
    gap = dear.mean_cost(resource) - cheap.mean_cost(resource)
    room = limits - cheap.mean_cost(resource)
    share = torch.where(gap > 0, room / gap.clamp(min=1e-300), 0.0).clamp(0, 1)

    def mixed(some: Tensor, others: Tensor) -> Tensor:
        return some + share.view(-1, *[1] * (some.dim() - 1)) * (others - some)

    return Streams(
        inputs=streams,
        limit=limits,
        cost=mixed(cheap.cost, dear.cost),
        worth=mixed(cheap.worth, dear.worth),
        right=mixed(cheap.right, dear.right),
        missed=mixed(cheap.missed, dear.missed),
        over=cheap.over | dear.over,
        worth_each=mixed(cheap.worth_each, dear.worth_each),
        cost_each=mixed(cheap.cost_each, dear.cost_each),
        exit_each=cheap.exit_each,
    )
