"""What work warms up, what heat slows down, and what waiting cools."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from penstock.backbones import Block, InputError, Setting
from penstock.hardware import (
    Cost,
    Dram,
    Heated,
    Job,
    Link,
    Machine,
    Radio,
    Split,
    State,
    build_machine,
    check_machine,
)


@final
@dataclass(frozen=True)
class Steady(Machine):
    """Every block takes as much."""

    joules: float
    seconds: float

    def reset(self, n: int, rng: torch.Generator) -> State:
        return {}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        return job.block(job.x, {}), Cost(self.joules, self.seconds, macs=1), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return Cost(self.joules, self.seconds, macs=1)


class Step(Block):
    """Does nothing."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.body = nn.Identity()

    def compute(self, x: Tensor, setting: Setting) -> Tensor:
        y: Tensor = self.body(x)
        return y


STEM, BODY = Step("stem"), Step("blocks.0")
RNG = torch.Generator()
HOT = Heated(
    Steady(12.0, 2.0),
    resistance_k_per_w=10.0,
    capacity_j_per_k=0.2,
    throttle_c=65.0,
    band_c=20.0,
    slowest=3.0,
    idle_w=1.0,
)
"""6 W come to 85 degrees in the end, and 1 W to 35; 2 s are 63 % of the way."""


def run(machine: Machine, block: Block, state: State) -> tuple[Cost, State]:
    n = len(next(iter(state.values())))
    _, cost, state = machine.run(Job(block, torch.zeros(n, 1, 1, 1), {}), state, RNG)
    return cost, state


def seconds(*amounts: float) -> Tensor:
    return torch.tensor(amounts, dtype=torch.float64)


# By hand ------------------------------------------------------------------------------------------


def test_three_inputs_and_a_pause_by_hand() -> None:
    """25 -> 62.93 -> 76.88 degrees at full clock, 59.99 at a slower one, 44.19 after a pause."""
    state = HOT.reset(1, RNG)
    assert state["warmth"].tolist() == [0.0] and HOT.time_constant_s == 2.0
    cost, state = run(HOT, STEM, state)
    assert cost.rows()[0].tolist() == [12.0, 2.0, 1.0, 0.0]
    assert state["warmth"].tolist() == [0.0]  # the thermometer is read with the next input
    first = HOT.next_input(state)
    assert HOT.temperature_c(first).item() == pytest.approx(85 - 60 * exp(-1))  # 62.93
    assert first["warmth"].item() == pytest.approx(37.927 / 40, rel=1e-4)
    assert first["slowdown"].item() == 1.0

    cost, state = run(HOT, STEM, state)  # who runs a stem reads it by itself
    assert cost.rows()[0].tolist() == [12.0, 2.0, 1.0, 0.0]
    assert torch.equal(state["warmth"], first["warmth"])
    second = HOT.next_input(state)
    assert HOT.temperature_c(second).item() == pytest.approx(85 - 60 * exp(-2))  # 76.88
    slowdown = 1 + 2 * (76.880 - 65) / 20  # 2.188
    assert second["slowdown"].item() == pytest.approx(slowdown, rel=1e-4)

    cost, state = run(HOT, STEM, state)
    # 1 W goes on for the 2.376 s that are added.
    hand = [12 + 2 * (slowdown - 1), 2 * slowdown, 1.0, 0.0]
    assert cost.rows()[0].tolist() == pytest.approx(hand, rel=1e-4)
    third = HOT.next_input(state)
    end_c = 25 + 10 * hand[0] / hand[1]  # 57.85 degrees: slow work gives off 3.29 W
    there_c = end_c + (76.880 - end_c) * exp(-hand[1] / 2)
    assert HOT.temperature_c(third).item() == pytest.approx(there_c, rel=1e-4)
    assert there_c == pytest.approx(59.99, abs=0.01) and third["slowdown"].item() == 1.0

    paused = HOT.later(state, seconds(2.0))
    assert HOT.temperature_c(paused).item() == pytest.approx(35 + (there_c - 35) * exp(-1), 1e-4)
    assert paused["slowdown"].item() == pytest.approx(slowdown, rel=1e-4)  # until the next input


def test_the_clock_holds_for_a_whole_input() -> None:
    state = replace(HOT, start=(1.25, 1.25)).reset(1, RNG)  # 75 degrees
    costs = []
    for block in (STEM, BODY, BODY, STEM):
        cost, state = run(HOT, block, state)
        costs.append(cost.rows()[0, 1].item())
    assert costs[:3] == [4.0] * 3 and costs[3] < 4.0  # 6.5 W over 12 s: 63.9 degrees
    assert HOT.slowdown(torch.tensor([0.0, 1.0, 1.25, 1.5, 9.0])).tolist() == [1, 1, 2, 3, 3]


def test_energy_in_no_time_comes_at_once() -> None:
    _, state = HOT.bill(Cost(seconds(4.0), seconds(0.0)), HOT.reset(1, RNG))
    assert HOT.temperature_c(HOT.next_input(state)).item() == pytest.approx(25 + 4 / 0.2)


def test_who_waits_no_time_is_not_read() -> None:
    _, state = run(HOT, STEM, HOT.reset(2, RNG))
    after = HOT.later(state, seconds(0.0, 1.0))
    assert after["warmth"][0] == 0 and after["warmth"][1] > 0
    assert after["unread_j"].tolist() == [[12.0], [0.0]]
    assert after["unread_s"].tolist() == [[2.0], [0.0]]


def test_streams_start_as_warm_as_is_said() -> None:
    state = replace(HOT, start=(0.5, 1.5)).reset(1000, torch.Generator().manual_seed(0))
    assert 0.5 <= state["warmth"].min() < 0.52 and 1.48 < state["warmth"].max() <= 1.5
    assert torch.equal(state["slowdown"].squeeze(1), HOT.slowdown(state["warmth"]))


# Always -------------------------------------------------------------------------------------------

MACHINES = st.builds(
    Heated,
    st.builds(Steady, st.floats(0, 100), st.floats(0, 10)),
    resistance_k_per_w=st.floats(0.1, 50),
    capacity_j_per_k=st.floats(0.01, 50),
    throttle_c=st.floats(30, 100),
    band_c=st.floats(0.1, 50),
    slowest=st.floats(1, 5),
    idle_w=st.floats(0, 5),
    start=st.tuples(st.just(0.0), st.floats(0, 2)),
)
ACTS = st.lists(st.sampled_from(("stem", "block")) | st.floats(0, 100), max_size=12)


@given(machine=MACHINES, acts=ACTS, seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_it_stays_between_the_surroundings_and_the_end(
    machine: Heated, acts: Sequence[str | float], seed: int
) -> None:
    inner = machine.inner
    assert isinstance(inner, Steady)
    state = machine.reset(3, torch.Generator().manual_seed(seed))
    start_c = machine.temperature_c(state)
    at_once_c = inner.joules / machine.capacity_j_per_k  # a block, even in no time
    power_w = inner.joules / inner.seconds if inner.seconds else 0.0
    steady_c = 25 + machine.resistance_k_per_w * max(power_w, machine.idle_w)
    blocks = 0
    for act in acts:
        if isinstance(act, float):
            state = machine.later(state, torch.full((3,), act, dtype=torch.float64))
        else:
            cost, state = run(machine, STEM if act == "stem" else BODY, state)
            most = machine.price(BODY, {}, (1, 1, 1)).rows()
            assert (cost.rows() <= most * (1 + 1e-9)).all()
            assert (cost.rows() >= inner.price(BODY, {}, (1, 1, 1)).rows() * (1 - 1e-9)).all()
            blocks += 1
        now_c = machine.temperature_c(machine.next_input(state))
        highest_c = torch.maximum(start_c, torch.tensor(steady_c))
        if not inner.seconds:
            highest_c = torch.maximum(start_c, torch.tensor(steady_c)) + blocks * at_once_c
        assert (now_c >= 25 - 1e-6).all() and (now_c <= highest_c * (1 + 1e-6)).all()


@given(machine=MACHINES, parts=st.lists(st.floats(0, 50), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_waiting_in_parts_is_waiting(machine: Heated, parts: list[float]) -> None:
    _, state = run(machine, BODY, machine.reset(2, torch.Generator().manual_seed(1)))
    whole = machine.later(state, seconds(sum(parts), 0.0))
    for part in parts:
        state = machine.later(state, seconds(part, 0.0))
    torch.testing.assert_close(state["warmth"], whole["warmth"])


@given(machine=MACHINES, shares=st.lists(st.floats(0, 3), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_billed_in_parts_is_billed(machine: Heated, shares: list[float]) -> None:
    start = state = machine.reset(2, torch.Generator().manual_seed(2))
    total = torch.zeros(2, 4, dtype=torch.float64)
    for share in shares:
        part = Cost(*seconds(share, 2 * share, 5 * share, 0).unsqueeze(1).expand(4, 2))
        cost, state = machine.bill(part, state)
        total += cost.rows()
    share = sum(shares)
    whole = Cost(*seconds(share, 2 * share, 5 * share, 0).unsqueeze(1).expand(4, 2))
    cost, after = machine.bill(whole, start)
    torch.testing.assert_close(total, cost.rows())
    after, state = machine.next_input(after), machine.next_input(state)
    torch.testing.assert_close(after["warmth"], state["warmth"])


# With others --------------------------------------------------------------------------------------


def test_a_phone_gets_slower_by_its_work() -> None:
    phone = build_machine("phone_hot")
    assert isinstance(phone, Heated)
    check_machine(phone)
    # 3.6 W at full clock: throttled from about 1 s on, hotter than 65 and cooler than 76 degrees.
    state = replace(phone, start=(0.0, 0.0)).reset(1, RNG)
    slowdowns = []
    for _ in range(300):
        _, state = phone.bill(Cost(seconds(0.036), seconds(0.01)), state)
        state = phone.next_input(state)
        slowdowns.append(float(state["slowdown"]))
    assert slowdowns[90] == 1.0 and 1.1 < slowdowns[-1] < 2.0
    assert 65 < phone.temperature_c(state).item() < 76


def test_it_goes_around_anything_that_costs() -> None:
    machine = replace(HOT, inner=build_machine("analog_dram"))
    check_machine(machine)
    assert isinstance(machine.inner, Dram) and machine.knobs == machine.inner.knobs
    ideal = machine.ideal()
    assert isinstance(ideal, Heated) and ideal.inner == machine.inner.ideal()


def test_a_near_machine_cools_while_features_are_away() -> None:
    """One second of sending and one of waiting for a server, in which 1 W is drawn near."""
    link = Link(64.0, rtt_s=0.25, radio=Radio(0.5, 3.0), idle_w=0.1)
    split = Split(replace(HOT, start=(1.0, 1.0)), Steady(1.0, 1.0), link, bits=(8,), timeout_s=10.0)
    state = {**split.reset(2, RNG), "away": torch.tensor([1.0, 0.0])}
    x = torch.zeros(2, 1, 1, 1)
    _, cost, after = split.run(Job(BODY, x, {"offload": 0}), state, RNG)
    assert cost.rows()[:, 1].tolist() == [1.0, 2.0]
    cooled = HOT.later({**HOT.reset(1, RNG), "warmth": seconds(1.0)}, seconds(1.0))
    assert after["near_warmth"].tolist() == [pytest.approx(cooled["warmth"].item()), 1.0]
    assert after["near_unread_j"].tolist() == [[0.0], [12.0]]
    waited = split.next_input({**state, "began_s": torch.zeros(2, 1, dtype=torch.float64)})
    assert torch.equal(waited["near_warmth"], state["near_warmth"])  # no time between inputs
    camera = replace(split, period_s=1.0)
    waited = camera.next_input({**state, "began_s": torch.zeros(2, 1, dtype=torch.float64)})
    assert waited["near_warmth"].tolist() == [pytest.approx(cooled["warmth"].item())] * 2


# Refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"resistance_k_per_w": 0.0}, "resistance_k_per_w, .* are above 0"),
        ({"throttle_c": 25.0}, "throttle_c above ambient_c"),
        ({"slowest": 0.5}, "slowest at least 1"),
        ({"start": (1.0, 0.5)}, r"least and the most warmth.*\[1\.0, 0\.5\]"),
        ({"idle_w": -1.0}, "idle_w of Heated is at least 0"),
    ],
)
def test_constants_out_of_range_are_refused(changes: dict[str, float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(HOT, **changes)  # type: ignore[arg-type]
