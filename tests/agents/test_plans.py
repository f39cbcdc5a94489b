"""Settings block by block, as they are searched on validation images."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from penstock.agents import Scene
from penstock.agents.plans import assignments, find_plans, skip_masks
from penstock.agents.statics import Plan, run_plan
from penstock.envs import Stream
from penstock.hardware import RESOURCES, build_machine


@pytest.fixture(scope="module")
def analog(scene: Scene) -> Scene:
    choices = {"bits": (8,), "width": (1.0,), "run": (1,), "votes": (1, 3), "snr_db": (0, 20)}
    return replace(scene, machine=build_machine("analog"), stream=Stream(choices=choices))


def test_skip_masks_are_all_that_leave_something_out(scene: Scene) -> None:
    lanes = scene.lanes("validation", learned=False, lanes=1)
    masks = skip_masks(lanes, scene.data.validation)
    runs = {tuple(setting["run"] for setting in plan.settings) for plan in masks}
    assert len(masks) == len(runs) == 2**4 - 1
    assert all(0 in mask for mask in runs)


def test_assignments_go_from_dearest_to_cheapest_one_knob_at_a_time(analog: Scene) -> None:
    lanes = analog.lanes("validation", learned=False, lanes=1)
    images = analog.data.validation
    path = assignments(lanes, images)
    # Six blocks with two knobs of two choices each: twelve steps down.
    assert len(path) == 12
    before: tuple[Mapping[str, float], ...] = (lanes.prices.settings[-1],) * 6
    energy = []
    for plan in path:
        changed = [
            (d, name)
            for d, (old, new) in enumerate(zip(before, plan.settings, strict=True))
            for name in new
            if old[name] != new[name]
        ]
        assert len(changed) == 1
        before = plan.settings
        energy.append(run_plan(lanes, images, plan.settings, seed=0)[2][:, -1, 0].mean())
    assert energy == sorted(energy, reverse=True)
    assert all(setting["snr_db"] == 0 and setting["votes"] == 1 for setting in path[-1].settings)


def test_a_step_saves_most_for_what_it_loses(analog: Scene) -> None:
    lanes = analog.lanes("validation", learned=False, lanes=1)
    images, energy = analog.data.validation, RESOURCES.index("energy_j")
    first = assignments(lanes, images)[0]
    full = lanes.prices.settings[-1]

    def worth(plan: Plan) -> float:
        right, _, cost = run_plan(lanes, images, plan.settings, seed=0)
        lost = max(whole[0][:, -1].mean() - right[:, -1].mean(), 0.5 / len(images))
        return float((whole[2][:, -1, energy].mean() - cost[:, -1, energy].mean()) / lost)

    whole = run_plan(lanes, images, (full,) * 6, seed=0)
    others = [
        Plan("", tuple({**full, name: low} if d == index else full for d in range(6)))
        for index in range(6)
        for name, low in (("snr_db", 0), ("votes", 1))
    ]
    assert worth(first) == pytest.approx(max(worth(plan) for plan in others))


def test_machines_without_knobs_are_assigned_nothing(scene: Scene) -> None:
    lanes = scene.lanes("validation", learned=False, lanes=1)
    assert all(p.name.startswith("skip") for p in find_plans(lanes, scene.data.validation))
