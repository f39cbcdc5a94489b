"""The prices at which deciders that know a price meet budgets.

Letters: `P` prices, `k` streams of `L` inputs.
"""

from collections.abc import Callable
from math import log

import numpy as np
import torch
from torch import Tensor

from penstock.agents.decider import Decider, run_streams, stream_seeds
from penstock.agents.predictor import Predictor
from penstock.agents.prices import BudgetPrices
from penstock.agents.primal_dual import Careful, Priced
from penstock.envs import Lanes

Progress = Callable[[int], object]


def price_curve(
    decider: Decider,
    lanes: Lanes,
    streams: Tensor,
    prices: Tensor,
    *,
    seed: int = 0,
    progress: Progress = lambda count: None,
) -> tuple[Tensor, Tensor]:
    """The mean cost and worth of an input of each stream at each price, [P, k] both.

    Args:
        decider: reads `lanes.price`.
        lanes: of validation inputs.
        streams: input numbers, [k, L]; every price meets the same.
        prices: [P].
        seed: of the streams' draws.
        progress: called with the number of inputs that are over.
    """
    k = len(streams)
    found = run_streams(
        decider,
        lanes,
        streams.repeat(len(prices), 1),
        prices=prices.repeat_interleave(k),
        seed=stream_seeds(k, seed).repeat(len(prices)),
        progress=progress,
    )
    cost, worth = found.mean_cost(lanes.stream.resource), found.mean_worth
    return cost.view(-1, k), worth.view(-1, k)


def calibrated_prices(
    decider: Decider,
    lanes: Lanes,
    streams: Tensor,
    least: float,
    most: float,
    *,
    points: int = 16,
    replan: bool = False,
    reserve: float = 0.0,
    seed: int = 0,
    progress: Progress = lambda count: None,
) -> BudgetPrices:
    """The price at which a decider meets each budget on average, read off its costs at many.

    A price at which more is spent but clearly less is gained than at a higher one, as where a
    battery is drained, is not taken: the rest of such a budget is left.

    Args:
        decider: reads `lanes.price`.
        lanes: of validation inputs.
        streams: input numbers, [k, L].
        least: budget for an input, in the unit of the priced resource.
        most: budget for an input.
        points: prices that are tried, over the stream's range.
        replan: see `BudgetPrices`.
        reserve: see `BudgetPrices`.
        seed: of the streams' draws.
        progress: called with the number of inputs that are over.
    """
    low, high = lanes.stream.price
    prices = torch.logspace(np.log10(low), np.log10(high), points, dtype=torch.float64)
    cost, worth = price_curve(decider, lanes, streams, prices, seed=seed, progress=progress)
    kept = worth_spending(worth)
    # What is spent never rises with the price, but for chance.
    falling = cost.mean(dim=1)[kept].cummin(dim=0).values.numpy()
    found = BudgetPrices(least, most, replan=replan, reserve=reserve)
    log_price = np.interp(
        found.budgets.log().numpy(), np.log(falling[::-1]), np.log(prices[kept].numpy()[::-1])
    )
    found.prices = torch.from_numpy(np.exp(log_price))
    return found


def careful(
    predictor: Predictor,
    lanes: Lanes,
    streams: Tensor,
    *,
    points: int = 12,
    seed: int = 0,
    progress: Progress = lambda count: None,
) -> Careful:
    """Priced plans that mostly do not go by prices at which more spending is a clear loss.

    Where nothing but a price ties inputs together there are no such prices. Where a battery is
    drained or a queue grows, plans that look no further than their input take too much at any price
    that is low.

    Args:
        predictor: of the worth of answers.
        lanes: of validation inputs.
        streams: input numbers, [k, L].
        points: prices that are tried, over the stream's range.
        seed: of the streams' draws.
        progress: called with the number of inputs that are over.
    """
    low, high = lanes.stream.price
    prices = torch.logspace(np.log10(low), np.log10(high), points, dtype=torch.float64)
    _, worth = price_curve(Priced(predictor), lanes, streams, prices, seed=seed, progress=progress)
    return Careful(predictor, float(prices[worth_spending(worth)[0]]), seed=seed)


def worth_spending(worth: Tensor) -> Tensor:
    """Rising prices without those at which clearly less is gained than at a higher one, [P'].

    Clearly: by more than two standard errors of the mean difference between streams.

    Args:
        worth: of each stream at each price, [P, k].
    """
    kept = [len(worth) - 1]
    best = len(worth) - 1
    for place in range(len(worth) - 2, -1, -1):
        gain = worth[place] - worth[best]
        error = gain.std() / len(gain) ** 0.5 if len(gain) > 1 else gain.new_tensor(0.0)
        if gain.mean() < -2 * error:
            continue
        kept.append(place)
        if gain.mean() > 0:
            best = place
    return torch.tensor(kept[::-1])


def hindsight_prices(
    decider: Decider,
    lanes: Lanes,
    streams: Tensor,
    limits: Tensor,
    *,
    tries: int = 12,
    seed: Tensor | int = 0,
    progress: Progress = lambda count: None,
) -> tuple[Tensor, Tensor]:
    """The prices between which each stream comes to its own limit, found on that stream, [k] each.

    At the second, higher one it spends no more than the limit, at the first one more; where it
    always spends less both are the lowest price, and where it never does the highest.

    Args:
        decider: reads `lanes.price`.
        lanes: the engine.
        streams: input numbers, [k, L].
        limits: on the mean cost of an input, [k].
        tries: runs of all streams.
        seed: of the streams' draws, as they are judged with.
        progress: called with the number of inputs that are over.
    """

    def kept(log_price: Tensor) -> Tensor:
        found = run_streams(
            decider, lanes, streams, prices=log_price.exp(), seed=seed, progress=progress
        )
        return found.mean_cost(lanes.stream.resource) <= limits * (1 + 1e-9)

    low, high = (torch.full((len(streams),), log(price)).double() for price in lanes.stream.price)
    free, never = kept(low), ~kept(high)
    low, high = torch.where(never, high, low), torch.where(free, low, high)
    for _ in range(tries - 2):
        middle = (low + high) / 2
        met = kept(middle)
        low, high = torch.where(met, low, middle), torch.where(met, middle, high)
    return low.exp(), high.exp()
