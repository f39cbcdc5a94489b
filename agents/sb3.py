"""Learning with Stable-Baselines3: PPO, PPO with masks, PPO that remembers, DQN."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from penstock.agents.decider import Decider
from penstock.agents.learner import Learner
from penstock.agents.policy import Policy
from penstock.agents.prices import budget_prices
from penstock.agents.reference import full_worth
from penstock.agents.sb3_imitation import imitate
from penstock.agents.sb3_lanes import SB3VecEnv, Unflattened
from penstock.agents.sb3_state import restore_model, save_model
from penstock.agents.sb3_watch import Watch
from penstock.backbones import InputError
from penstock.envs import Lanes


def train(
    lanes: Lanes,
    learner: Learner,
    folder: Path | str,
    *,
    seed: int = 0,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    teacher: Decider | None = None,
) -> Policy:
    """Learn a policy on an engine; leaves `policy.safetensors` and TensorBoard events.

    Args:
        lanes: `learner.lanes` of them.
        learner: algorithm and settings.
        folder: for checkpoints and events.
        seed: of initial weights, exploration and inputs.
        resume: go on from the checkpoint in the folder, if there is one.
        about: hyper-parameters to show in TensorBoard.
        teacher: who is imitated for the first `learner.imitate` steps.

    Returns:
        The policy; give it to `penstock.agents.play.play`.

    Raises:
        InputError: if the learner imitates, but nobody is there to be imitated.
    """
    if learner.imitate and teacher is None:
        raise InputError(
            "a policy imitates plans over what was recorded, but there is no recording; record "
            "first and give --recording, or set imitate = 0"
        )
    folder = Path(folder)
    checkpoint = folder / "policy.safetensors"
    reference = full_worth(lanes) if learner.self_critical else None
    prices = budget_prices(lanes, learner)
    environment = SB3VecEnv(lanes, discrete=learner.joint, reference=reference, prices=prices)
    model = _model(environment, learner, seed)
    if resume and checkpoint.exists():
        restore_model(model, checkpoint, learner, prices)
        environment.seed(seed + model.num_timesteps)
    if teacher is not None and model.num_timesteps < learner.imitate:
        assert isinstance(model, OnPolicyAlgorithm)
        model.set_logger(configure(str(folder), ["tensorboard"]))
        imitate(model, environment, teacher, learner, checkpoint)
    left = learner.steps - model.num_timesteps
    if left > 0:
        done = model.num_timesteps
        watch = Watch(environment, learner, checkpoint, folder, about or {}, done)
        model.set_logger(configure(str(folder), ["tensorboard"]))
        model.learn(left, callback=watch, reset_num_timesteps=False, log_interval=1)
        save_model(model, checkpoint, learner, prices)
    return _policy(model, environment)


def load_policy(lanes: Lanes, learner: Learner, folder: Path | str) -> Policy:
    """The policy that `train` left in a folder, for this engine's observations and actions."""
    environment = SB3VecEnv(lanes, discrete=learner.joint)
    # The number of lanes may differ from that of learning; nothing is collected here.
    n = environment.num_envs
    here = replace(learner, lanes=n, horizon=2, batch_size=2 * n)
    model = _model(environment, here, seed=0)
    restore_model(model, Path(folder) / "policy.safetensors", learner)
    return _policy(model, environment)


def _model(environment: SB3VecEnv, learner: Learner, seed: int) -> BaseAlgorithm:
    def rate(remaining: float) -> float:
        # Below 0 in the last update, if it goes past the steps that were asked for.
        return learner.learning_rate * max(0.0, remaining)

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
    hidden = list(learner.hidden)
    network: dict[str, Any] = {"net_arch": {"pi": hidden, "vf": hidden}}
    kinds: dict[str, Any] = {
        "ppo": PPO,
        "maskable_ppo": MaskablePPO,
        "recurrent_ppo": RecurrentPPO,
    }
    if learner.remembers:
        network["lstm_hidden_size"] = learner.remembers
    model: BaseAlgorithm = kinds[learner.algorithm](
        "MlpLstmPolicy" if learner.remembers else "MlpPolicy",
        environment,
        n_steps=learner.horizon,
        n_epochs=learner.epochs,
        ent_coef=learner.entropy,
        gae_lambda=learner.trace,
        policy_kwargs=network,
        **common,
    )
    return model


def _policy(model: BaseAlgorithm, environment: SB3VecEnv) -> Policy:
    return Unflattened(model, environment.sizes) if environment.discrete else model
