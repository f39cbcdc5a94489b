"""What makes a decision: one method, the same as Stable-Baselines3's, so its models fit as is."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Actions = NDArray[np.int64]


class Policy(Protocol):
    """Anything with `predict`."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        **more: Any,
    ) -> tuple[Any, Any]:
        """Actions [N, K] for observations [N, F], and the next recurrent state, if any."""
