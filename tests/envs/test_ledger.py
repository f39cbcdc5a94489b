"""Limits that streams draw or are given, what is left of them, and who sets prices by it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from penstock.backbones import Backbone, InputError
from penstock.envs import Budget, Lanes, Stream

Make = Callable[..., Lanes]

FULL = [1, 1, 3, 2]


def full_steps(lanes: Lanes, count: int) -> None:
    for _ in range(count):
        lanes.step(torch.tensor([FULL] * lanes.n))


def column(lanes: Lanes, name: str) -> Tensor:
    return lanes.observation[:, lanes.layout.where(name)].double()


def test_limits_are_drawn_evenly_on_a_logarithmic_scale(make: Make, short: Backbone) -> None:
    budget = Budget("energy_j", 0.5, relative=True, most=4.0)
    lanes = make(Stream(3, budgets=(budget,)), backbone=short, lanes=400)
    lanes.start(torch.arange(400))
    share = lanes.ledger.limits[:, 0] / (3 * float(lanes.full.energy_j))
    assert 0.5 <= share.min() < 0.52 and 3.9 < share.max() <= 4
    # The middle of 0.5 and 4 is 2^0.5: half of the draws lie below, a quarter below 2^-0.25.
    assert float((share < 2**0.5).double().mean()) == pytest.approx(0.5, abs=0.08)
    assert float((share < 2**-0.25).double().mean()) == pytest.approx(0.25, abs=0.07)
    placed = (share / 0.5).log2() / 3
    torch.testing.assert_close(column(lanes, "budget_energy_j"), placed, atol=1e-6, rtol=0)


@pytest.mark.parametrize("per", ["input", "stream"])
def test_hard_limits_may_be_drawn_too(make: Make, short: Backbone, per: Any) -> None:
    inputs = 2 if per == "stream" else 1
    budget = Budget("energy_j", 1.2 * inputs, True, "hard", per, most=2.0 * inputs)
    lanes = make(Stream(2, budgets=(budget,)), backbone=short, lanes=50)
    lanes.start(torch.arange(50))
    full = float(lanes.full.energy_j) * inputs
    limits = lanes.ledger.limits[:, 0] / full
    assert 1.2 <= limits.min() and limits.max() <= 2 and limits.std() > 0.1
    left = lanes.ledger.left[:, 0]
    stem = float(lanes.prices.stem[0])
    torch.testing.assert_close(left, lanes.ledger.limits[:, 0] - stem)
    shown = column(lanes, f"left_energy_j_per_{per}")
    torch.testing.assert_close(shown, left / lanes.ledger.limits[:, 0], atol=1e-6, rtol=0)
    names = [c.name for c in lanes.layout.columns]
    assert ("rate_energy_j" in names) == (per == "stream") and "budget_energy_j" in names
    full_steps(lanes, 3)
    left = lanes.ledger.left[:, 0] / full
    if per == "input":  # another input, another account
        torch.testing.assert_close(left, limits - stem / full)


def test_what_a_policy_must_not_see_it_does_not_see(make: Make) -> None:
    hidden = (
        Budget("energy_j", 2.0, True, most=3.0, observed=False),
        Budget("latency_s", 2.0, True, kind="hard", most=3.0, observed=False),
    )
    assert make(Stream(budgets=hidden)).layout.columns == make(Stream()).layout.columns


def test_the_rate_is_what_is_left_for_each_input_to_come(make: Make, short: Backbone) -> None:
    """By hand: 4 inputs at 1.5 of what the full network takes; the first two at full."""
    budget = Budget("energy_j", 1.5, relative=True)
    lanes = make(Stream(4, budgets=(budget,)), backbone=short, lanes=1, controller=None)
    lanes.start(torch.arange(1))
    full, stem = float(lanes.full.energy_j), float(lanes.prices.stem[0])
    assert column(lanes, "rate_energy_j").item() == pytest.approx((6 - stem / full) / 4 / 1.5)
    assert "budget_energy_j" not in [c.name for c in lanes.layout.columns]
    full_steps(lanes, 3)
    assert column(lanes, "rate_energy_j").item() == pytest.approx((5 - stem / full) / 3 / 1.5)
    full_steps(lanes, 3)
    assert column(lanes, "rate_energy_j").item() == pytest.approx((4 - stem / full) / 2 / 1.5)
    # An average budget forbids nothing, and is not blamed.
    assert lanes.allowed[0, 1:].all()
    full_steps(lanes, 5)
    step = lanes.step(torch.tensor([FULL]))
    assert step.ended.left[0, 0].item() == pytest.approx(2 * full)
    assert step.ended.limits[0, 0].item() == pytest.approx(6 * full)


def test_an_overspent_stream_is_told(make: Make, short: Backbone) -> None:
    budget = Budget("energy_j", 0.25, relative=True)
    lanes = make(Stream(2, budgets=(budget,)), backbone=short, lanes=1, controller=None)
    lanes.start(torch.arange(1))
    full_steps(lanes, 5)
    step = lanes.step(torch.tensor([FULL]))
    assert step.ended.left[0, 0].item() == pytest.approx(-1.5 * float(lanes.full.energy_j))
    assert not step.outcomes.over.any()


# Given --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [None, 3.0])
def test_a_limit_that_is_given_holds_for_that_stream_only(
    make: Make, short: Backbone, most: float | None
) -> None:
    budget = Budget("energy_j", 1.5, relative=True, most=most)
    lanes = make(Stream(4, budgets=(budget,)), backbone=short, lanes=3)
    full = float(lanes.full.energy_j)
    lanes.start(torch.arange(3))
    others = lanes.ledger.limits.clone()
    lanes.start(torch.tensor([2, 0]), limit=torch.tensor([9.0, 7.0]))
    assert lanes.ledger.limits[:, 0].tolist() == [4 * 7.0, float(others[1, 0]), 4 * 9.0]
    lanes.start(torch.arange(3))
    share = lanes.ledger.limits[:, 0] / (4 * full)
    assert ((share >= 1.5 - 1e-9) & (share <= (most or 1.5) + 1e-9)).all()


def test_a_limit_without_an_average_budget_is_refused(make: Make) -> None:
    for budgets in ((), (Budget("energy_j", 2.0, True, kind="hard"),)):
        lanes = make(Stream(budgets=budgets))
        with pytest.raises(InputError, match="no average budget; add one"):
            lanes.start(torch.arange(1), limit=torch.ones(1))


# Prices -------------------------------------------------------------------------------------------


def test_whoever_sets_prices_is_asked_at_every_input(make: Make, short: Backbone) -> None:
    budget = Budget("energy_j", 2.0, relative=True, most=3.0)
    stream = Stream(3, price=(0.1, 10.0), budgets=(budget,))
    lanes = make(stream, backbone=short, lanes=2, controller=None)
    asked: list[tuple[list[float], list[float], list[int]]] = []

    def pricing(limit: Tensor, rate: Tensor, to_come: Tensor) -> Tensor:
        if len(limit):
            asked.append((limit.tolist(), rate.tolist(), to_come.tolist()))
        return torch.linspace(0.5, 50.0, 2)[: len(limit)]

    lanes.pricing = pricing
    full, stem = float(lanes.full.energy_j), float(lanes.prices.stem[0])
    lanes.start(torch.arange(2))
    assert lanes.price.tolist() == pytest.approx([0.5, 10.0])  # within the stream's prices
    shown = torch.tensor([5.0, 100.0]).double().log10() / 2
    torch.testing.assert_close(column(lanes, "price"), shown, atol=1e-6, rtol=0)
    limits = (lanes.ledger.limits[:, 0] / 3).tolist()
    rates = [limit - stem / 3 for limit in limits]
    assert len(asked) == 1 and asked[0][2] == [3, 3]
    assert asked[0][0] == pytest.approx(limits) and asked[0][1] == pytest.approx(rates)
    # The first lane leaves behind block 0, and is asked for its next input alone.
    lanes.step(torch.tensor([FULL] * 2))
    before = lanes.price.clone()
    leaving = lanes.step(torch.tensor([[0, 0, 0, 0], FULL]))
    spent = float(leaving.outcomes.cost[0, 0])
    rate = (3 * limits[0] - spent - stem) / 2
    assert len(asked) == 2 and asked[1][2] == [2]
    assert asked[1][0] == pytest.approx(limits[:1]) and asked[1][1] == pytest.approx([rate])
    assert torch.equal(lanes.price, before)
    # The reward is at the price at which the decision was taken.
    lanes.pricing = lambda limit, rate, to_come: torch.full_like(limit, 3.0)
    done = 0.0
    while not done:
        price = float(lanes.price[1])
        spent = float(lanes.ledger.spent[0, 1])
        step = lanes.step(torch.tensor([FULL] * 2))
        done = float(step.answers.mask[1])
        paid = price * (float(step.answers.cost[0, 1]) - spent) / full
        worth = float(step.answers.worth[1]) if done else 0.0
        assert float(step.reward[1]) == pytest.approx(worth - paid, rel=1e-5)
    assert lanes.price[1].item() == 3.0


def test_prices_may_be_given(make: Make) -> None:
    lanes = make(Stream(2, price=(0.1, 10.0)), lanes=3)
    lanes.start(torch.tensor([0, 2, 1]), price=torch.tensor([0.5, 2.0, 7.0]))
    assert lanes.price.tolist() == [0.5, 7.0, 2.0]
    lanes.start(torch.tensor([0]), price=0.3)
    assert lanes.price.tolist() == [0.3, 7.0, 2.0]
    lanes.start(torch.tensor([1]), price=1)
    assert lanes.price.tolist() == [0.3, 1.0, 2.0]


def test_a_price_that_is_given_wins(make: Make, short: Backbone) -> None:
    budget = Budget("energy_j", 2.0, relative=True)
    lanes = make(Stream(2, price=(0.1, 10.0), budgets=(budget,)), backbone=short, lanes=3)
    lanes.pricing = lambda limit, rate, to_come: torch.full_like(limit, 2.0)
    lanes.start(torch.tensor([1]), price=0.7)
    lanes.start(torch.tensor([0, 2]))
    for _ in range(3):
        assert lanes.price.tolist() == [2.0, 0.7, 2.0]
        full_steps(lanes, 1)
    assert lanes.price.tolist() == [2.0, 0.7, 2.0]  # of the second input
    lanes.start(torch.tensor([1]))
    assert lanes.price.tolist() == [2.0, 2.0, 2.0]


def test_without_an_average_budget_rates_are_infinite(make: Make) -> None:
    lanes = make(Stream(2), lanes=2)
    seen: list[Tensor] = []

    def pricing(limit: Tensor, rate: Tensor, to_come: Tensor) -> Tensor:
        seen.extend((limit, rate))
        return torch.ones_like(limit)

    lanes.pricing = pricing
    lanes.start(torch.arange(2))
    assert len(seen) == 2 and all(torch.isinf(each).all() and len(each) == 2 for each in seen)
