"""Judging a policy on test images among everything that needs no learning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.agents.baselines import Random, orders, thresholds
from penstock.agents.bounds import front, hull, oracle
from penstock.agents.plans import find_plans
from penstock.agents.play import Played, find_price, play
from penstock.agents.policy import Policy
from penstock.agents.scene import Scene
from penstock.agents.statics import Array, Statics, record_statics
from penstock.backbones import Knob
from penstock.envs import Budget
from penstock.envs.budget import SLACK
from penstock.hardware import RESOURCES

POLICY, FULL, HULL, MASK = "policy", "full network", "time-sharing hull", "best fixed mask"
THRESHOLDS, RANDOM, ORACLE = "confidence thresholds", "random", "label oracle"


@dataclass(frozen=True, slots=True)
class Judged:
    """One row of the table: what a way to decide brought on `I` test images."""

    name: str
    right: Array  # [I] 0 or 1, or expected where two configurations are mixed
    cost: Array  # [I, R]
    violations: int
    """Inputs that exceeded a hard budget."""
    lost: int | None = None
    """Transfers that a machine with a link gave up; None where the row was not played."""
    decisions: dict[str, list[list[float]]] | None = None
    """Knob -> [D][choice], how often each choice was made at each block that was reached."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())

    def mean(self, resource: str) -> float:
        """Mean cost of an input."""
        return float(self.cost[:, RESOURCES.index(resource)].mean())

    def table(self) -> dict[str, Any]:
        """The row as plain values."""
        row: dict[str, Any] = {"name": self.name, "accuracy": self.accuracy}
        for index, resource in enumerate(RESOURCES):
            row[resource] = float(self.cost[:, index].mean())
            row[f"{resource}_p95"] = float(np.quantile(self.cost[:, index], 0.95))
        row["violations"] = self.violations
        if self.lost is not None:
            row["lost"] = self.lost
        if self.decisions is not None:
            row["decisions"] = self.decisions
        return row


@dataclass(frozen=True, slots=True)
class Gap:
    """How much better a policy is than a control on the same images, in shares."""

    control: str
    gap: float
    low: float
    """Lower end of the 95 % interval of the paired difference."""
    high: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A table with its controls, all at the policy's own mean cost."""

    rows: tuple[Judged, ...]
    budget: Budget
    limit: float
    """The budget in the unit of its resource."""
    matched: float
    """The mean cost of an input that no control may exceed: the policy's, or the limit without one;
    the cheapest static configuration's if that is more."""
    price: float | None
    """At which the policy meets the budget on validation images, or the highest that it knows."""
    gaps: tuple[Gap, ...]
    score: float | None
    """G = (policy - hull) / (oracle - hull)."""

    def row(self, name: str) -> Judged:
        """A row by name."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The static configurations on validation and test images, for any number of budgets."""

    validation: Statics
    test: Statics

    def __post_init__(self) -> None:
        if self.validation.names != self.test.names:
            raise ValueError("validation and test were recorded under different configurations")


def record(
    scene: Scene, *, seed: int = 0, progress: Callable[[], object] = lambda: None
) -> Recorded:
    """Run validation and test images under every static setting and plan."""
    validation = scene.lanes("validation", learned=False, lanes=1)
    images = scene.data.validation
    plans = find_plans(validation, images, seed=seed)
    on_validation = record_statics(validation, images, plans, seed=seed, progress=progress)
    test = scene.lanes("test", learned=False, lanes=1)
    on_test = record_statics(test, scene.data.test, plans, seed=seed, progress=progress)
    return Recorded(on_validation, on_test)


def evaluate(
    policy: Policy | None,
    scene: Scene,
    recorded: Recorded,
    budget: Budget,
    *,
    seed: int = 0,
    progress: Callable[[int], object] = lambda count: None,
) -> Evaluation:
    """The table of a policy at a budget.

    Everything that is chosen (price, thresholds, mask, mix, chance) is chosen on validation images,
    to meet the mean cost that the policy turned out to have on test images. A hard budget is put on
    every way of deciding that takes decisions; of the static configurations only those take part
    that meet it on all validation images.

    Args:
        policy: None judges the baselines alone.
        scene: what it is judged on.
        recorded: of the same scene.
        budget: average or hard.
        seed: of the machine, the random policy and the bootstrap.
        progress: called with the number of images judged, now and then.
    """
    scene = scene.under(budget) if budget.kind == "hard" else scene
    free = scene.lanes("validation", learned=False, seed=seed)
    limit, length = budget.absolute(free.full), scene.stream.inputs_per_episode
    rows, price = [], None
    matched = limit / length if budget.per == "stream" else limit
    if policy is not None:
        row, price = meet(policy, scene, budget, seed=seed, progress=progress)
        matched = row.mean(budget.resource)
        rows.append(row)
    count = len(rows[0].right) if rows else len(scene.data.test)
    test = scene.lanes("test", learned=False, seed=seed)

    seen, unseen = recorded.validation, recorded.test
    last = np.zeros(len(unseen.names), dtype=np.bool_)
    last[np.flatnonzero(unseen.uniform)[-1]] = True
    full = unseen.take(last)
    resource = RESOURCES.index(budget.resource)

    def control(name: str, right: Array, cost: Array) -> Judged:
        over = exceeded(cost[:, resource, None], budget, limit, length)
        return Judged(name, right[:count], cost[:count], int(over[:count].sum()))

    over = exceeded(seen.cost[:, :, resource], budget, limit, length)
    fits: NDArray[np.bool_] = np.logical_not(np.any(over, axis=0))
    if fits.any():
        seen, unseen = seen.take(fits), unseen.take(fits)
    rows.append(control(FULL, *_mixed(full, 0, 0, 0.0)))
    cost, accuracy = seen.mean(budget.resource)
    matched = max(matched, float(cost.min()))
    rows.append(_random(scene, matched, budget.resource, seed, progress))
    a, b, share = hull(cost, accuracy, matched)
    mixed = control(HULL, *_mixed(unseen, a, b, share))
    rows.append(mixed)
    masks = seen.masks & (cost <= matched)
    if masks.any():
        best = int(np.flatnonzero(masks)[accuracy[masks].argmax()])
        rows.append(control(MASK, *_mixed(unseen, best, best, 0.0)))
    rule = thresholds(free, seen, matched, budget.resource)
    if rule is not None:
        rows.append(_judged(THRESHOLDS, play(rule, test, progress=progress), test.knobs))
    rows.append(control(ORACLE, *oracle(unseen.right, unseen.cost, matched, budget.resource)))
    on_front = front(cost, accuracy) & ~seen.masks
    for i in np.flatnonzero(on_front).tolist():
        rows.append(control(seen.names[i], *_mixed(unseen, i, i, 0.0)))

    gaps: list[Gap] = []
    score = None
    if policy is not None:
        by_name = {row.name: row for row in rows}
        for name in (FULL, HULL, MASK, THRESHOLDS, RANDOM):
            if name in by_name:
                difference = rows[0].right - by_name[name].right
                low, high = interval(difference, seed=seed)
                gaps.append(Gap(name, float(difference.mean()), low, high))
        room = by_name[ORACLE].accuracy - mixed.accuracy
        score = (rows[0].accuracy - mixed.accuracy) / room if room > 0 else None
    return Evaluation(tuple(rows), budget, limit, matched, price, tuple(gaps), score)


def meet(
    policy: Policy,
    scene: Scene,
    budget: Budget,
    *,
    seed: int = 0,
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[Judged, float]:
    """A policy's row on test images, at the price that meets a budget on validation images.

    Arguments are those of `evaluate`.

    Returns:
        The row and the price.
    """
    scene = scene.under(budget) if budget.kind == "hard" else scene
    lanes = scene.lanes("validation", learned=True, seed=seed)
    length = scene.stream.inputs_per_episode if budget.per == "stream" else 1
    limit = budget.absolute(lanes.full) / length
    price, _ = find_price(policy, lanes, limit, budget.resource)
    test = scene.lanes("test", learned=True, seed=seed)
    return _judged(POLICY, play(policy, test, price=price, progress=progress), lanes.knobs), price


def exceeded(cost: Array, budget: Budget, limit: float, length: int) -> NDArray[np.bool_]:
    """Which inputs exceeded a hard budget, [I, A]; none did an average one.

    Args:
        cost: of the budget's resource, [I, A] for A ways of deciding.
        budget: whether it is hard, and per what.
        limit: in the unit of the resource.
        length: inputs of a stream, one after the other.
    """
    if budget.kind != "hard":
        return np.zeros(cost.shape, dtype=np.bool_)
    if budget.per == "stream":
        whole = cost[: len(cost) // length * length].reshape(-1, length, cost.shape[1])
        cost = whole.cumsum(axis=1).reshape(-1, cost.shape[1])
    over: NDArray[np.bool_] = cost > limit * (1 + 2 * SLACK)
    return over


def interval(differences: Array, *, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % of the means of paired differences [I], by the bootstrap over images."""
    rng = np.random.default_rng(seed)
    values, places = np.unique(differences, return_inverse=True)
    # Which image is drawn does not matter, only how often each different value is.
    shares = np.bincount(places) / len(differences)
    counts = rng.multinomial(len(differences), shares, size=resamples)
    low, high = np.quantile(counts @ values / len(differences), [0.025, 0.975])
    return float(low), float(high)


def decisions(choices: NDArray[np.int64], knobs: Sequence[Knob]) -> list[Array]:
    """How often each choice was made at each block: [D, choices] a knob."""
    depth = choices.shape[1]
    counts = []
    for k, knob in enumerate(knobs):
        count = np.zeros((depth, len(knob.choices)))
        for block in range(depth):
            made = choices[:, block, k]
            count[block] = np.bincount(made[made >= 0], minlength=len(knob.choices))
        counts.append(count)
    return counts


def _judged(name: str, played: Played, knobs: Sequence[Knob]) -> Judged:
    made = {
        knob.name: count.tolist()
        for knob, count in zip(knobs, decisions(played.choices, knobs), strict=True)
    }
    return Judged(name, played.right, played.cost, int(played.over.sum()), played.lost, made)


def _mixed(statics: Statics, a: int, b: int, share: float) -> tuple[Array, Array]:
    """Right answers [I] and costs [I, R] where a share of the inputs gets b and the others a."""
    right = (1 - share) * statics.right[:, a] + share * statics.right[:, b]
    cost = (1 - share) * statics.cost[:, a] + share * statics.cost[:, b]
    return right, cost


def _random(
    scene: Scene, matched: float, resource: str, seed: int, progress: Callable[[int], object]
) -> Judged:
    """Chance, tilted so that it spends `matched` on validation images."""
    few = scene.data.validation.take(torch.arange(min(1000, len(scene.data.validation))))
    validation = scene.with_validation(few).lanes("validation", learned=False, seed=seed)
    low, high = -1.0, 1.0
    for _ in range(9):
        middle = (low + high) / 2
        spent = play(Random(orders(validation), middle, seed), validation).mean(resource)
        low, high = (middle, high) if spent <= matched else (low, middle)
    test = scene.lanes("test", learned=False, seed=seed)
    played = play(Random(orders(test), low, seed), test, progress=progress)
    return _judged(RANDOM, played, test.knobs)
