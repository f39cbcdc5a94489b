"""The batched engine with one lane, as a plain gymnasium environment."""

from typing import Any, final

import gymnasium as gym
import numpy as np
import torch

from penstock.envs.lanes import Lanes
from penstock.envs.vector import Flags, Floats, Indices, information, spaces


@final
class InferenceEnv(gym.Env[Floats, Indices]):
    """Decide for one input at a time; spaces, rewards and ends are `InferenceVectorEnv`'s.

    Args:
        lanes: an engine with one lane; this shell owns it from now on.

    Raises:
        ValueError: if it has more.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's own declaration)

    def __init__(self, lanes: Lanes) -> None:
        if lanes.n != 1:
            raise ValueError(
                f"a single environment needs one lane, got {lanes.n}; use InferenceVectorEnv"
            )
        self.lanes = lanes
        self.observation_space, self.action_space = spaces(lanes)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start a stream."""
        super().reset(seed=seed)
        if seed is not None:
            self.lanes.seed(seed)
        self.lanes.start(torch.arange(1))
        return self._observation(), {}

    def step(self, action: Indices) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Take one decision."""
        step = self.lanes.step(torch.from_numpy(np.array(action)).view(1, -1))
        infos = information(step.answers, step.answers.mask.numpy())
        info = {name: value[0] for name, value in infos.items() if not name.startswith("_")}
        return self._observation(), float(step.reward[0]), bool(step.done[0]), False, info

    def action_masks(self) -> Flags:
        """Which choices are allowed now, all knobs side by side: [sum of choices] bool."""
        masks: Flags = self.lanes.allowed[0].numpy().copy()
        return masks

    def _observation(self) -> Floats:
        observation: Floats = self.lanes.observation[0].numpy().copy()
        return observation
