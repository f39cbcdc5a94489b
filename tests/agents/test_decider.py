"""Streams given to deciders: what comes back, in which order, and what it depends on."""

from typing import Any, final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.agents.decider import Streams, observed, run_streams
from penstock.agents.rules import RandomMasked, Static
from penstock.backbones import Data, InputError, shipped
from penstock.envs import Arrivals, Battery, Budget, Lanes, Live, Recording, Step, Stream
from penstock.hardware import RESOURCES


def engine(recording: Recording, n: int = 16, **rules: Any) -> Lanes:
    return Lanes(recording, Stream(**{"inputs_per_episode": 10, **rules}), lanes=n)


def draw(recording: Recording, k: int, length: int = 10, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(recording.inputs, (k, length), generator=rng)


HARSH = {
    "arrivals": Arrivals(period_s=0.004, burst=4, jitter=1, deadline_s=0.02, capacity=3),
    "battery": Battery(8, start=(0.5, 1.0), harvest_w=0.01, sun_s=0.1),
    "budgets": (Budget("energy_j", 0.5, relative=True, most=2.0),),
}


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 40), st.integers(1, 9))
def test_what_becomes_of_streams_does_not_depend_on_the_number_of_lanes(
    split: dict[str, Recording], n: int, k: int
) -> None:
    recording = split["test"]
    streams, answer = draw(recording, k), 5
    one = engine(recording, 3, **HARSH)
    some = run_streams(Static(answer), one, streams, trace=observed(one))
    others = engine(recording, n, **HARSH)
    same = run_streams(Static(answer), others, streams, trace=observed(others))
    for name in ("limit", "cost", "worth", "missed", "cost_each", "exit_each"):
        assert torch.equal(getattr(some, name), getattr(same, name)), name
    for name, values in some.trace.items():
        torch.testing.assert_close(values, same.trace[name], equal_nan=True, rtol=0, atol=0)


@final
class Full:
    """The full network, counting what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.started = self.answered = 0

    def begin(self, lanes: Lanes) -> None:
        self.calls.append("begin")

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        self.calls.append("start")
        self.started += len(rows)

    def act(self, lanes: Lanes) -> Tensor:
        self.calls.append("act")
        sizes = torch.tensor([len(knob.choices) for knob in lanes.knobs])
        return (sizes - 1).expand(lanes.n, -1).clone()

    def learn(self, lanes: Lanes, step: Step) -> None:
        self.calls.append("learn")
        self.answered += int(step.answers.mask.sum())


def test_results_stand_in_the_order_of_the_streams(local: dict[str, Recording]) -> None:
    recording = local["test"]
    streams = draw(recording, 7)
    lanes, full = engine(recording, 3), Full()
    progress: list[int] = []
    found = run_streams(full, lanes, streams, progress=progress.append)
    assert torch.equal(found.worth_each, recording.full_worth("right").double()[streams])
    assert torch.equal(found.worth, found.worth_each.sum(dim=1))
    assert torch.equal(found.right, found.worth.long()) and int(found.missed.sum()) == 0
    energy = RESOURCES.index("energy_j")
    torch.testing.assert_close(found.cost_each.sum(dim=1), found.cost[:, energy])
    assert (found.exit_each == lanes.prices.last[-1]).all() and found.limit.isinf().all()
    assert full.calls[:4] == ["begin", "start", "act", "learn"] and full.calls.count("begin") == 1
    assert full.started == 7 and full.answered == 70 and sum(progress) == 70


def test_dropped_inputs_are_missed_and_cost_nothing(local: dict[str, Recording]) -> None:
    recording = local["test"]
    rush = Arrivals(period_s=1e-4, deadline_s=5e-3, capacity=2)
    lanes = engine(recording, 4, arrivals=rush, inputs_per_episode=40)
    progress: list[int] = []
    found = run_streams(Full(), lanes, draw(recording, 6, 40), progress=progress.append)
    dropped = found.exit_each < 0
    assert 0.1 < dropped.double().mean() < 0.99
    assert found.cost_each[dropped].sum() == 0 and found.worth_each[dropped].sum() == 0
    assert (found.missed >= dropped.sum(dim=1)).all() and sum(progress) == 240
    assert found.missed.sum() + found.right.sum() <= 240


def test_conditions_are_the_same_for_every_decider(split: dict[str, Recording]) -> None:
    recording = split["test"]
    streams, lanes = draw(recording, 5), engine(recording)

    def first(found: Streams) -> Tensor:
        return torch.stack([found.trace[f"machine_{name}"][:, 0] for name in ("rtt_s", "load")])

    some = run_streams(Static(3), lanes, streams, trace=observed(lanes))
    others = run_streams(RandomMasked(), lanes, streams, trace=observed(lanes))
    anew = run_streams(Static(3), lanes, streams, trace=observed(lanes), seed=1)
    assert torch.equal(first(some), first(others))
    assert not torch.isclose(first(some), first(anew)).any()


def test_limits_and_prices_are_those_that_are_given(local: dict[str, Recording]) -> None:
    recording = local["test"]
    rules = {"budgets": (Budget("energy_j", 0.3, relative=True, most=2.0),), "price": (0.1, 2.0)}
    lanes, streams = engine(recording, 2, **rules), draw(recording, 3)
    limits, prices = torch.tensor([1e-4, 2e-4, 3e-4]), torch.tensor([0.1, 0.7, 2.0])
    found = run_streams(
        Full(), lanes, streams, limits=limits, prices=prices, trace={"price": lambda e: e.price}
    )
    torch.testing.assert_close(found.limit, limits.double())
    torch.testing.assert_close(found.trace["price"], prices.unsqueeze(1).expand(-1, 10))
    one = run_streams(Full(), lanes, streams, prices=0.5, trace={"price": lambda e: e.price})
    assert (one.trace["price"] == 0.5).all()
    assert len(set(one.limit.tolist())) == 3  # drawn


def test_hard_budgets_are_kept_and_the_streams_that_break_them_named(
    local: dict[str, Recording],
) -> None:
    recording = local["test"]
    tight = (Budget("energy_j", 5.0, relative=True, kind="hard", per="stream"),)
    found = run_streams(RandomMasked(), engine(recording, budgets=tight), draw(recording, 20))
    assert not found.over.any()
    full = float(engine(recording).full.energy_j)
    assert (found.cost[:, 0] <= 5 * full * (1 + 1e-9)).all()


def test_streams_of_another_length_are_refused(local: dict[str, Recording]) -> None:
    with pytest.raises(InputError, match="10 inputs, got 4"):
        run_streams(Full(), engine(local["test"]), draw(local["test"], 2, 4))


def test_a_network_that_is_run_gives_what_its_recording_gives(
    digits: Data, local: dict[str, Recording]
) -> None:
    recording = local["test"]
    streams = draw(recording, 4, 3)
    rules = Stream(
        inputs_per_episode=3, stages=recording.first, choices={"bits": (8,), "width": (0.5, 1.0)}
    )
    live = Live(shipped("digits"), recording.machine, digits.test)
    found = run_streams(RandomMasked(), Lanes(live, rules, lanes=2), streams)
    same = run_streams(RandomMasked(), Lanes(recording, rules, lanes=2), streams)
    assert torch.equal(found.worth_each, same.worth_each)
    torch.testing.assert_close(found.cost, same.cost)
