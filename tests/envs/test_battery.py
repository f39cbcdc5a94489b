"""Energy that comes and goes: nothing is made, nothing is lost, and an empty battery stops."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan, pi
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.backbones import Backbone, InputError
from penstock.envs import Arrivals, Battery, Lanes, Stream
from penstock.envs.timeline import Timeline

Make = Callable[..., Lanes]

FULL, LEAST = [1, 1, 3, 2], [1, 0, 0, 0]


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0, 500), st.floats(0, 300), st.floats(0, 2 * pi), st.floats(0.5, 90), st.floats(0, 9)
)
def test_the_harvest_is_the_integral_of_the_power(
    time_s: float, seconds: float, phase: float, sun_s: float, harvest_w: float
) -> None:
    battery = Battery(harvest_w=harvest_w, sun_s=sun_s)
    start, lasts, phases = torch.tensor([[time_s], [seconds], [phase]], dtype=torch.float64)
    found = battery.harvested_j(start, lasts, phases)
    steps = 20_000
    middle_s = time_s + seconds * (torch.arange(steps).double() + 0.5) / steps
    power_w = harvest_w * pi * battery.harvest_share(middle_s, phases.expand(steps))
    # Pieces of h are off by less than a slope * h^2 at each sunrise and sunset.
    slope, suns = harvest_w * pi * 2 * pi / sun_s, 2 + 2 * seconds / sun_s
    near = 1e-9 + slope * (seconds / steps) ** 2 * suns
    assert found.item() == pytest.approx(power_w.mean().item() * seconds, abs=near)
    assert (found >= 0).all()


def test_a_day_brings_what_is_said() -> None:
    # From any hour on, a whole day has 10 W on average; a steady one any second.
    day = Battery(harvest_w=10.0, sun_s=60.0)
    now = torch.linspace(0, 60, 7).double()
    found = day.harvested_j(now, torch.full((7,), 60.0).double(), 0 * now)
    torch.testing.assert_close(found, torch.full((7,), 600.0).double())
    # By hand: half a day from sunrise brings all of it, half a night nothing.
    half = torch.tensor([30.0]).double()
    assert day.harvested_j(0 * half, half, 0 * half).item() == pytest.approx(600.0)
    assert day.harvested_j(half, half, 0 * half).item() == pytest.approx(0.0, abs=1e-9)
    steady = Battery(harvest_w=10.0)
    assert steady.harvested_j(half, half / 3, half).item() == pytest.approx(100.0)
    assert steady.harvest_share(half, half).item() == 1.0


def test_a_clock_tells_dawn_from_dusk() -> None:
    day = Battery(sun_s=60.0)
    quarters = torch.tensor([0.0, 15.0, 30.0, 45.0]).double()
    sine, cosine = day.clock(quarters, 0 * quarters)
    assert sine.tolist() == pytest.approx([0, 1, 0, -1], abs=1e-9)
    assert cosine.tolist() == pytest.approx([1, 0, -1, 0], abs=1e-9)


def test_a_start_is_drawn_between_two_shares() -> None:
    share, phase = Battery(start=(0.2, 0.6)).draw(2000, torch.Generator().manual_seed(0))
    assert 0.2 <= share.min() < 0.21 and 0.59 < share.max() <= 0.6
    assert share.mean().item() == pytest.approx(0.4, abs=0.01)
    assert 0 <= phase.min() < 0.02 and 2 * pi - 0.02 < phase.max() <= 2 * pi


@pytest.mark.parametrize(
    "arguments",
    [
        *({"capacity_j": value} for value in (0.0, -1.0, inf, nan)),
        *({"start": value} for value in ((0.5, 0.2), (-0.1, 1.0), (0.0, 1.1), (nan, 1.0))),
        *({n: v} for n in ("idle_w", "harvest_w", "sun_s") for v in (-1.0, inf, nan)),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="batter"):
        Battery(**arguments)


def test_charge_by_hand() -> None:
    # 4 of 10 J; 3 J go, 2 s at 1.5 W come in and 0.5 W go all the time: 4 - 3 + 3 - 1.
    battery = Battery(10.0, start=(0.4, 0.4), idle_w=0.5, harvest_w=1.5, relative=False)
    line = Timeline(9, 1, Arrivals(20.0), battery, 1.0, 1.0)
    everyone = torch.ones(1, dtype=torch.bool)
    line.open(torch.arange(1), torch.Generator())
    line.spend(torch.tensor([[3.0], [2.0], [0.0], [0.0]]).double(), everyone)
    assert line.charge_j.item() == pytest.approx(3.0)
    # Who rests loses nothing.
    line.spend(torch.tensor([[3.0], [2.0], [0.0], [0.0]]).double(), ~everyone)
    assert line.charge_j.item() == pytest.approx(3.0)
    # Until the next comes, 18 s at a gain of 1 W: full at 10 J, and no fuller.
    line.advance(everyone)
    assert line.charge_j.item() == 10.0 and line.time_s.item() == 20.0
    # More than there is cannot go.
    line.spend(torch.tensor([[30.0], [1.0], [0.0], [0.0]]).double(), everyone)
    assert line.charge_j.item() == 0.0
    # 19 s bring 19 J, of which 10 stay.
    line.advance(everyone)
    assert line.charge_j.item() == 10.0 and [c.name for c in line.columns] == ["waiting", "battery"]


def test_an_input_that_cannot_be_paid_is_dropped_by_hand() -> None:
    # 3 J an input; 0.1 J in store, and 1 J comes in with each second between two inputs.
    battery = Battery(5.0, start=(1.0, 1.0), harvest_w=1.0, relative=False)
    line = Timeline(9, 1, Arrivals(1.0), battery, 1.0, 3.0)
    everyone = torch.ones(1, dtype=torch.bool)
    line.open(torch.arange(1), torch.Generator())
    line.spend(torch.tensor([[4.9], [0.0], [0.0], [0.0]]).double(), everyone)
    after = line.advance(everyone)
    assert after.going.all() and after.dropped_places.tolist() == [1, 2]  # 1.1 J, 2.1 J, 3.1 J
    assert line.position.item() == 3 and line.charge_j.item() == pytest.approx(3.1)
    assert after.waited_s is not None and after.waited_s.item() == pytest.approx(3.0)


# In the engine ------------------------------------------------------------------------------------


def drained(lanes: Lanes, action: list[int]) -> tuple[list[int], list[int]]:
    """Play one action until all rest: inputs answered and inputs dropped, in their order."""
    answered: list[int] = []
    dropped: list[int] = []
    for _ in range(100):
        step = lanes.step(torch.tensor([action] * lanes.n))
        gone = step.outcomes.exit == -1
        answered += step.outcomes.inputs[~gone].tolist()
        dropped += step.outcomes.inputs[gone].tolist()
        assert (lanes.timeline.charge_j >= 0).all()
        if not lanes.active.any():
            return answered, dropped
    raise AssertionError("the stream never ends")


def test_what_inputs_take_is_taken_from_the_battery(make: Make, short: Backbone) -> None:
    battery = Battery(6.0, start=(0.9, 0.9), idle_w=1e-3, harvest_w=5e-3, sun_s=40.0)
    stream = Stream(2, battery=battery)
    lanes = make(stream, backbone=short, lanes=2)
    joule = float(lanes.full.energy_j)
    lanes.start(torch.arange(2))
    phase = lanes.timeline._phase.clone()
    charge = torch.full((2,), 0.9 * 6.0 * joule).double()
    passed_s = torch.zeros(2, dtype=torch.float64)
    while True:
        cost = lanes.ledger.spent[:2].clone()  # of the stem, as an input begins
        energy_j, seconds = cost
        for action in (FULL, LEAST, FULL):
            charge += joule * battery.harvested_j(passed_s, seconds, phase)
            charge -= energy_j + battery.idle_w * joule * seconds
            passed_s += seconds
            torch.testing.assert_close(lanes.timeline.charge_j, charge)
            shown = lanes.observation[:, lanes.layout.where("battery")].double()
            torch.testing.assert_close(shown, charge / (6.0 * joule), atol=1e-6, rtol=0)
            sun = (2 * pi * passed_s / 40 + phase).sin().clamp(min=0)
            shown = lanes.observation[:, lanes.layout.where("harvest")].double()
            torch.testing.assert_close(shown, sun, atol=1e-6, rtol=0)
            step = lanes.step(torch.tensor([action, FULL]))
            spent = step.answers.cost[:2]
            energy_j, seconds = spent - cost
            cost = spent.clone()
        # The last block's work has been taken, and the stem of the next input behind it.
        charge += joule * battery.harvested_j(passed_s, seconds, phase)
        charge -= energy_j + battery.idle_w * joule * seconds
        passed_s += seconds
        if step.done.all():
            break
    torch.testing.assert_close(lanes.timeline.charge_j, charge)


def test_choices_that_the_charge_cannot_pay_are_masked(make: Make, short: Backbone) -> None:
    stream = Stream(4, battery=Battery(1.2, start=(1.0, 1.0)))
    lanes = make(stream, backbone=short, lanes=1)
    lanes.start(torch.arange(1), torch.tensor([[3, 1, 4, 15]]))
    assert lanes.allowed.all(dim=1).tolist() == [False]  # who has no answer cannot leave
    assert lanes.allowed[0, 1:].all()
    answered, dropped = drained(lanes, FULL)
    # The first takes all of its 1.2, but a little; the others have to make do with the rest.
    assert answered + dropped == [3, 1, 4, 15] and len(answered) >= 1
    joule = float(lanes.full.energy_j)
    assert lanes.timeline.charge_j.item() < float(lanes.prices.cheapest[0]) < 1.2 * joule


@pytest.mark.parametrize("arrivals", [None, Arrivals(5.0)])
def test_streams_that_start_empty_end(
    make: Make, short: Backbone, arrivals: Arrivals | None
) -> None:
    """Every input is told of once, whatever becomes of it."""
    stream = Stream(3, battery=Battery(1.5, start=(0.0, 0.0)), arrivals=arrivals)
    lanes = make(stream, backbone=short, lanes=2)
    lanes.start(torch.arange(2), torch.tensor([[3, 1, 4], [15, 9, 2]]))
    answered, dropped = drained(lanes, LEAST)
    assert sorted(answered + dropped) == [1, 2, 3, 4, 9, 15]


def test_a_stream_that_is_begun_anew_is_forgotten(make: Make, short: Backbone) -> None:
    stream = Stream(2, battery=Battery(1.5, start=(0.0, 0.0)), arrivals=Arrivals(5.0))
    lanes = make(stream, backbone=short, lanes=3)
    lanes.start(torch.arange(3), torch.tensor([[3, 1], [4, 15], [9, 2]]))
    lanes.start(torch.tensor([2, 0]), torch.tensor([[6, 5], [8, 7]]))
    answered, dropped = drained(lanes, LEAST)
    assert sorted(answered + dropped) == [4, 5, 6, 7, 8, 15]


def test_an_empty_battery_that_fills_drops_the_first_only(make: Make, short: Backbone) -> None:
    """The second comes 100 s later, in which 0.01 * 100 of what the full network takes came in."""
    battery = Battery(2.0, start=(0.0, 0.0), harvest_w=0.01)
    stream = Stream(3, battery=battery, arrivals=Arrivals(100.0))
    lanes = make(stream, backbone=short, lanes=1)
    lanes.start(torch.arange(1), torch.tensor([[3, 1, 4]]))
    answered, dropped = drained(lanes, LEAST)
    assert sorted(answered + dropped) == [1, 3, 4] and {1, 4} <= set(answered)


def test_joules_may_be_joules(make: Make, short: Backbone) -> None:
    lanes = make(Stream(), backbone=short, lanes=1)
    joule = float(lanes.full.energy_j)
    share = Battery(3.0, start=(1.0, 1.0), idle_w=1e-3, harvest_w=2e-3)
    joules = replace(
        share, capacity_j=3 * joule, idle_w=1e-3 * joule, harvest_w=2e-3 * joule, relative=False
    )
    left = []
    for battery in (share, joules):
        lanes = make(Stream(2, battery=battery), backbone=short, lanes=1)
        lanes.start(torch.arange(1))
        drained(lanes, FULL)
        left.append(lanes.timeline.charge_j.item())
    assert left[0] == pytest.approx(left[1])
