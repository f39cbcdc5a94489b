"""Recorded configurations are what the live engine does."""

import numpy as np
import pytest

from penstock.agents import Recorded, Scene, play
from penstock.agents.baselines import Random, orders
from penstock.hardware import RESOURCES


def test_the_full_setting_is_the_live_engine_s(scene: Scene, recorded: Recorded) -> None:
    lanes = scene.lanes("test", learned=False, lanes=7)
    played = play(Random(orders(lanes), tilt=1.0), lanes)
    full = int(np.flatnonzero(recorded.test.uniform)[-1])
    assert (played.right == recorded.test.right[:, full]).all()
    assert played.cost == pytest.approx(recorded.test.cost[:, full], rel=1e-9)


def test_every_mask_and_exit_is_there_once(recorded: Recorded) -> None:
    # Two widths, and 2^4 - 1 masks of the four skippable blocks, each with three exits.
    assert len(recorded.test.names) == 3 * (2 + 15)
    assert len(set(recorded.test.names)) == len(recorded.test.names)
    assert len({tuple(runs) for runs in recorded.test.runs[recorded.test.masks]}) == 15
    assert recorded.test.names == recorded.validation.names


def test_skipping_costs_less(recorded: Recorded) -> None:
    full = int(np.flatnonzero(recorded.test.uniform)[-1])
    macs = recorded.test.cost[0, :, RESOURCES.index("macs")]
    last_exits = np.arange(len(macs)) % 3 == 2
    assert (macs[recorded.test.masks & last_exits] < macs[full]).all()
