"""A gate beside the plans that it starts from, and beside the engine."""

from typing import Any

import pytest
import torch
from torch import Tensor

from penstock.agents.decider import run_streams
from penstock.agents.gate import Gate, GateNetwork
from penstock.agents.predictor import Predictor
from penstock.agents.primal_dual import Priced
from penstock.envs import Arrivals, Battery, Budget, Lanes, Recording, Stream, Switching

RUSH: dict[str, Any] = {
    "arrivals": Arrivals(period_s=0.004, burst=4, jitter=1, deadline_s=0.02, capacity=3),
    "battery": Battery(6, start=(0.5, 1.0), harvest_w=20.0),
    "switching": (Switching("width", 0.02, 0.1),),
    "budgets": (Budget("energy_j", 0.9, relative=True, kind="hard"),),
}


def engine(recording: Recording, length: int = 1, **rules: Any) -> Lanes:
    stream = Stream(inputs_per_episode=length, price=(0.02, 5.0), **rules)
    return Lanes(recording, stream, lanes=64, controller=None)


def untrained(lanes: Lanes, recording: Recording) -> GateNetwork:
    decisions = 1 + len(lanes.prices.settings)
    columns = recording.seen.shape[2]
    network = GateNetwork(len(recording.tree), columns, decisions, 8, lanes.stream.price)
    return network.requires_grad_(False)


def draw(recording: Recording, k: int, length: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(recording.inputs, (k, length), generator=rng)


@pytest.mark.parametrize("rules", [{}, RUSH])
def test_before_it_is_trained_it_decides_as_priced_plans_do(
    local: dict[str, Recording], predictor: Predictor, rules: dict[str, Any]
) -> None:
    lanes, streams = engine(local["test"], 20, **rules), draw(local["test"], 30, 20)
    gate = Gate(untrained(lanes, local["test"]), predictor)
    one, other = (run_streams(each, lanes, streams) for each in (gate, Priced(predictor)))
    assert torch.equal(one.exit_each, other.exit_each)
    assert torch.equal(one.cost_each, other.cost_each)
    assert len(set(one.exit_each.flatten().tolist())) > 2


def test_nothing_is_overruled_whatever_the_rules(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    lanes = engine(local["test"], 12, **RUSH)
    network = untrained(lanes, local["test"])
    rng = torch.Generator().manual_seed(0)
    for weight in network.correction.parameters():  # whatever it has learned
        weight.copy_(torch.randn(weight.shape, generator=rng))
    gate, rows = Gate(network, predictor), torch.arange(64)
    gate.begin(lanes)
    lanes.start(rows)
    gate.start(lanes, rows)
    while bool(lanes.active.any()):
        step = lanes.step(gate.act(lanes))
        gate.learn(lanes, step)
        assert int(step.outcomes.overruled.sum()) == 0 and not step.outcomes.over.any()
