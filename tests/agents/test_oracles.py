"""Oracles against linear programs, and each against the next weaker one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog  # type: ignore[import-untyped]
from torch import Tensor

from penstock.agents.decider import run_streams
from penstock.agents.oracles import (
    Table,
    oracle,
    oracle_of_many,
    outcome_table,
    sequential_oracle,
)
from penstock.agents.predictor import Predictor
from penstock.agents.primal_dual import Priced
from penstock.agents.standing import Conditions
from penstock.envs import Lanes, Recording, Stream
from penstock.hardware import RESOURCES

seeds = st.integers(0, 10_000)


def tables(seed: int, n: int, a: int, *more: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    worth = torch.rand(n, a, generator=rng, dtype=torch.float64)
    cost = torch.rand(n, a, *more, generator=rng, dtype=torch.float64) + 0.05
    return worth, cost


def program(worth: Tensor, cost: Tensor, budgets: list[float]) -> float:
    """The optimum of the linear program over mixes of answers for each input, [n, A, K]."""
    n, a, _ = cost.shape
    one = torch.eye(n, dtype=torch.float64).repeat_interleave(a, dim=1)
    found = linprog(
        -worth.flatten().numpy() / n,
        A_ub=cost.flatten(0, 1).T.numpy() / n,
        b_ub=budgets,
        A_eq=one.numpy(),
        b_eq=[1.0] * n,
        bounds=(0, 1),
    )
    return -float(found.fun)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, room=st.floats(0.001, 1.1), labels=st.booleans())
def test_an_oracle_under_one_budget_is_the_linear_program(
    seed: int, room: float, labels: bool
) -> None:
    worth, cost = tables(seed, 25, 4)
    worth = (worth < 0.6).double() if labels else worth
    low, high = float(cost.min(dim=1).values.mean()), float(cost.max(dim=1).values.mean())
    budget = low + room * (high - low)
    found = oracle(worth, cost, torch.tensor(budget, dtype=torch.float64))
    best = program(worth, cost.unsqueeze(2), [budget])
    assert float(found.worth) == pytest.approx(best, abs=1e-6)
    assert float(found.cost) <= budget * (1 + 1e-9)


def test_oracles_of_many_streams_are_those_of_each() -> None:
    worth, cost = tables(0, 60, 5)
    budgets = torch.tensor([0.25, 0.4, 0.9], dtype=torch.float64)
    together = oracle(worth.view(3, 20, 5), cost.view(3, 20, 5), budgets)
    for i in range(3):
        rows = slice(20 * i, 20 * i + 20)
        alone = oracle(worth[rows], cost[rows], budgets[i])
        assert float(alone.worth) == pytest.approx(float(together.worth[i]))
        assert float(alone.price) == pytest.approx(float(together.price[i]))


def test_an_oracle_by_hand() -> None:
    # Gains 0.6 for a cost of 1, and 0.2 for a cost of 1: the first input, and half of the second.
    score = torch.tensor([[0.0, 0.6], [0.0, 0.2]], dtype=torch.float64)
    cost = torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    found = oracle(score, cost, torch.tensor(1.75))
    assert float(found.worth) == pytest.approx((0.6 + 0.1) / 2)
    assert float(found.price) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="cheapest"):
        oracle(score, cost, torch.tensor(0.9))


def test_answers_that_nobody_offers_are_never_taken() -> None:
    worth, cost = tables(1, 30, 4)
    few = oracle(worth[:, :3], cost[:, :3], torch.tensor(0.4))
    barred = cost.clone()
    barred[:, 3] = torch.inf
    assert float(oracle(worth, barred, torch.tensor(0.4)).worth) == pytest.approx(float(few.worth))


@settings(deadline=None, max_examples=15)
@given(seed=seeds, room=st.tuples(st.floats(0.2, 0.9), st.floats(0.2, 0.9)))
def test_an_oracle_under_two_budgets_comes_near_to_the_linear_program(
    seed: int, room: tuple[float, float]
) -> None:
    worth, cost = tables(seed, 40, 4, 2)
    cost[:, 0] = 0.05  # something cheap in both
    means = cost.mean(dim=(0, 1))
    budgets = [0.05 + share * float(mean) for share, mean in zip(room, means, strict=True)]
    found = oracle_of_many(worth, cost, torch.tensor(budgets, dtype=torch.float64))
    best = program(worth, cost, budgets)
    assert best - 0.01 <= float(found.worth) <= best + 1e-6
    assert (found.cost <= torch.tensor(budgets).double() * (1 + 1e-6)).all()


def test_budgets_below_everything_are_refused() -> None:
    worth, cost = tables(0, 10, 3, 2)
    with pytest.raises(ValueError, match="cheapest"):
        oracle_of_many(worth, cost, torch.tensor([0.01, 1.0], dtype=torch.float64))


def root(lanes: Lanes, recording: Recording) -> Table:
    now = Conditions(*torch.ones(3, recording.inputs, dtype=torch.float64))
    return outcome_table(lanes, torch.arange(recording.inputs), now)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_label_oracle_beats_the_realisable_one_and_that_the_hull(
    local: dict[str, Recording], predictor: Predictor, share: float
) -> None:
    recording = local["test"]
    lanes = Lanes(recording, Stream(), lanes=1, controller=None)
    table = root(lanes, recording)
    priced = table.cost[:, :, RESOURCES.index("energy_j")]
    budget = torch.tensor(share * float(lanes.full.energy_j))
    node = torch.zeros(recording.inputs, dtype=torch.int64)
    predicted = predictor.predict(recording.seen[:, 0], node)
    label = oracle(table.worth, priced, budget)
    realisable = oracle(predicted, priced, budget, table.worth)
    assert float(label.worth) >= float(realisable.worth) - 1e-9
    # By what it believes, who tells inputs apart does no worse than who does not.
    believed = oracle(predicted, priced, budget)
    _, hull = Table(predicted, table.cost).mix("energy_j", float(budget))
    assert float(believed.worth) >= hull - 1e-9
    rates = table.worth.mean(dim=0).expand_as(table.worth)
    blind = oracle(rates, priced, budget, table.worth)
    _, hull = table.mix("energy_j", float(budget))
    assert float(blind.worth) == pytest.approx(hull, abs=1e-9)
    for found in (label, realisable, blind):
        assert float(found.cost) <= float(budget) * (1 + 1e-9)


def test_who_knows_the_odds_lies_between_the_labels_and_the_hull() -> None:
    rng = torch.Generator().manual_seed(0)
    hard = torch.rand(4000, 1, generator=rng, dtype=torch.float64)
    odds = (1 - hard * torch.tensor([1.0, 0.6, 0.3])).clamp(0, 1)
    right = (torch.rand(odds.shape, generator=rng) < odds).double()
    cost = torch.tensor([0.1, 0.4, 1.0], dtype=torch.float64).expand(4000, -1)
    budget = torch.tensor(0.5)
    label, realisable = oracle(right, cost, budget), oracle(odds, cost, budget, right)
    whole = cost.unsqueeze(2).expand(-1, -1, len(RESOURCES))
    _, hull = Table(right, whole).mix("energy_j", 0.5)
    assert float(label.worth) > float(realisable.worth) + 0.05 > hull + 0.06


def test_the_front_is_sorted_and_unbeaten(local: dict[str, Recording]) -> None:
    lanes = Lanes(local["test"], Stream(choices={"width": (1.0,)}), lanes=1, controller=None)
    table = root(lanes, local["test"])
    cost, worth = table.means("energy_j")
    front = table.front("energy_j")
    assert (cost[front].diff() > 0).all() and (worth[front].diff() > 0).all()
    assert cost[front].isfinite().all() and cost.isinf().any()
    for a in cost.isfinite().nonzero().squeeze(1).tolist():
        assert ((cost[front] <= cost[a]) & (worth[front] >= worth[a])).any()


def test_the_hull_is_what_time_sharing_comes_to(local: dict[str, Recording]) -> None:
    recording = local["test"]
    stream = Stream(inputs_per_episode=recording.inputs)
    lanes = Lanes(recording, stream, lanes=1, controller=None)
    budget = 0.5 * float(lanes.full.energy_j)
    rule, value = root(lanes, recording).mix("energy_j", budget)
    rng = torch.Generator().manual_seed(0)
    streams = torch.stack([torch.randperm(recording.inputs, generator=rng) for _ in range(6)])
    found = run_streams(rule, lanes, streams)
    assert (found.mean_cost("energy_j") <= budget * (1 + 1e-9)).all()
    assert float(found.mean_worth.mean()) == pytest.approx(value, abs=0.01)


def test_costs_of_inputs_that_differ_are_their_own(local: dict[str, Recording]) -> None:
    recording = local["test"]
    scale = torch.linspace(0.5, 1.5, recording.inputs, dtype=torch.float64).view(-1, 1, 1)
    differing = replace(recording, here=recording.here * scale, there=recording.there * scale)
    engines = [Lanes(each, Stream(), lanes=1, controller=None) for each in (recording, differing)]
    alike, own = (root(lanes, recording) for lanes in engines)
    torch.testing.assert_close(own.cost, alike.cost * scale)


def test_a_price_in_hindsight_meets_every_limit_exactly(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    recording = local["test"]
    lanes = Lanes(recording, Stream(inputs_per_episode=50, price=(1e-3, 20.0)), lanes=12)
    rng = torch.Generator().manual_seed(0)
    streams = torch.randint(recording.inputs, (12, 50), generator=rng)
    full = float(lanes.full.energy_j)
    limits = torch.linspace(0.25, 0.6, 12, dtype=torch.float64) * full
    found = sequential_oracle(Priced(predictor), lanes, streams, limits, tries=14)
    torch.testing.assert_close(found.mean_cost("energy_j"), limits, rtol=1e-6, atol=0)
    free = run_streams(Priced(predictor), lanes, streams, prices=1e-3)
    many = limits * 100
    loose = sequential_oracle(Priced(predictor), lanes, streams, many, tries=3)
    assert torch.equal(loose.worth, free.worth)
    torch.testing.assert_close(found.cost_each.sum(dim=1), limits * 50, rtol=1e-6, atol=0)
