from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest
import torch

from penstock.backbones import InputError
from penstock.envs import Budget, Lanes, Stream

Make = Callable[..., Lanes]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs_per_episode": 0}, "one input or more, got 0"),
        ({"price": (0.0, 1.0)}, "positive low"),
        ({"price": (2.0, 1.0)}, "positive low"),
        ({"price": (1.0, inf)}, "positive low"),
        ({"price": (nan, 1.0)}, "positive low"),
        ({"worth": "money"}, "'money'"),
        ({"budgets": (Budget("macs", 1.0),)}, "energy_j, got macs; make others hard"),
        ({"budgets": (Budget("energy_j", 1.0),) * 2}, "one average budget at most"),
        ({"resource": "joules"}, "energy_j, latency_s, macs, sent_bytes, got 'joules'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stream(**arguments)


def test_prices_are_drawn_evenly_on_a_logarithmic_scale(make: Make) -> None:
    lanes = make(Stream(price=(0.01, 1.0)), lanes=200)
    lanes.start(torch.arange(200))
    column = lanes.observation[:, lanes.layout.where("price")].double()
    torch.testing.assert_close(column, (lanes.price / 0.01).log10() / 2, atol=1e-6, rtol=0)
    assert 0.4 < column.mean() < 0.6
    assert 0.15 < (column < 0.25).double().mean() < 0.35


def test_a_price_that_is_not_observed_is_paid_all_the_same(make: Make) -> None:
    rewards = []
    for observed in (True, False):
        lanes = make(Stream(price=(0.1, 1.0), price_observed=observed), lanes=4)
        lanes.start(torch.arange(4))
        assert bool((lanes.observation[:, lanes.layout.where("price")] > 0).all()) == observed
        rewards.append(lanes.step(torch.tensor([[1, 1, 3, 2]] * 4)).reward)
    assert torch.equal(*rewards) and len(set(rewards[0].tolist())) == 4


@pytest.mark.parametrize("resource", ["energy_j", "latency_s", "macs"])
def test_the_price_is_on_the_streams_resource(make: Make, resource: str) -> None:
    lanes = make(Stream(resource=resource, price=(0.5, 0.5)), lanes=2)
    lanes.start(torch.arange(2))
    rewards = torch.zeros(2, dtype=torch.float64)
    while lanes.active.any():
        step = lanes.step(torch.tensor([[1, 1, 3, 2], [1, 0, 0, 0]]))
        rewards += step.reward
    index = list(lanes.full.each()).index(resource)
    paid = (step.outcomes.cost - lanes.prices.stem)[:, index]
    share, right = paid / float(lanes.full.each()[resource]), step.outcomes.right.double()
    torch.testing.assert_close(rewards, right - 0.5 * share, atol=1e-6, rtol=0)
    assert share[0] > share[1]
