"""A gate trained by gradients: the strongest rival of reinforcement learning on recordings.

Letters: `n` inputs of a batch, `I` recorded ones, `V` nodes of the tree of decisions, `M`
combinations of choices, `S` stages, `N` lanes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Final, Literal, final

import torch
from torch import Tensor, nn

from penstock.agents.foresight import Foresight
from penstock.agents.gate_world import World
from penstock.agents.predictor import Predictor
from penstock.agents.standing import (
    Conditions,
    charged,
    conditions,
    nodes,
    seen,
    shown_price,
)
from penstock.envs import Lanes, Step
from penstock.envs.lanes import Pricing

SHARPNESS: Final = 30.0
"""Of the logits of plans before anything is learned: a gain of 3 points is chosen e times as often.
[estimate]"""

LINK: Final = 3
"""Columns of what is known of link and far machine."""


@dataclass(frozen=True, slots=True)
class GateFit:
    """How a gate is trained."""

    hidden: int = 64
    """Units of each of two layers."""
    rate: float = 3e-3
    """Adam's, falling to 0 along a cosine."""
    decay: float = 1e-2
    """Of the weights, as in AdamW."""
    steps: int = 800
    batch: int = 128
    """Inputs of a step, each at a price and under conditions of its own."""
    choice: Literal["straight_through", "expected"] = "straight_through"
    """Decisions are drawn, with the gradient of their probabilities (Jang et al., Categorical
    Reparameterization with Gumbel-Softmax, ICLR 2017), or all taken, weighted by these."""
    temperature: float = 1.0
    """Of the draws."""
    seed: int = 0


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
    """

    def __init__(self, tree: int, columns: int, decisions: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(columns + 1 + LINK + decisions, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, decisions)
        self.places = nn.ModuleList(nn.Embedding(tree, hidden) for _ in range(2))
        for each in (*self.places, self.third):
            nn.init.zeros_(each.weight)
        nn.init.zeros_(self.third.bias)
        self.log_sharpness = nn.Parameter(torch.tensor(log(SHARPNESS)))

    def forward(
        self, seen: Tensor, node: Tensor, price: Tensor, link: Tensor, scores: Tensor
    ) -> Tensor:
        """Logits, [n, 1 + M]: to answer, then each combination.

        Args:
            seen: [n, 21 + S].
            node: [n].
            price: from 0, the lowest, to 1, the highest, logarithmic, [n].
            link: see `link_columns`, [n, LINK].
            scores: of the plans behind each decision, [n, 1 + M]; -infinity where there is none.
        """
        first, second = (place(node) for place in self.places)
        gaps = (scores - scores.amax(dim=1, keepdim=True)).float()
        none = gaps.isinf()
        known = gaps.masked_fill(none, 0.0)
        x = torch.cat([seen, 2 * price.unsqueeze(1) - 1, link, known], dim=1).float()
        x = (self.first(x) + first).relu()
        correction: Tensor = self.third((self.second(x) + second).relu())
        return (self.log_sharpness.exp() * known + correction).masked_fill(none, -torch.inf)


def link_columns(now: Conditions) -> Tensor:
    """Conditions as numbers of about 1, [n, LINK]."""
    rtt = now.rtt_s.clamp(min=1e-6).log10() + 2
    return torch.stack([now.bps.log10() - 6, rtt, now.load / (1 + now.load)], dim=1)


def _copy(model: GateNetwork) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in model.state_dict().items()}


def plan_scores(
    ahead: Foresight,
    predictor: Predictor,
    seen: Tensor,
    node: Tensor,
    charge: Tensor,
    now: Conditions,
) -> Tensor:
    """What the best plan behind each decision is worth less its cost, [n, 1 + M].

    Args:
        ahead: of the engine.
        predictor: of the worth of answers.
        seen: [n, 21 + S].
        node: [n].
        charge: for a unit of each resource, [n, R].
        now: of each.
    """
    cost = ahead.cost(node, now).nan_to_num(posinf=0.0)
    paid = torch.bmm(cost, charge.unsqueeze(2)).squeeze(2)
    return ahead.by_decision(node, predictor.predict(seen, node) - paid)


def fit_gate(
    lanes: Lanes,
    validation: Lanes,
    predictor: Predictor,
    *,
    fit: GateFit | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> GateNetwork:
    """Train a gate on what was recorded, by gradients through the table.

        max over weights  E[worth of the answer - price * cost / full cost]

    over inputs, prices of the stream's range and what streams meet of the link as they start. The
    value of a node is that of its decisions, weighted by how they are chosen, so that the gradient
    reaches every decision on the way. It knows nothing of the stream: no queue, no battery, no
    switching. The weights that are worth most on validation inputs, choosing the likeliest
    decisions, are kept.

    Args:
        lanes: an engine of training inputs; says what is offered, what it costs and is worth.
        validation: the same of other inputs.
        predictor: of the worth of answers, fitted to the same inputs.
        fit: how.
        progress: called with 1 after each step.
    """
    fit = fit or GateFit()
    world, other = World(lanes), World(validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.seed)
        model = GateNetwork(world.nodes, world.columns, world.decisions, fit.hidden)
    optimiser = torch.optim.AdamW(model.parameters(), fit.rate, weight_decay=fit.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, fit.steps)
    rng = torch.Generator().manual_seed(fit.seed)
    best, kept = gate_value(model, predictor, other), _copy(model)
    for step in range(1, fit.steps + 1):
        inputs = torch.randint(world.inputs, (fit.batch,), generator=rng)
        price, now = world.draw(fit.batch, rng)
        optimiser.zero_grad()
        logits = _logits(model, predictor, world, inputs, price, now)
        chosen = _chosen(logits, fit, rng)
        loss = -world.value(inputs, price, now, chosen).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % max(1, fit.steps // 15) == 0:
            value = gate_value(model, predictor, other)
            if value > best:
                best, kept = value, _copy(model)
        progress(1)
    model.load_state_dict(kept)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def gate_value(
    model: GateNetwork, predictor: Predictor, world: World, *, rounds: int = 4, seed: int = 0
) -> float:
    """Worth minus price times cost of the likeliest decisions, over inputs, prices and links."""
    rng = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(rounds):
        inputs = torch.arange(world.inputs)
        price, now = world.draw(world.inputs, rng)
        logits = _logits(model, predictor, world, inputs, price, now)
        chosen = nn.functional.one_hot(logits.argmax(dim=2), world.decisions).float()
        total += float(world.value(inputs, price, now, chosen).mean())
    return total / rounds


def _logits(
    model: GateNetwork,
    predictor: Predictor,
    world: World,
    inputs: Tensor,
    price: Tensor,
    now: Conditions,
) -> Tensor:
    """Of n inputs at all nodes at which is decided, [n, D, 1 + M]."""
    d = len(world.deciding)
    node, price = world.deciding.repeat(len(inputs)), price.repeat_interleave(d)
    each = (values.repeat_interleave(d) for values in (now.bps, now.rtt_s, now.load))
    now, shown = Conditions(*each), world.seen(inputs).flatten(0, 1)
    with torch.no_grad():
        scores = plan_scores(world.ahead, predictor, shown, node, world.charge(price), now)
    logits: Tensor = model(shown, node, world.shown_price(price), link_columns(now), scores)
    return logits.view(len(inputs), d, -1).masked_fill(~world.open, -torch.inf)


def _chosen(logits: Tensor, fit: GateFit, rng: torch.Generator) -> Tensor:
    """How much of each decision is taken, [n, D, 1 + M]."""
    if fit.choice == "expected":
        return logits.softmax(dim=2)
    uniform = torch.rand(logits.shape, generator=rng).clamp(1e-9, 1 - 1e-7)
    noisy = (logits - (-uniform.log()).log()) / fit.temperature
    soft = noisy.softmax(dim=2)
    hard = nn.functional.one_hot(noisy.argmax(dim=2), logits.shape[2]).float()
    return hard + soft - soft.detach()


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
        charge = charged(lanes, lanes.price)
        scores = plan_scores(self._ahead, self._predictor, shown, node, charge, now)
        price = shown_price(lanes, lanes.price).clamp(0, 1)
        logits = self._network(shown, node, price, link_columns(now), scores)
        return self._ahead.likeliest(node, logits, lanes.allowed)

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Nothing is learned any more."""
