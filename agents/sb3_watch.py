"""What a user sees, and a crash leaves, of a Stable-Baselines3 model that learns."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from penstock.agents.learner import Learner
from penstock.agents.sb3_lanes import SB3VecEnv
from penstock.agents.sb3_state import save_model

LOG_EVERY_S = 5.0
"""Seconds between TensorBoard entries."""


@final
class Watch(BaseCallback):
    """Progress bar, TensorBoard and checkpoints while a policy learns."""

    def __init__(
        self,
        environment: SB3VecEnv,
        learner: Learner,
        checkpoint: Path,
        folder: Path,
        about: Mapping[str, Any],
        first_step: int,
    ) -> None:
        super().__init__()
        self.environment, self.learner, self.checkpoint = environment, learner, checkpoint
        self.about = about
        # Steps that a crash made and the checkpoint lacks are made again, and shown once.
        # TensorBoard reads files by age: this one is older than those with the steps made again.
        self.board = SummaryWriter(folder, purge_step=first_step + 1)

    def _on_training_start(self) -> None:
        rows = "\n".join(f"|{name}|{value}|" for name, value in self.about.items())
        self.board.add_text("experiment", f"|setting|value|\n|-|-|\n{rows}", self.num_timesteps)
        self.bar = tqdm(
            total=self.learner.steps, initial=self.num_timesteps, desc="learn", unit="step"
        )
        self.saved_s = self.logged_s = time.monotonic()
        self.logged_steps = self.num_timesteps

    def _on_rollout_start(self) -> None:
        if isinstance(self.model, OnPolicyAlgorithm):
            left = 1 - self.num_timesteps / self.learner.steps
            self.model.ent_coef = self.learner.entropy * max(0.0, left)
        if self.environment.prices is not None:
            self.environment.prices.step()
            for name, value in self.environment.prices.scalars().items():
                self.board.add_scalar(name, value, self.num_timesteps)
        # The policy was just updated, or not yet touched: a whole state to come back to.
        if time.monotonic() - self.saved_s > self.learner.checkpoint_s:
            save_model(self.model, self.checkpoint, self.learner, self.environment.prices)
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
