"""A cheap plan for all, a dear one for whom it gains most: thresholds that tokens move.

Letters: `N` lanes, `k` some of them, `n` recorded inputs, `A` answers, `J` rates, `G` counts of
tokens, `S` stages, `K` knobs.
"""

from typing import Final, final

import torch
from torch import Tensor

from penstock.agents.foresight import Foresight
from penstock.agents.oracles import Table
from penstock.agents.predictor import Predictor
from penstock.agents.standing import nodes, recorded, seen, stages
from penstock.backbones import InputError
from penstock.envs import Lanes, Step
from penstock.hardware import RESOURCES

DEPTH: Final = 20.0
"""Tokens that the bucket of the thresholds holds. [estimate]"""

GRID: Final = 0.1
"""Tokens between two thresholds."""

RATES: Final = 33
"""Rates for which thresholds are found, evenly spaced."""

DISCOUNT: Final = 0.9999
"""Of an input to come, as in the published code."""

CANDIDATES: Final = 64
"""Configurations that are paired at most."""


def thresholds(gains: Tensor, rates: Tensor, *, most: int = 2000) -> Tensor:
    """The least gain for which a token is spent, by rate and tokens left, [J, G].

        V(n) = E_m[max(m + g V(n - 1 + r),  g V(min(b, n + r)))]  for n >= 1, else  g V(n + r)
        at n a token is spent on gains of  g (V(min(b, n + r)) - V(n - 1 + r))  or more

    by value iteration, as if gains were drawn anew for each input: the best there is where inputs
    do not depend on each other (token-bucket offloading, arXiv 2208.00485). g is the discount, b
    the depth; infinite below one token.

    Args:
        gains: a sample of m, [n].
        rates: r, tokens an input, from 0 to 1, [J].
        most: iterations.
    """
    tokens = torch.arange(0, DEPTH + GRID / 2, GRID, dtype=torch.float64)  # [G]
    ordered = gains.double().sort().values
    above = torch.cat([ordered.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=torch.float64)])
    after = tokens + rates.double().unsqueeze(1)  # [J, G]
    kept, spent = after.clamp(max=DEPTH), (after - 1).clamp(0, DEPTH)
    can = tokens >= 1 - 1e-9
    value, bound = torch.zeros_like(kept), torch.zeros_like(kept)
    for number in range(most):
        stay = DISCOUNT * _between(value, kept)
        before, bound = bound, stay - DISCOUNT * _between(value, spent)
        first = torch.searchsorted(ordered, bound.contiguous())
        # The mean of what a gain exceeds the bound by.
        hinge = (above[first] - bound * (len(ordered) - first)) / len(ordered)
        value = stay + torch.where(can, hinge, 0.0)
        value = value - value[:, :1]  # only differences matter
        if number and float((bound - before).abs().max()) < 1e-6:
            break
    return bound.masked_fill(~can, torch.inf)


def _between(value: Tensor, tokens: Tensor) -> Tensor:
    """Values [J, G] at numbers of tokens between those of the grid, [J, ..]."""
    place = tokens / GRID
    low = place.floor().long().clamp(max=value.shape[1] - 2)
    share = place - low
    return value.gather(1, low) * (1 - share) + value.gather(1, low + 1) * share


@final
class TokenBucket:
    """Goes to a cheap answer, or to a dear one where the predicted gain is worth a token.

        token  what the dear plan costs more than the cheap one
        rate   what the budget leaves for an input beyond the cheap plan, in tokens
        left   starts at the rate; + rate - (cost - cheap plan's cost) / token, an input

    so that tokens are the budget left, which is never overdrawn but by costs that were not
    foreseen. It is decided where the two ways part: behind the cheap plan's own answer, if the dear
    one goes on from there.

    Args:
        cheap: by its place in `Foresight.answers`.
        dear: the same.
        predictor: of the worth of answers.
        gains: predicted of recorded inputs where the ways part, [n].
        cost: of both plans for an input, from stem to answer, in the resource's unit.

    Raises:
        InputError: by `begin`, if streams have no average budget.
    """

    def __init__(
        self,
        cheap: int,
        dear: int,
        predictor: Predictor,
        gains: Tensor,
        cost: tuple[float, float],
    ) -> None:
        self.pair, self._predictor = (cheap, dear), predictor
        self._cheap, self._token = cost[0], max(cost[1] - cost[0], 1e-300)
        self._bounds = thresholds(gains, torch.linspace(0, 1, RATES))  # [J, G]

    def begin(self, lanes: Lanes) -> None:
        """Find both ways, and where they part."""
        if not any(budget.kind == "average" for budget in lanes.stream.budgets):
            raise InputError(
                "tokens are what is left of an average budget, but the stream has none; give it "
                'one with kind = "average"'
            )
        ahead = Foresight(lanes)
        lanes.pricing = None
        self._paths = ahead.paths()[list(self.pair)]  # [2, S, K]
        self._fork = ahead.fork(*self.pair)
        self._resource = RESOURCES.index(lanes.stream.resource)
        self._rate = torch.zeros(lanes.n, dtype=torch.float64)
        self._left = torch.zeros(lanes.n, dtype=torch.float64)
        self._spends = torch.zeros(lanes.n, dtype=torch.bool)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """A bucket with one input's share in it, and all of what inputs left that were dropped."""
        limit, _ = lanes.ledger.rates(rows, torch.ones_like(rows))
        dropped = lanes.timeline.position[rows]
        self._rate[rows] = rate = (limit - self._cheap) / self._token
        self._left[rows], self._spends[rows] = rate + dropped * limit / self._token, False

    def act(self, lanes: Lanes) -> Tensor:
        """The step on the way that was chosen, or is chosen now."""
        self._position = lanes.timeline.position.clone()
        here = nodes(lanes) == self._fork
        worth = self._predictor.predict(seen(lanes), nodes(lanes))
        gain = worth[:, self.pair[1]] - worth[:, self.pair[0]]
        self._spends = torch.where(here, gain >= self._bound(), self._spends)
        return self._paths[self._spends.long(), stages(lanes)]

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Count tokens."""
        over = lanes.timeline.position - self._position
        mask = step.answers.mask
        spent = (step.answers.cost[self._resource] - self._cheap) / self._token
        # Of an input that was dropped not even the cheap plan was paid.
        dropped = (over - mask.long()) * self._cheap / self._token
        self._left = self._left + over * self._rate - spent * mask + dropped
        self._spends = self._spends & ~mask

    def _bound(self) -> Tensor:
        """The least gain on which each lane spends a token, [N]."""
        place = self._rate.clamp(0, 1) * (len(self._bounds) - 1)
        low = place.floor().long().clamp(max=len(self._bounds) - 2)
        # A whole token is on the grid: what lies below it is infinite, and cannot be averaged.
        tokens = self._left.clamp(1, DEPTH).unsqueeze(1)
        some, others = (
            _between(self._bounds[rows].nan_to_num(posinf=0.0), tokens).squeeze(1)
            for rows in (low, low + 1)
        )
        bound = some + (place - low) * (others - some)
        return bound.masked_fill(self._left < 1 - 1e-9, torch.inf)


def best_bucket(
    lanes: Lanes, predictor: Predictor, table: Table, inputs: Tensor, budget: float
) -> TokenBucket:
    """The pair of plans that is worth most when the dear one goes to whom it should gain most.

    Args:
        lanes: an engine of validation inputs.
        predictor: of the worth of answers.
        table: what became of those inputs, see `outcome_table`.
        inputs: that are in it, [n].
        budget: for an input, in the unit of the priced resource.

    Raises:
        InputError: if even the cheapest plan costs more than the budget.
    """
    recording, ahead = recorded(lanes), Foresight(lanes)
    cost, worth = table.means(lanes.stream.resource)
    if float(cost.min()) > budget:
        raise InputError(
            f"the cheapest plan takes {float(cost.min()):.4g} {lanes.stream.resource}, got a "
            f"budget of {budget:.4g}; raise it"
        )
    kept, rows = _promising(cost, worth), recording.rows(inputs)
    forks = {(a, b): ahead.fork(a, b) for a in kept for b in kept if cost[a] < cost[b]}
    forks = {pair: v for pair, v in forks.items() if cost[pair[0]] <= budget}
    best, chosen = -torch.inf, None
    for node in sorted(set(forks.values())):
        at = torch.full_like(rows, node)
        predicted = predictor.predict(recording.seen[rows, node], at)  # [n, A]
        for (a, b), fork in forks.items():
            if fork != node:
                continue
            gains = predicted[:, b] - predicted[:, a]
            rate = min(1.0, (budget - float(cost[a])) / float(cost[b] - cost[a]))
            paid = min(int(rate * len(rows)), int((gains > 0).sum()))
            taken = gains.topk(paid).indices
            gained = (table.worth[taken, b] - table.worth[taken, a]).sum() / len(rows)
            value = float(worth[a] + gained)
            if value > best:
                best, chosen = value, (a, b, gains, (float(cost[a]), float(cost[b])))
    if chosen is None:  # nothing is dearer
        a = int(worth.masked_fill(cost > budget, -torch.inf).argmax())
        chosen = (a, a, torch.zeros(1), (float(cost[a]), float(cost[a])))
    a, b, gains, costs = chosen
    return TokenBucket(a, b, predictor, gains, costs)


def _promising(cost: Tensor, worth: Tensor) -> list[int]:
    """Configurations that fall least short of what can be had for as little, at most so many."""
    known = cost.isfinite().nonzero().squeeze(1)
    cheaper = cost[known] <= cost[known].unsqueeze(1)
    short = torch.where(cheaper, worth[known], -torch.inf).amax(dim=1) - worth[known]
    kept: list[int] = known[short.argsort(stable=True)[:CANDIDATES]].tolist()
    return kept
