import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from penstock.backbones import Backbone, Images
from penstock.envs import Budget, InferenceEnv, InferenceVectorEnv, Lanes, Stream
from penstock.hardware import Digital

Make = Callable[..., Lanes]

STREAMS = {
    "plain": Stream(),
    "long": Stream(inputs_per_episode=3, worth="likelihood"),
    "hard": Stream(
        budgets=(Budget("energy_j", 3.0, relative=True, kind="hard", per="stream"),),
        inputs_per_episode=3,
    ),
    "exits only": Stream(choices={"run": (1,), "width": (1.0,), "bits": (8,)}),
}


@pytest.mark.parametrize("name", STREAMS)
def test_gymnasium_and_stable_baselines_find_nothing_wrong(
    short: Backbone, images: Images, name: str
) -> None:
    env: Any = gymnasium.make(
        "penstock.envs:Inference-v0",
        backbone=short,
        machine="phone",
        images=images,
        stream=STREAMS[name],
    )
    check_env(env.unwrapped)
    check_env_for_sb3(env)


def test_gymnasium_makes_it_by_name(short: Backbone, images: Images, digital: Digital) -> None:
    env: Any = gymnasium.make(
        "penstock.envs:Inference-v0", backbone=short, machine=digital, images=images
    )
    assert isinstance(env.unwrapped, InferenceEnv)
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation) and info == {}
    for _ in range(3):
        action = np.array([1, 1, 3, 2])
        observation, reward, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(observation) and not truncated
    assert terminated
    assert info["exit"] == 2 and info["energy_j"] > 0 and not info["over"]
    assert isinstance(reward, float)
    assert env.get_wrapper_attr("action_masks")().shape == (11,)
    env.close()


def test_one_lane_is_a_vector_of_one(make: Make) -> None:
    single, vector = InferenceEnv(make(lanes=1)), InferenceVectorEnv(make(lanes=1))
    assert single.observation_space == vector.single_observation_space
    assert single.action_space == vector.single_action_space
    one, _ = single.reset(seed=4)
    many, _ = vector.reset(seed=4)
    rng = np.random.default_rng(0)
    ended = False
    while not ended:
        assert (one == many[0]).all()
        assert (single.action_masks() == vector.action_masks()[0]).all()
        action = rng.integers(0, 2, 4)
        one, reward, ended, _, info = single.step(action)
        many, rewards, ends, _, infos = vector.step(action[None])
        assert reward == rewards[0] and ended == ends[0]
        assert info == {name: v[0] for name, v in infos.items() if not name.startswith("_")}


def test_more_than_one_lane_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="one lane, got 2; use InferenceVectorEnv"):
        InferenceEnv(make(lanes=2))


def test_importing_environments_imports_nothing_heavy() -> None:
    heavy = ("stable_baselines3", "sb3_contrib", "ray", "datasets", "sklearn", "tensorboard")
    names = (*heavy, "matplotlib", "pandas", "tyro")
    code = f"import sys, penstock.envs; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == "[]"
