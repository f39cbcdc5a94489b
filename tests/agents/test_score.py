import numpy as np
import pytest

from penstock.agents.score import Score, budget_grid, summed_up


def test_budgets_are_evenly_spaced_with_one_beyond_each_end() -> None:
    budgets, inside = budget_grid(1.0, 8.0, inside=4)
    assert budgets.tolist() == pytest.approx([0.5, 1, 2, 4, 8, 16])
    assert inside.tolist() == [False, True, True, True, True, False]


def score() -> Score:
    """Two budgets and two streams of each contender."""
    budgets = np.array([1.0, np.e])
    rows = {
        "policy": ([[1.1, 0.9], [2.0, 2.0]], [[0.6, 0.8], [0.9, 0.9]]),
        "hull": ([[1.0, 1.0], [2.0, 2.0]], [[0.5, 0.7], [0.9, 0.7]]),
        "oracle": ([[1.0, 1.0], [2.0, 2.0]], [[0.8, 0.8], [0.8, 0.8]]),
    }
    none = np.zeros(2)
    made = [
        summed_up(n, np.array(c), np.array(w), budgets, none, none) for n, (c, w) in rows.items()
    ]
    return Score("energy_j", 4.0, budgets, np.array([True, True]), tuple(made))


def test_a_row_by_hand() -> None:
    row = score().row("policy")
    assert row.utility.tolist() == pytest.approx([0.7, 0.9])
    assert row.cost.tolist() == pytest.approx([1.0, 2 / np.e])
    assert row.violating.tolist() == [0.5, 0.0]
    # 95 % of two streams: a twentieth of the way from the highest to the other.
    assert row.overshoot_p95.tolist() == pytest.approx([0.095, 0.0])
    assert row.spread[0] == pytest.approx(0.1)
    # The mean of 0.7 and 0.9 over a logarithmic scale from 1 to e.
    assert row.hypervolume(score().budgets) == pytest.approx(0.8)


def test_gain_and_gap_by_hand() -> None:
    found = score()
    gain = found.gain("policy", "hull", "oracle")
    assert gain[0] == pytest.approx(0.5) and np.isnan(gain[1])  # the oracle is no better there
    gap, low, high = found.gap("policy", "hull")
    assert gap == pytest.approx(0.1) and low <= gap <= high
    assert found.table()["rows"][0]["name"] == "policy"
