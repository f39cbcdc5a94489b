"""Deciders that look at nothing: exact shares, draws that are always allowed."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.agents.decider import run_streams
from penstock.agents.foresight import Foresight
from penstock.agents.rules import RandomMasked, Static, TimeSharing
from penstock.agents.standing import Conditions
from penstock.backbones import InputError
from penstock.envs import Budget, Lanes, Recording, Stream


def engine(recording: Recording, n: int = 16, **rules: Any) -> Lanes:
    return Lanes(recording, Stream(**rules), lanes=n)


def draw(recording: Recording, k: int, length: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(recording.inputs, (k, length), generator=rng)


def root_cost(lanes: Lanes) -> Tensor:
    """Of the plan to each answer, in the resource that is priced, the stem included."""
    ahead = Foresight(lanes)
    now = Conditions(*torch.ones(3, 1, dtype=torch.float64))
    cost = ahead.cost(torch.zeros(1, dtype=torch.int64), now)[0] + ahead.stem
    return cost[:, 0]


@settings(deadline=None, max_examples=20)
@given(share=st.floats(0, 1))
def test_time_sharing_meets_a_budget_in_every_stream_to_within_an_input(
    local: dict[str, Recording], share: float
) -> None:
    lanes = engine(local["test"], inputs_per_episode=30)
    cost = root_cost(lanes)
    cheap, dear = int(cost.argmin()), int(cost.where(cost.isfinite(), 0).argmax())
    low, high = float(cost[cheap]), float(cost[dear])
    found = run_streams(TimeSharing(cheap, dear, share), lanes, draw(local["test"], 20, 30))
    budget = low + share * (high - low)
    mean = found.mean_cost("energy_j")
    assert (mean <= budget * (1 + 1e-8)).all()
    assert (mean >= budget - (high - low) / 30 - 1e-12).all()
    dears = (found.cost_each - low).abs() > 1e-9 * high
    counts = dears.cumsum(dim=1) - share * torch.arange(1, 31)
    assert (counts <= 1e-6).all() and (counts > -1 - 1e-6).all()


def test_time_sharing_by_hand(local: dict[str, Recording]) -> None:
    # A share of 2/5: of 5 inputs the third and the fifth.
    lanes = engine(local["test"], inputs_per_episode=5)
    cost = root_cost(lanes)
    cheap, dear = int(cost.argmin()), int(cost.where(cost.isfinite(), 0).argmax())
    found = run_streams(TimeSharing(cheap, dear, 0.4), lanes, draw(local["test"], 1, 5))
    assert (found.cost_each[0] > cost[cheap] * 1.001).tolist() == [False, False, True, False, True]


@pytest.mark.parametrize("resource", ["energy_j", "latency_s"])
def test_chance_is_never_overruled(split: dict[str, Recording], resource: str) -> None:
    full = float(engine(split["test"]).full.each()[resource])
    least = float(engine(split["test"]).prices.cheapest[["energy_j", "latency_s"].index(resource)])
    hard = Budget(resource, max(3 * full, 4 * 1.2 * least), kind="hard", per="stream")
    lanes = engine(split["test"], inputs_per_episode=4, budgets=(hard,))
    lanes.start(torch.arange(16))
    chance, overruled = RandomMasked(3), 0
    chance.begin(lanes)
    for _ in range(60):
        step = lanes.step(chance.act(lanes))
        overruled += int(step.outcomes.overruled.sum())
        assert not step.outcomes.over.any()
        lanes.start(step.done.nonzero().squeeze(1))
    assert overruled == 0


def test_chance_takes_every_choice_evenly(local: dict[str, Recording]) -> None:
    lanes = engine(local["test"], 600)
    lanes.start(torch.arange(600))
    chance = RandomMasked()
    chance.begin(lanes)
    actions = chance.act(lanes)
    assert (actions[:, 0] == 1).all()  # nothing was said yet
    for knob in (1, 2):
        assert 0.4 < actions[:, knob].double().mean() < 0.6
    assert torch.equal(actions, _again(lanes))


def _again(lanes: Lanes) -> Tensor:
    chance = RandomMasked()
    chance.begin(lanes)
    return chance.act(lanes)


def test_a_static_decider_goes_on_near_where_a_transfer_is_given_up(
    split: dict[str, Recording],
) -> None:
    lanes = engine(split["test"], inputs_per_episode=40)
    ahead = Foresight(lanes)
    bits = split["test"].sent_bits
    first = next(a for a, v in enumerate(ahead.answers.tolist()) if bits[v] > 0)
    found = run_streams(Static(first), lanes, draw(split["test"], 60, 40))
    exits = split["test"].table.last[ahead.stage[ahead.answers[first]] - 1]
    assert (found.exit_each == exits).all()
    given_up = found.cost[:, 1] > 1.0  # a timeout lasts a second
    assert given_up.any() and not given_up.all()


def test_answers_that_nobody_offers_are_refused(local: dict[str, Recording]) -> None:
    lanes = engine(local["test"], choices={"width": (1.0,)})
    barred = (~Foresight(lanes).below(torch.zeros(1, dtype=torch.int64))[0]).nonzero()[0]
    streams = torch.zeros(1, 1, dtype=torch.int64)
    for answer in (int(barred), -1, 10_000):
        with pytest.raises(InputError, match="can be reached"):
            run_streams(Static(answer), lanes, streams)
    with pytest.raises(InputError, match=r"0\.\.1"):
        TimeSharing(0, 1, 1.5)
