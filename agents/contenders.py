"""A learned policy on streams, and everything that it is compared with.

Letters: `A` answers, `B` budgets, `k` streams.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock.agents.arena import Arena
from penstock.agents.bounds import hull
from penstock.agents.calibration import calibrated_prices, hindsight_prices
from penstock.agents.decider import Decider, Streams, observed, run_streams
from penstock.agents.foresight import Foresight
from penstock.agents.learned import Learned
from penstock.agents.policy import Policy
from penstock.agents.predictor import Predictor, fit_predictor
from penstock.agents.prices import BudgetPrices
from penstock.agents.primal_dual import Priced, PrimalDual
from penstock.agents.rules import RandomMasked, Static, TimeSharing
from penstock.agents.score import Contender, Row, Score, score, summed_up
from penstock.agents.statics import Array
from penstock.envs import Lanes

POLICY: Final = "policy"
FULL: Final = "full network"
HULL: Final = "time-sharing hull"
RANDOM: Final = "random"
BANDIT: Final = "primal-dual bandit"
PLANS: Final = "priced plans"
REALISABLE: Final = "realisable oracle"

FEW: Final = 8
"""On which things are chosen."""

POINTS: Final = 24
"""Prices at which costs are looked at."""

RESERVE: Final = 3.0
"""Inputs' budget that a policy's streams keep back: with less, more than one stream in twenty ends
above its budget where budgets are tight [measured, CIFAR-10 on the preset split_3g]."""


def contend(
    policy: Policy,
    arena: Arena,
    budgets: Array,
    inside: NDArray[np.bool_],
    *,
    count: int = 40,
    seed: int = 0,
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[Score, Streams]:
    """Judge a policy and its controls at every budget.

    Chosen on other inputs than those judged on: the price of each budget, and the two
    configurations that are mixed. The bandit moves its price as it goes; priced plans are its rule
    with the policy's way to keep a budget: prices that follow what is left.

    Args:
        policy: that learned on the arena.
        arena: recordings and rules.
        budgets: for an input, in the unit of the priced resource, [B] rising.
        inside: which of them the policy learned for.
        count: streams on which contenders are judged, all on the same.
        seed: of streams and what they meet.
        progress: called with the number of inputs judged, now and then.

    Returns:
        The score, and the policy's streams at the budget in the middle, with what they met.
    """
    judged = arena.under(float(budgets[0]), float(budgets[-1]))
    least, most = float(budgets[inside][0]), float(budgets[inside][-1])
    own = judged.lanes("judge", learned=True, lanes=count)
    free = judged.lanes("judge", learned=False, lanes=count)
    chosen_on = min(FEW, count)
    streams = arena.streams("judge", count, seed)
    few = arena.streams("choose", chosen_on, seed + 1)
    cost, worth = _statics(judged, few, seed)
    predictor = fit_predictor(arena.learn, arena.choose, worth=arena.stream.worth)

    def priced(decider: Decider, *, learned: bool, replan: bool) -> BudgetPrices:
        return calibrated_prices(
            decider,
            arena.lanes("choose", learned=learned, lanes=POINTS * chosen_on),
            few,
            least,
            most,
            points=POINTS,
            replan=replan,
            reserve=RESERVE,
            seed=seed,
        )

    prices = priced(Learned(policy), learned=True, replan=True)
    plans = priced(Priced(predictor), learned=False, replan=True)
    start = priced(Priced(predictor), learned=False, replan=False)

    def mixed(budget: float) -> Decider:
        a, b, share = hull(cost, worth, max(budget, float(cost.min())))
        return TimeSharing(a, b, share)

    contenders: dict[str, Contender] = {
        POLICY: lambda budget: Learned(policy, prices),
        FULL: lambda budget: Static(_fullest(free)),
        HULL: mixed,
        RANDOM: lambda budget: RandomMasked(seed),
        BANDIT: lambda budget: PrimalDual(predictor, start),
        PLANS: lambda budget: Priced(predictor, plans),
    }
    engines = {name: own if name == POLICY else free for name in contenders}
    found = score(contenders, engines, streams, budgets, inside, seed=seed, progress=progress)
    oracle = realisable(predictor, free, streams, budgets, seed=seed)
    middle = torch.full((count,), float(np.median(budgets)), dtype=torch.float64)
    shown = run_streams(
        Learned(policy, prices), own, streams, limits=middle, seed=seed, trace=observed(own)
    )
    rows = (*found.rows, oracle)
    return Score(found.resource, found.full, budgets, inside, rows), shown


def realisable(
    predictor: Predictor, lanes: Lanes, streams: Tensor, budgets: Array, *, seed: int
) -> Row:
    """What the bandit's rule reaches with the best fixed price of each stream, in hindsight."""
    found = []
    for budget in budgets.tolist():
        limits = torch.full((len(streams),), budget, dtype=torch.float64)
        _, price = hindsight_prices(Priced(predictor), lanes, streams, limits, seed=seed)
        found.append(run_streams(Priced(predictor), lanes, streams, prices=price, seed=seed))
    resource = lanes.stream.resource
    return summed_up(
        REALISABLE,
        np.stack([each.mean_cost(resource).numpy() for each in found]),
        np.stack([each.mean_worth.numpy() for each in found]),
        budgets,
    )


def _statics(arena: Arena, streams: Tensor, seed: int) -> tuple[Array, Array]:
    """Mean cost and worth of each answer that everyone is given, [A]; infinite if out of reach."""
    lanes = arena.lanes("choose", learned=False, lanes=len(streams), seed=seed)
    ahead = Foresight(lanes)
    reached = ahead.below(torch.zeros(1, dtype=torch.int64))[0]
    cost, worth = np.full(len(reached), np.inf), np.zeros(len(reached))
    for answer in reached.nonzero().squeeze(1).tolist():
        found = run_streams(Static(answer), lanes, streams, seed=seed)
        cost[answer] = float(found.mean_cost(arena.stream.resource).mean())
        worth[answer] = float(found.mean_worth.mean())
    return cost, worth


def _fullest(lanes: Lanes) -> int:
    """The answer behind the full choice of every knob, by its place."""
    ahead = Foresight(lanes)
    node = 0
    while int(ahead.stage[node]) < lanes.prices.stages:
        action = torch.tensor([len(lanes.prices.settings) - 1])
        node = int(lanes.source.tree.children[node, action])  # type: ignore[attr-defined]
    return int((ahead.answers == node).nonzero())
