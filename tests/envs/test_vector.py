from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from numpy.typing import NDArray
from torch import Tensor

from penstock.backbones import Backbone, Block, Images, Setting, restrict
from penstock.envs import InferenceVectorEnv, Lanes, Stream
from penstock.envs.controller import Controller
from penstock.hardware import Cost, Digital, Job, Machine, State

Make = Callable[..., Lanes]

GO, ANSWER = [1], [0]


@final
@dataclass(frozen=True)
class Flat(Machine):
    """A stem costs 2 J, a block 1 J, a head 0.5 J and a decision 0.25 J."""

    backbone: Backbone

    def reset(self, n: int, rng: torch.Generator) -> State:
        return {}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y = job.block(job.x, restrict(job.setting, job.block))
        return y, self.price(job.block, job.setting, ()), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        if isinstance(block, Controller):
            return Cost(energy_j=0.25)
        if block is self.backbone.stem:
            return Cost(energy_j=2.0)
        return Cost(energy_j=1.0 if block in set(self.backbone.blocks) else 0.5)


FULL_J = 2 + 3 * (1 + 0.5)
ON_J = 0.25 + 1 + 0.5
OUT_J = 0.25

MakeEnv = Callable[..., InferenceVectorEnv]


@pytest.fixture
def make_env(make: Make, short: Backbone, images: Images) -> MakeEnv:
    """Three blocks, no knob but exit, a price of 0.5, and images that are answered rightly."""
    with torch.no_grad():
        labels = short(images.pixels.float() / 255).argmax(dim=1)
    right = Images(images.pixels, labels, images.classes)
    fixed = {"run": (1,), "width": (1.0,), "bits": (32,)}

    def env(autoreset: AutoresetMode, *, lanes: int = 2, inputs: int = 1) -> InferenceVectorEnv:
        stream = Stream(price=(0.5, 0.5), choices=fixed, inputs_per_episode=inputs)
        engine = make(stream, backbone=short, machine=Flat(short), images=right, lanes=lanes)
        return InferenceVectorEnv(engine, autoreset=autoreset)

    return env


def actions(*rows: list[int]) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64)


def cost_reward(joules: float) -> float:
    return -0.5 * joules / FULL_J


def depth(env: InferenceVectorEnv, observation: NDArray[np.float32]) -> list[int]:
    """Blocks that each lane has passed; after the last no column is set."""
    places = observation[:, env.lanes.layout.block]
    return [int(row.argmax()) if row.any() else row.size for row in places]


def three_steps(env: InferenceVectorEnv) -> tuple[Any, ...]:
    """Lane 0 goes all the way, lane 1 answers before the last block; the third step."""
    observation, infos = env.reset(seed=1)
    assert depth(env, observation) == [0, 0] and infos == {}
    for passed in (1, 2):
        observation, reward, terminated, truncated, infos = env.step(actions(GO, GO))
        assert depth(env, observation) == [passed, passed]
        assert reward.tolist() == pytest.approx([cost_reward(ON_J)] * 2)
        assert not terminated.any() and not truncated.any() and infos == {}
    result = env.step(actions(GO, ANSWER))
    reward, terminated, truncated, infos = result[1:]
    infos = infos.get("final_info", infos)
    assert reward[0] == pytest.approx(1 + cost_reward(ON_J))
    right = bool(infos["right"][1])
    assert reward[1] == pytest.approx(right + cost_reward(OUT_J))
    assert terminated.tolist() == [True, True] and not truncated.any()
    assert infos["exit"].tolist() == [2, 1]
    assert infos["right"][0] and not infos["over"].any()
    assert infos["energy_j"].tolist() == [2 + 3 * ON_J, 2 + 2 * ON_J + OUT_J]
    assert infos["_right"].tolist() == infos["_energy_j"].tolist() == [True, True]
    return result


def test_next_step_autoreset_by_hand(make_env: MakeEnv) -> None:
    env = make_env(AutoresetMode.NEXT_STEP)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observation, _, _, _, infos = three_steps(env)
    assert "final_obs" not in infos
    assert depth(env, observation) == [3, 2]
    energy = env.lanes.layout.where("spent")
    assert observation[0, energy] == pytest.approx((2 + 3 * ON_J) / FULL_J)
    # The filler step: no reward, whatever the action.
    observation, reward, terminated, truncated, infos = env.step(actions(ANSWER, GO))
    assert depth(env, observation) == [0, 0]
    assert not reward.any() and not terminated.any() and not truncated.any() and infos == {}
    observation, reward, *_ = env.step(actions(GO, GO))
    assert depth(env, observation) == [1, 1]
    assert reward.tolist() == pytest.approx([cost_reward(ON_J)] * 2)


def test_next_step_autoreset_holds_nobody_else_up(make_env: MakeEnv) -> None:
    env = make_env(AutoresetMode.NEXT_STEP)
    env.reset(seed=1)
    env.step(actions(GO, GO))
    _, _, terminated, _, infos = env.step(actions(GO, ANSWER))
    assert terminated.tolist() == [False, True]
    assert infos["_exit"].tolist() == [False, True] and infos["exit"][1] == 0
    observation, reward, terminated, _, _ = env.step(actions(GO, ANSWER))
    assert depth(env, observation) == [3, 0]
    assert reward.tolist() == pytest.approx([1 + cost_reward(ON_J), 0])
    assert terminated.tolist() == [True, False]
    observation, reward, *_ = env.step(actions(ANSWER, GO))
    assert depth(env, observation) == [0, 1]
    assert reward.tolist() == pytest.approx([0, cost_reward(ON_J)])


def test_same_step_autoreset_by_hand(make_env: MakeEnv) -> None:
    env = make_env(AutoresetMode.SAME_STEP)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, _, _, _, infos = three_steps(env)
    assert depth(env, observation) == [0, 0]
    assert depth(env, np.stack(infos["final_obs"])) == [3, 2]
    assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == [True, True]
    assert "right" not in infos  # of the new streams nothing was answered
    observation, reward, terminated, _, infos = env.step(actions(GO, GO))
    assert depth(env, observation) == [1, 1]
    assert reward.tolist() == pytest.approx([cost_reward(ON_J)] * 2)
    _, _, terminated, _, infos = env.step(actions(ANSWER, GO))
    assert terminated.tolist() == infos["_final_obs"].tolist() == [True, False]
    assert depth(env, infos["final_obs"][0][None]) == [1] and infos["final_obs"][1] is None
    assert infos["final_info"]["_right"].tolist() == [True, False]
    spent = env.lanes.layout.where("spent")
    assert infos["final_obs"][0][spent] == pytest.approx((2 + ON_J + OUT_J) / FULL_J)


def test_without_autoreset_lanes_rest_until_they_are_reset(make_env: MakeEnv) -> None:
    env = make_env(AutoresetMode.DISABLED)
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    final, *_ = three_steps(env)
    assert depth(env, final) == [3, 2]
    observation, reward, terminated, _, infos = env.step(actions(GO, GO))
    assert (observation == final).all()
    assert not reward.any() and not terminated.any() and infos == {}
    observation, infos = env.reset(options={"reset_mask": np.array([False, True])})
    assert depth(env, observation) == [3, 0] and infos == {}
    assert (observation[0] == final[0]).all()
    observation, reward, *_ = env.step(actions(GO, GO))
    assert depth(env, observation) == [3, 1]
    assert reward.tolist() == pytest.approx([0, cost_reward(ON_J)])
    observation, _ = env.reset()
    assert depth(env, observation) == [0, 0]


def test_a_reset_in_the_middle_cancels_what_autoreset_had_to_do(make_env: MakeEnv) -> None:
    env = make_env(AutoresetMode.NEXT_STEP)
    three_steps(env)
    env.reset()
    observation, reward, *_ = env.step(actions(GO, GO))
    assert depth(env, observation) == [1, 1] and reward.all()


@pytest.mark.parametrize("autoreset", AutoresetMode)
def test_a_stream_of_two_inputs_ends_with_the_second(
    make_env: MakeEnv, autoreset: AutoresetMode
) -> None:
    env = make_env(autoreset, lanes=1, inputs=2)
    env.reset(seed=1)
    rewards, ends, told = [], [], []
    for _ in range(6):
        _, reward, terminated, _, infos = env.step(actions(GO))
        rewards.append(float(reward[0]))
        ends.append(bool(terminated[0]))
        told.append("right" in infos.get("final_info", infos))
    on = cost_reward(ON_J)
    assert rewards == pytest.approx([on, on, 1 + on] * 2)
    assert ends == [False] * 5 + [True]
    assert told == [False, False, True] * 2


def test_what_was_handed_out_does_not_change(make_env: MakeEnv) -> None:
    env = make_env(AutoresetMode.SAME_STEP)
    kept = [env.reset(seed=1)[0], env.action_masks()]
    for row in (GO, GO, ANSWER, GO):
        observation, reward, terminated, truncated, infos = env.step(actions(row, GO))
        infos |= infos.pop("final_info", {}) | {"final_obs": infos.pop("final_obs", [None])[0]}
        arrays = [value for value in infos.values() if isinstance(value, np.ndarray)]
        kept += [observation, reward, terminated, truncated, env.action_masks(), *arrays]
    copies = [array.copy() for array in kept]
    for row in (GO, ANSWER, GO):
        env.step(actions(row, ANSWER))
    env.reset(seed=2)
    assert all((array == copy).all() for array, copy in zip(kept, copies, strict=True))


def test_actions_may_be_read_only(make_env: MakeEnv) -> None:
    env = make_env(AutoresetMode.SAME_STEP)
    env.reset(seed=1)
    for kind in (np.int32, np.int64):
        row = np.ones((2, 1), dtype=kind)
        row.flags.writeable = False
        env.step(row)


def play(env: VectorEnv[Any, Any, Any], seed: int, steps: int = 12) -> list[NDArray[Any]]:
    rng = np.random.default_rng(7)
    found = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        action = rng.integers(0, 2, env.action_space.shape)
        assert env.action_space.contains(action)
        observation, reward, terminated, truncated, _ = env.step(action)
        assert env.observation_space.contains(observation)
        assert reward.shape == terminated.shape == truncated.shape == (env.num_envs,)
        found += [observation, reward, terminated]
    return found


@pytest.mark.parametrize("autoreset", AutoresetMode)
def test_the_same_seed_is_the_same_trajectory(make: Make, autoreset: AutoresetMode) -> None:
    env, other = (InferenceVectorEnv(make(), autoreset=autoreset) for _ in range(2))
    first, again, elsewhere = play(env, 3), play(env, 3), play(other, 3)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert all((a == b).all() for a, b in zip(first, elsewhere, strict=True))
    assert not all((a == b).all() for a, b in zip(first, play(env, 4), strict=True))
    assert env.np_random_seed == 4


def test_gymnasium_makes_it_by_name(short: Backbone, images: Images, digital: Digital) -> None:
    env = gymnasium.make_vec(
        "penstock.envs:Inference-v0",
        num_envs=4,
        vectorization_mode="vector_entry_point",
        backbone=short,
        machine=digital,
        images=images,
    )
    assert isinstance(env, InferenceVectorEnv) and env.num_envs == 4
    assert env.spec is not None and env.spec.id == "Inference-v0"
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    play(env, 0)
    env.close()


def test_arguments_reach_the_engine(short: Backbone, images: Images) -> None:
    env = gymnasium.make_vec(
        "penstock.envs:Inference-v0",
        num_envs=2,
        backbone=short,
        machine="phone",
        images=images,
        stream=Stream(choices={"bits": (8,)}),
        controller=None,
        autoreset=AutoresetMode.SAME_STEP,
        seed=3,
    )
    assert isinstance(env, InferenceVectorEnv)
    assert env.autoreset is AutoresetMode.SAME_STEP
    assert [knob.name for knob in env.lanes.offered] == ["run", "width"]
    assert not env.lanes.prices.decision.any()
    assert env.action_space.shape == (2, 3)


@pytest.mark.parametrize("autoreset", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_gymnasiums_wrappers_understand_it(make_env: MakeEnv, autoreset: AutoresetMode) -> None:
    env = DictInfoToList(RecordEpisodeStatistics(make_env(autoreset)))
    env.reset(seed=1)
    for _ in range(3):
        _, _, _, _, told = env.step(actions(GO, GO))
    infos: Any = told
    for info in infos:
        assert info.get("final_info", info)["exit"] == 2
        assert info["episode"]["l"] == 3
        assert info["episode"]["r"] == pytest.approx(1 + 3 * cost_reward(ON_J), rel=1e-5)


def test_masks_are_of_all_knobs_side_by_side(make: Make) -> None:
    env = InferenceVectorEnv(make())
    env.reset(seed=0)
    masks = env.action_masks()
    sizes = [len(knob.choices) for knob in env.lanes.knobs]
    assert masks.shape == (4, sum(sizes)) and masks.dtype == np.bool_
    assert isinstance(env.single_action_space, gymnasium.spaces.MultiDiscrete)
    assert env.single_action_space.nvec.tolist() == sizes
    assert not masks[:, 0].any() and masks[:, 1:].all()


def test_spaces_hold_their_samples(make: Make) -> None:
    env = InferenceVectorEnv(make())
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.observation_space.shape == (4, len(env.lanes.layout.columns))
    for row in observation:
        assert env.single_observation_space.contains(row)
    for row in env.action_space.sample():
        assert env.single_action_space.contains(row)
