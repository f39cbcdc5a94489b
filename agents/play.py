"""Letting a policy decide for every image once, and finding the price that meets a budget."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock.agents.policy import Policy, wants_masks
from penstock.agents.statics import Array
from penstock.backbones import InputError
from penstock.envs import Lanes, Outcomes
from penstock.hardware import RESOURCES


@dataclass(frozen=True, slots=True)
class Played:
    """What a policy did with each of `I` images; `R` resources, `D` blocks, `K` knobs."""

    right: Array  # [I] 0 or 1, or in between where a mix of policies is expected to be right
    cost: Array  # [I, R]
    over: NDArray[np.bool_]  # [I] whether a hard budget was exceeded
    exit: NDArray[np.int64]  # [I] the block after which the answer was given
    choices: NDArray[np.int64]  # [I, D, K] index chosen, -1 where none was
    lost: int
    """Transfers that a machine with a link gave up."""
    overruled: int
    """Decisions that were not allowed and were replaced."""

    def mean(self, resource: str) -> float:
        """The mean cost of an input."""
        return float(self.cost[:, RESOURCES.index(resource)].mean())


def play(
    policy: Policy,
    lanes: Lanes,
    *,
    price: float | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> Played:
    """Give every image of the engine to a policy, once and in order.

    Args:
        policy: asked deterministically.
        lanes: the engine; with streams of several inputs, images that do not fill the last stream
            are left out.
        price: what resources cost, for a policy that sees it; None draws it per stream.
        progress: called with the number of answers, now and then.

    Raises:
        InputError: if a stream is longer than there are images.
    """
    length = lanes.stream.inputs_per_episode
    check_length(lanes.source.inputs, length)
    streams = torch.arange(lanes.source.inputs // length * length).view(-1, length)
    waiting = 0
    found: list[Outcomes] = []
    lanes.rest()
    state = None
    while waiting < len(streams) or bool(lanes.active.any()):
        idle = (~lanes.active).nonzero().squeeze(1)[: len(streams) - waiting]
        lanes.start(idle, streams[waiting : waiting + len(idle)], price=price)
        waiting += len(idle)
        start = np.zeros(lanes.n, dtype=np.bool_)
        start[idle.numpy()] = True
        actions, state = policy_actions(policy, lanes, state, start)
        outcomes = lanes.step(actions).outcomes
        if len(outcomes.lanes):
            found.append(outcomes)
            progress(len(outcomes.lanes))
    return _gather(found)


def check_length(inputs: int, length: int) -> None:
    """Refuse streams of more inputs than there are."""
    if inputs < length:
        raise InputError(
            f"a stream of {length} inputs needs as many images, got {inputs}; "
            "give more images or shorter streams"
        )


def policy_actions(
    policy: Policy, lanes: Lanes, state: Any, start: NDArray[np.bool_]
) -> tuple[Tensor, Any]:
    """What a policy does with the engine's lanes now, [N, K]."""
    masks = {"action_masks": lanes.allowed.numpy()} if wants_masks(policy) else {}
    actions, state = policy.predict(
        lanes.observation.numpy(), state=state, episode_start=start, deterministic=True, **masks
    )
    return torch.as_tensor(np.asarray(actions)), state


def _gather(found: list[Outcomes]) -> Played:
    order = torch.cat([o.inputs for o in found]).argsort(stable=True)
    return Played(
        right=torch.cat([o.right for o in found])[order].double().numpy(),
        cost=torch.cat([o.cost for o in found])[order].numpy(),
        over=torch.cat([o.over for o in found])[order].numpy(),
        exit=torch.cat([o.exit for o in found])[order].numpy(),
        choices=torch.cat([o.choices for o in found])[order].numpy(),
        lost=int(sum(int(o.lost.sum()) for o in found)),
        overruled=int(sum(int(o.overruled.sum()) for o in found)),
    )


def find_price(
    policy: Policy,
    lanes: Lanes,
    budget: float,
    resource: str,
    *,
    tolerance: float = 0.005,
    tries: int = 10,
) -> tuple[float, Played]:
    """The lowest price at which a policy's mean cost meets an average budget, by bisection.

    Args:
        policy: one that was trained for a range of prices.
        lanes: with validation images.
        budget: on the mean cost of an input.
        resource: of the budget.
        tolerance: stop when the cost is so much below the budget, as a share.
        tries: plays at most.

    Returns:
        The price, and what was played at it. If even the highest price costs more, that.
    """
    low, high = lanes.stream.price
    best = (high, play(policy, lanes, price=high))
    if best[1].mean(resource) > budget or low == high:
        return best
    for _ in range(tries):
        middle = (low * high) ** 0.5
        played = play(policy, lanes, price=middle)
        spent = played.mean(resource)
        if spent <= budget:
            best, high = (middle, played), middle
            if spent >= budget * (1 - tolerance):
                break
        else:
            low = middle
    return best
