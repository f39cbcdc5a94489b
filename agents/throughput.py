"""What a device believes of its uplink: the mean of what past transfers took.

Letters: `N` lanes, `k` some of them.
"""

from typing import Final, final

import torch
from torch import Tensor

from penstock.agents.foresight import Foresight
from penstock.agents.standing import LATENCY, SENT, conditions, nodes
from penstock.envs import Lanes, Step
from penstock.hardware import Link, Machine, Split

WEIGHT: Final = 0.3
"""Of the newest transfer. [estimate]"""


def mean_bps(link: Link) -> float:
    """The mean of the traces for training: what is believed of a link that was never used."""
    if isinstance(link.bandwidth, int | float):
        return float(link.bandwidth)
    traces = link.bandwidth.at("train").recordings()
    bits = sum(
        float((each.bandwidth_bps.double() * each.time_s.double().diff()).sum())
        * (each.least_share + each.most_share)
        / 2
        for each in traces
    )
    return bits / sum(float(each.time_s[-1] - each.time_s[0]) for each in traces)


@final
class Throughput:
    """An exponential moving average of the bandwidth that each lane's transfers had.

        bps <- (1 - weight) * bps + weight * bits / seconds sending

    A transfer's seconds are what a step took beyond round trip, computing and deciding, all of
    which a device knows; those of one that was given up are the timeout. Nothing is learned while
    nothing is sent.

    Args:
        ahead: of the engine.
        lanes: N.
        weight: of the newest transfer.
    """

    def __init__(self, ahead: Foresight, lanes: Lanes, *, weight: float = WEIGHT) -> None:
        self._ahead, self._weight = ahead, weight
        split: Machine = lanes.machine
        self._split = split if isinstance(split, Split) else None
        self.first_bps = 1.0 if self._split is None else mean_bps(self._split.link)
        """What is believed of a link that was never used."""
        self.bps = torch.full((lanes.n,), self.first_bps, dtype=torch.float64)
        """[N]: what is believed now."""

    def start(self, rows: Tensor) -> None:
        """Streams that know nothing yet, on lanes [k]."""
        self.bps[rows] = self.first_bps

    def look(self, lanes: Lanes, actions: Tensor) -> None:
        """Before a step."""
        self._spent, self._node = lanes.ledger.spent, nodes(lanes)
        self._child, self._now = self._ahead.child(self._node, actions), conditions(lanes)

    def note(self, lanes: Lanes, step: Step) -> None:
        """After it."""
        if self._split is None:
            return
        took = step.answers.cost - self._spent
        sent = took[SENT] > 0
        if not sent.any():
            return
        whole = self._ahead.costs.sent_bits(self._child)
        through = 8 * took[SENT] >= whole * (1 - 1e-9)
        computing_s = self._ahead.costs.step_s(self._node, self._child, self._now.load)
        sending_s = took[LATENCY] - computing_s - self._now.rtt_s
        sending_s = torch.where(through, sending_s, self._split.timeout_s).clamp(min=1e-6)
        found = 8 * took[SENT] / sending_s
        self.bps = torch.where(sent, self.bps + self._weight * (found - self.bps), self.bps)
