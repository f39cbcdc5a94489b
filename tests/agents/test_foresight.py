"""Plans against what the engine really charges, and against a walk through the tree by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents.decider import run_streams
from penstock.agents.foresight import Foresight, ancestors
from penstock.agents.rules import Static
from penstock.agents.standing import Conditions, conditions, nodes
from penstock.backbones import Data, InputError, shipped
from penstock.envs import Budget, Lanes, Live, Recording, Stream
from penstock.hardware import RESOURCES, Link, Split

ROOT = torch.zeros(1, dtype=torch.int64)


def engine(recording: Recording, n: int = 16, **rules: Any) -> Lanes:
    return Lanes(recording, Stream(**rules), lanes=n)


def steady(recording: Recording, bps: float, load: float = 0.25) -> Recording:
    """The same where link and server never change."""
    machine = recording.machine
    assert isinstance(machine, Split)
    link = Link(bps, rtt_s=0.01, idle_w=machine.link.idle_w, radio=machine.link.radio)
    busy = load / (1 + load)
    return replace(recording, runs_on=replace(machine, link=link, busy=(busy, busy)))


def reached(lanes: Lanes) -> list[int]:
    found: list[int] = Foresight(lanes).below(ROOT)[0].nonzero().squeeze(1).tolist()
    return found


def test_plans_cost_what_the_engine_charges(local: dict[str, Recording]) -> None:
    lanes = engine(local["test"], inputs_per_episode=2)
    ahead, streams = Foresight(lanes), torch.tensor([[3, 4], [5, 6]])
    cost = ahead.cost(ROOT, Conditions(*torch.ones(3, 1, dtype=torch.float64)))[0]
    for answer in reached(lanes)[::5]:
        found = run_streams(Static(answer), lanes, streams)
        planned = 2 * (ahead.stem + cost[answer])
        torch.testing.assert_close(found.cost, planned.expand(2, -1), rtol=1e-12, atol=0)
        right = local["test"].said[:, ahead.answers[answer], 0]
        assert torch.equal(found.worth_each, right[streams].double())


@pytest.mark.parametrize("bps", [3e5, 2e7])
def test_plans_over_a_link_cost_what_the_engine_charges(
    split: dict[str, Recording], bps: float
) -> None:
    lanes = engine(steady(split["test"], bps))
    ahead, streams = Foresight(lanes), torch.tensor([[3], [5]])
    lanes.start(torch.arange(1))
    now = conditions(lanes)
    assert float(now.bps[0]) == pytest.approx(bps) and float(now.load[0]) == pytest.approx(0.25)
    cost = ahead.cost(ROOT, Conditions(now.bps[:1], now.rtt_s[:1], now.load[:1]))[0]
    sent = 0
    for answer in reached(lanes):
        found = run_streams(Static(answer), lanes, streams)
        planned = ahead.stem + cost[answer]
        torch.testing.assert_close(found.cost, planned.expand(2, -1), rtol=1e-6, atol=0)
        sent += bool(planned[RESOURCES.index("sent_bytes")] > 0)
    assert 0 < sent < len(reached(lanes))


def test_plans_cost_the_policy_too(local: dict[str, Recording]) -> None:
    free = Lanes(local["test"], Stream(), lanes=1, controller=None)
    paid = Lanes(local["test"], Stream(), lanes=1, controller=(64,))
    now = Conditions(*torch.ones(3, 1, dtype=torch.float64))
    more = Foresight(paid).cost(ROOT, now)[0] - Foresight(free).cost(ROOT, now)[0]
    stages = local["test"].tree.stage[Foresight(paid).answers]
    # Behind the last stage nobody decides any more.
    decisions = torch.where(stages < 3, stages + 1, stages).unsqueeze(1)
    torch.testing.assert_close(more, decisions * paid.prices.decision, rtol=1e-9, atol=1e-15)


def walk(recording: Recording, node: int) -> set[int]:
    """The nodes below one, itself included."""
    found = {node}
    for child in recording.tree.under(node):
        found |= walk(recording, child)
    return found


def test_what_lies_below_is_what_a_walk_finds(local: dict[str, Recording]) -> None:
    recording = local["test"]
    ahead = Foresight(engine(recording))
    every = torch.arange(len(recording.tree))
    below = ahead.below(every)
    for node in range(0, len(every), 7):
        found = {int(a) for a in ahead.answers[below[node]]}
        assert found == {v for v in walk(recording, node) if v in set(ahead.answers.tolist())}
    up = ancestors(recording.tree)
    assert (up[recording.tree.stage, every] == every).all() and (up[0] == 0).all()
    assert (up[-1] == -1).all()


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), budget=st.sampled_from([None, 0.5, 1.2, 3.0]))
def test_first_steps_lead_toward_their_answers_and_are_never_overruled(
    split: dict[str, Recording], seed: int, budget: float | None
) -> None:
    budgets = [Budget("energy_j", budget, relative=True, kind="hard")] if budget else []
    try:
        lanes = Lanes(split["test"], Stream(budgets=tuple(budgets)), lanes=12, seed=seed)
    except InputError:  # below the cheapest way
        return
    ahead, rng = Foresight(lanes), torch.Generator().manual_seed(seed)
    tree, rows = split["test"].tree, torch.arange(12)
    lanes.start(rows)
    while bool(lanes.active.any()):
        node = nodes(lanes).clone()
        allowed = ahead.allowed(node, lanes.allowed)
        assert bool(allowed[lanes.active].any(dim=1).all())
        assert bool((allowed <= ahead.below(node)).all())
        chance = torch.rand(allowed.shape, generator=rng)
        answer = torch.where(allowed, chance, -1.0).argmax(dim=1)
        step = lanes.step(ahead.action(node, answer, lanes.allowed))
        assert int(step.outcomes.overruled.sum()) == 0
        going = lanes.active
        way = ancestors(tree)[tree.stage[node] + 1, ahead.answers[answer]]
        at, lost = nodes(lanes), split["test"].sent_bits[way.clamp(min=0)] > 0
        assert bool(((at == way) | lost | ~going).all())


def test_answers_keep_their_numbers_where_less_is_offered(local: dict[str, Recording]) -> None:
    whole = Foresight(engine(local["test"]))
    lanes = engine(local["test"], choices={"width": (1.0,)})
    part = Foresight(lanes)
    assert torch.equal(whole.answers, part.answers)
    below = part.below(ROOT)[0]
    assert 0 < int(below.sum()) < int(whole.below(ROOT)[0].sum())
    now = Conditions(*torch.ones(3, 1, dtype=torch.float64))
    some, all_ = part.cost(ROOT, now)[0], whole.cost(ROOT, now)[0]
    assert bool(some[~below].isinf().all())
    decision = (part.stage[part.answers] + 1).clamp(max=3).unsqueeze(1)
    free = some - decision * lanes.prices.decision
    same = all_ - decision * engine(local["test"]).prices.decision
    torch.testing.assert_close(free[below], same[below], rtol=1e-9, atol=1e-15)


def test_lanes_that_rest_do_no_harm(local: dict[str, Recording]) -> None:
    ahead = Foresight(engine(local["test"]))
    last = int(local["test"].tree.stage.argmax())  # where nobody decides
    node = torch.tensor([last])
    masks = torch.ones(1, engine(local["test"]).allowed.shape[1], dtype=torch.bool)
    allowed = ahead.allowed(node, masks)
    assert ahead.answers[allowed[0]].tolist() == [last]
    assert ahead.action(node, allowed.long().argmax(dim=1), masks)[0, 0] == 0


def test_without_a_recording_there_is_nothing_to_look_at(
    digits: Data, local: dict[str, Recording]
) -> None:
    live = Live(shipped("digits"), local["test"].machine, digits.test)
    with pytest.raises(InputError, match="record it first"):
        Foresight(Lanes(live, Stream(), lanes=1))


def test_inputs_that_cost_different_amounts_count_by_their_mean(
    local: dict[str, Recording],
) -> None:
    recording = local["test"]
    scale = torch.linspace(0.5, 1.5, recording.inputs, dtype=torch.float64).view(-1, 1, 1)
    differing = replace(recording, here=recording.here * scale, there=recording.there * scale)
    now = Conditions(*torch.ones(3, 1, dtype=torch.float64))
    mean, alike = (Foresight(engine(each)).cost(ROOT, now) for each in (differing, recording))
    torch.testing.assert_close(mean, alike)
