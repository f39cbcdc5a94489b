"""muLinUCB: a bandit that learns what sending costs, after ANS.

Letters: `N` lanes, `k` some of them, `P` plans, `d` features of a plan, `A` answers, `S` stages,
`K` knobs.
"""

from typing import Final, Literal, final

import torch
from torch import Tensor

from penstock.agents.foresight import Foresight
from penstock.agents.standing import Conditions, conditions, stages
from penstock.agents.throughput import Throughput
from penstock.envs import Lanes, Step
from penstock.envs.lanes import Pricing
from penstock.hardware import RESOURCES

EPOCH: Final = 200
"""Inputs of the first epoch; each has twice as many as the one before."""

KEEN: Final = 0.2
"""L_t: how little an input is explored on. ANS has 0.8 for the key frames of a video, which streams
of inputs do not have."""

KEY: Final = 0.8
"""L of a key frame, which enters the width of the bound."""

NOISE: Final = 0.05
"""C_noise of the bound."""

CERTAINTY: Final = 0.1
"""Delta of the bound."""

UNIT: Final = 0.01
"""Costs are counted in so much of the full network's, since ANS counts milliseconds of delays of
some hundred."""


@final
class Bandit:
    """Learns costs to come that are linear in the features of a plan, on N lanes apart.

        estimate  theta = A^-1 b
        optimist  x theta - alpha sqrt((1 - L) x A^-1 x)
        alpha     (C_theta + C_noise sqrt(d log((1 + T C_x^2) / delta))) / (1 - L_key)
        learn     A <- A + x x^T,  b <- b + x * cost,  old knowledge fading by `discount`

    The horizon T is that of the epoch. A starts as a diagonal of random integers from 1 to 8.

    Args:
        lanes: N.
        features: d.
        reach: C_x, the most that the norm of a plan's features is.
        theta: C_theta, the most that of the truth is; not published for ANS. [estimate]
        discount: of A and b at each input that is learned from; 1 forgets nothing.
        seed: of the first A.
    """

    def __init__(
        self,
        lanes: int,
        features: int,
        *,
        reach: float,
        theta: float = 1.0,
        discount: float = 1.0,
        seed: int = 0,
    ) -> None:
        rng = torch.Generator().manual_seed(seed)
        first = torch.randint(1, 9, (features,), generator=rng).double().diag()
        self._first, self._discount = first, discount
        self._reach, self._theta = reach, theta
        self._a = first.repeat(lanes, 1, 1)  # [N, d, d]
        self._b = torch.zeros(lanes, features, dtype=torch.float64)
        self._seen = torch.zeros(lanes, dtype=torch.int64)  # inputs so far

    def forget(self, rows: Tensor) -> None:
        """Start anew on lanes [k]."""
        self._a[rows], self._b[rows], self._seen[rows] = self._first, 0.0, 0

    def optimistic(self, rows: Tensor, x: Tensor) -> Tensor:
        """The least that plans may cost, [k, P], on lanes [k] with features [k, P, d]."""
        inverse: Tensor = torch.linalg.inv_ex(self._a[rows]).inverse
        theta = (inverse @ self._b[rows].unsqueeze(2)).squeeze(2)
        doubt = ((x @ inverse) * x).sum(dim=2).clamp(min=0)
        alpha = self._alpha(self._horizon(rows)).unsqueeze(1)
        return (x @ theta.unsqueeze(2)).squeeze(2) - alpha * ((1 - KEEN) * doubt).sqrt()

    def forced(self, rows: Tensor) -> Tensor:
        """Whether a plan that tells something has to be taken now, [k] bool."""
        seen, every = self._seen[rows], (self._horizon(rows).double() ** 0.25).ceil().long()
        return (seen > 0) & (seen % every == 0)

    def count(self, rows: Tensor) -> None:
        """Inputs are over on lanes [k]."""
        self._seen[rows] += 1

    def learn(self, rows: Tensor, x: Tensor, cost: Tensor) -> None:
        """What plans with features [k, d] cost, [k]; on different lanes [k]."""
        fading = self._discount * self._a[rows] + (1 - self._discount) * self._first
        self._a[rows] = fading + x.unsqueeze(2) * x.unsqueeze(1)
        self._b[rows] = self._discount * self._b[rows] + x * cost.unsqueeze(1)

    def _horizon(self, rows: Tensor) -> Tensor:
        epoch = (self._seen[rows] / EPOCH + 1).log2().floor()
        return (EPOCH * 2**epoch).long()

    def _alpha(self, horizon: Tensor) -> Tensor:
        features = self._b.shape[1]
        width = ((1 + horizon * self._reach**2) / CERTAINTY).log()
        return (self._theta + NOISE * (features * width).sqrt()) / (1 - KEY)


@final
class MuLinUcb:
    """Chooses a plan for each input by what it costs near and what sending may cost at least.

        argmin over plans of  near + optimist(far, transfer) - full cost * worth / price

    In ANS (2102.02638) plans are equally accurate and the cost is delay; here what a plan is worth
    on average stands beside it. Features of a plan are what is left to the server: its MACs, its
    stages, and the bytes that leave (ANS tells kinds of layers apart, a recording does not). Every
    so often no plan may be taken that sends nothing, since that teaches nothing.

    The plain form is ANS as coded: features as they are, nothing forgotten. The repaired one scales
    features to 0..1, has the *time* that bytes take at the bandwidth believed in place of the
    bytes, and forgets slowly; where it is told the true bandwidth it need not be forced to send.

    Args:
        worth: of each answer, on average over inputs that were recorded, [A].
        plain: as coded, or repaired.
        bandwidth: of the repaired form, "estimated" from past transfers or "true".
        prices: asked before every input; None leaves prices to the engine: drawn, or given.
    """

    def __init__(
        self,
        worth: Tensor,
        *,
        plain: bool = False,
        bandwidth: Literal["estimated", "true"] = "estimated",
        prices: Pricing | None = None,
    ) -> None:
        self._worth, self._plain, self._bandwidth = worth, plain, bandwidth
        self._prices = prices
        self._forced = plain or bandwidth == "estimated"

    def begin(self, lanes: Lanes) -> None:
        """Look at the tree."""
        lanes.pricing = self._prices
        self._ahead = Foresight(lanes)
        self._throughput = Throughput(self._ahead, lanes)
        root = torch.zeros(1, dtype=torch.int64)
        self._plans = self._ahead.below(root)[0].nonzero().squeeze(1)  # [P] answers
        self._paths = self._ahead.paths()[self._plans]  # [P, S, K]
        self._resource = RESOURCES.index(lanes.stream.resource)
        self._unit = UNIT * float(lanes.full.rows()[self._resource])
        near, left = self._ahead.costs.front_and_rest(self._plans)
        self._near = near[:, self._resource] / self._unit  # [P]
        self._left = left  # [P, 3] MACs, stages and bytes that are left to the server
        self._sends = left[:, 2] > 0
        scale = torch.ones(3) if self._plain else left.amax(dim=0).clamp(min=1)
        self._scale = scale.double()
        reach = float((left / self._scale).norm(dim=1).max())
        discount = 1.0 if self._plain else 0.995
        self._bandit = Bandit(lanes.n, 3, reach=reach, discount=discount)
        self._fresh = torch.ones(lanes.n, dtype=torch.bool)
        self._chosen = torch.zeros(lanes.n, dtype=torch.int64)  # plans
        self._x = torch.zeros(lanes.n, 3, dtype=torch.float64)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Nothing is known of new streams."""
        self._bandit.forget(rows)
        self._throughput.start(rows)
        self._fresh[rows] = True

    def act(self, lanes: Lanes) -> Tensor:
        """The step of each lane's stage on the way of its plan."""
        rows = self._fresh.nonzero().squeeze(1)
        if len(rows):
            self._choose(lanes, rows)
            self._fresh[rows] = False
        actions = self._paths[self._chosen, stages(lanes)]
        self._throughput.look(lanes, actions)
        return actions

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Compare what an input took with what was known of it before."""
        self._throughput.note(lanes, step)
        rows = step.answers.mask.nonzero().squeeze(1)
        plan = self._chosen[rows]
        spent = step.answers.cost[self._resource, rows] - self._ahead.stem[self._resource]
        rest = spent / self._unit - self._near[plan]
        told = self._sends[plan]
        self._bandit.learn(rows[told], self._x[rows[told]], rest[told])
        self._bandit.count(rows)
        self._fresh[rows] = True

    def _choose(self, lanes: Lanes, rows: Tensor) -> None:
        x = self._features(lanes)[rows]
        worth = self._worth[self._plans] / (UNIT * lanes.price[rows].unsqueeze(1))
        score = self._near + self._bandit.optimistic(rows, x) - worth
        if self._forced and self._sends.any():
            barred = self._bandit.forced(rows).unsqueeze(1) & ~self._sends
            score = score.masked_fill(barred, torch.inf)
        self._chosen[rows] = plan = score.argmin(dim=1)
        self._x[rows] = x[torch.arange(len(rows)), plan]

    def _features(self, lanes: Lanes) -> Tensor:
        """[N, P, 3]."""
        x = (self._left / self._scale).repeat(lanes.n, 1, 1)
        if not self._plain:
            now: Conditions = conditions(lanes)
            bps = self._throughput.bps if self._bandwidth == "estimated" else now.bps
            # As long as at the first bandwidth bytes and time are the same.
            x[:, :, 2] *= (self._throughput.first_bps / bps).unsqueeze(1)
        return x
