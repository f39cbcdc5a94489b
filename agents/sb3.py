"""Learning with Stable-Baselines3: PPO, PPO with masks, DQN; the only file that imports it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from penstock.agents.board import Tally
from penstock.agents.learner import Learner
from penstock.agents.policy import Policy
from penstock.backbones import InputError
from penstock.backbones.saving import read_tensors, write_tensors
from penstock.envs import InferenceVectorEnv, Lanes

LOG_EVERY_S = 5.0
"""Seconds between TensorBoard entries."""


@final
class SB3VecEnv(VecEnv):
    """The engine as Stable-Baselines3's kind of vector environment.

    Args:
        lanes: the engine.
        discrete: offer every combination of choices as one number, as DQN needs.
    """

    def __init__(self, lanes: Lanes, *, discrete: bool = False) -> None:
        self.inner = InferenceVectorEnv(lanes, autoreset=AutoresetMode.SAME_STEP)
        self.lanes = lanes
        self.tally = Tally(lanes)
        self.render_mode = None
        self.sizes = tuple(len(knob.choices) for knob in lanes.knobs)
        self.discrete = discrete
        combinations: Discrete[np.int64] = Discrete(int(np.prod(self.sizes)))
        super().__init__(
            lanes.n,
            self.inner.single_observation_space,
            combinations if discrete else self.inner.single_action_space,
        )
        self._infos: list[dict[str, Any]] = [{} for _ in range(lanes.n)]
        self._filled: list[int] = []

    def reset(self) -> NDArray[np.float32]:
        """Start a stream on every lane."""
        observation, _ = self.inner.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Remember the actions for `step_wait`."""
        self._actions = unflatten(actions, self.sizes) if self.discrete else actions

    def step_wait(self) -> Any:
        """Observations, rewards, dones, and infos that are empty but for finished lanes."""
        observation, reward, done, _, info = self.inner.step(self._actions)
        self.tally.add(self.inner.last)
        for lane in self._filled:
            self._infos[lane] = {}
        self._filled = np.flatnonzero(done).tolist()
        for lane in self._filled:
            self._infos[lane] = {
                "terminal_observation": info["final_obs"][lane],
                "TimeLimit.truncated": False,
            }
        return observation, reward, done, self._infos

    def action_masks(self) -> NDArray[np.bool_]:
        """What is allowed, [N, sum of choices]."""
        return self.inner.action_masks()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute, once a lane."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Lanes have no attributes of their own."""
        raise NotImplementedError("lanes share one engine; set attributes on it")

    def env_method(
        self, method_name: str, *arguments: Any, indices: Any = None, **named: Any
    ) -> list[Any]:
        """Call a method once and give each lane its row."""
        rows = getattr(self, method_name)(*arguments, **named)
        return [rows[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Nothing is wrapped."""
        return [False] * len(list(self._get_indices(indices)))

    def close(self) -> None:
        """Nothing to close."""


def unflatten(actions: NDArray[np.int64], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Numbers of combinations [N] as an index per knob [N, K], the last knob turning fastest."""
    return np.stack(np.unravel_index(actions, sizes), axis=1)


@final
class Unflattened:
    """A policy over combinations, as one over knobs."""

    def __init__(self, policy: Policy, sizes: Sequence[int]) -> None:
        self.policy, self.sizes = policy, sizes

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """An index per knob, [N, K]."""
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        return unflatten(actions, self.sizes), state


def train(
    lanes: Lanes,
    learner: Learner,
    folder: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
) -> Policy:
    """Learn a policy on an engine; leaves `policy.safetensors` and TensorBoard events.

    Args:
        lanes: `learner.lanes` of them.
        learner: algorithm and settings.
        folder: for checkpoints and events.
        seed: of initial weights, exploration and inputs.
        resume: go on from the checkpoint in the folder, if there is one.
        about: hyper-parameters to show in TensorBoard.

    Returns:
        The policy; give it to `penstock.agents.play.play`.
    """
    checkpoint = folder / "policy.safetensors"
    environment = SB3VecEnv(lanes, discrete=learner.algorithm == "dqn")
    model = _model(environment, learner, seed)
    if resume and checkpoint.exists():
        _restore(model, checkpoint, learner)
        environment.seed(seed + model.num_timesteps)
    left = learner.steps - model.num_timesteps
    if left > 0:
        model.set_logger(configure(str(folder), ["tensorboard"]))
        watch = _Watch(environment, learner, checkpoint, folder, about or {})
        model.learn(left, callback=watch, reset_num_timesteps=False, log_interval=1)
        _save(model, checkpoint, learner)
    return _policy(model, environment)


def load_policy(lanes: Lanes, learner: Learner, folder: Path) -> Policy:
    """The policy that `train` left in a folder, for this engine's observations and actions."""
    environment = SB3VecEnv(lanes, discrete=learner.algorithm == "dqn")
    # The number of lanes may differ from that of learning; nothing is collected here.
    n = environment.num_envs
    here = replace(learner, lanes=n, batch_size=n * learner.horizon)
    model = _model(environment, here, seed=0)
    _restore(model, folder / "policy.safetensors", learner)
    return _policy(model, environment)


def _model(environment: SB3VecEnv, learner: Learner, seed: int) -> BaseAlgorithm:
    def rate(remaining: float) -> float:
        return learner.learning_rate * remaining

    common: dict[str, Any] = {
        "learning_rate": rate,
        "batch_size": learner.batch_size,
        "gamma": learner.discount,
        "seed": seed,
        "device": "cpu",
    }
    if learner.algorithm == "dqn":
        return DQN(
            "MlpPolicy",
            environment,
            buffer_size=200_000,
            learning_starts=4 * environment.num_envs,
            train_freq=1,
            gradient_steps=4,
            target_update_interval=4 * environment.num_envs,
            exploration_fraction=0.3,
            policy_kwargs={"net_arch": list(learner.hidden)},
            **common,
        )
    algorithm = MaskablePPO if learner.algorithm == "maskable_ppo" else PPO
    hidden = list(learner.hidden)
    return algorithm(
        "MlpPolicy",
        environment,
        n_steps=learner.horizon,
        n_epochs=learner.epochs,
        ent_coef=learner.entropy,
        gae_lambda=learner.trace,
        policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}},
        **common,
    )


def _policy(model: BaseAlgorithm, environment: SB3VecEnv) -> Policy:
    return Unflattened(model, environment.sizes) if environment.discrete else model


def _save(model: BaseAlgorithm, path: Path, learner: Learner) -> None:
    tensors: dict[str, Tensor] = {
        f"weights.{name}": tensor for name, tensor in model.policy.state_dict().items()
    }
    for index, entries in model.policy.optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    tensors["random.torch"] = torch.get_rng_state()
    counters = {"steps": str(model.num_timesteps), "updates": str(model._n_updates)}
    write_tensors(path, tensors, {"algorithm": learner.algorithm, **counters})


def _restore(model: BaseAlgorithm, path: Path, learner: Learner) -> None:
    """Put weights, optimiser and counters back; a replay buffer starts empty."""
    tensors, metadata = read_tensors(path)
    if metadata.get("algorithm") != learner.algorithm:
        raise InputError(
            f"{path} holds a {metadata.get('algorithm')} policy, the experiment says "
            f"{learner.algorithm}; use the experiment that it was trained with"
        )
    weights = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith("weights.")}
    shapes = {name: tensor.shape for name, tensor in model.policy.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in weights.items()}:
        raise InputError(
            f"{path} was trained with other observations, actions or hidden layers than this "
            "experiment gives; use the experiment and machine that it was trained with"
        )
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name} in {path} holds NaN or infinity; train the policy again")
    model.policy.load_state_dict(weights)
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer = model.policy.optimizer
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    model.num_timesteps, model._n_updates = int(metadata["steps"]), int(metadata["updates"])
    torch.set_rng_state(tensors["random.torch"])


@final
class _Watch(BaseCallback):
    """Progress bar, TensorBoard and checkpoints while a policy learns."""

    def __init__(
        self,
        environment: SB3VecEnv,
        learner: Learner,
        checkpoint: Path,
        folder: Path,
        about: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.environment, self.learner, self.checkpoint = environment, learner, checkpoint
        self.about = about
        self.board = SummaryWriter(folder)

    def _on_training_start(self) -> None:
        rows = "\n".join(f"|{name}|{value}|" for name, value in self.about.items())
        self.board.add_text("experiment", f"|setting|value|\n|-|-|\n{rows}", self.num_timesteps)
        self.bar = tqdm(
            total=self.learner.steps, initial=self.num_timesteps, desc="learn", unit="step"
        )
        self.saved_s = self.logged_s = time.monotonic()
        self.logged_steps = self.num_timesteps

    def _on_rollout_start(self) -> None:
        if isinstance(self.model, PPO | MaskablePPO):
            left = 1 - self.num_timesteps / self.learner.steps
            self.model.ent_coef = self.learner.entropy * max(0.0, left)
        # The policy was just updated, or not yet touched: a whole state to come back to.
        if time.monotonic() - self.saved_s > self.learner.checkpoint_s:
            _save(self.model, self.checkpoint, self.learner)
            self.saved_s = time.monotonic()

    def _on_step(self) -> bool:
        self.bar.update(self.environment.num_envs)
        if time.monotonic() - self.logged_s > LOG_EVERY_S:
            self._log()
        return True

    def _on_training_end(self) -> None:
        self._log()
        self.bar.close()
        simple = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in self.about.items()
        }
        final = {f"final/{name}": value for name, value in self.last.items()}
        self.board.add_hparams(simple, final, run_name=".", global_step=self.num_timesteps)
        self.board.close()

    def _log(self) -> None:
        now, tally = time.monotonic(), self.environment.tally
        self.last = tally.scalars()
        done = self.num_timesteps - self.logged_steps
        scalars = {**self.last, "policy/steps_per_s": done / max(now - self.logged_s, 1e-9)}
        for name, value in scalars.items():
            self.board.add_scalar(name, value, self.num_timesteps)
        self.board.add_figure("policy/choices", tally.figure(), self.num_timesteps, close=False)
        self.bar.set_postfix_str(
            f"accuracy {self.last['policy/accuracy']:.3f}, "
            f"energy {self.last.get('cost/energy_j_share', 0):.2f} of full"
        )
        tally.clear()
        self.logged_s, self.logged_steps = now, self.num_timesteps
