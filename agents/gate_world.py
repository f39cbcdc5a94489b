"""A recording as a gate is trained in it: what every decision leads to, and what that is worth.

Letters: `n` inputs of a batch, `V` nodes of the tree of decisions, `D` of them at which is decided,
`M` combinations of choices, `R` resources.
"""

from typing import final

import torch
from torch import Tensor

from penstock.agents.foresight import Foresight
from penstock.agents.plan_costs import away
from penstock.agents.standing import Conditions, charged, recorded, shown_price
from penstock.envs import Lanes
from penstock.envs.recording import SAID
from penstock.hardware import RESOURCES, Cost, Split


@final
class World:
    """Looks up what decisions of many inputs at all nodes come to, in a way that gradients pass.

    Args:
        lanes: an engine that replays a recording.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._recording, self._lanes = recorded(lanes), lanes
        self._machine = lanes.machine
        self.ahead = ahead = Foresight(lanes)
        tree = self._recording.tree
        self.inputs = self._recording.inputs
        self.nodes, self.columns = len(tree), self._recording.seen.shape[2]
        children, self._stay = ahead.children, ahead.staying  # [V, M]
        self.decisions = 1 + children.shape[1]
        stages = int(tree.stage[-1])
        self._stages = [(tree.stage == s).nonzero().squeeze(1) for s in range(stages + 1)]
        self.deciding = torch.cat(self._stages[:-1])
        """[D] nodes, stage by stage."""
        self._children = children
        answered = lanes.prices.answered[tree.stage[self.deciding]]
        self.open = torch.cat([answered.unsqueeze(1), ahead.distinct[self.deciding]], dim=1)
        """[D, 1 + M]: which decisions there are; of those that do the same work the first."""
        worth = SAID.index(lanes.stream.worth)
        self._said = self._recording.said[:, :, worth]  # [I, V]
        place = RESOURCES.index(lanes.stream.resource)
        self._place, self._full = place, float(lanes.full.rows()[place])
        self._decision = float(lanes.prices.decision[place])

    def seen(self, inputs: Tensor) -> Tensor:
        """At all nodes at which is decided, [n, D, 21 + S]."""
        return self._recording.seen[inputs.unsqueeze(1), self.deciding]

    def draw(self, n: int, rng: torch.Generator) -> tuple[Tensor, Conditions]:
        """Prices [n] of the stream's range, and what n streams meet as they start."""
        low, high = self._lanes.stream.price
        price = low * (high / low) ** torch.rand(n, generator=rng, dtype=torch.float64)
        if not isinstance(self._machine, Split):
            zero = torch.zeros(n, dtype=torch.float64)
            return price, Conditions(zero + 1, zero, zero)
        state = self._machine.reset(n, rng)
        return price, Conditions(10 ** state["log10_bps"], state["rtt_s"], state["load"])

    def shown_price(self, price: Tensor) -> Tensor:
        """As a policy sees it, [n]."""
        return shown_price(self._lanes, price)

    def charge(self, price: Tensor) -> Tensor:
        """For a unit of each resource, [n, R]."""
        return charged(self._lanes, price)

    def value(self, inputs: Tensor, price: Tensor, now: Conditions, chosen: Tensor) -> Tensor:
        """Worth minus price times cost of inputs [n], the stem not counted, [n].

        Args:
            inputs: [n].
            price: [n].
            now: of each.
            chosen: how much of each decision is taken at nodes at which is decided, [n, D, 1 + M].
        """
        charge = (price / self._full).unsqueeze(1)
        step, given_up, timeout = self._steps(inputs, now)
        step, timeout = (charge * step).float(), (charge * timeout).float()
        decision = (charge * self._decision).float()
        said = self._said[inputs]
        value = said.clone()  # [n, V]; what an answer there is worth
        start = len(self.deciding)
        for at in reversed(self._stages[:-1]):
            start -= len(at)
            part = chosen[:, start : start + len(at)]
            child, stay = self._children[at], self._stay[at]  # [v, M]
            reached = value[:, child] - step[:, child]
            failed = value[:, stay] - step[:, stay] - timeout.unsqueeze(2)
            behind = torch.where(given_up[:, child], failed, reached)
            ways = torch.cat([said[:, at].unsqueeze(2), behind], dim=2)
            # What is not open was never chosen.
            found = (part * ways).sum(dim=2) - decision
            value = value.index_copy(1, at, found)
        return value[:, 0]

    def _steps(self, inputs: Tensor, now: Conditions) -> tuple[Tensor, Tensor, Tensor]:
        """What the last step to every node is like, in the priced resource.

        Returns:
            Its cost [n, V], whether the transfer in it would be given up [n, V], and what that
            would cost instead [n, 1].
        """
        near, far = self._recording.here, self._recording.there
        if near.dim() == 3:
            near, far = near[inputs], far[inputs]
        near = near[..., self._place].expand(len(inputs), -1)
        none = torch.zeros(len(inputs), 1, dtype=torch.float64)
        if not isinstance(self._machine, Split):
            return near, torch.zeros(near.shape, dtype=torch.bool), none
        bits = self._recording.sent_bits.expand(len(inputs), -1)
        away_cost = away(self._machine, far.expand(len(inputs), -1, -1), bits, now)
        step = near + away_cost[:, :, self._place]
        timeout_s = self._machine.timeout_s
        seconds = bits / now.bps.unsqueeze(1) + now.rtt_s.unsqueeze(1)
        sent = now.bps * timeout_s
        energy_j = self._machine.link.energy_j(sent, timeout_s, 0.0)
        spent = Cost(energy_j, torch.full_like(sent, timeout_s), sent_bytes=sent / 8)
        lost = spent.rows()[:, self._place : self._place + 1]
        return step, (bits > 0) & (seconds > timeout_s), lost
