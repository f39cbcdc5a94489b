import json
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from penstock.backbones import InputError, tiny_resnet
from penstock.envs import InferenceVectorEnv
from penstock.hardware import build_machine
from penstock.scripts.bench import MEANINGS, Arguments, bench, measure, table
from penstock.scripts.comparisons import (
    SHARES,
    Case,
    Figures,
    random_case,
    tilted_actions,
)
from penstock.scripts.naive import NaiveEnv, live_pass, naive_pass, random_script

LANES = 32


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(0)
    return random_case(tiny_resnet(), build_machine("microcontroller"), lanes=LANES, repeats=1)


@pytest.fixture(scope="module")
def figures(case: Case) -> Iterator[Figures]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield measure(case)
    torch.set_num_threads(threads)


def test_every_figure_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
    explained = [key for key, _, _ in MEANINGS if f"`{key}`" in page]
    rest = {key for key, _, _ in MEANINGS} - set(explained)
    assert "`*_images_per_s`" in page
    assert all(key.endswith("_images_per_s") for key in rest)


def test_every_figure_is_measured(figures: Figures) -> None:
    everything: Figures = {"backbone": "tiny", **figures, "import_s": 1.0, "list_s": 1.0}
    assert set(everything) >= {key for key, _, _ in MEANINGS}
    for value in everything.values():
        for number in value.values() if isinstance(value, dict) else [value]:
            assert isinstance(number, str) or (isfinite(number) and number >= 0)
    assert json.loads(json.dumps(everything)) == everything
    assert len(table(everything).splitlines()) == 1 + len(MEANINGS) + 3 * 2 + 2


def test_groups_and_masks_agree(figures: Figures) -> None:
    difference = figures["max_logit_difference"]
    assert isinstance(difference, float)
    assert difference <= 1e-4


def test_work_that_is_left_is_what_was_asked_for(figures: Figures) -> None:
    shares = figures["grouped_mac_share"]
    assert isinstance(shares, dict)
    for share in SHARES:
        assert shares[str(share)] == pytest.approx(share, abs=0.01)


def test_settings_of_lanes_differ(case: Case) -> None:
    lanes = case.lanes(controller=None)
    actions = tilted_actions(lanes, 0.5, case.rng())
    assert all(len(each.unique(dim=0)) > 2 for each in actions)


def test_naive_environment_does_what_the_engine_does(case: Case) -> None:
    case = replace(case, backbone=tiny_resnet(blocks_per_stage=2))
    lanes = case.lanes(controller=(64, 64))
    script = random_script(lanes, 20, case.rng())
    for stream in range(3):
        env = NaiveEnv(case.backbone, case.machine, case.images)
        env.inputs = script.inputs[stream].tolist()
        here, observation = 0, env.reset()[0]
        lanes.start(torch.arange(LANES), script.inputs[:, :1], price=1.0)
        np.testing.assert_allclose(observation, lanes.observation[stream], atol=1e-5)
        for actions in script.actions:
            observation, reward, done, _, info = env.step(actions[stream].numpy())
            step = lanes.step(actions)
            np.testing.assert_allclose(observation, lanes.observation[stream], atol=1e-4)
            assert reward == pytest.approx(float(step.reward[stream]), abs=1e-5)
            assert done == bool(step.done[stream])
            if done:
                spent_j = step.outcomes.cost[step.outcomes.lanes == stream, 0]
                assert info["energy_j"] == pytest.approx(float(spent_j))
                here, (observation, _) = here + 1, env.reset()
                inputs = script.inputs[:, here : here + 1]
                lanes.start(step.done.nonzero().squeeze(1), inputs[step.done], price=1.0)
                np.testing.assert_allclose(observation, lanes.observation[stream], atol=1e-4)
            else:
                lanes.start(step.done.nonzero().squeeze(1), price=1.0)


def test_both_loops_answer_the_same_inputs(case: Case) -> None:
    lanes = case.lanes(controller=(64, 64))
    script = random_script(lanes, 6, case.rng())
    answered = live_pass(InferenceVectorEnv(lanes, autoreset=AutoresetMode.DISABLED), script)
    assert 0 < answered == naive_pass(case.naive(4), script, threads=1)()


@pytest.mark.parametrize(
    "wrong", [Arguments(lanes=0), Arguments(repeats=0), Arguments(backbone="none")]
)
def test_what_cannot_be_measured_is_said(wrong: Arguments) -> None:
    with pytest.raises(InputError):
        bench(wrong)
