"""The engine as Stable-Baselines3 wants an environment, and its actions as DQN gives them."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from penstock.agents.board import Tally
from penstock.agents.policy import Policy
from penstock.agents.prices import BudgetPrices
from penstock.envs import InferenceVectorEnv, Lanes


@final
class SB3VecEnv(VecEnv):
    """The engine as Stable-Baselines3's kind of vector environment.

    Rewards are divided by 1 + price, so that those of streams at a high price do not drown the
    others; what is best at a price stays so. [as in OmniSafe's PPO-Lagrangian]

    Args:
        lanes: the engine.
        discrete: offer every combination of choices as one number, as DQN needs.
        reference: what to count an answer's worth against, one number an image, [I]; None for 0.
        prices: asked for the price of every input, and told what streams cost; None: the engine
            draws them.
    """

    def __init__(
        self,
        lanes: Lanes,
        *,
        discrete: bool = False,
        reference: Tensor | None = None,
        prices: BudgetPrices | None = None,
    ) -> None:
        self.inner = InferenceVectorEnv(lanes, autoreset=AutoresetMode.SAME_STEP)
        self.lanes = lanes
        self.reference = reference
        self.prices = lanes.pricing = prices
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
        scale = 1 / (1 + self.lanes.price.numpy())  # before streams end, and others begin
        observation, reward, done, _, info = self.inner.step(self._actions)
        self.tally.add(self.inner.last)
        if self.prices is not None and done.any():
            self.prices.note(*self.lanes.ledger.averages(self.inner.last.ended))
        if self.reference is not None:
            answered = self.inner.last.outcomes
            np.subtract.at(reward, answered.lanes.numpy(), self.reference[answered.inputs].numpy())
        reward = (reward * scale).astype(np.float32)
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
