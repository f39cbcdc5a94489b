from collections.abc import Callable

import pytest
import torch

from penstock.envs import Lanes
from penstock.envs.controller import Controller, decision_cost
from penstock.hardware import Digital

Make = Callable[..., Lanes]


def test_work_of_the_policy_by_hand(digital: Digital) -> None:
    # 10 * 6 + 6 * 4 = 84 multiplications and weights, 10 + 6 numbers read and 6 + 4 written,
    # four bytes each: 84 * 20 + 4 * (26 * 3 + 84 * 5) = 1680 + 1992 joules; the weights take
    # 336 / 20000 s, the multiplications 84 / 10000 s.
    cost = decision_cost(digital, {}, 10, (6,), 4)
    assert cost.macs == 84
    assert cost.energy_j == 3672
    assert cost.latency_s == pytest.approx(0.25 + 0.0168)


def test_a_policy_may_be_linear() -> None:
    assert Controller(5, (), 3)(torch.rand(2, 5), {}).shape == (2, 3)


def test_every_decision_is_paid_for(make: Make) -> None:
    lanes, free = make(controller=(16,)), make(controller=None)
    columns, choices = len(lanes.layout.columns), lanes.allowed.shape[1]
    macs = columns * 16 + 16 * choices
    actions = torch.tensor([[1, 1, 3, 2], [1, 1, 3, 2], [0, 1, 3, 2], [1, 0, 0, 0]])
    costs = []
    for engine in (lanes, free):
        engine.start(torch.arange(4), torch.arange(4).unsqueeze(1))
        costs.append(torch.zeros(4, 4, dtype=torch.float64))
        while engine.active.any():
            outcomes = engine.step(actions).outcomes
            costs[-1][outcomes.lanes] = outcomes.cost
    decisions = (costs[0] - costs[1])[:, 2] / macs
    assert decisions.tolist() == [6, 6, 3, 6]  # the third answers before block 2
    assert float(lanes.full.macs) == float(free.full.macs)


def test_a_free_policy_costs_nothing(make: Make) -> None:
    assert not make(controller=None).prices.decision.any()
