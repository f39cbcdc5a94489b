"""A gate trained by gradients: the strongest rival of reinforcement learning on recordings.

Letters: `n` rows, `V` nodes of the tree of decisions, `M` combinations of choices, `A` answers, `S`
stages, `N` lanes, `K` knobs.
"""

from math import log
from typing import Final, final

import torch
from torch import Tensor, nn

from penstock.agents.foresight import Foresight, plan_scores
from penstock.agents.node_network import NodeNetwork
from penstock.agents.predictor import Predictor
from penstock.agents.standing import Conditions, charged, conditions, nodes, seen
from penstock.envs import Lanes, Step
from penstock.envs.lanes import Pricing

SHARPNESS: Final = 30.0
"""Of the logits of plans before anything is learned: a gain of 3 points is chosen e times as often.
[estimate]"""

LINK: Final = 3
"""Columns of what is known of link and far machine."""


@final
class GateNetwork(nn.Module):
    """What the best plan behind each decision is worth, and a correction of it.

        logit = sharpness * score + perceptron(seen, price, link, scores)

    Scores are those of open-loop plans, by a predictor; at first there is no correction, and the
    likeliest decision is that of `Priced`. What plans leave out, that something more is seen on the
    way, is learned.

    Args:
        tree: V, the nodes of the tree of decisions.
        columns: of what is seen.
        decisions: 1 + M.
        hidden: units of each of two layers.
        price: lowest and highest of the streams.
    """

    def __init__(
        self, tree: int, columns: int, decisions: int, hidden: int, price: tuple[float, float]
    ) -> None:
        super().__init__()
        self.correction = NodeNetwork(tree, columns + 1 + LINK + decisions, decisions, hidden)
        nn.init.zeros_(self.correction.third.weight)
        nn.init.zeros_(self.correction.third.bias)
        self.log_sharpness = nn.Parameter(torch.tensor(log(SHARPNESS)))
        self._price = price

    def forward(
        self, seen: Tensor, node: Tensor, price: Tensor, now: Conditions, scores: Tensor
    ) -> Tensor:
        """Logits, [n, 1 + M]: to answer, then each combination; -infinity where scores are.

        Args:
            seen: [n, 21 + S].
            node: [n].
            price: [n].
            now: of each.
            scores: of the best plan behind each decision, [n, 1 + M]; -infinity where there is
                none.
        """
        none = scores.isinf()
        gaps = (scores - scores.amax(dim=1, keepdim=True)).masked_fill(none, 0.0)
        gaps = gaps.to(self.log_sharpness.dtype)
        low, high = self._price
        shown = ((price / low).log() / max(log(high / low), 1e-9)).clamp(0, 1) * 2 - 1
        rtt = now.rtt_s.clamp(min=1e-6).log10() + 2
        told = torch.stack([shown, now.bps.log10() - 6, rtt, now.load / (1 + now.load)], dim=1)
        x = torch.cat([seen.to(gaps), told.to(gaps), gaps], dim=1)
        logits: Tensor = self.log_sharpness.exp() * gaps + self.correction(x, node)
        return logits.masked_fill(none, -torch.inf)


@final
class Gate:
    """Takes the likeliest decision of a trained gate, at the engine's price.

    Args:
        network: of `fit_gate`, for the same decisions.
        predictor: that it was trained with.
        prices: asked before every input; None leaves prices to the engine: drawn, or given.
    """

    def __init__(
        self, network: GateNetwork, predictor: Predictor, prices: Pricing | None = None
    ) -> None:
        self._network, self._predictor, self._prices = network, predictor, prices

    def begin(self, lanes: Lanes) -> None:
        """Look at the tree."""
        lanes.pricing = self._prices
        self._ahead = Foresight(lanes)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Nothing is remembered."""

    def act(self, lanes: Lanes) -> Tensor:
        """The likeliest decision that is allowed."""
        node, shown, now = nodes(lanes), seen(lanes), conditions(lanes)
        worth, charge = self._predictor.predict(shown, node), charged(lanes, lanes.price)
        plans = plan_scores(self._ahead, lanes, worth, charge, now)
        scores = self._ahead.by_decision(node, plans)
        logits = self._network(shown, node, lanes.price, now, scores)
        return self._ahead.likeliest(node, logits, lanes.allowed)

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Nothing is learned any more."""
