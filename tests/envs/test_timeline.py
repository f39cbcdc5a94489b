"""All rules of a stream at once: nothing is exceeded, and every input is told of once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import Backbone, Block, Setting
from penstock.envs import Arrivals, Battery, Budget, Lanes, Stream, Switching
from penstock.envs.budget import SLACK
from penstock.hardware import (
    RESOURCES,
    Cost,
    Digital,
    Job,
    Link,
    Machine,
    Split,
    State,
    Synthetic,
)

Make = Callable[..., Lanes]

CHOICES = {"width": (0.5, 1.0), "bits": (8, 32)}


@final
@dataclass(frozen=True)
class Varying(Machine):
    """A job takes a share of its price, which is drawn."""

    inner: Machine

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, state = self.inner.run(job, state, rng)
        share = torch.rand(len(y), generator=rng, dtype=torch.float64)
        return y, Cost(cost.energy_j * share, cost.latency_s * share, cost.macs * share), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)


def machine_of(kind: str, digital: Digital) -> Machine:
    if kind == "plain":
        return digital
    if kind == "varying":
        return Varying(digital)
    traces = Synthetic(median_bps=3e3, spread=1.0, traces=4, length_s=60, rtt_s=0.5)
    link = Link(traces, rtt_s=0.1, idle_w=1e3, floor_bps=100.0)
    fast = replace(digital, launch_s=0.01)
    return Split(Varying(digital), fast, link, bits=(8,), busy=(0.0, 0.8), timeout_s=3.0)


HARD = st.tuples(
    st.sampled_from(("energy_j", "latency_s", "macs")),
    st.sampled_from(("input", "stream")),
    st.sampled_from((0.0, 0.1, 0.5)),
    st.booleans(),
)


@given(
    kind=st.sampled_from(("plain", "varying", "split")),
    hard=st.lists(HARD, min_size=1, max_size=2, unique_by=lambda each: each[:2]),
    inputs=st.integers(1, 5),
    stages=st.sampled_from(((), (0, 2))),
    arrivals=st.none()
    | st.builds(
        Arrivals,
        period_s=st.sampled_from((2.0, 15.0)),
        burst=st.sampled_from((1.0, 5.0)),
        jitter=st.sampled_from((0.0, 1.0)),
        deadline_s=st.sampled_from((15.0, inf)),
        capacity=st.integers(1, 3),
    ),
    battery=st.none()
    | st.builds(
        Battery,
        capacity_j=st.sampled_from((1.2, 3.0)),
        start=st.sampled_from(((0.8, 1.0), (0.0, 0.4))),
        idle_w=st.sampled_from((0.0, 2e-3)),
        harvest_w=st.sampled_from((0.0, 2e-2)),
        sun_s=st.sampled_from((0.0, 30.0)),
    ),
    switching=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=25, deadline=None)
def test_no_rule_is_ever_broken(
    make: Make,
    short: Backbone,
    digital: Digital,
    kind: str,
    hard: list[tuple[str, Any, float, bool]],
    inputs: int,
    stages: tuple[int, ...],
    arrivals: Arrivals | None,
    battery: Battery | None,
    switching: bool,
    masked: bool,
    seed: int,
) -> None:
    n, machine = 4, machine_of(kind, digital)
    turns = (Switching("bits", 0.02, 0.02), Switching("run", 0.01)) if switching else ()
    average = Budget("energy_j", 0.3, True, most=2.0)

    def engine(budgets: list[Budget]) -> Lanes:
        stream = Stream(
            inputs,
            budgets=(average, *budgets),
            stages=stages,
            arrivals=arrivals,
            battery=battery,
            switching=turns,
            choices=CHOICES,
        )
        return make(stream, machine=machine, backbone=short, lanes=n, seed=seed)

    # Room 0 leaves the cheapest way and nothing else.
    ample = [
        Budget(resource, 1e30, kind="hard", per=per, most=2e30 if drawn else None)
        for resource, per, _, drawn in hard
    ]
    first, budgets = engine(ample), []
    for budget, (*_, room, drawn) in zip(ample, hard, strict=True):
        place = RESOURCES.index(budget.resource)
        least, full = first.prices.cheapest[place], first.full.rows()[place]
        limit = float(least + room * full) * (inputs if budget.per == "stream" else 1)
        budgets.append(replace(budget, limit=limit, most=2 * limit if drawn else None))
    lanes = engine(budgets)
    queue = torch.arange(n * inputs).view(n, inputs)  # each input once
    lanes.start(torch.arange(n), queue)
    limits, spent = lanes.ledger.limits.clone(), torch.zeros(n, len(RESOURCES)).double()
    for b, budget in enumerate(budgets, start=1):
        most = budget.most or budget.limit
        assert ((limits[:, b] >= budget.limit * 0.999) & (limits[:, b] <= most * 1.001)).all()
    rng = torch.Generator().manual_seed(seed)
    sizes = [len(knob.choices) for knob in lanes.knobs]
    told: list[int] = []
    time_s = lanes.timeline.time_s.clone()
    for _ in range((lanes.prices.stages + 1) * inputs):
        chances = torch.rand(lanes.allowed.shape, generator=rng)
        chances = chances * lanes.allowed if masked else chances
        parts = chances.split_with_sizes(sizes, dim=1)
        actions = torch.stack([part.argmax(dim=1) for part in parts], dim=1)
        step = lanes.step(actions)
        found = step.outcomes
        told += found.inputs.tolist()
        assert (found.inputs // inputs == found.lanes).all()
        spent.index_add_(0, found.lanes, found.cost)
        assert not found.over.any() and not (masked and found.overruled.any())
        for b, budget in enumerate(budgets, start=1):
            place = RESOURCES.index(budget.resource)
            amounts = found.cost if budget.per == "input" else spent[found.lanes]
            allowed = limits[found.lanes, b] * (1 + 2 * SLACK)
            assert (amounts[:, place] <= allowed).all()
        ends = step.ended
        torch.testing.assert_close(ends.limits, limits[ends.lanes])
        left = limits[ends.lanes, 0] - spent[ends.lanes, 0]  # of the average budget
        torch.testing.assert_close(ends.left[:, 0], left)
        assert (lanes.timeline.charge_j >= 0).all() and (lanes.timeline.time_s >= time_s).all()
        time_s = lanes.timeline.time_s.clone()
        for column, shown in zip(lanes.layout.columns, lanes.observation.unbind(1), strict=True):
            assert ((shown >= column.low) & (shown <= column.high + 1e-6)).all(), column.name
    assert sorted(told) == queue.flatten().tolist()
    assert not lanes.active.any()


def test_a_battery_that_pays_is_never_overdrawn(make: Make, short: Backbone) -> None:
    """What is taken, idle power included, is never more than there was."""
    stream = Stream(6, battery=Battery(2.0, start=(0.3, 1.0), idle_w=5e-3), choices=CHOICES)
    lanes = make(stream, backbone=short, lanes=6)
    lanes.start(torch.arange(6))
    idle_w = lanes.timeline.idle_w
    assert idle_w == pytest.approx(5e-3 * float(lanes.full.energy_j))
    charge, taken = lanes.timeline.charge_j.clone(), torch.zeros(6, dtype=torch.float64)
    taken += lanes.ledger.spent[0] + idle_w * lanes.ledger.spent[1]
    start, count = charge + taken, 0
    taken.zero_()
    rng = torch.Generator().manual_seed(0)
    while lanes.active.any():
        sizes = torch.tensor([len(knob.choices) for knob in lanes.knobs])
        step = lanes.step((torch.rand(6, len(sizes), generator=rng) * sizes).long())
        found = step.outcomes
        count += len(found.lanes)
        taken.index_add_(0, found.lanes, found.cost[:, 0] + idle_w * found.cost[:, 1])
        assert (taken <= start * (1 + 1e-9)).all()
    assert count == 36
    torch.testing.assert_close(lanes.timeline.charge_j, start - taken, rtol=1e-9, atol=1e-3)


def test_without_clock_and_battery_time_is_nobodys_business(make: Make) -> None:
    lanes = make(Stream(2), lanes=2)
    lanes.start(torch.arange(2))
    lanes.step(torch.tensor([[1, 1, 3, 2]] * 2))
    assert not lanes.timeline.time_s.any() and not lanes.timeline.columns
