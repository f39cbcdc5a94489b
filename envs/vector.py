"""The batched engine as a gymnasium vector environment."""

from typing import Any, final

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from penstock.envs.activations import Rows
from penstock.envs.lanes import Lanes
from penstock.envs.outcomes import Outcomes, Step
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
    `energy_j`, `latency_s`, `macs`, `sent_bytes`. With `SAME_STEP` the same of a stream's last
    input stands in `final_info`, beside `final_obs`, as the lane already shows a new stream.

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
        self.lanes.start(rows)
        self._over[rows] = False
        return self._observation(), {}

    def step(self, actions: Indices) -> tuple[Floats, Floats, Flags, Flags, dict[str, Any]]:
        """Take a decision on every lane."""
        fresh = self._over.nonzero().squeeze(1)
        self.last = step = self.lanes.step(torch.from_numpy(np.array(actions)))
        reward = step.reward.numpy().copy()
        outcomes, same_step = step.outcomes, self.autoreset == AutoresetMode.SAME_STEP
        last = step.done[outcomes.lanes] & same_step
        infos = information(outcomes, ~last, self.num_envs)
        if self.autoreset == AutoresetMode.NEXT_STEP:
            self.lanes.start(fresh)
        elif same_step and bool(last.any()):
            over = outcomes.lanes[last]
            infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
            for lane, observation in zip(
                over.tolist(), self._observation()[over.numpy()], strict=True
            ):
                infos["final_obs"][lane] = observation
            infos["final_info"] = information(outcomes, last, self.num_envs)
            infos["_final_obs"] = infos["_final_info"] = step.done.numpy().copy()
            self.lanes.start(over)
        self._over = step.done
        terminated = step.done.numpy().copy()
        return self._observation(), reward, terminated, np.zeros_like(terminated), infos

    def action_masks(self) -> Flags:
        """Which choices are allowed now, all knobs side by side: [N, sum of choices] bool."""
        masks: Flags = self.lanes.allowed.numpy().copy()
        return masks

    def _observation(self) -> Floats:
        observation: Floats = self.lanes.observation.numpy().copy()
        return observation


def information(outcomes: Outcomes, chosen: Rows, n: int) -> dict[str, Any]:
    """Chosen outcomes as gymnasium's vector infos: arrays [n], with masks of who has a value.

    Args:
        outcomes: k of them.
        chosen: some of them.
        n: lanes.
    """
    lanes = outcomes.lanes[chosen]
    if len(lanes) == 0:
        return {}
    columns = {"right": outcomes.right, "exit": outcomes.exit, "over": outcomes.over}
    columns |= dict(zip(RESOURCES, outcomes.cost.unbind(dim=1), strict=True))
    mask = np.zeros(n, dtype=np.bool_)
    mask[lanes.numpy()] = True
    infos: dict[str, Any] = {}
    for name, values in columns.items():
        infos[name] = np.zeros(n, dtype=values.numpy().dtype)
        infos[name][mask] = values[chosen].numpy()
        infos[f"_{name}"] = mask
    return infos
