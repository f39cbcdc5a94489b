"""A recording as a gate is trained in it: what every decision leads to, and what that is worth.

Letters: `n` inputs of a batch, `V` nodes of the tree of decisions, `D` of them at which is decided,
`M` combinations of choices, `A` answers.
"""

from typing import final

import torch
from torch import Tensor

from penstock.agents.foresight import Foresight
from penstock.agents.plan_costs import away
from penstock.agents.standing import Conditions, recorded
from penstock.envs import Lanes
from penstock.envs.recording import SAID
from penstock.hardware import RESOURCES, Cost, Split


@final
class World:
    """Looks up what decisions of many inputs at all nodes come to, in a way that gradients pass.

    It is what the engine does with streams of one input and a fixed price: no queue, no battery, no
    switching, no budget; and the bandwidth does not change while an input is under way.

    Args:
        lanes: an engine that replays a recording.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._recording, self._machine = recorded(lanes), lanes.machine
        self._range = lanes.stream.price
        self.ahead = Foresight(lanes)
        tree = self._recording.tree
        self.inputs = len(self._recording.seen)  # one under several conditions is several
        self.nodes, self.columns = len(tree), self._recording.seen.shape[2]
        self._children, self._stay = self.ahead.children, self.ahead.staying  # [V, M]
        self.decisions = 1 + self._children.shape[1]
        stages = range(int(tree.stage[-1]))
        self._stages = [(tree.stage == stage).nonzero().squeeze(1) for stage in stages]
        self.deciding = torch.cat(self._stages)
        """[D] nodes, stage by stage."""
        self._worth = self._recording.said[:, :, SAID.index(lanes.stream.worth)]  # [I, V]
        self._place = RESOURCES.index(lanes.stream.resource)
        self._full = float(lanes.full.rows()[self._place])
        self._decision = float(lanes.prices.decision[self._place])

    def seen(self, inputs: Tensor) -> Tensor:
        """At all nodes at which is decided, [n, D, 21 + S]."""
        return self._recording.seen[inputs.unsqueeze(1), self.deciding]

    def draw(self, n: int, rng: torch.Generator) -> tuple[Tensor, Conditions]:
        """Prices [n] of the stream's range, and what n streams meet as they start."""
        low, high = self._range
        price = low * (high / low) ** torch.rand(n, generator=rng, dtype=torch.float64)
        if not isinstance(self._machine, Split):
            zero = torch.zeros(n, dtype=torch.float64)
            return price, Conditions(zero + 1, zero, zero)
        state = self._machine.reset(n, rng)
        return price, Conditions(10 ** state["log10_bps"], state["rtt_s"], state["load"])

    def paid(self, node: Tensor, price: Tensor, now: Conditions) -> Tensor:
        """Price times cost of all plans from nodes [n], [n, A]; of closed ones it means nothing."""
        cost = self.ahead.costs.ahead(node, now)[:, :, self._place]
        return (price / self._full).unsqueeze(1) * cost

    def value(self, inputs: Tensor, price: Tensor, now: Conditions, chosen: Tensor) -> Tensor:
        """Worth minus price times cost of inputs [n], the stem not counted, [n].

        From the last stage to the first, with the price of a unit, at every node at which is
        decided:

            value = chosen_answer * worth + sum_m chosen_m * (value of child m - price * step to it)
                    - price * decision

        where the child is the one that stays if the transfer is given up, which costs its own time.

        Args:
            inputs: [n].
            price: [n].
            now: of each.
            chosen: how much of each decision is taken at nodes at which is decided, [n, D, 1 + M];
                nothing of those that lead nowhere, or do what one before them does.
        """
        unit = (price / self._full).unsqueeze(1)
        step, lost, given_up = self._steps(inputs, now)
        step, lost = (unit * step).to(chosen.dtype), (unit * lost).to(chosen.dtype)
        decision = (unit * self._decision).to(chosen.dtype)
        worth = self._worth[inputs].to(chosen.dtype)
        value = worth  # [n, V]; what an answer there is worth
        end = len(self.deciding)
        for at in reversed(self._stages):
            part = chosen[:, end - len(at) : end]
            child, stay = self._children[at], self._stay[at]  # [v, M]
            reached = value[:, child] - step[:, child]
            failed = value[:, stay] - step[:, stay] - lost[:, child]
            behind = torch.where(given_up[:, child], failed, reached)
            ways = torch.cat([worth[:, at].unsqueeze(2), behind], dim=2)
            value = value.index_copy(1, at, (part * ways).sum(dim=2) - decision)
            end -= len(at)
        return value[:, 0]

    def _steps(self, inputs: Tensor, now: Conditions) -> tuple[Tensor, Tensor, Tensor]:
        """What the last step to every node is like, in the priced resource, [n, V] each.

        Returns:
            Its cost; what the transfer in it costs if that is given up; whether it is.
        """
        near, far = self._recording.here, self._recording.there
        if near.dim() == 3:
            near, far = near[inputs], far[inputs]
        near = near[..., self._place].expand(len(inputs), -1)
        split = self._machine
        if not isinstance(split, Split):
            return near, torch.zeros_like(near), torch.zeros(near.shape, dtype=torch.bool)
        bits = self._recording.sent_bits.expand(len(inputs), -1)
        spent = away(split, far.expand(len(inputs), -1, -1), bits, now)
        bps, rtt_s = now.bps.unsqueeze(1), now.rtt_s.unsqueeze(1)
        given_up = (bits > 0) & (bits / bps + rtt_s > split.timeout_s)
        sending_s = (bits / bps).clamp(max=split.timeout_s)
        energy_j = split.link.energy_j(bps * sending_s, sending_s, split.timeout_s - sending_s)
        latency_s = torch.full_like(bits, split.timeout_s)
        lost = Cost(energy_j, latency_s, sent_bytes=bps * sending_s / 8)
        return near + spent[:, :, self._place], lost.rows()[:, :, self._place], given_up
