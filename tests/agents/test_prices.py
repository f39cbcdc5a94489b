from math import inf

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.agents.learner import Learner
from penstock.agents.prices import BudgetPrices, Lagrangian, Law, Pid, budget_prices
from penstock.backbones import InputError, shipped
from penstock.envs import Budget, Stream, make_lanes


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_dual_ascent_by_hand() -> None:
    law = Lagrangian(rate=0.1)
    state, price = law.step(law.begin(row(0.5, 0.01)), row(0.2, -0.4))
    assert price.tolist() == pytest.approx([0.52, 0.0])
    assert law.step(state, row(0.5, 0.5))[1].tolist() == pytest.approx([0.57, 0.05])


def test_pid_control_by_hand() -> None:
    law = Pid(proportional=1.0, integral=0.1, derivative=2.0, smooth=0.5, delay=1)
    state, price = law.step(law.begin(row(0.3)), row(0.4))
    # p = 0.2, i = 0.3 + 0.04, and no derivative before there is a past.
    assert float(price) == pytest.approx(0.2 + 0.34)
    state, price = law.step(state, row(0.6))
    # p = 0.4, i = 0.4, c = 0.5 * 0.2 + 0.3 = 0.4 after 0.2.
    assert float(price) == pytest.approx(0.4 + 0.4 + 2.0 * 0.2)
    _, price = law.step(state, row(-1.0))
    # p = -0.3, i = 0.3, and a cost that falls is not held against anyone.
    assert float(price) == 0.0


def settle(law: Law, updates: int = 400) -> tuple[float, float]:
    """A cost that follows 1 / (1 + price) slowly: highest above its budget, and error in the end.

    Lag 0.8 an update, budget 0.4 of what is spent at price 0.
    """
    state, cost, errors = law.begin(row(0.0)), 1.0, []
    for _ in range(updates):
        errors.append(cost / 0.4 - 1)
        state, price = law.step(state, row(errors[-1]))
        cost = 0.8 * cost + 0.2 / (1 + float(price))
    return sum(error**2 for error in errors), abs(errors[-1])


def test_both_laws_meet_a_budget_and_pid_control_does_so_sooner() -> None:
    plain, last = settle(Lagrangian(rate=0.05))
    assert last < 0.02
    controlled, last = settle(Pid())
    assert last < 0.02
    assert controlled < plain


@given(
    prices=st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
    budgets=st.lists(st.floats(0.5, 40), min_size=2, max_size=6),
)
@settings(max_examples=50, deadline=None)
def test_prices_never_rise_with_the_budget(prices: list[float], budgets: list[float]) -> None:
    found = BudgetPrices(1.0, 16.0, buckets=4)
    found.prices = row(*prices)
    limits = row(*sorted(budgets))
    charged = found(limits, limits, torch.ones_like(limits))
    assert (charged > 0).all() and charged.isfinite().all()
    assert (charged.diff() <= 1e-9 * charged[:-1]).all()


def test_between_two_budgets_prices_are_interpolated_and_beyond_extrapolated() -> None:
    found = BudgetPrices(1.0, 4.0, buckets=3)
    assert found.budgets.tolist() == pytest.approx([1, 2, 4])
    found.prices = row(0.8, 0.2, 0.1)
    limits = row(1, 2, 4, 2**0.5, 8, 0.5)
    # On logarithmic scales: half way between 0.8 and 0.2 is 0.4, a step beyond the ends goes on.
    expected = [0.8, 0.2, 0.1, 0.4, 0.05, 3.2]
    many = torch.full_like(limits, 10.0)
    assert found(limits, 0 * limits, many).tolist() == pytest.approx(expected)
    found.replan = True
    assert found(limits.flip(0), limits, many).tolist() == pytest.approx(expected)
    found.reserve = 2.0
    assert found(limits, limits * 1.2, many).tolist() == pytest.approx(expected)


def test_only_budgets_of_which_streams_ended_are_moved() -> None:
    found = BudgetPrices(1.0, 4.0, price=0.5, law=Lagrangian(rate=0.1), buckets=3)
    found.note(row(1.1, 0.9, 4.0), row(1.32, 1.08, 2.0))
    found.step()
    assert found.prices.tolist() == pytest.approx([0.52, 0.5, 0.45])
    found.step()
    assert found.prices.tolist() == pytest.approx([0.52, 0.5, 0.45])
    assert found.scalars()["price/1"] == pytest.approx(0.52)


def test_what_was_saved_goes_on_the_same() -> None:
    first, second = (BudgetPrices(1.0, 4.0, law=Pid()) for _ in range(2))
    limits = row(1.0, 2.0, 3.0)
    for costs in (row(1.5, 1.0, 3.3), row(0.5, 2.0, 3.1)):
        first.note(limits, costs)
        first.step()
    first.note(limits, 2 * limits)
    second.restore(first.state())
    for each in (first, second):
        each.step()
    assert torch.equal(first.prices, second.prices)
    with pytest.raises(InputError, match="other budgets, or moved by another law"):
        BudgetPrices(1.0, 4.0, law=Lagrangian()).restore(first.state())
    with pytest.raises(InputError, match="other budgets"):
        BudgetPrices(1.0, 5.0).restore(first.state())


def test_mistakes_are_named() -> None:
    for least, most, buckets in ((1.0, 1.0, 4), (0.0, 1.0, 4), (1.0, 2.0, 1)):
        with pytest.raises(InputError, match="two buckets or more between"):
            BudgetPrices(least, most, buckets=buckets)


def test_there_are_prices_to_move_only_where_average_budgets_are_drawn() -> None:
    pid = Learner(prices="pid")

    def lanes(*budgets: Budget, learner: Learner = pid) -> BudgetPrices | None:
        stream = Stream(inputs_per_episode=3, budgets=budgets)
        engine = make_lanes(shipped("digits"), stream=stream)
        return budget_prices(engine, learner)

    drawn = Budget("energy_j", 2.0, relative=True, most=8.0)
    found = lanes(drawn)
    assert found is not None and found.law == Pid()
    tuned = lanes(drawn, learner=Learner(prices="pid", gains=(1.0, 0.1, 2.0)))
    assert tuned is not None and tuned.law == Pid(1.0, 0.1, 2.0)
    plain = lanes(drawn, learner=Learner(prices="lagrangian", gains=(0.3,)))
    assert plain is not None and plain.law == Lagrangian(0.3)
    engine = make_lanes(shipped("digits"), stream=Stream(budgets=(drawn,)))
    assert budget_prices(engine, Learner()) is None
    full = float(engine.full.energy_j)
    assert engine.ledger.average_range == pytest.approx((2 * full, 8 * full))
    assert found.budgets[[0, -1]].tolist() == pytest.approx([2 * full, 8 * full])
    hidden = make_lanes(shipped("digits"), stream=Stream(budgets=(drawn,), price_observed=False))
    with pytest.raises(InputError, match="follow nothing that it sees"):
        budget_prices(hidden, Learner())
    with pytest.raises(InputError, match="price_observed = false hides it"):
        budget_prices(hidden, Learner(prices="pid", imitate=10))
    for budget in ((), (Budget("energy_j", 2.0, relative=True),)):
        with pytest.raises(InputError, match="but the stream draws none"):
            lanes(*budget)
    assert make_lanes(shipped("digits")).ledger.average_range == (inf, inf)
