"""A learned policy on streams."""

from typing import Any, final

import numpy as np
from torch import Tensor

from penstock.agents.play import policy_actions
from penstock.agents.policy import Policy
from penstock.agents.prices import BudgetPrices
from penstock.envs import Lanes, Step


@final
class Learned:
    """Asks a policy, at prices that its budget calls for.

    Args:
        policy: asked deterministically.
        prices: None leaves them to the engine: drawn, or given at the start of a stream.
    """

    def __init__(self, policy: Policy, prices: BudgetPrices | None = None) -> None:
        self.policy, self.prices = policy, prices
        self._state: Any = None
        self._fresh = np.zeros(0, dtype=np.bool_)

    def begin(self, lanes: Lanes) -> None:
        """A new engine."""
        lanes.pricing = self.prices
        self._state, self._fresh = None, np.zeros(lanes.n, dtype=np.bool_)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """What was remembered of the streams before is forgotten."""
        self._fresh[rows.numpy()] = True

    def act(self, lanes: Lanes) -> Tensor:
        """An index per knob, [N, K]."""
        actions, self._state = policy_actions(self.policy, lanes, self._state, self._fresh)
        self._fresh = np.zeros(lanes.n, dtype=np.bool_)
        return actions

    def learn(self, lanes: Lanes, step: Step) -> None:
        """A policy that was learned learns no more."""
