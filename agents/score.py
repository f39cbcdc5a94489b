"""How well deciders use budgets of every size, on the same streams.

Letters: `B` budgets, `k` streams.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock.agents.decider import Decider, Streams, run_streams, stream_seeds
from penstock.agents.evaluation import interval
from penstock.agents.statics import Array
from penstock.backbones import InputError
from penstock.envs import Lanes
from penstock.envs.budget import SLACK
from penstock.hardware import Cost

Contender = Decider | Callable[[float], Decider]
"""Who keeps the budget of each stream; or what gives one for a budget, for an input, in the unit of
the resource, where it has to be made for it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One contender at every budget."""

    name: str
    utility: Array  # [B] mean worth of an input
    each: Array  # [B, k] of each stream
    cost: Array  # [B] mean cost of an input, as a share of the budget
    spread: Array  # [B] standard deviation of that among streams
    violating: Array  # [B] share of streams whose mean cost exceeds the budget
    overshoot_p95: Array  # [B] by how much, as a share of the budget: 95 % of streams stay below
    missed: Array  # [B] share of inputs answered late or not at all
    over: Array  # [B] streams that exceeded a hard budget

    def hypervolume(self, budgets: Array) -> float:
        """Utility, averaged over budgets on a logarithmic scale; the area below the curve."""
        x = np.log(budgets)
        return float(np.trapezoid(self.utility, x) / (x[-1] - x[0]))


@dataclass(frozen=True, slots=True)
class Score:
    """All contenders on the same streams."""

    resource: str
    full: float
    """What the full network takes for an input, in the unit of the resource."""
    budgets: Array  # [B] for an input, in the unit of the resource, rising
    inside: NDArray[np.bool_]  # [B], whether a policy learned for budgets like this
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """A contender by name.

        Raises:
            KeyError: if there is none.
        """
        return {row.name: row for row in self.rows}[name]

    def gain(self, name: str, hull: str, oracle: str) -> Array:
        """G = (contender - hull) / (oracle - hull), [B]; NaN where the oracle is no better.

        A tenth of a point is the least by which it has to be better.
        """
        low, high = self.row(hull).utility, self.row(oracle).utility
        room = np.where(high > low + 1e-3, high - low, np.nan)
        gain: Array = (self.row(name).utility - low) / room
        return gain

    def gap(self, name: str, control: str, *, seed: int = 0) -> tuple[float, float, float]:
        """Mean difference of utility over streams and budgets inside, and its 95 % interval."""
        difference = (self.row(name).each - self.row(control).each)[self.inside].mean(axis=0)
        low, high = interval(difference, seed=seed)
        return float(difference.mean()), low, high

    def table(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "resource": self.resource,
            "full": self.full,
            "budgets": self.budgets.tolist(),
            "inside": self.inside.tolist(),
            "rows": [
                {
                    "name": row.name,
                    "hypervolume": row.hypervolume(self.budgets),
                    **{
                        field: getattr(row, field).tolist()
                        for field in Row.__slots__
                        if field != "name"
                    },
                    "intervals": [interval(each) for each in row.each],
                }
                for row in self.rows
            ],
        }


def budget_grid(least: float, most: float, *, inside: int = 8) -> tuple[Array, NDArray[np.bool_]]:
    """Budgets from least to most, evenly on a logarithmic scale, and one beyond each end.

    Returns:
        The budgets, [inside + 2] rising, and which of them are not beyond.
    """
    step = log(most / least) / (inside - 1)
    budgets = np.exp(log(least) + step * np.arange(-1, inside + 1))
    within = np.ones(inside + 2, dtype=np.bool_)
    within[[0, -1]] = False
    return budgets, within


def score(
    contenders: Mapping[str, Contender],
    lanes: Lanes | Mapping[str, Lanes],
    streams: Tensor,
    budgets: Array,
    inside: NDArray[np.bool_],
    *,
    seed: int = 0,
    progress: Callable[[int], object] = lambda count: None,
) -> Score:
    """Give the same streams to every contender at every budget.

    Args:
        contenders: by name.
        lanes: the engine, whose streams have an average budget; or one by name, where contenders
            pay for their own decisions or for none.
        streams: numbers of inputs, [k, L].
        budgets: for an input, in the unit of the resource, rising.
        inside: which of them a policy learned for.
        seed: of what streams meet.
        progress: called with the number of inputs that are over, now and then.

    Raises:
        InputError: if a budget is below the cheapest way to an answer.
    """
    engines = lanes if isinstance(lanes, Mapping) else dict.fromkeys(contenders, lanes)
    first = next(iter(engines.values()))
    place = first.stream.resource
    full = float(first.full.each()[place])
    rows = []
    for name, contender in contenders.items():
        engine = engines[name]
        least = cheapest_way(engine)
        if budgets[0] < least:
            raise InputError(
                f"the lowest budget, {budgets[0]:.4g} {place}, is below the cheapest way to an "
                f"answer, which takes {least:.4g}; raise it"
            )
        found = at_every(contender, engine, streams, budgets, seed=seed, progress=progress)
        rows.append(row_of(name, found, budgets, place))
    return Score(place, full, budgets, inside, tuple(rows))


def at_every(
    contender: Contender,
    lanes: Lanes,
    streams: Tensor,
    budgets: Array,
    *,
    seed: int = 0,
    progress: Callable[[int], object] = lambda count: None,
) -> list[Streams]:
    """The same streams at every budget, one after the other; arguments as in `score`."""
    limits = torch.from_numpy(budgets).repeat_interleave(len(streams))
    if not callable(contender):
        streams, seeds = at_once(streams, len(budgets), seed)
        return [
            run_streams(contender, lanes, streams, limits=limits, seed=seeds, progress=progress)
        ]
    return [
        run_streams(
            contender(float(limit[0])), lanes, streams, limits=limit, seed=seed, progress=progress
        )
        for limit in limits.view(len(budgets), -1)
    ]


def at_once(streams: Tensor, times: int, seed: int) -> tuple[Tensor, Tensor]:
    """Streams [k, L] so many times over, and the seeds with which each meets the same again."""
    return streams.repeat(times, 1), stream_seeds(len(streams), seed).repeat(times)


def row_of(name: str, found: Sequence[Streams], budgets: Array, resource: str) -> Row:
    """What became of the same k streams at every budget, one after the other."""

    def table(values: Callable[[Streams], Tensor]) -> Array:
        """[B, k]."""
        whole = torch.cat([values(each) for each in found]).double()
        return whole.view(len(budgets), -1).numpy()

    length = found[0].inputs.shape[1]
    return summed_up(
        name,
        table(lambda streams: streams.mean_cost(resource)),
        table(lambda streams: streams.mean_worth),
        budgets,
        table(lambda streams: streams.missed).mean(axis=1) / length,
        table(lambda streams: streams.over).sum(axis=1),
    )


def summed_up(
    name: str,
    cost: Array,
    each: Array,
    budgets: Array,
    missed: Array,
    over: Array,
) -> Row:
    """A row from the mean cost and worth of an input of each stream, [B, k].

    Args:
        name: of the contender.
        cost: in the unit of the resource.
        each: worth.
        budgets: [B].
        missed: share of inputs, [B].
        over: streams over a hard budget, [B].
    """
    share = cost / budgets[:, None]
    return Row(
        name,
        utility=each.mean(axis=1),
        each=each,
        cost=share.mean(axis=1),
        spread=share.std(axis=1),
        violating=(share > 1 + SLACK).mean(axis=1),
        overshoot_p95=np.quantile(np.maximum(share - 1, 0), 0.95, axis=1),
        missed=missed,
        over=over,
    )


def cheapest_way(lanes: Lanes) -> float:
    """What the cheapest way to an answer takes, in the unit of the priced resource."""
    return float(Cost(*lanes.prices.steady.tolist()).each()[lanes.stream.resource])
