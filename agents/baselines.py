"""Policies that need no learning: one setting for all, chance, and confidence thresholds."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from penstock.agents.policy import Actions
from penstock.agents.statics import Array, Statics
from penstock.envs import Lanes
from penstock.hardware import RESOURCES


@final
@dataclass(frozen=True)
class Full:
    """Everything at its dearest: the full network."""

    sizes: tuple[int, ...]
    """Choices of each knob."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Actions, Any]:
        """The last choice of every knob."""
        last = np.array(self.sizes, dtype=np.int64) - 1
        return np.tile(last, (len(observation), 1)), state


@final
class Random:
    """Each knob at full with a probability, else anywhere: what looking at inputs must beat."""

    def __init__(self, sizes: tuple[int, ...], full_probability: float, seed: int = 0) -> None:
        self.sizes, self.full_probability = sizes, full_probability
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
        full = self.rng.random(chance.shape) < self.full_probability
        return np.where(full, np.array(self.sizes) - 1, chance), state


@final
@dataclass(frozen=True)
class Thresholds:
    """Answer at the first exit that is sure enough, otherwise run the full network.

    The rule of BranchyNet and MSDNet (Huang et al., ICLR 2018, budgeted batch classification).
    """

    sizes: tuple[int, ...]
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
        """Full, but exits where the threshold is met."""
        actions, _ = Full(self.sizes).predict(observation)
        depth = observation[:, self.block].argmax(axis=1)
        actions[observation[:, self.first] >= np.array(self.at)[depth], 0] = 0
        return actions, state


def sizes(lanes: Lanes) -> tuple[int, ...]:
    """How many choices each knob has."""
    return tuple(len(knob.choices) for knob in lanes.knobs)


def thresholds(lanes: Lanes, full: Statics, budget: float, resource: str) -> Thresholds:
    """Calibrated on recorded inputs to a mean cost of at most `budget`.

    Args:
        lanes: gives exits and columns.
        full: the full setting of all exits, recorded on validation images.
        budget: on the mean cost.
        resource: of the budget.
    """
    cost = full.cost[:, :, RESOURCES.index(resource)]
    low, high = 1e-6, 1e6
    for _ in range(60):
        middle = (low * high) ** 0.5
        spent = _spend(exit_thresholds(full.confidence, middle), full.confidence, cost)
        low, high = (middle, high) if spent <= budget else (low, middle)
    cuts = exit_thresholds(full.confidence, low)
    at, places = [np.inf] * lanes.backbone.depth, np.flatnonzero(lanes.prices.exits.numpy())
    for cut, place in zip(cuts[:-1], places[:-1], strict=True):
        at[place + 1] = float(cut)
    layout = lanes.layout
    return Thresholds(sizes(lanes), layout.where("first"), layout.block, tuple(at))


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


def _spend(cuts: Array, confidence: Array, cost: Array) -> float:
    return float(cost[np.arange(len(cost)), first_exit(cuts, confidence)].mean())
