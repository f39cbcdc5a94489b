"""Chips that grow older while a stream goes on."""

from dataclasses import replace
from math import log10

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import Backbone, InputError, tiny_resnet
from penstock.hardware import (
    Ageing,
    Crossbar,
    Heated,
    Job,
    Machine,
    State,
    build_machine,
    check_machine,
)
from penstock.hardware.ageing import aged

CHIP = build_machine("crossbar_pcm")
AGEING = Ageing(CHIP, ages_s=(1e2, 1e4, 1e6), start_s=(1e1, 1e7))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at(machine: Machine, *ages_s: float) -> State:
    """A state in which an input has begun at these ages."""
    state = machine.reset(len(ages_s), seeded())
    age_s = torch.tensor(ages_s, dtype=torch.float64).unsqueeze(1)
    return machine.next_input({**state, "age_s": age_s})


@pytest.fixture(scope="module")
def network() -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tiny_resnet().eval()


def ran(machine: Machine, network: Backbone, x: Tensor, state: State) -> Tensor:
    with torch.no_grad():
        y, _, _ = machine.run(Job(network.block(0), x, {}), state, seeded(1))
    return y


def test_ages_are_drawn_and_seen() -> None:
    state = AGEING.reset(3000, seeded())
    ages = state["log10_age_s"]
    assert 1 <= ages.min() < 1.02 and 6.98 < ages.max() <= 7
    torch.testing.assert_close(state["age_s"].squeeze(1), 10**ages)
    met = torch.bincount(state["met"].squeeze(1))  # two decades each
    assert ((met / 3000 - 1 / 3).abs() < 0.03).all()


def test_the_nearest_age_is_met_from_one_input_to_the_next() -> None:
    # Between 1e2 and 1e4 s lies 1e3 s, on a logarithmic scale.
    state = at(AGEING, 1.0, 999.0, 1001.0, 9e4, 1.1e5, 1e9)
    assert AGEING.condition(state).tolist() == [0, 0, 1, 1, 2, 2]
    older = AGEING.later(state, torch.full((6,), 10.0, dtype=torch.float64))
    assert older["age_s"].squeeze(1).tolist() == [11.0, 1009.0, 1011.0, 90010.0, 110010.0, 1e9 + 10]
    assert older["log10_age_s"][0].item() == pytest.approx(log10(11))
    assert AGEING.condition(older).tolist() == [0, 0, 1, 1, 2, 2]
    assert AGEING.condition(AGEING.next_input(older)).tolist() == [0, 1, 1, 1, 2, 2]
    assert [each["age_s"] for each in AGEING.conditions()] == [1e2, 1e4, 1e6]


def test_a_lane_runs_on_the_chip_of_its_age(network: Backbone) -> None:
    x = torch.rand(4, 8, 8, 8, generator=seeded(3))
    for age_s in AGEING.ages_s:
        old = ran(aged(CHIP, age_s), network, x, {})
        assert torch.equal(ran(AGEING, network, x, at(AGEING, *[age_s * 1.5] * 4)), old)
    mixed = ran(AGEING, network, x, at(AGEING, 1e6, 1e2, 1e6, 1e2))
    fresh = ran(aged(CHIP, 1e2), network, x[1::2], {})  # lanes of an age are one batch
    assert torch.equal(mixed[1::2], fresh)
    assert not torch.equal(mixed[::2], ran(aged(CHIP, 1e2), network, x[::2], {}))


def test_it_takes_time_and_costs_what_the_chip_costs(network: Backbone) -> None:
    x, state = torch.rand(2, 8, 8, 8, generator=seeded(3)), at(AGEING, 1e3, 1e5)
    job = Job(network.block(0), x, {"adc_bits": 4})
    with torch.no_grad():
        _, cost, after = AGEING.run(job, state, seeded())
        _, alone, _ = CHIP.run(job, {}, seeded())
    assert torch.equal(cost.rows(), alone.rows().expand(2, -1))
    assert CHIP.price(job.block, job.setting, (8, 8, 8)) == AGEING.price(
        job.block, job.setting, (8, 8, 8)
    )
    gained = (after["age_s"] - state["age_s"]).squeeze(1).tolist()
    assert gained == pytest.approx([float(alone.latency_s)] * 2, rel=1e-4)


@given(parts=st.lists(st.floats(0, 1e4), min_size=1, max_size=5), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_waiting_in_parts_is_waiting(parts: list[float], seed: int) -> None:
    state = whole = AGEING.reset(3, seeded(seed))
    for part in parts:
        state = AGEING.later(state, torch.full((3,), part, dtype=torch.float64))
    whole = AGEING.later(whole, torch.full((3,), sum(parts), dtype=torch.float64))
    for name in state:
        torch.testing.assert_close(state[name], whole[name])


def test_crossbars_anywhere_grow_old() -> None:
    dram = replace(build_machine("dram"), inner=CHIP)  # type: ignore[type-var]
    old = aged(Ageing(dram), 5.0)
    assert isinstance(old, Ageing) and old.inner != dram
    chip = old.inner.inner  # type: ignore[attr-defined]
    assert isinstance(chip, Crossbar) and chip.time_s == 5.0
    assert aged(build_machine("phone"), 5.0) == build_machine("phone")


def test_it_keeps_the_rules_and_may_grow_hot() -> None:
    few = replace(AGEING, inner=Crossbar(build_machine("edge"), adc_bits=(6, 8)))
    check_machine(few)
    hot = Heated(few, 10.0, 0.1, throttle_c=65.0, band_c=20.0, slowest=2.0)
    check_machine(hot)
    assert hot.conditions()[1] == {"warmth": 0.0, "age_s": 1e4}
    assert hot.condition(at(hot, 1e6, 1e2)).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ages_s": ()}, r"above 0 that rise, got \[\]"),
        ({"ages_s": (1e4, 1e2)}, "that rise"),
        ({"ages_s": (0.0, 1e2)}, "above 0"),
        ({"start_s": (0.0, 1e2)}, "least and the most age, above 0"),
        ({"inner": build_machine("phone")}, "is a Crossbar, .* got Digital without one"),
    ],
)
def test_what_cannot_age_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(AGEING, **changes)  # type: ignore[arg-type]
