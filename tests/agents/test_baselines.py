"""Confidence thresholds and chance."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents import Recorded, Scene, play
from penstock.agents.baselines import Random, exit_thresholds, first_exit, orders, thresholds
from penstock.hardware import RESOURCES, build_machine

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
    cost, _ = statics.mean("energy_j")
    for share in (0.3, 0.6, 0.9):
        budget = float(cost.min() + share * (cost.max() - cost.min()))
        rule = thresholds(lanes, statics, budget, "energy_j")
        assert rule is not None
        played = play(rule, lanes)
        assert played.mean("energy_j") <= budget * (1 + 1e-9)
    assert thresholds(lanes, statics, 0.99 * float(cost[~statics.masks].min()), "energy_j") is None


@pytest.mark.parametrize("best", [0, 1])
def test_thresholds_take_the_best_uniform_setting(
    scene: Scene, recorded: Recorded, best: int
) -> None:
    lanes, statics = scene.lanes("validation", learned=False), recorded.validation
    right = np.tile(statics.settings == best, (len(statics.right), 1))
    cost, _ = statics.mean("energy_j")
    rule = thresholds(lanes, replace(statics, right=right), float(cost.max()), "energy_j")
    assert rule is not None
    width = [knob.name for knob in lanes.knobs].index("width")
    assert rule.setting[width] == best


def test_chance_spends_from_the_least_to_the_most(scene: Scene) -> None:
    lanes = scene.lanes("test", learned=False)
    tilts = (-1.0, -0.7, 0.0, 0.7, 1.0)
    spent = [play(Random(orders(lanes), tilt), lanes).mean("macs") for tilt in tilts]
    assert spent == sorted(spent)
    assert spent[0] == pytest.approx(float(lanes.prices.cheapest[RESOURCES.index("macs")]))
    assert spent[4] == pytest.approx(float(lanes.full.macs))


def test_chance_knows_what_is_cheap_on_a_split_network(scene: Scene) -> None:
    # Leaving at 8 bits is the first choice of `offload`, and costs far more than staying, the last.
    there = replace(scene, machine=build_machine("split_wifi"))
    lanes = there.lanes("test", learned=False)
    least = min(Random(orders(lanes), tilt).end[-1] for tilt in (-1.0, -0.5))
    assert lanes.knobs[-1].name == "offload" and lanes.knobs[-1].choices[least] == 0
    spent = [play(Random(orders(lanes), tilt), lanes).mean("energy_j") for tilt in (-1.0, 1.0)]
    assert 10 * spent[0] < spent[1]
