"""The hull, the oracle and the front, against linear programs and hand calculation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog  # type: ignore[import-untyped]

from penstock.agents.bounds import front, hull, oracle
from penstock.hardware import RESOURCES

seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_hull_equals_a_linear_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost, accuracy = rng.random(7), rng.random(7)
    budget = float(cost.min() + rng.random())
    a, b, share = hull(cost, accuracy, budget)
    mixed = (1 - share) * accuracy[a] + share * accuracy[b]
    best = linprog(-accuracy, A_ub=[cost], b_ub=[budget], A_eq=[np.ones(7)], b_eq=[1.0])
    assert mixed == pytest.approx(-best.fun, abs=1e-9)
    assert (1 - share) * cost[a] + share * cost[b] <= budget + 1e-12


def test_hull_by_hand() -> None:
    # Half way in cost between 60 % and 80 %: half of each.
    a, b, share = hull(np.array([1.0, 3.0]), np.array([0.6, 0.8]), 2.0)
    assert (a, b, share) == (0, 1, 0.5)


def test_a_budget_below_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="cheapest"):
        hull(np.array([1.0]), np.array([0.5]), 0.5)


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_oracle_equals_a_linear_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, configurations = 40, 4
    right = rng.random((inputs, configurations)) < 0.6
    cost = np.sort(rng.random((inputs, configurations)), axis=1)
    costs = np.zeros((inputs, configurations, len(RESOURCES)))
    costs[:, :, 0] = cost
    low, high = cost.min(axis=1).mean(), cost.max(axis=1).mean()
    budget = float(low + 0.3 * (high - low))
    expected, spent = oracle(right, costs, budget, RESOURCES[0])
    choose_one = np.kron(np.eye(inputs), np.ones(configurations))
    best = linprog(
        -right.ravel().astype(float),
        A_ub=[cost.ravel() / inputs],
        b_ub=[budget],
        A_eq=choose_one,
        b_eq=np.ones(inputs),
        bounds=(0, 1),
    )
    assert expected.sum() == pytest.approx(-best.fun, abs=1e-6)
    assert spent[:, 0].mean() <= budget + 1e-9


def test_front_keeps_what_nothing_beats() -> None:
    cost, accuracy = np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.5, 0.7, 0.6, 0.7])
    assert front(cost, accuracy).tolist() == [True, True, False, False]
