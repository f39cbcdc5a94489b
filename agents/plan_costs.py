"""What plans cost: recorded near and far, transfers at the bandwidth believed, and every decision.

Letters: `n` inputs under way, `V` nodes of the tree of decisions, `A` answers, `R` resources.
"""

from typing import final

import torch
from torch import Tensor

from penstock.agents.standing import LATENCY, MACS, Conditions, recorded
from penstock.envs import Lanes
from penstock.envs.tree import Tree
from penstock.hardware import Cost, Split


@final
class PlanCosts:
    """Of going from a node to an answer below it, whatever is seen on the way.

    What was recorded near, on average over inputs, what was recorded far as it is billed now, the
    transfer, and every decision on the way, the one that answers included. A transfer takes bits /
    bandwidth + a round trip: that it may be given up, and that the bandwidth changes meanwhile, is
    left out, and so are the cost of turning knobs and the lower clock of a hot machine.

    Args:
        lanes: an engine that replays a recording.
        answers: nodes, [A].
    """

    def __init__(self, lanes: Lanes, answers: Tensor) -> None:
        self._recording = recording = recorded(lanes)
        tree, prices = recording.tree, lanes.prices
        self._answers = answers
        here, there = (
            cost.mean(dim=0) if cost.dim() == 3 else cost
            for cost in (recording.here, recording.there)
        )
        self.stem = here[0]
        """[R]: taken before anything can be decided."""
        self._here = _summed(tree, here)
        self._near = self._here + tree.stage.unsqueeze(1) * prices.decision  # [V, R]
        self._far = _summed(tree, there)
        self._bits = _summed(tree, recording.sent_bits.unsqueeze(1)).squeeze(1)
        self._gone = _summed(tree, tree.away.long().unsqueeze(1)).squeeze(1)  # stages run far
        leaving = (tree.stage[answers] < prices.stages).unsqueeze(1)
        self._end = self._near[answers] + leaving * prices.decision  # [A, R]
        self._split = lanes.machine if isinstance(lanes.machine, Split) else None

    def ahead(self, node: Tensor, now: Conditions) -> Tensor:
        """From nodes [n] to all answers, [n, A, R]; of those not below it means nothing."""
        cost = self._end - self._near[node].unsqueeze(1)
        if self._split is None:
            return cost
        far = self._far[self._answers] - self._far[node].unsqueeze(1)
        bits = self._bits[self._answers] - self._bits[node].unsqueeze(1)
        return cost + away(self._split, far, bits, now)

    def whole(self, inputs: Tensor, now: Conditions) -> Tensor:
        """From the stem of inputs [n] to all answers, [n, A, R].

        Each input costs its own where the recording has costs that differ.
        """
        if self._recording.here.dim() == 2:
            return self.ahead(torch.zeros_like(inputs), now) + self.stem
        here, there = (
            _summed(self._recording.tree, each[inputs], stem=True)[:, self._answers]
            for each in (self._recording.here, self._recording.there)
        )
        cost = here + self._end - self._here[self._answers]
        if self._split is None:
            return cost
        bits = self._bits[self._answers].expand(len(inputs), -1)
        return cost + away(self._split, there, bits, now)

    def front_and_rest(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """What plans from the root take near, [k, R], and what they leave to the far machine.

        The second is MACs, stages and bytes that are sent, [k, 3] float64.

        Args:
            chosen: answers by place, [k].
        """
        node = self._answers[chosen]
        left = [self._far[node, MACS], self._gone[node].double(), self._bits[node] / 8]
        return self._end[chosen] - self._near[0], torch.stack(left, dim=1)

    def sent_bits(self, node: Tensor) -> Tensor:
        """What leaves in the last step to nodes, [n]."""
        return self._recording.sent_bits[node]

    def step_s(self, node: Tensor, child: Tensor, load: Tensor) -> Tensor:
        """What deciding and computing take from nodes to their children, sending apart, [n]."""
        far_s = self._far[child, LATENCY] - self._far[node, LATENCY]
        return self._near[child, LATENCY] - self._near[node, LATENCY] + far_s * (1 + load)


def away(split: Split, far: Tensor, bits: Tensor, now: Conditions) -> Tensor:
    """What the device is billed for a transfer and for what runs far, [n, A, R].

    Args:
        split: bills.
        far: what the far machine takes, [n, A, R].
        bits: that leave, [n, A].
        now: of n inputs.
    """
    bps, rtt_s, load = (each.unsqueeze(1) for each in (now.bps, now.rtt_s, now.load))
    sending_s, waiting_s = bits / bps, rtt_s * (bits > 0)
    energy_j = split.link.energy_j(bits, sending_s, waiting_s)
    sending = Cost(energy_j, sending_s + waiting_s, sent_bytes=bits / 8)
    return (split.billed(Cost(*far.unbind(dim=2)), load) + sending).rows()


def _summed(tree: Tree, amounts: Tensor, *, stem: bool = False) -> Tensor:
    """What the whole way to each node takes, given what the last step does, [.., V, R].

    Args:
        tree: of decisions.
        amounts: [.., V, R].
        stem: whether what was taken before any decision is counted.
    """
    total = amounts.clone()
    total[..., 0, :] *= stem
    for node in range(1, len(tree)):
        total[..., node, :] += total[..., int(tree.parent[node]), :]
    return total
