"""Confidence thresholds and chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents import Recorded, Scene, play
from penstock.agents.baselines import Random, exit_thresholds, first_exit, sizes, thresholds

confidences = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).random((300, 4)))


@settings(deadline=None, max_examples=30)
@given(confidences, st.floats(0.3, 3.0))
def test_exit_shares_are_geometric(confidence: np.ndarray, q: float) -> None:
    taken = first_exit(exit_thresholds(confidence, q), confidence)
    wanted = q ** np.arange(1, 5) / (q ** np.arange(1, 5)).sum()
    shares = np.bincount(taken, minlength=4) / len(taken)
    assert shares == pytest.approx(wanted, abs=4 / len(taken))


@settings(deadline=None, max_examples=20)
@given(confidences)
def test_extremes_take_the_first_and_the_last_exit(confidence: np.ndarray) -> None:
    # Shares are rounded down to whole inputs, so one may go on.
    assert (first_exit(exit_thresholds(confidence, 1e-6), confidence) == 0).sum() >= 299
    assert (first_exit(exit_thresholds(confidence, 1e6), confidence) == 3).all()


def test_live_thresholds_meet_the_budget_they_were_calibrated_to(
    scene: Scene, recorded: Recorded
) -> None:
    lanes = scene.lanes("validation", learned=False)
    statics = recorded.validation
    full = int(np.flatnonzero(~statics.masks)[-1])
    exits = statics.take(statics.same_setting(full))
    cost, _ = exits.mean("energy_j")
    budget = float(cost[0] + 0.5 * (cost[-1] - cost[0]))
    spent = play(thresholds(lanes, exits, budget, "energy_j"), lanes).mean("energy_j")
    assert 0.9 * budget <= spent <= budget * (1 + 1e-9)


def test_chance_spends_more_the_more_often_it_is_full(scene: Scene) -> None:
    lanes = scene.lanes("test", learned=False)
    spent = [play(Random(sizes(lanes), p), lanes).mean("macs") for p in (0.0, 0.7, 1.0)]
    assert spent == sorted(spent)
    assert spent[2] == pytest.approx(float(lanes.full.macs))
