"""How a gate is trained: by gradients through the table of what was recorded.

Letters: `n` inputs of a batch, `D` nodes at which is decided, `M` combinations of choices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from penstock.agents.gate import GateNetwork
from penstock.agents.gate_world import World
from penstock.agents.node_network import copied
from penstock.agents.predictor import Fit, Predictor
from penstock.agents.standing import Conditions
from penstock.envs import Lanes

Choice = Literal["straight_through", "expected"]
"""Decisions are drawn, with the gradient of their probabilities (Jang et al., Categorical
Reparameterization with Gumbel-Softmax, ICLR 2017), or all are taken, weighted by these."""

FIT: Final = Fit(epochs=25, batch=128)
"""Over `Priced`, five folds of CIFAR-10 validation images on split_3g gained 0.05 points with
decisions expected and -0.01 with decisions drawn; other decays, units, rates, batches and sharpness
lay between -0.04 and 0.05: no setting is told from another. On test images it is level with
`Priced`: -0.00 and -0.03 in two fits. [measured]"""

PART: Final = 512
"""Inputs that are looked at together."""

ROUNDS: Final = 4
"""Prices and links at which each validation input is judged."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Inputs at a price and under conditions each, and what plans promise there."""

    inputs: Tensor  # [n]
    price: Tensor  # [n]
    now: Conditions  # of each input
    scores: Tensor  # [n, D, 1 + M] of the best plan behind each decision

    def part(self, rows: slice) -> "Situation":
        """Some of them."""
        now = Conditions(self.now.bps[rows], self.now.rtt_s[rows], self.now.load[rows])
        return Situation(self.inputs[rows], self.price[rows], now, self.scores[rows])


def fit_gate(
    lanes: Lanes,
    validation: Lanes,
    predictor: Predictor,
    *,
    fit: Fit = FIT,
    choice: Choice = "expected",
    progress: Callable[[int], object] = lambda count: None,
) -> GateNetwork:
    """Train a gate on what was recorded, by gradients through the table.

        max over weights  E[worth of the answer - price * cost / full cost]

    over inputs, prices of the stream's range and what streams meet of the link as they start. The
    value of a node is that of its decisions, weighted by how they are chosen, so that the gradient
    reaches every decision on the way. It knows nothing of the stream, see `World`. The weights that
    are worth most on validation inputs, choosing the likeliest decisions, are kept: on those the
    gate is never worse than the plans that it starts from.

    Args:
        lanes: an engine of training inputs; says what is offered, what it costs and is worth.
        validation: the same of other inputs.
        predictor: of the worth of answers, fitted to the same inputs.
        fit: how.
        choice: how the decisions are taken whose gradient is followed.
        progress: called with 1 after each epoch.
    """
    world, other = World(lanes), World(validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.seed)
        model = GateNetwork(
            world.nodes, world.columns, world.decisions, fit.hidden, lanes.stream.price
        )
    optimiser = torch.optim.AdamW(model.parameters(), fit.rate, weight_decay=fit.decay)
    steps = fit.epochs * -(-world.inputs // fit.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = torch.Generator().manual_seed(fit.seed)
    every = torch.arange(other.inputs).repeat(ROUNDS)
    judged = situation(other, predictor, every, *other.draw(len(every), rng))
    best, kept = gate_value(model, other, judged), copied(model)
    for _ in range(fit.epochs):
        for inputs in torch.split(torch.randperm(world.inputs, generator=rng), fit.batch):
            met = situation(world, predictor, inputs, *world.draw(len(inputs), rng))
            optimiser.zero_grad()
            logits = gate_logits(model, world, met)
            chosen = logits.softmax(dim=2) if choice == "expected" else drawn(logits, rng)
            loss = -world.value(met.inputs, met.price, met.now, chosen).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        value = gate_value(model, other, judged)
        if value > best:
            best, kept = value, copied(model)
        progress(1)
    model.load_state_dict(kept)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def situation(
    world: World, predictor: Predictor, inputs: Tensor, price: Tensor, now: Conditions
) -> Situation:
    """Inputs [n] at prices and under conditions, and what plans promise there."""
    d, found = len(world.deciding), []
    for rows in torch.split(torch.arange(len(inputs)), PART):
        node = world.deciding.repeat(len(rows))
        each = Conditions(*(x[rows].repeat_interleave(d) for x in (now.bps, now.rtt_s, now.load)))
        worth = predictor.predict(world.seen(inputs[rows]).flatten(0, 1), node)
        plans = worth - world.paid(node, price[rows].repeat_interleave(d), each)
        found.append(world.ahead.by_decision(node, plans).view(len(rows), d, -1))
    return Situation(inputs, price, now, torch.cat(found))


@torch.no_grad()
def gate_value(model: GateNetwork, world: World, met: Situation) -> float:
    """Worth minus price times cost of the likeliest decisions, the stem not counted."""
    total = 0.0
    for start in range(0, len(met.inputs), PART):
        part = met.part(slice(start, start + PART))
        best = gate_logits(model, world, part).argmax(dim=2)
        chosen = nn.functional.one_hot(best, world.decisions).float()
        total += float(world.value(part.inputs, part.price, part.now, chosen).sum())
    return total / len(met.inputs)


def drawn(logits: Tensor, rng: torch.Generator) -> Tensor:
    """One decision each, with the gradient of the softmax of what it was drawn by, [n, D, 1 + M].

    Args:
        logits: the same.
        rng: of the draws.
    """
    uniform = torch.rand(logits.shape, generator=rng).clamp(1e-9, 1 - 1e-7)
    noisy = logits - (-uniform.log()).log()
    soft = noisy.softmax(dim=2)
    hard = nn.functional.one_hot(noisy.argmax(dim=2), logits.shape[2]).to(soft)
    return hard + soft - soft.detach()


def gate_logits(model: GateNetwork, world: World, met: Situation) -> Tensor:
    """Of n inputs at all nodes at which is decided, [n, D, 1 + M]."""
    n, d = len(met.inputs), len(world.deciding)
    now = Conditions(*(x.repeat_interleave(d) for x in (met.now.bps, met.now.rtt_s, met.now.load)))
    logits: Tensor = model(
        world.seen(met.inputs).flatten(0, 1),
        world.deciding.repeat(n),
        met.price.repeat_interleave(d),
        now,
        met.scores.flatten(0, 1),
    )
    return logits.view(n, d, -1)
