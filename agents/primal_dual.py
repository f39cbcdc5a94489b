"""A contextual bandit that pays for what it takes, at prices that rise until budgets are met.

Letters: `N` lanes, `k` some of them, `A` answers, `R` resources, `B` budgets.
"""

from typing import Final, final

import torch
from torch import Tensor

from penstock.agents.foresight import Foresight, best_step
from penstock.agents.predictor import Predictor
from penstock.agents.standing import charged, conditions, nodes, seen
from penstock.backbones import InputError
from penstock.envs import Lanes, Step
from penstock.envs.lanes import Pricing
from penstock.hardware import RESOURCES

RANGE: Final = (1e-3, 50.0)
"""Between which prices stay, in worth for what the full network costs."""


@final
class Priced:
    """At each decision goes on towards the best answer that lies ahead, at the engine's price.

        answer   argmax over plans of  worth(seen, plan) - price * cost / full cost

    as if nothing came after, and again at the next decision. With the best price that could be
    given with hindsight (`hindsight_prices`) this is the sequential realisable oracle: what a
    perfect price can do with the same features.

    Args:
        predictor: of the worth of answers.
        prices: asked before every input; None leaves prices to the engine: drawn, or given.
        least: it goes by no lower price, whatever the engine says; or one for each lane, [N].
    """

    def __init__(
        self, predictor: Predictor, prices: Pricing | None = None, *, least: Tensor | float = 0.0
    ) -> None:
        self._predictor, self._prices, self.least = predictor, prices, least

    def begin(self, lanes: Lanes) -> None:
        """Look at the tree."""
        self._ahead = Foresight(lanes)
        lanes.pricing = self._prices

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Nothing is remembered."""

    def act(self, lanes: Lanes) -> Tensor:
        """The first step of the best plan."""
        worth = self._predictor.predict(seen(lanes), nodes(lanes))
        charge = charged(lanes, lanes.price.maximum(torch.as_tensor(self.least)))
        return best_step(self._ahead, lanes, worth, charge, conditions(lanes))

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Nothing is learned."""


@final
class Careful:
    """Priced plans at no lower price than one that each stream draws, for a policy to imitate.

    Between the price up to which more spending is a clear loss on average (`careful`) and the
    lowest of all: a copy learns both, and by reward which of them is good when.

    Args:
        predictor: of the worth of answers.
        least: up to which floors are drawn, evenly on a logarithmic scale.
        seed: of the draws.
    """

    def __init__(self, predictor: Predictor, least: float, *, seed: int = 0) -> None:
        self.least, self._rule, self._seed = least, Priced(predictor), seed

    def begin(self, lanes: Lanes) -> None:
        """Draw anew."""
        self._rule.begin(lanes)
        self._rng = torch.Generator().manual_seed(self._seed)
        self._floor = torch.zeros(lanes.n, dtype=torch.float64)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Floors of new streams."""
        low = lanes.stream.price[0]
        share = torch.rand(len(rows), generator=self._rng, dtype=torch.float64)
        self._floor[rows] = low * (self.least / low) ** share
        self._rule.least = self._floor

    def act(self, lanes: Lanes) -> Tensor:
        """The first step of the best plan."""
        return self._rule.act(lanes)

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Nothing is learned."""


@final
class PrimalDual:
    """Goes on towards the best answer that lies ahead, at prices of its own that learn.

        answer   argmax over plans of  worth(seen, plan) - sum over budgets of price_b * cost_b
        after    price_b <- clip(price_b * exp(eta * (cost_b / limit_b - 1)), 0.001, 50)
        an input

    The primal-dual rule for bandits with knapsacks, by mirror descent on the prices, with the
    predicted worth in the place of a confidence bound [reconstruction of the rule's usual form, as
    in Badanidiyuru et al., Bandits with Knapsacks, FOCS 2013]. A budget of a stream has a price,
    average or hard; hard ones are kept by masks, too, and those of an input by masks alone. By its
    definition the mean of cost / limit over L inputs is 1 + log(last price / first) / (eta * L): a
    budget is met to within 2 % after 400 inputs where the first price is right to within a half.

    Args:
        predictor: of the worth of answers.
        price: at which streams start, in worth for the full network's cost, or what gives it for
            the limits of their average budget, such as `calibrated_prices` of `Priced`.
        eta: how fast prices move.

    Raises:
        InputError: by `begin`, if streams have no budget to meet.
    """

    def __init__(self, predictor: Predictor, price: Pricing | float, *, eta: float = 0.05) -> None:
        self._predictor, self._eta, self._start = predictor, eta, price
        self.prices = torch.zeros(0)
        """[N, B]: now, of the budgets that have one."""

    def begin(self, lanes: Lanes) -> None:
        """Look at the budgets."""
        self._ahead = Foresight(lanes)
        lanes.pricing = None
        budgets = lanes.stream.budgets
        self._whole = [i for i, budget in enumerate(budgets) if budget.whole]
        if not self._whole:
            raise InputError(
                "prices rise until the budgets of streams are met, but the stream has none; give "
                'it one with kind = "average", or per = "stream"'
            )
        self._resources = [RESOURCES.index(budgets[i].resource) for i in self._whole]
        self._limit = torch.ones(lanes.n, len(self._whole), dtype=torch.float64)  # of an input
        self._unit = self._limit.clone()
        self.prices = torch.zeros_like(self._limit)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Prices of new streams."""
        length = lanes.stream.inputs_per_episode
        limit = lanes.ledger.limits[rows][:, self._whole] / length
        full = lanes.full.rows()[self._resources]
        self._limit[rows] = limit
        # Of what the full network takes nothing, an input's limit is the unit.
        self._unit[rows] = torch.where(full > 0, full, limit)
        whole = torch.full((len(rows),), length)
        if callable(self._start):
            price = self._start(*lanes.ledger.rates(rows, whole), whole).double()
        else:
            price = torch.full((len(rows),), self._start, dtype=torch.float64)
        self.prices[rows] = price.unsqueeze(1).expand(-1, len(self._whole)).clamp(*RANGE)

    def act(self, lanes: Lanes) -> Tensor:
        """The first step of the best plan."""
        self._position = lanes.timeline.position.clone()
        charge = torch.zeros(lanes.n, len(RESOURCES), dtype=torch.float64)
        place = torch.tensor(self._resources).expand(lanes.n, -1)
        charge.scatter_add_(1, place, self.prices / self._unit)
        worth = self._predictor.predict(seen(lanes), nodes(lanes))
        return best_step(self._ahead, lanes, worth, charge, conditions(lanes))

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Move prices; inputs that were dropped took nothing."""
        over = (lanes.timeline.position - self._position).unsqueeze(1)
        spent = (step.answers.cost[self._resources] * step.answers.mask).T
        error = spent / self._limit - over
        self.prices = (self.prices * (self._eta * error).exp()).clamp(*RANGE)
