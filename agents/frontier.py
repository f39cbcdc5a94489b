"""Accuracy against mean cost: a policy's curve over prices, and everything it is judged against."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from penstock.agents.baselines import thresholds
from penstock.agents.bounds import hull, oracle
from penstock.agents.evaluation import (
    HULL,
    MASK,
    ORACLE,
    POLICY,
    RANDOM,
    THRESHOLDS,
    Evaluation,
    Recorded,
)
from penstock.agents.play import play
from penstock.agents.policy import Policy
from penstock.agents.scene import Scene
from penstock.agents.statics import Array
from penstock.hardware import RESOURCES, UNITS

POINTS = 12
"""Points of a curve."""

STYLES = {
    POLICY: {"color": "#c1272d", "marker": "o", "linewidth": 2, "markersize": 4, "zorder": 5},
    THRESHOLDS: {"color": "#0000a7", "marker": "s", "linewidth": 1.2, "markersize": 3},
    HULL: {"color": "black", "linestyle": "--", "linewidth": 1.2},
    ORACLE: {"color": "#008176", "linestyle": ":", "linewidth": 1.2},
    "one setting for all": {"color": "grey", "marker": ".", "linestyle": "none", "markersize": 7},
    MASK + "s": {"color": "silver", "marker": "x", "linestyle": "none", "markersize": 4},
}


@dataclass(frozen=True, slots=True)
class Curves:
    """Named curves of (mean cost, accuracy) on test images; cost as a share of full."""

    resource: str
    full: float
    """What the full network costs, in the unit of the resource."""
    points: dict[str, tuple[Array, Array]]


def frontier(
    policy: Policy | None,
    scene: Scene,
    recorded: Recorded,
    resource: str,
    *,
    progress: Callable[[int], object] = lambda count: None,
) -> Curves:
    """Sweep prices, thresholds and budgets.

    What is chosen for a point (thresholds, mixes) is chosen on validation images; the points are on
    test images.

    Args:
        policy: None leaves its curve out.
        scene: what it is judged on.
        recorded: of the same scene.
        resource: of the horizontal axis.
        progress: called with the number of images judged, now and then.
    """
    seen, unseen = recorded.validation, recorded.test
    free = scene.lanes("test", learned=False)
    full = float(free.full.each()[resource])
    seen_cost, seen_accuracy = seen.mean(resource)
    cost, accuracy = unseen.mean(resource)
    index = int(np.flatnonzero(seen.uniform)[-1])
    budgets = np.linspace(seen_cost.min(), seen_cost[index], POINTS)
    place = RESOURCES.index(resource)
    curves: dict[str, list[tuple[float, float]]] = {HULL: [], ORACLE: [], THRESHOLDS: []}
    for budget in budgets:
        a, b, share = hull(seen_cost, seen_accuracy, float(budget))
        mixed = (1 - share) * accuracy[a] + share * accuracy[b]
        curves[HULL].append(((1 - share) * cost[a] + share * cost[b], mixed))
        right, spent = oracle(unseen.right, unseen.cost, float(budget), resource)
        curves[ORACLE].append((float(spent[:, place].mean()), float(right.mean())))
        rule = thresholds(free, seen, float(budget), resource)
        if rule is not None:
            played = play(rule, free, progress=progress)
            curves[THRESHOLDS].append((played.mean(resource), float(played.right.mean())))
    if policy is not None:
        lanes = scene.lanes("test", learned=True)
        curves[POLICY] = []
        for price in np.geomspace(*scene.stream.price, POINTS):
            played = play(policy, lanes, price=float(price), progress=progress)
            curves[POLICY].append((played.mean(resource), float(played.right.mean())))
    points = {name: _arrays(sorted(curve), full) for name, curve in curves.items()}
    points["one setting for all"] = (cost[seen.uniform] / full, accuracy[seen.uniform])
    points[MASK + "s"] = (cost[seen.masks] / full, accuracy[seen.masks])
    return Curves(resource, full, points)


def draw(curves: Curves, evaluation: Evaluation | None = None) -> Figure:
    """The picture; a judged policy's random control is added as a point."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, style in STYLES.items():
        cost, accuracy = curves.points.get(name, (np.empty(0), np.empty(0)))
        if len(cost):
            axes.plot(100 * cost, 100 * accuracy, label=name, **style)  # type: ignore[arg-type]
    if evaluation is not None:
        row = evaluation.row(RANDOM)
        share = row.mean(curves.resource) / curves.full
        axes.plot(100 * share, 100 * row.accuracy, "^", color="#eecc16", label=RANDOM)
    best = max(accuracy.max() for _, accuracy in curves.points.values() if len(accuracy))
    ends = [accuracy[0] for name, (_, accuracy) in curves.points.items() if name in (POLICY, HULL)]
    low = max(0.0, 100 * min(ends) - 3)
    axes.set_ylim(low, 100 * best + 1)
    axes.set_xlim(0, 104)
    unit = UNITS[curves.resource]
    axes.set_xlabel(
        f"mean {curves.resource.rpartition('_')[0] or 'work'}, % of the full network "
        f"({curves.full:.3g} {unit})"
    )
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def _arrays(curve: list[tuple[float, float]], full: float) -> tuple[Array, Array]:
    points = np.array(curve, dtype=np.float64).reshape(-1, 2)
    return points[:, 0] / full, points[:, 1]
