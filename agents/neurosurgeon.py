"""The rule of Neurosurgeon: the plan that is best by a cost model and the bandwidth of now.

Letters: `N` lanes, `A` answers, `R` resources.
"""

from typing import Literal, final

import torch
from torch import Tensor

from penstock.agents.foresight import Foresight, best_step
from penstock.agents.standing import Conditions, conditions
from penstock.agents.throughput import Throughput
from penstock.backbones import InputError
from penstock.envs import Lanes, Recording, Step
from penstock.envs.lanes import Pricing
from penstock.envs.recording import SAID
from penstock.hardware import RESOURCES


def mean_worth(recording: Recording, worth: str) -> Tensor:
    """What each answer is worth on average over recorded inputs, [A]."""
    behind = torch.cat([torch.zeros(1, dtype=torch.bool), recording.table.exits])
    said = recording.said[:, behind[recording.tree.stage], SAID.index(worth)]
    return said.double().mean(dim=0)


@final
class Neurosurgeon:
    """Chooses between plans by what they cost at the bandwidth and load of now, blind to inputs.

        least   argmin over plans of cost              with worth of at least `floor`, or
        priced  argmax over plans of worth - price * cost / full cost

    After Kang et al., Neurosurgeon (ASPLOS 2017), which chooses the layer at which features leave
    by latency or energy. There all plans are as accurate; here they are not, so that a floor or a
    price stands for what accuracy is worth. It decides again at each stage.

    Args:
        worth: of each answer, on average over inputs that were recorded, [A].
        bandwidth: "estimated" from past transfers, or "true", as an oracle would know it.
        floor: least worth; None goes by price.
        resource: of which least is taken, with a floor.
        prices: asked before every input; None leaves prices to the engine: drawn, or given.

    Raises:
        InputError: by `begin`, if no plan is worth as much as the floor.
    """

    def __init__(
        self,
        worth: Tensor,
        *,
        bandwidth: Literal["estimated", "true"] = "estimated",
        floor: float | None = None,
        resource: str = "latency_s",
        prices: Pricing | None = None,
    ) -> None:
        self._worth, self._floor = worth, floor
        self._bandwidth, self._resource, self._prices = bandwidth, resource, prices

    def begin(self, lanes: Lanes) -> None:
        """Look at the tree."""
        self._ahead = Foresight(lanes)
        self._throughput = Throughput(self._ahead, lanes)
        lanes.pricing = self._prices
        priced = lanes.stream.resource if self._floor is None else self._resource
        self._place = RESOURCES.index(priced)
        self._full = float(lanes.full.rows()[self._place]) or 1.0  # no bytes leave the full network
        reached = self._ahead.below(torch.zeros(1, dtype=torch.int64))[0]
        best = float(self._worth[reached].max())
        if self._floor is not None and best < self._floor:
            raise InputError(
                f"no plan is worth {self._floor:g}, the best {best:g}; lower the floor"
            )

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Nothing was sent yet."""
        self._throughput.start(rows)

    def act(self, lanes: Lanes) -> Tensor:
        """The first step of the best plan."""
        now = conditions(lanes)
        if self._bandwidth == "estimated":
            now = Conditions(self._throughput.bps, now.rtt_s, now.load)
        charge = torch.zeros(lanes.n, len(RESOURCES), dtype=torch.float64)
        worth, price = self._worth, lanes.price
        if self._floor is not None:
            # What is worth too little is worth nothing, the rest more than any cost.
            worth, price = (self._worth >= self._floor) * 1e6, torch.ones_like(lanes.price)
        charge[:, self._place] = price / self._full
        actions = best_step(self._ahead, lanes, worth, charge, now)
        self._throughput.look(lanes, actions)
        return actions

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Watch what transfers took."""
        self._throughput.note(lanes, step)
