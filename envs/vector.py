"""The batched engine as a gymnasium vector environment."""

from typing import Any, final

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from penstock.envs.lanes import Lanes
from penstock.envs.outcomes import Answers, Step
from penstock.hardware import RESOURCES

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Indices = NDArray[np.integer[Any]]


def spaces(lanes: Lanes) -> tuple[gym.spaces.Box, gym.spaces.MultiDiscrete]:
    """The observation and action space of one lane."""
    columns = lanes.layout.columns
    box = gym.spaces.Box(
        np.array([c.low for c in columns], np.float32),
        np.array([c.high for c in columns], np.float32),
        dtype=np.float32,
    )
    return box, gym.spaces.MultiDiscrete([len(knob.choices) for knob in lanes.knobs])


@final
class InferenceVectorEnv(VectorEnv[Floats, Indices, NDArray[Any]]):
    """Decide for many inputs at once how much of a network to run.

    ## Description
    Each lane carries one image through a backbone, block by block. Before every block the policy
    sets the knobs, or answers with the exit that was just run.

    ## Action Space
    `MultiDiscrete`, one index per knob: `exit` first (0 answers, 1 goes on), then the offered knobs
    of blocks and machine, in the order of their choices: the cheapest first, but for `offload`.
    `action_masks()` says which choices are allowed.

    ## Observation Space
    `Box`, float32; the columns are listed in `penstock.envs.observation.Observation`.

    ## Rewards
    What an answer was worth, minus price times cost as a share of the full network's cost.

    ## Starting State
    The first image of a new stream after the stem.

    ## Episode End
    Terminates when the last input of the stream is answered. Never truncates.

    ## Information
    For lanes whose input was answered in this step (mask `_right`): `right`, `exit`, `over`,
    `energy_j`, `latency_s`, `macs`, `sent_bytes`; other rows mean nothing. With `SAME_STEP` the
    same of a stream's last input stands in `final_info`, beside `final_obs`, as the lane already
    shows a new stream.

    Args:
        lanes: the engine; this shell owns it from now on.
        autoreset: `NEXT_STEP` (gymnasium's default), `SAME_STEP` (Stable-Baselines3) or `DISABLED`
            (reset with `options={"reset_mask": ...}`).
    """

    def __init__(self, lanes: Lanes, *, autoreset: AutoresetMode = AutoresetMode.NEXT_STEP) -> None:
        self.lanes = lanes
        self.num_envs = lanes.n
        self.metadata = {"autoreset_mode": autoreset, "render_modes": []}
        self.autoreset = autoreset
        self.single_observation_space, self.single_action_space = spaces(lanes)
        self.observation_space = batch_space(self.single_observation_space, lanes.n)
        self.action_space = batch_space(self.single_action_space, lanes.n)
        self._over = torch.zeros(lanes.n, dtype=torch.bool)
        self.last: Step
        """What the newest step brought, for those who want tensors rather than infos."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start a stream on every lane, or on those of `options["reset_mask"]`."""
        super().reset(seed=seed)
        if seed is not None:
            self.lanes.seed(seed)
        rows = torch.arange(self.num_envs)
        if options is not None and "reset_mask" in options:
            rows = rows[torch.as_tensor(options["reset_mask"], dtype=torch.bool)]
        self.lanes.observation = self.lanes.observation.clone()  # others hold what was handed out
        self.lanes.allowed = self.lanes.allowed.clone()
        self.lanes.start(rows)
        self._over = self._over.index_fill(0, rows, False)
        return self._observation(), {}

    def step(self, actions: Indices) -> tuple[Floats, Floats, Flags, Flags, dict[str, Any]]:
        """Take a decision on every lane."""
        before = self._over
        actions = np.require(actions, requirements="W")  # torch wants no others
        self.last = step = self.lanes.step(torch.from_numpy(actions))
        answers, terminated = step.answers, step.done.numpy()
        mask = answers.mask.numpy()
        if self.autoreset == AutoresetMode.SAME_STEP and terminated.any():
            infos = information(answers, mask & ~terminated)
            over = step.done.nonzero().squeeze(1)
            infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
            for lane, observation in zip(
                over.tolist(), self._observation()[over.numpy()], strict=True
            ):
                infos["final_obs"][lane] = observation
            infos["final_info"] = information(answers, mask & terminated)
            infos["_final_obs"] = infos["_final_info"] = terminated.copy()
            self.lanes.start(over)
        else:
            infos = information(answers, mask)
            if self.autoreset == AutoresetMode.NEXT_STEP:
                self.lanes.start(before.nonzero().squeeze(1))
        self._over = step.done
        reward: Floats = step.reward.numpy()
        return self._observation(), reward, terminated, np.zeros_like(terminated), infos

    def action_masks(self) -> Flags:
        """Which choices are allowed now, all knobs side by side: [N, sum of choices] bool."""
        masks: Flags = self.lanes.allowed.numpy()
        return masks

    def _observation(self) -> Floats:
        observation: Floats = self.lanes.observation.numpy()
        return observation


def information(answers: Answers, mask: Flags) -> dict[str, Any]:
    """Answers as gymnasium's vector infos: arrays [N], with masks of who has a value.

    Rows of others mean nothing.

    Args:
        answers: of N lanes.
        mask: those that are told, [N].
    """
    if not mask.any():
        return {}
    exits = answers.exits.index_select(0, answers.depth)
    infos: dict[str, Any] = {
        "right": answers.right.numpy(),
        "exit": exits.numpy(),
        "over": answers.over.numpy(),
        **dict(zip(RESOURCES, answers.cost.numpy(), strict=True)),
    }
    return infos | {f"_{name}": mask for name in infos}
