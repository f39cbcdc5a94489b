"""A network that decides for itself how much of it to run, with no engine around it."""

from typing import final

import torch
from torch import Tensor

from penstock.agents.alone import Alone
from penstock.agents.kit import Answers, make_kit
from penstock.agents.network import PolicyNetwork
from penstock.agents.together import answer_together
from penstock.backbones.prepared import Way, prepare
from penstock.envs import Lanes


@final
class Deployed:
    """Images in, answers out: block by block, each group of equal decisions as one batch.

    It decides as the engine does for the same images, policy and price, and skipped work is not
    done. Nothing is rewarded; costs are summed up only because the policy sees them, and are the
    prices of the engine's machine.

    Args:
        lanes: an engine that the policy can play on; gives network, knobs and what they cost.
        policy: a learned one, from `penstock.agents.network.read_network`.
        price: of the stream's resource; `find_price` finds the one that meets a budget.
        way: how a block becomes one under a setting: prepared for it, or `as_it_is`.

    Raises:
        InputError: if decisions depend on more than the image: on hard budgets, on a stream of
            several inputs, or on a machine with conditions or knobs of its own.
    """

    def __init__(
        self, lanes: Lanes, policy: PolicyNetwork, *, price: float, way: Way = prepare
    ) -> None:
        self._kit = make_kit(lanes, policy, price, way)
        self._alone = Alone(self._kit)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Answers:
        """Answer images [n, C, H, W], floats in [0, 1]; channels last in memory is fastest."""
        if len(images) == 1:
            return self._alone(images)
        return answer_together(self._kit, images)
