"""Time in which nothing runs, what of a choice still holds later, and features that leave alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import Block, Setting, tiny_resnet
from penstock.hardware import (
    Analog,
    Cost,
    Digital,
    Job,
    Link,
    Machine,
    Radio,
    Remote,
    Split,
    State,
    Synthetic,
    build_machine,
)
from penstock.hardware.machine import wrapped

NEAR = build_machine("microcontroller")
FAR = build_machine("server")
LINK = Link(64.0, rtt_s=0.25, radio=Radio(0.5, 3.0), idle_w=0.1)
SPLIT = Split(NEAR, FAR, LINK, timeout_s=10.0)
WIDE = Synthetic(median_bps=1e3, spread=1.0, traces=8, length_s=60, rtt_s=0.2)


@final
@dataclass(frozen=True)
class Cooling(Machine):
    """By hand: half of its heat goes in a second."""

    inner: Machine
    knob: str = "volt"

    def reset(self, n: int, rng: torch.Generator) -> State:
        return {**self.inner.reset(n, rng), "heat": torch.full((n,), 8.0, dtype=torch.float64)}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        own = {name: value for name, value in state.items() if name != "heat"}
        y, cost, after = self.inner.run(job, own, rng)
        return y, cost, {**after, "heat": state["heat"] + 1}

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)

    def later(self, state: State, seconds: Tensor) -> State:
        rest = {name: value for name, value in state.items() if name != "heat"}
        return {**self.inner.later(rest, seconds), "heat": state["heat"] / 2**seconds}

    def held(self, setting: Mapping[str, float]) -> dict[str, float]:
        return {**self.inner.held(setting), self.knob: 1.0}


@final
@dataclass(frozen=True)
class Plain(Machine):
    """Wraps, and says nothing of time."""

    inner: Machine
    others: tuple[Machine, ...] = ()
    number: float = 3.0

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        return self.inner.run(job, state, rng)

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)


def start(machine: Machine, n: int = 1) -> State:
    return machine.reset(n, torch.Generator().manual_seed(0))


def seconds(*amounts: float) -> Tensor:
    return torch.tensor(amounts, dtype=torch.float64)


# Later --------------------------------------------------------------------------------------------


def test_what_a_machine_holds() -> None:
    assert list(wrapped(NEAR)) == []
    assert list(wrapped(SPLIT)) == [NEAR, FAR]
    assert list(wrapped(Plain(NEAR, (FAR, SPLIT)))) == [NEAR, FAR, SPLIT]  # not what is inside
    assert list(wrapped(replace(SPLIT, far=Remote("server:1")))) == [NEAR]


def test_nothing_happens_to_a_machine_without_a_state() -> None:
    assert NEAR.later({}, seconds(3.0)) == {}
    assert Analog(NEAR).later({}, seconds(3.0)) == {}


def test_a_wrapper_asks_what_it_wraps() -> None:
    machine = Plain(Cooling(Plain(NEAR)))
    state = machine.later(start(machine, 2), seconds(1.0, 3.0))
    assert state["heat"].tolist() == [4.0, 1.0]
    assert list(state) == list(start(machine))


def test_link_near_and_far_go_on() -> None:
    machine = replace(SPLIT, near=Cooling(NEAR), far=Plain(Cooling(FAR)))
    before = start(machine, 2)
    state = machine.later(before, seconds(1.0, 2.0))
    assert list(state) == list(before)
    assert state["near_heat"].tolist() == state["far_heat"].tolist() == [4.0, 2.0]
    assert state["time_s"].tolist() == [[1.0], [2.0]]
    for name in ("load", "away", "lost", "began_s", "trace"):
        assert torch.equal(state[name], before[name])
    assert before["near_heat"].tolist() == [8.0, 8.0]  # a value, and never changed in place
    plain = SPLIT.later(start(SPLIT), seconds(5.0))
    assert plain["time_s"].item() == 5.0 and plain["log10_bps"].item() == pytest.approx(1.80618)


@given(st.lists(st.floats(0, 40), min_size=1, max_size=5), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_waiting_in_parts_is_waiting(parts: list[float], seed: int) -> None:
    machine = replace(SPLIT, link=replace(LINK, bandwidth=WIDE, floor_bps=10.0), near=Cooling(NEAR))
    state = whole = machine.reset(3, torch.Generator().manual_seed(seed))
    for part in parts:
        state = machine.later(state, torch.full((3,), part, dtype=torch.float64))
    whole = machine.later(whole, torch.full((3,), sum(parts), dtype=torch.float64))
    torch.testing.assert_close(state["time_s"], whole["time_s"])
    torch.testing.assert_close(state["near_heat"], whole["near_heat"])
    # What is seen is what is met there: looked at once more, nothing is another.
    again = machine.link.look(state)
    assert torch.equal(state["log10_bps"], again["log10_bps"])
    assert torch.equal(state["rtt_s"], again["rtt_s"])


def test_time_may_pass_without_looking() -> None:
    link = replace(LINK, bandwidth=WIDE, floor_bps=10.0)
    state = link.begin(4, torch.Generator().manual_seed(1))
    moved = link.advance(state, seconds(0.0, 7.0, 19.5, 400.0))
    assert torch.equal(moved["log10_bps"], state["log10_bps"])
    looked, later = link.look(moved), link.later(state, seconds(0.0, 7.0, 19.5, 400.0))
    assert (looked["log10_bps"] != state["log10_bps"]).any()
    assert all(torch.equal(looked[name], later[name]) for name in state)


# Held ---------------------------------------------------------------------------------------------


def test_what_holds_behind_the_first_block() -> None:
    setting = {"width": 0.5, "offload": 8.0, "volt": 0.7}
    assert NEAR.held(setting) == setting and NEAR.held(setting) is not setting
    assert SPLIT.held(setting) == {"width": 0.5, "offload": 0, "volt": 0.7}
    assert Plain(SPLIT).held(setting) == Analog(SPLIT).held(setting) == SPLIT.held(setting)
    both = replace(SPLIT, near=Plain(Cooling(NEAR)))
    assert both.held(setting) == {"width": 0.5, "offload": 0, "volt": 1.0}
    assert setting == {"width": 0.5, "offload": 8.0, "volt": 0.7}


# Sent ---------------------------------------------------------------------------------------------


def test_sending_by_hand() -> None:
    """Three lanes at 64 bit/s: one sends 128 bits, one stays, one gives up after 10 of 12 s."""
    state = start(SPLIT, 3)
    leaving = torch.tensor([True, False, True])
    left, cost, after = SPLIT.send(seconds(128.0, 128.0, 768.0), leaving, state)
    assert left.tolist() == [True, False, False]
    rows = cost.rows().tolist()
    # 2 s and the round trip; 0.5 J a bit, 3 W sending and 0.1 W waiting.
    assert rows[0] == pytest.approx([64 + 6 + 0.025, 2.25, 0, 16])
    assert rows[1] == [0, 0, 0, 0]
    assert rows[2] == pytest.approx([320 + 30, 10.0, 0, 80])
    assert after["away"].tolist() == [1, 0, 0]
    assert after["lost"].tolist() == [[0], [0], [1]]
    assert state["away"].tolist() == [0, 0, 0] and not state["lost"].any()
    assert torch.equal(after["time_s"], state["time_s"])  # who sends lets time pass afterwards


def test_what_was_measured_goes_before_the_link() -> None:
    measured = (torch.tensor([True, False]), seconds(0.5, 30.0))
    left, cost, after = SPLIT.send(
        seconds(128.0, 128.0), torch.ones(2, dtype=torch.bool), start(SPLIT, 2), measured
    )
    assert left.tolist() == [True, False] and after["lost"].tolist() == [[0], [1]]
    assert cost.rows()[:, 1].tolist() == [0.5, 10.0]  # no longer than one waits
    assert cost.rows()[:, 3].tolist() == [16.0, 16.0]


@given(st.integers(0, 1000), st.floats(0.01, 30), st.floats(1, 1e5))
@settings(max_examples=15, deadline=None)
def test_sending_is_what_running_does(seed: int, timeout_s: float, floor_bps: float) -> None:
    link = replace(LINK, bandwidth=WIDE, floor_bps=floor_bps)
    free = Digital(
        mac_j={32: 0.0},
        sram_j_per_byte=0.0,
        memory_j_per_byte=0.0,
        macs_per_s={32: inf},
        memory_bytes_per_s=inf,
        launch_s=0.0,
    )
    machine = Split(free, free, link, timeout_s=timeout_s)
    rng = torch.Generator().manual_seed(seed)
    block, x = tiny_resnet().block(0).eval(), torch.rand(3, 8, 8, 8, generator=rng)
    state = machine.reset(3, rng)
    state = {**state, "away": torch.tensor([0.0, 1.0, 0.0])}
    with torch.no_grad():
        _, cost, ran = machine.run(Job(block, x, {"offload": 8}), state, rng)
    bits = torch.full((3,), 8.0 * (512 + 8), dtype=torch.float64)
    left, alone, sent = machine.send(bits, state["away"] == 0, state)
    macs = torch.tensor([True, True, False, True])
    torch.testing.assert_close(cost.rows()[:, macs], alone.rows()[:, macs])
    assert torch.equal(ran["away"] > 0, left | (state["away"] > 0))
    assert torch.equal(ran["lost"], sent["lost"])
    torch.testing.assert_close(ran["time_s"].squeeze(1), alone.rows()[:, 1])
    price = machine.price(block, {"offload": 8}, (8, 8, 8)).rows()
    assert (alone.rows() <= price * (1 + 1e-9)).all()


# The next input -----------------------------------------------------------------------------------


def test_the_next_input_by_hand() -> None:
    camera = replace(SPLIT, period_s=20.0, link=replace(LINK, bandwidth=WIDE, floor_bps=10.0))
    state = start(camera, 3)
    first = camera.next_input(state)
    assert first["time_s"].tolist() == [[0.0]] * 3  # comes at once
    moved = {
        **first,
        "time_s": torch.tensor([[8.0], [20.0], [33.0]], dtype=torch.float64),
        "away": torch.tensor([1.0, 0.0, 1.0]),
    }
    unseen, seen = camera.next_input(moved, look=False), camera.next_input(moved)
    for found in (unseen, seen):
        assert found["time_s"].tolist() == found["began_s"].tolist() == [[20.0], [20.0], [33.0]]
        assert found["away"].tolist() == [0, 0, 0] and torch.equal(found["lost"], state["lost"])
    assert torch.equal(unseen["log10_bps"], moved["log10_bps"])
    assert torch.equal(seen["log10_bps"], camera.link.look(unseen)["log10_bps"])
    # 13 s late, and the one behind is due 20 s after that one began.
    again = camera.next_input({**seen, "time_s": seen["time_s"] + 1.0})
    assert again["time_s"].tolist() == [[40.0], [40.0], [53.0]]
