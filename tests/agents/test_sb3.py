"""Learning with Stable-Baselines3: every algorithm, the adapter, checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from penstock.agents import Learner, Scene, play
from penstock.agents.reference import full_worth
from penstock.agents.sb3 import load_policy, train
from penstock.agents.sb3_lanes import SB3VecEnv, unflatten
from penstock.backbones import InputError
from penstock.backbones.saving import read_tensors, write_tensors
from penstock.envs import Budget

TINY: dict[str, Any] = {"lanes": 8, "horizon": 8, "batch_size": 32, "epochs": 1, "hidden": (8,)}


@pytest.mark.parametrize("algorithm", ["maskable_ppo", "ppo", "recurrent_ppo", "dqn"])
def test_each_algorithm_learns_saves_and_loads(
    scene: Scene, tmp_path: Path, algorithm: str
) -> None:
    learner = Learner(**{**TINY, "algorithm": algorithm, "steps": 192})
    lanes = scene.lanes("train", learned=True, lanes=8)
    policy = train(lanes, learner, tmp_path, about={"algorithm": algorithm})
    test = scene.lanes("test", learned=True)
    again = load_policy(test, learner, tmp_path)
    first, second = play(policy, test, price=0.1), play(again, test, price=0.1)
    assert (first.choices == second.choices).all()
    events = EventAccumulator(str(tmp_path)).Reload().Tags()
    assert {"policy/reward", "policy/accuracy", "cost/energy_j", "policy/violation_rate"} <= set(
        events["scalars"]
    )
    assert "policy/choices" in events["images"]


def test_resumed_counters_go_on(scene: Scene, tmp_path: Path) -> None:
    lanes = scene.lanes("train", learned=True, lanes=8)
    train(lanes, Learner(steps=128, **TINY), tmp_path)
    assert read_tensors(tmp_path / "policy.safetensors")[1]["steps"] == "128"
    train(lanes, Learner(steps=256, **TINY), tmp_path, resume=True)
    _, metadata = read_tensors(tmp_path / "policy.safetensors")
    assert (metadata["steps"], metadata["updates"]) == ("256", "4")


def test_a_policy_for_other_observations_is_refused(scene: Scene, tmp_path: Path) -> None:
    lanes = scene.lanes("train", learned=True, lanes=8)
    train(lanes, Learner(steps=64, **TINY), tmp_path)
    with pytest.raises(InputError, match="trained with"):
        load_policy(lanes, Learner(**{**TINY, "hidden": (9,)}), tmp_path)
    with pytest.raises(InputError, match="maskable_ppo policy"):
        load_policy(lanes, Learner(algorithm="ppo", **TINY), tmp_path)


def test_nan_in_a_policy_is_refused(scene: Scene, tmp_path: Path) -> None:
    lanes = scene.lanes("train", learned=True, lanes=8)
    train(lanes, Learner(steps=64, **TINY), tmp_path)
    path = tmp_path / "policy.safetensors"
    tensors, metadata = read_tensors(path)
    name = next(name for name in tensors if name.endswith("action_net.weight"))
    tensors[name][0, 0] = torch.nan
    write_tensors(path, tensors, metadata)
    with pytest.raises(InputError, match="NaN"):
        load_policy(lanes, Learner(**TINY), tmp_path)


def test_the_adapter_keeps_the_engine_s_observations_and_masks(scene: Scene) -> None:
    environment = SB3VecEnv(scene.lanes("train", learned=True, lanes=5))
    environment.seed(3)
    observation = np.asarray(environment.reset())
    assert (observation == environment.lanes.observation.numpy()).all()
    masks = np.stack(environment.env_method("action_masks"))
    assert (masks == environment.lanes.allowed.numpy()).all()
    last = np.array(environment.sizes) - 1
    for _ in range(environment.lanes.backbone.depth):
        kept = observation.copy()
        after, _, done, infos = environment.step(np.tile(last, (5, 1)))
        observation = np.asarray(after)
    assert done.all()
    assert all("terminal_observation" in info for info in infos)
    assert not (kept == observation).all()


def test_combinations_are_counted_with_the_last_knob_fastest() -> None:
    assert unflatten(np.array([0, 1, 5, 11]), (2, 2, 3)).tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 2],
        [1, 1, 2],
    ]


def test_a_wrong_algorithm_is_refused() -> None:
    with pytest.raises(InputError, match="ppo, recurrent_ppo or dqn"):
        Learner(algorithm="a2c")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate of a learner lies from 0 to inf, got -0.1"),
        ({"entropy": float("nan")}, "entropy .* got nan"),
        ({"prices": "pid", "gains": (1.0,)}, "'pid' take 3 gains of 0 or more, got .1.0."),
        ({"gains": (1.0,)}, "of a law that moves prices, got .1.0. with prices = .drawn."),
        ({"trace": 1.5}, "trace of a learner lies from 0 to 1"),
        ({"hidden": (8, 0)}, r"one unit or more, got \[8, 0\]"),
        ({"batch_size": 1}, "at least 2 and divide the 8192 decisions"),
    ],
)
def test_numbers_that_cannot_be_learned_with(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Learner(**entry)


def test_answers_count_against_the_full_network_s(scene: Scene) -> None:
    lanes = scene.lanes("train", learned=True, lanes=5)
    worth = full_worth(lanes)
    plain, critical = SB3VecEnv(lanes), SB3VecEnv(lanes, reference=worth)
    last = np.tile(np.array(plain.sizes) - 1, (5, 1))
    rewards: list[Any] = []
    for environment in (plain, critical):
        lanes.seed(0)
        environment.seed(3)
        environment.reset()
        for _ in range(lanes.backbone.depth):
            price = lanes.price.numpy().copy()
            _, reward, done, _ = environment.step(last)
        reward = np.asarray(reward) * (1 + price)  # by which it was divided
        answered = environment.inner.last.outcomes
        rewards.append(reward - (answered.right.float().numpy() if not rewards else 0))
    assert done.all()
    # All took the full way, so that only what the last block cost is left of both.
    np.testing.assert_allclose(rewards[0], rewards[1], atol=1e-6)
    assert set(worth.tolist()) <= {0.0, 1.0} and len(worth) == len(lanes.images)


def test_the_rate_never_turns_negative(scene: Scene, tmp_path: Path) -> None:
    lanes = scene.lanes("train", learned=True, lanes=8)
    model: Any = train(lanes, Learner(steps=100, **TINY), tmp_path)  # two updates of 64
    assert model.num_timesteps == 128
    # What Stable-Baselines3 asks for at the last update: progress below 0.
    assert model.lr_schedule(1 - 128 / 100) == 0
    assert model.lr_schedule(0.5) == pytest.approx(Learner().learning_rate / 2)


def test_dqn_pays_for_an_output_a_combination(scene: Scene) -> None:
    paid = [
        float(replace(scene, joint=joint).lanes("test", learned=True).prices.decision[2])
        for joint in (False, True)
    ]
    # exit, run and width, two choices each: 6 outputs or 8, from 8 hidden units
    assert paid[1] - paid[0] == (8 - 6) * 8


def test_a_policy_of_one_hard_budget_is_judged_under_another(scene: Scene, tmp_path: Path) -> None:
    hard = Budget("latency_s", 0.9, relative=True, kind="hard")
    saw = replace(scene, stream=replace(scene.stream, budgets=(hard,)))
    for index, learned in enumerate((scene, saw)):
        lanes = learned.lanes("train", learned=True, lanes=8)
        policy = train(lanes, Learner(steps=64, **TINY), tmp_path / str(index))
        for budget in (hard, replace(hard, limit=0.8), replace(hard, resource="energy_j")):
            under = learned.under(budget)
            played = play(policy, under.lanes("test", learned=True), price=0.1)
            assert not played.over.any()
            assert len(under.stream.budgets) == 1 + (index and budget.resource == "energy_j")
    several = replace(saw.stream, budgets=(hard, replace(hard, resource="energy_j")))
    under = replace(scene, stream=several).under(replace(hard, limit=0.5, observed=False))
    assert [(b.resource, b.limit, b.observed) for b in under.stream.budgets] == [
        ("latency_s", 0.5, True),
        ("energy_j", 0.9, True),
    ]
