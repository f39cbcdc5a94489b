"""What can be reached without looking at an input, and what with the labels in hand.

Letters: `I` inputs, `A` configurations.
"""

import numpy as np
from numpy.typing import NDArray

from penstock.agents.statics import Array
from penstock.hardware import RESOURCES


def hull(cost: Array, accuracy: Array, budget: float) -> tuple[int, int, float]:
    """The best mix of two configurations with a mean cost of at most `budget`.

    Returns:
        Indices a, b and the share of inputs that b gets: time-sharing meets any average budget
        exactly, without looking at an input.

    Raises:
        ValueError: if even the cheapest configuration costs more.
    """
    cheap, dear = np.flatnonzero(cost <= budget), np.flatnonzero(cost > budget)
    if len(cheap) == 0:
        raise ValueError(
            f"no configuration costs {budget:.3g} or less, the cheapest {cost.min():.3g}"
        )
    a = int(cheap[accuracy[cheap].argmax()])
    best, value = (a, a, 0.0), float(accuracy[a])
    if len(dear):
        share = (budget - cost[cheap, None]) / (cost[None, dear] - cost[cheap, None])
        mixed = (1 - share) * accuracy[cheap, None] + share * accuracy[None, dear]
        i, j = np.unravel_index(mixed.argmax(), mixed.shape)
        if mixed[i, j] > value:
            best = (int(cheap[i]), int(dear[j]), float(share[i, j]))
    return best


def oracle(
    right: NDArray[np.bool_], costs: Array, budget: float, resource: str
) -> tuple[Array, Array]:
    """What could be reached by someone who knows the labels: the price that meets the budget.

    Args:
        right: [I, A].
        costs: [I, A, R].
        budget: on the mean over inputs.
        resource: of the budget.

    Returns:
        Expected right answers [I] and costs [I, R] of each input: the two choices around the
        price at which the budget is crossed, mixed so that it is met exactly.
    """
    rows, cost = np.arange(len(right)), costs[:, :, RESOURCES.index(resource)]

    def choose(price: float) -> NDArray[np.int64]:
        chosen: NDArray[np.int64] = (right - price * cost).argmax(axis=1)
        return chosen

    def spend(chosen: NDArray[np.int64]) -> float:
        return float(cost[rows, chosen].mean())

    cheapest = 1e-9 / cost.mean()
    if spend(choose(cheapest)) <= budget:
        chosen = choose(cheapest)
        return right[rows, chosen].astype(np.float64), costs[rows, chosen]
    low, high = cheapest, 1 / cost.mean()
    while spend(choose(high)) > budget and high < 1e12 / cost.mean():
        high *= 2
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if spend(choose(middle)) > budget else (low, middle)
    dear, cheap = choose(low), choose(high)
    gap = spend(dear) - spend(cheap)
    share = min(1.0, max(0.0, (budget - spend(cheap)) / gap)) if gap > 0 else 0.0
    return (
        (1 - share) * right[rows, cheap] + share * right[rows, dear],
        (1 - share) * costs[rows, cheap] + share * costs[rows, dear],
    )


def front(cost: Array, accuracy: Array) -> NDArray[np.bool_]:
    """Which configurations no other one beats in both, [A]."""
    better = (cost[None] <= cost[:, None]) & (accuracy[None] >= accuracy[:, None])
    strictly = (cost[None] < cost[:, None]) | (accuracy[None] > accuracy[:, None])
    beaten: NDArray[np.bool_] = np.asarray(np.any(better & strictly, axis=1))
    return ~beaten
