"""What makes a decision: one method, the same as Stable-Baselines3's, so its models fit as is."""

from inspect import signature
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Actions = NDArray[np.int64]


class Policy(Protocol):
    """Anything with `predict`; one that also takes `action_masks` is given them."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Actions [N, K] for observations [N, F], and the next recurrent state, if any."""


def wants_masks(policy: Policy) -> bool:
    """Whether a policy's `predict` takes the masks of what is allowed, as MaskablePPO's does."""
    return "action_masks" in signature(policy.predict).parameters
