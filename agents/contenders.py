"""A learned policy on streams, and everything that it is compared with.

Letters: `A` answers, `B` budgets, `k` streams.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.agents.arena import Arena
from penstock.agents.bounds import hull
from penstock.agents.calibration import Progress, calibrated_prices
from penstock.agents.decider import Decider, Streams, observed, run_streams
from penstock.agents.foresight import Foresight
from penstock.agents.gate import Gate
from penstock.agents.gate_fit import fit_gate
from penstock.agents.learned import Learned
from penstock.agents.linucb import MuLinUcb
from penstock.agents.neurosurgeon import Neurosurgeon, mean_worth
from penstock.agents.oracles import Told, outcome_table, sequential_oracle
from penstock.agents.policy import Policy
from penstock.agents.predictor import Predictor
from penstock.agents.prices import BudgetPrices
from penstock.agents.primal_dual import Priced, PrimalDual
from penstock.agents.rules import RandomMasked, Static, TimeSharing
from penstock.agents.score import Contender, Score, at_once, row_of, score
from penstock.agents.standing import met
from penstock.agents.statics import Array
from penstock.agents.token_bucket import best_bucket
from penstock.envs import Lanes
from penstock.hardware import Split

POLICY: Final = "policy"
FULL: Final = "full network"
HULL: Final = "time-sharing hull"
RANDOM: Final = "random"
BANDIT: Final = "primal-dual bandit"
PLANS: Final = "priced plans"
GATE: Final = "gate by gradients"
BUCKET: Final = "token bucket"
BLIND: Final = "Neurosurgeon"
BLIND_TRUE: Final = "Neurosurgeon, true bandwidth"
PLAIN_UCB: Final = "muLinUCB"
UCB: Final = "muLinUCB, repaired"
REALISABLE: Final = "realisable oracle"
LABELS: Final = "label oracle"

FEW: Final = 8
"""Streams on which things are chosen."""

POINTS: Final = 24
"""Prices at which costs are looked at."""

RESERVE: Final = 3.0
"""Inputs' budget that a policy's streams keep back. [measured] On validation inputs of CIFAR-10 on
the preset split_3g a third of the streams ends above its budget without, none with 1 or more."""


def contend(
    policy: Policy,
    predictor: Predictor,
    arena: Arena,
    budgets: Array,
    inside: NDArray[np.bool_],
    *,
    count: int = 40,
    seed: int = 0,
    progress: Progress = lambda count: None,
) -> tuple[Score, Streams]:
    """Judge a policy and its controls at every budget.

    Chosen on other inputs than those judged on: the price of each budget, the two configurations
    that are mixed, those between which tokens decide. The bandit moves its price as it goes; priced
    plans are its rule with the policy's way to keep a budget: prices that follow what is left.

    Args:
        policy: that learned on the arena.
        predictor: fitted to what the policy learned on.
        arena: recordings and rules.
        budgets: for an input, in the unit of the priced resource, [B] rising.
        inside: which of them the policy learned for.
        count: streams on which contenders are judged, all on the same.
        seed: of streams and what they meet.
        progress: called with the number of inputs answered, now and then.

    Returns:
        The score, and the policy's streams at the budget in the middle, with what they met.
    """
    judged = arena.under(float(budgets[0]), float(budgets[-1]))
    span = float(budgets[inside][0]), float(budgets[inside][-1])
    own = judged.lanes("judge", learned=True, lanes=count * len(budgets))
    free = judged.lanes("judge", learned=False, lanes=count * len(budgets))
    narrow = judged.lanes("judge", learned=False, lanes=count)  # for those made for one budget
    streams = arena.streams("judge", count, seed)
    few = min(FEW, count)
    rivals = rivals_of(judged, predictor, span, few, seed, progress=progress)
    prices = priced(Learned(policy), arena, span, few, seed, learned=True, progress=progress)
    contenders: dict[str, Contender] = {POLICY: Learned(policy, prices), **rivals}
    engines = {name: narrow if callable(each) else free for name, each in contenders.items()}
    engines[POLICY] = own
    found = score(contenders, engines, streams, budgets, inside, seed=seed, progress=progress)
    limits = torch.from_numpy(budgets).repeat_interleave(count)
    many, seeds = at_once(streams, len(budgets), seed)
    oracles = [
        row_of(
            name,
            [sequential_oracle(rule, free, many, limits, seed=seeds, progress=progress)],
            budgets,
            found.resource,
        )
        for name, rule in ((REALISABLE, Priced(predictor)), (LABELS, Told()))
    ]
    middle = torch.full((count,), float(np.median(budgets)), dtype=torch.float64)
    shown = run_streams(
        Learned(policy, prices), own, streams, limits=middle, seed=seed, trace=observed(own)
    )
    rows = (*found.rows, *oracles)
    return Score(found.resource, found.full, budgets, inside, rows), shown


def rivals_of(
    arena: Arena,
    predictor: Predictor,
    span: tuple[float, float],
    few: int,
    seed: int,
    *,
    progress: Progress = lambda count: None,
) -> dict[str, Contender]:
    """Everyone who needs no reinforcement learning and no hindsight.

    Args:
        arena: whose streams have an average budget.
        predictor: of the worth of answers.
        span: least and most budget for an input.
        few: streams on which is chosen.
        seed: of these.
        progress: called with the number of inputs answered, now and then.
    """
    choosing = arena.lanes("choose", learned=False, lanes=1)
    inputs = arena.streams("choose", few, seed + 1).flatten()
    table = outcome_table(choosing, inputs, met(choosing, len(inputs), seed))
    cost, worth = statics(arena, few, seed, progress)

    def mixed(budget: float) -> Decider:
        a, b, share = hull(cost, worth, max(budget, float(cost.min())))
        return TimeSharing(a, b, share)

    def bucket(budget: float) -> Decider:
        least = float(table.means(arena.stream.resource)[0].min())
        return best_bucket(choosing, predictor, table, inputs, max(budget, least))

    def kept(rule: Callable[[BudgetPrices | None], Decider], *, replan: bool = True) -> Decider:
        """A rule that goes by a price, at those that its budget calls for."""
        prices = priced(rule(None), arena, span, few, seed, replan=replan, progress=progress)
        return rule(prices)

    learning = arena.lanes("learn", learned=False, lanes=1)
    gate = fit_gate(learning, choosing, predictor)
    start = priced(Priced(predictor), arena, span, few, seed, replan=False, progress=progress)
    found: dict[str, Contender] = {
        FULL: Static(fullest(choosing)),
        HULL: mixed,
        RANDOM: RandomMasked(seed),
        BUCKET: bucket,
        BANDIT: PrimalDual(predictor, start),
        PLANS: kept(lambda prices: Priced(predictor, prices)),
        GATE: kept(lambda prices: Gate(gate, predictor, prices)),
    }
    if not isinstance(choosing.machine, Split):
        return found
    mean = mean_worth(arena.learn, arena.stream.worth)
    return {
        **found,
        BLIND: kept(lambda prices: Neurosurgeon(mean, prices=prices)),
        BLIND_TRUE: kept(lambda prices: Neurosurgeon(mean, bandwidth="true", prices=prices)),
        PLAIN_UCB: kept(lambda prices: MuLinUcb(mean, plain=True, prices=prices)),
        UCB: kept(lambda prices: MuLinUcb(mean, prices=prices)),
    }


def priced(
    decider: Decider,
    arena: Arena,
    span: tuple[float, float],
    few: int,
    seed: int,
    *,
    learned: bool = False,
    replan: bool = True,
    progress: Progress = lambda count: None,
) -> BudgetPrices:
    """The prices at which a decider meets budgets on average, chosen on few streams."""
    return calibrated_prices(
        decider,
        arena.lanes("choose", learned=learned, lanes=POINTS * few),
        arena.streams("choose", few, seed + 1),
        *span,
        points=POINTS,
        replan=replan,
        reserve=RESERVE,
        seed=seed,
        progress=progress,
    )


def statics(
    arena: Arena, few: int, seed: int, progress: Progress = lambda count: None
) -> tuple[Array, Array]:
    """Mean cost and worth of each answer that everyone is given, [A]; infinite if out of reach."""
    ahead = Foresight(arena.lanes("choose", learned=False, lanes=1))
    reached = ahead.below(torch.zeros(1, dtype=torch.int64))[0]
    answers = reached.nonzero().squeeze(1)
    streams, seeds = at_once(arena.streams("choose", few, seed + 1), len(answers), seed)
    lanes = arena.lanes("choose", learned=False, lanes=len(streams))
    static = Static(answers.repeat_interleave(few))
    found = run_streams(static, lanes, streams, seed=seeds, progress=progress)
    cost, worth = np.full(len(reached), np.inf), np.zeros(len(reached))
    cost[answers] = found.mean_cost(arena.stream.resource).view(-1, few).mean(dim=1)
    worth[answers] = found.mean_worth.view(-1, few).mean(dim=1)
    return cost, worth


def fullest(lanes: Lanes) -> int:
    """The answer behind the full choice of every knob, by its place."""
    ahead = Foresight(lanes)
    node = 0
    while int(ahead.stage[node]) < lanes.prices.stages:
        node = int(ahead.children[node, -1])
    return int((ahead.answers == node).nonzero())
