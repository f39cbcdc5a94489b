"""Policies that need no learning: chance, and confidence thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from penstock.agents.policy import Actions
from penstock.agents.statics import Array, Statics, uniform_settings
from penstock.backbones import EXIT
from penstock.envs import Lanes
from penstock.hardware import RESOURCES


@final
class Random:
    """Each knob at one end with a probability, else anywhere: what looking at inputs must beat.

    Args:
        orders: the choices of each knob, the cheapest first.
        tilt: from -1 to 1: the probability of the dearest choice, or, negative, the cheapest.
        seed: of the draws.
    """

    def __init__(self, orders: Sequence[Sequence[int]], tilt: float, seed: int = 0) -> None:
        self.sizes, self.tilt = tuple(map(len, orders)), tilt
        self.end = np.array([order[-1 if tilt > 0 else 0] for order in orders])
        self.rng = np.random.default_rng(seed)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Actions, Any]:
        """A draw for every lane and knob."""
        n = len(observation)
        chance = self.rng.integers(0, self.sizes, (n, len(self.sizes)))
        tilted = self.rng.random(chance.shape) < abs(self.tilt)
        return np.where(tilted, self.end, chance), state


@final
@dataclass(frozen=True)
class Thresholds:
    """One setting for all, and an answer at the first exit that is sure enough.

    The rule of BranchyNet and MSDNet (Huang et al., ICLR 2018, budgeted batch classification).
    """

    setting: tuple[int, ...]
    """Choice of each knob where an input goes on."""
    first: int
    """Column of the largest probability."""
    block: slice
    """Columns that say which block comes next."""
    at: tuple[float, ...]
    """By block that comes next: exit if the last exit's largest probability is at least this."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Actions, Any]:
        """The setting, and exits where the threshold is met."""
        actions = np.tile(np.array(self.setting, dtype=np.int64), (len(observation), 1))
        depth = observation[:, self.block].argmax(axis=1)
        actions[observation[:, self.first] >= np.array(self.at)[depth], 0] = 0
        return actions, state


def orders(lanes: Lanes) -> list[list[int]]:
    """The choices of each knob, the cheapest first: answering before going on."""
    return [list(range(len(EXIT.choices))), *lanes.prices.orders]


def thresholds(lanes: Lanes, statics: Statics, budget: float, resource: str) -> Thresholds | None:
    """The best of all uniform settings with thresholds that meet a mean cost of at most `budget`.

    Args:
        lanes: gives exits, columns and settings.
        statics: recorded on validation images.
        budget: on the mean cost.
        resource: of the budget.

    Returns:
        The rule that is right most often on the recorded inputs, or None if every setting's first
        exit costs more than the budget.
    """
    layout, places = lanes.layout, np.flatnonzero(lanes.prices.exits.numpy())
    best: tuple[float, Thresholds] | None = None
    for number, setting in enumerate(uniform_settings(lanes)):
        exits = statics.take((statics.settings == number) & statics.uniform)
        cost = exits.cost[:, :, RESOURCES.index(resource)]
        if cost.shape[1] == 0 or cost[:, 0].mean() > budget:
            continue
        cuts = _calibrated(exits.confidence, cost, budget)
        rows, taken = np.arange(len(cost)), first_exit(cuts, exits.confidence)
        accuracy = float(exits.right[rows, taken].mean())
        if best is None or accuracy > best[0]:
            at = [np.inf] * lanes.backbone.depth
            # A hard budget may leave the first exits alone; then the last of them takes everyone.
            for cut, place in zip(cuts, places[: len(cuts)], strict=True):
                if place + 1 < len(at):
                    at[place + 1] = float(cut)
            chosen = (knob.index(setting.get(knob.name, knob.full)) for knob in lanes.offered)
            rule = Thresholds((1, *chosen), layout.where("first"), layout.block, tuple(at))
            best = (accuracy, rule)
    return best[1] if best else None


def _calibrated(confidence: Array, cost: Array, budget: float) -> Array:
    """Exit thresholds [E] whose mean cost meets a budget on recorded inputs, [I, E] each."""
    rows, low, high = np.arange(len(cost)), 1e-6, 1e6
    for _ in range(60):
        middle = (low * high) ** 0.5
        taken = first_exit(exit_thresholds(confidence, middle), confidence)
        low, high = (middle, high) if cost[rows, taken].mean() <= budget else (low, middle)
    return exit_thresholds(confidence, low)


def exit_thresholds(confidence: Array, q: float) -> Array:
    """Thresholds at which exit k answers a share of inputs proportional to q^k.

    Args:
        confidence: of each exit, [I, E].
        q: below 1 favours early exits, above 1 late ones.

    Returns:
        [E]; the last one lets everything through, an exit that nobody should take is infinite.
    """
    inputs, exits = confidence.shape
    log_share = np.arange(1, exits + 1) * np.log(q)
    share = np.exp(log_share - log_share.max())
    share /= share.sum()
    alive = np.ones(inputs, dtype=np.bool_)
    cuts = np.full(exits, np.inf)
    cuts[-1] = -np.inf
    for k in range(exits - 1):
        want = int(inputs * share[k])
        ranked = np.sort(confidence[alive, k])[::-1]
        if want > 0 and len(ranked):
            cuts[k] = ranked[min(want, len(ranked)) - 1]
        alive &= confidence[:, k] < cuts[k]
    return cuts


def first_exit(cuts: Array, confidence: Array) -> NDArray[np.int64]:
    """The exit that each input takes, [I]."""
    taken: NDArray[np.int64] = (confidence >= cuts).argmax(axis=1)
    return taken
