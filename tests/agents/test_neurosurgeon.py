"""The rule against exhaustive search, and the bandwidth that it believes in."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from penstock.agents.decider import run_streams
from penstock.agents.foresight import Foresight
from penstock.agents.neurosurgeon import Neurosurgeon, mean_worth
from penstock.agents.rules import Static
from penstock.agents.standing import Conditions, conditions
from penstock.agents.throughput import Throughput, mean_bps
from penstock.backbones import InputError
from penstock.envs import Lanes, Recording, Stream
from penstock.hardware import Link, Split, Switched, Synthetic

ROOT = torch.zeros(1, dtype=torch.int64)


def engine(recording: Recording, n: int = 8, length: int = 12, **rules: Any) -> Lanes:
    stream = Stream(inputs_per_episode=length, resource="latency_s", price=(1e-3, 20.0), **rules)
    return Lanes(recording, stream, lanes=n, controller=None)


def over(recording: Recording, bandwidth: Any, timeout_s: float = 1e3) -> Recording:
    """The same over another link and beside a server that has nothing else to do."""
    machine = recording.machine
    assert isinstance(machine, Split)
    link = Link(bandwidth, rtt_s=1e-5, radio=machine.link.radio)
    return replace(
        recording, runs_on=replace(machine, link=link, busy=(0.0, 0.0), timeout_s=timeout_s)
    )


def draw(recording: Recording, k: int, length: int = 12) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(recording.inputs, (k, length), generator=rng)


@pytest.mark.parametrize("bps", [2e4, 3e5, 1e8])
def test_with_the_true_bandwidth_it_is_exhaustive_search(
    split: dict[str, Recording], bps: float
) -> None:
    recording = over(split["test"], bps)
    lanes, streams = engine(recording), draw(recording, 4)
    worth, floor = mean_worth(recording, "right"), 0.85
    ahead = Foresight(lanes)
    each = {
        a: run_streams(Static(a), lanes, streams).mean_cost("latency_s").mean()
        for a in (ahead.below(ROOT)[0] & (worth >= floor)).nonzero().squeeze(1).tolist()
    }
    rule = Neurosurgeon(worth, bandwidth="true", floor=floor)
    found = run_streams(rule, lanes, streams)
    assert float(found.mean_cost("latency_s").mean()) == pytest.approx(float(min(each.values())))
    assert bool((found.cost[:, 3] > 0).all()) == (bps > 1e7)


def test_a_price_is_paid_by_plans_on_average_worth(split: dict[str, Recording]) -> None:
    recording = over(split["test"], 1e6)
    lanes, streams = engine(recording), draw(recording, 4)
    worth = mean_worth(recording, "right")
    now = Conditions(*(torch.tensor([x]).double() for x in (1e6, 1e-5, 0.0)))
    cost = Foresight(lanes).cost(ROOT, now)[0, :, 1] / float(lanes.full.latency_s)
    for price in (0.01, 0.3, 5.0):
        best = int((worth - price * cost).argmax())
        alone = run_streams(Static(best), lanes, streams)
        found = run_streams(Neurosurgeon(worth, bandwidth="true"), lanes, streams, prices=price)
        assert torch.allclose(found.cost, alone.cost)


def believed(rule: Neurosurgeon) -> dict[str, Any]:
    return {"believed": lambda lanes: rule._throughput.bps, "true": lambda e: conditions(e).bps}


def test_what_is_believed_becomes_true(split: dict[str, Recording]) -> None:
    # Sends the image at once, so that every input tells; the first belief is the traces' mean.
    recording = over(split["test"], Switched(Synthetic(spread=0.0, noise=0.0, outage=0.0), 1e9))
    lanes = engine(recording, length=30)
    rule = Neurosurgeon(mean_worth(recording, "right"), floor=0.85)
    found = run_streams(rule, lanes, draw(recording, 3, 30), trace=believed(rule)).trace
    first = mean_bps(recording.machine.link)  # type: ignore[attr-defined]
    assert found["believed"][0, 0] == pytest.approx(first)
    torch.testing.assert_close(found["believed"], found["true"], rtol=1e-4, atol=0)


def test_what_is_believed_follows_a_bandwidth_that_falls(split: dict[str, Recording]) -> None:
    steady = Synthetic(median_bps=2e7, spread=0.0, noise=0.0, outage=0.0)
    recording = over(split["test"], Switched(steady, at_s=15.0))
    lanes = engine(recording, length=40)
    always = Neurosurgeon(torch.ones(len(Foresight(lanes).answers)), floor=0.5)
    answer = _sending(lanes)
    only = torch.zeros(len(Foresight(lanes).answers), dtype=torch.float64)
    only[answer] = 1.0
    rule = Neurosurgeon(only, floor=0.5)
    found = run_streams(rule, lanes, draw(recording, 2, 40), trace=believed(rule)).trace
    ratio = found["believed"] / found["true"]
    assert bool((ratio[:, 14] - 1).abs().max() < 0.01)
    assert bool((ratio[:, 17] > 2).all()) and bool((ratio[:, 35:] - 1).abs().max() < 0.01)
    # Who keeps everything near learns nothing of the link.
    quiet = run_streams(always, lanes, draw(recording, 2, 40), trace=believed(always))
    if float(quiet.cost[:, 3].sum()) == 0:
        assert len(set(quiet.trace["believed"].flatten().tolist())) == 1


def _sending(lanes: Lanes) -> int:
    """An answer on whose way features leave."""
    ahead = Foresight(lanes)
    now = Conditions(*(torch.ones(1).double() for _ in range(3)))
    sent = ahead.cost(ROOT, now)[0, :, 3]
    return int((sent.isfinite() & (sent > 0)).nonzero()[0])


def test_a_transfer_that_is_given_up_tells_too(split: dict[str, Recording]) -> None:
    recording = over(split["test"], 1e4, timeout_s=0.05)
    lanes = engine(recording)
    throughput = Throughput(Foresight(lanes), lanes, weight=1.0)
    throughput.bps[:] = 1e9
    path, lost = Foresight(lanes).paths()[_sending(lanes)], 0
    lanes.start(torch.arange(8))
    for _ in range(4):
        stage = lanes.observation[:, lanes.layout.block].argmax(dim=1)
        actions = path[stage]
        throughput.look(lanes, actions)
        step = lanes.step(actions)
        throughput.note(lanes, step)
        lost += int(step.outcomes.lost.sum())
    assert lost > 0
    torch.testing.assert_close(throughput.bps, torch.full((8,), 1e4).double(), rtol=1e-6, atol=0)


def test_the_mean_of_traces_by_hand() -> None:
    assert mean_bps(Link(5e6, rtt_s=0.01)) == 5e6
    steady = Synthetic(median_bps=1e6, spread=0.0, noise=0.0, outage=0.5, outage_share=0.0)
    assert mean_bps(Link(steady, rtt_s=0.01)) == pytest.approx(0.5e6, rel=0.02)


def test_a_machine_without_a_link_is_decided_on_too(local: dict[str, Recording]) -> None:
    lanes = engine(local["test"])
    worth = mean_worth(local["test"], "right")
    rule = Neurosurgeon(worth, floor=0.85, resource="energy_j")
    found = run_streams(rule, lanes, draw(local["test"], 4))
    alike = {float(cost) for cost in found.cost[:, 0]}
    assert max(alike) == pytest.approx(min(alike))


def test_a_floor_that_nothing_reaches_is_refused(split: dict[str, Recording]) -> None:
    lanes = engine(split["test"])
    rule = Neurosurgeon(mean_worth(split["test"], "right"), floor=1.5)
    with pytest.raises(InputError, match="lower the floor"):
        run_streams(rule, lanes, draw(split["test"], 1))
