"""muLinUCB on a toy whose bandwidth falls to a fifth, and on recordings."""

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch
from torch import Tensor

from penstock.agents.decider import run_streams
from penstock.agents.linucb import Bandit, MuLinUcb
from penstock.agents.neurosurgeon import mean_worth
from penstock.envs import Arrivals, Battery, Budget, Lanes, Recording, Stream, Switching
from penstock.hardware import Link, Split, Switched, Synthetic

LANES, INPUTS, FALLS = 8, 1000, 500
NEAR = torch.tensor([0.0, 8.0, 16.0, 24.0, 32.0, 60.0]).double()
"""Milliseconds in front of each split; the last keeps everything."""
KILOBYTES = torch.tensor([20.0, 16.0, 10.0, 5.0, 2.0, 0.0]).double()
FAR = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]).double()
"""Milliseconds behind, which MACs tell."""


def regret(repaired: bool, seed: int = 0) -> Tensor:
    """Milliseconds above the best split, [LANES, INPUTS]; the bandwidth falls half way."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.arange(LANES)
    macs = FAR * 1e3
    reach = 1.5 if repaired else float(macs.max())
    bandit = Bandit(LANES, 2, reach=reach, discount=0.995 if repaired else 1.0)
    found = []
    for t in range(INPUTS):
        kilobytes_per_ms = 1.0 if t < FALLS else 0.2
        back = KILOBYTES / kilobytes_per_ms + FAR
        features = torch.stack([macs, KILOBYTES], dim=1)
        if repaired:
            time = KILOBYTES / kilobytes_per_ms / float(KILOBYTES.max())
            features = torch.stack([FAR / FAR.max(), time], dim=1)
        x = features.expand(LANES, -1, -1)
        score = NEAR + bandit.optimistic(rows, x)
        score[bandit.forced(rows), -1] = torch.inf
        plan = score.argmin(dim=1)
        cost = back[plan] + torch.randn(LANES, generator=rng).double()
        told = plan < 5
        bandit.learn(rows[told], x[rows, plan][told], cost[told])
        bandit.count(rows)
        best = (NEAR + back).min()
        # What is forced is exploration, the same for both.
        found.append((NEAR + back)[plan] - best)
    return torch.stack(found, dim=1)


def test_the_repaired_form_recovers_from_a_fifth_of_the_bandwidth_and_the_plain_does_not() -> None:
    plain, repaired = regret(repaired=False), regret(repaired=True)
    gap = float(plain[:, FALLS : FALLS + 10].mean())  # of who does not notice
    assert gap > 5
    assert float(repaired[:, FALLS + 50 :].median()) == 0.0
    assert float(repaired[:, FALLS : FALLS + 50].mean()) < 0.3 * gap
    assert float(plain[:, FALLS + 50 : FALLS + 150].mean()) > 0.8 * gap
    for each in (plain, repaired):
        assert float(each[:, 300:FALLS].mean()) < 2


def test_a_linear_cost_is_learned() -> None:
    rng = torch.Generator().manual_seed(0)
    bandit, truth = Bandit(3, 4, reach=2.0), torch.tensor([1.0, -2.0, 3.0, 0.5]).double()
    rows = torch.arange(3)
    for _ in range(400):
        x = torch.rand(3, 4, generator=rng, dtype=torch.float64)
        bandit.learn(rows, x, x @ truth)
    x = torch.rand(3, 5, 4, generator=rng, dtype=torch.float64)
    low = bandit.optimistic(rows, x)
    assert bool((low <= x @ truth + 1e-9).all()) and bool((x @ truth - low < 1.5).all())
    bandit.forget(rows[:1])
    fresh = bandit.optimistic(rows, x)
    assert bool((fresh[0] < 0).all()) and torch.equal(fresh[1:], low[1:])


def test_an_optimist_by_hand() -> None:
    # T = 200, C_x = 1, d = 1: alpha = (1 + 0.05 sqrt(log(201 / 0.1))) / 0.2 = 5.6895. A is a number
    # a of 1 to 8 at first and a + 1 once x = 1 cost 3, so that theta = 3 / (a + 1).
    bandit, row = Bandit(1, 1, reach=1.0), torch.arange(1)
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    alpha = (1 + 0.05 * log(201 / 0.1) ** 0.5) / 0.2
    assert alpha == pytest.approx(5.6895, abs=1e-4)
    first = float(bandit.optimistic(row, x))
    a = alpha**2 * 0.8 / first**2
    assert first < 0 and a == pytest.approx(round(a)) and 1 <= round(a) <= 8
    bandit.learn(row, x[:, 0], torch.tensor([3.0], dtype=torch.float64))
    after = 3 / (a + 1) - alpha * (0.8 / (a + 1)) ** 0.5
    assert float(bandit.optimistic(row, x)) == pytest.approx(after)


def test_what_fades_fades_to_the_first_belief() -> None:
    # With a discount of 1/2 the trace of x x^T after one more lesson with x = 0 is half, b too.
    bandit, row = Bandit(1, 1, reach=1.0, discount=0.5), torch.arange(1)
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    alpha = (1 + 0.05 * log(201 / 0.1) ** 0.5) / 0.2
    a = alpha**2 * 0.8 / float(bandit.optimistic(row, x)) ** 2
    bandit.learn(row, x[:, 0], torch.tensor([3.0], dtype=torch.float64))
    bandit.learn(row, 0 * x[:, 0], torch.tensor([0.0], dtype=torch.float64))
    after = 1.5 / (a + 0.5) - alpha * (0.8 / (a + 0.5)) ** 0.5
    assert float(bandit.optimistic(row, x)) == pytest.approx(after)


def test_forced_samples_by_hand() -> None:
    # 200^(1/4) = 3.76: every fourth input of the first epoch; 400^(1/4) = 4.47: every fifth then.
    bandit, rows, forced = Bandit(1, 1, reach=1.0), torch.arange(1), []
    for t in range(320):
        if bool(bandit.forced(rows)):
            forced.append(t)
        bandit.count(rows)
    assert forced[:4] == [4, 8, 12, 16] and forced[-3:] == [305, 310, 315]


def over(recording: Recording, bandwidth: Any) -> Recording:
    machine = recording.machine
    assert isinstance(machine, Split)
    link = Link(bandwidth, rtt_s=1e-5, radio=machine.link.radio)
    return replace(recording, runs_on=replace(machine, link=link, busy=(0.0, 0.0)))


def engine(recording: Recording, length: int) -> Lanes:
    stream = Stream(inputs_per_episode=length, resource="latency_s", price=(1e-3, 20.0))
    return Lanes(recording, stream, lanes=8, controller=None)


def draw(recording: Recording, k: int, length: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(recording.inputs, (k, length), generator=rng)


@pytest.mark.parametrize("plain", [True, False])
def test_it_finds_out_whether_sending_pays(split: dict[str, Recording], plain: bool) -> None:
    late: dict[float, float] = {}
    for bps in (1e8, 2e4):
        recording = over(split["test"], bps)
        rule = MuLinUcb(mean_worth(recording, "right"), plain=plain, bandwidth="true")
        found = run_streams(rule, engine(recording, 150), draw(recording, 8, 150), prices=1.0)
        late[bps] = float(found.cost_each[:, 100:].mean())
    full = float(engine(over(split["test"], 1e8), 1).full.latency_s)
    assert late[1e8] < 0.7 * full
    if not plain:
        assert late[2e4] < 1.1 * full


def test_a_drop_in_the_middle_of_streams_is_noticed(split: dict[str, Recording]) -> None:
    steady = Synthetic(median_bps=1e8, spread=0.0, noise=0.0, outage=0.0)
    recording = over(split["test"], Switched(steady, at_s=60.0, share=2e-3))
    lanes, streams = engine(recording, 150), draw(recording, 8, 150)
    worth = mean_worth(recording, "right")
    late = {
        plain: float(
            run_streams(MuLinUcb(worth, plain=plain, bandwidth="true"), lanes, streams, prices=1.0)
            .cost_each[:, 110:]
            .mean()
        )
        for plain in (True, False)
    }
    assert late[False] < 0.8 * late[True]


@pytest.mark.parametrize("plain", [True, False])
def test_no_rule_of_a_stream_stands_in_its_way(split: dict[str, Recording], plain: bool) -> None:
    recording = split["test"]
    stream = Stream(
        inputs_per_episode=30,
        resource="latency_s",
        budgets=(
            Budget("latency_s", 1.5, relative=True, most=3.0),
            Budget("energy_j", 2e4, relative=True, kind="hard", per="stream"),
        ),
        arrivals=Arrivals(period_s=0.05, burst=4, jitter=1, deadline_s=0.1, capacity=3),
        battery=Battery(2e4, start=(0.0, 1.0), harvest_w=1.0),
        switching=(Switching("offload", 0.02, 0.1),),
    )
    lanes = Lanes(recording, stream, lanes=16, controller=None)
    rule = MuLinUcb(mean_worth(recording, "right"), plain=plain)
    found = run_streams(rule, lanes, draw(recording, 24, 30))
    assert not found.over.any() and bool((found.exit_each >= 0).any())
    assert bool((found.missed > 0).any())  # some were dropped or late


def test_where_nothing_can_leave_it_takes_the_best_plan(local: dict[str, Recording]) -> None:
    lanes = engine(local["test"], 20)
    worth = mean_worth(local["test"], "right")
    found = run_streams(MuLinUcb(worth), lanes, draw(local["test"], 4, 20), prices=0.5)
    assert torch.allclose(found.cost_each, found.cost_each[0, 0])
