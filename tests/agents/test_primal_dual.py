"""Budgets met by prices that move, and the rule itself by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from penstock.agents.calibration import (
    calibrated_prices,
    careful,
    hindsight_prices,
    price_curve,
    worth_spending,
)
from penstock.agents.decider import run_streams
from penstock.agents.foresight import Foresight
from penstock.agents.predictor import Predictor
from penstock.agents.prices import BudgetPrices
from penstock.agents.primal_dual import Priced, PrimalDual
from penstock.agents.standing import Conditions, nodes, seen
from penstock.backbones import InputError
from penstock.envs import Arrivals, Battery, Budget, Lanes, Recording, Stream

AVERAGE = Budget("energy_j", 0.2, relative=True, most=1.0)


def engine(recording: Recording, n: int, length: int, *budgets: Budget, **rules: Any) -> Lanes:
    stream = Stream(inputs_per_episode=length, budgets=budgets, price=(1e-3, 20.0), **rules)
    return Lanes(recording, stream, lanes=n, controller=None)


def draw(recording: Recording, k: int, length: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(recording.inputs, (k, length), generator=rng)


@pytest.fixture(scope="module")
def prices(local: dict[str, Recording], predictor: Predictor) -> BudgetPrices:
    lanes = engine(local["validation"], 64, 100)
    full = float(lanes.full.energy_j)
    streams = draw(local["validation"], 8, 100)
    return calibrated_prices(Priced(predictor), lanes, streams, 0.2 * full, full)


def test_a_mean_budget_is_met_within_two_percent_over_400_inputs(
    local: dict[str, Recording], predictor: Predictor, prices: BudgetPrices
) -> None:
    lanes = engine(local["test"], 40, 400, AVERAGE)
    full = float(lanes.full.energy_j)
    limits = torch.linspace(0.22, 0.45, 40, dtype=torch.float64) * full
    streams = draw(local["test"], 40, 400)
    found = run_streams(PrimalDual(predictor, prices), lanes, streams, limits=limits)
    error = found.mean_cost("energy_j") / limits - 1
    assert float(error.abs().max()) < 0.05 and float(error.abs().mean()) < 0.02


def test_spending_follows_from_the_first_price_and_the_last(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    # mean(cost / limit) = 1 + log(last / first) / (eta L), wherever prices stay in range.
    lanes = engine(local["test"], 8, 60, AVERAGE)
    full = float(lanes.full.energy_j)
    limits = torch.full((8,), 0.4 * full, dtype=torch.float64)
    decider = PrimalDual(predictor, 0.5, eta=0.01)
    kept: list[Tensor] = []

    def price(engine: Lanes) -> Tensor:
        kept.append(decider.prices[:, 0].clone())
        return kept[-1]

    streams = draw(local["test"], 8, 60)
    found = run_streams(decider, lanes, streams, limits=limits, trace={"price": price})
    last = decider.prices[:, 0].clone()  # lanes rest, and keep what they ended with
    spent = found.mean_cost("energy_j") / limits
    torch.testing.assert_close(spent, 1 + (last / 0.5).log() / (0.01 * 60))
    assert torch.equal(found.trace["price"][:, 0], torch.full((8,), 0.5))


def test_the_rule_takes_the_plan_of_the_highest_worth_less_its_price(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    lanes = engine(local["test"], 30, 1)
    ahead, rule = Foresight(lanes), Priced(predictor)
    rule.begin(lanes)
    lanes.start(torch.arange(30), price=3.0)
    first = [knob.choices.index(each) for knob, each in zip(lanes.knobs, (0, 1, 0.5), strict=True)]
    lanes.step(torch.tensor(first).expand(30, -1))  # an exit can be taken now
    actions = rule.act(lanes)
    worth = predictor.predict(seen(lanes), nodes(lanes))
    now = Conditions(*torch.ones(3, 30, dtype=torch.float64))
    cost = ahead.cost(nodes(lanes), now)[:, :, 0] / float(lanes.full.energy_j)
    best = (worth - 3.0 * cost).argmax(dim=1)
    assert torch.equal(actions, ahead.action(nodes(lanes), best, lanes.allowed))
    assert set(actions[:, 0].tolist()) == {0, 1}  # the sure ones leave


def test_what_is_dear_is_bought_less(local: dict[str, Recording], predictor: Predictor) -> None:
    lanes = engine(local["test"], 32, 30)
    steps = torch.logspace(-3, 1, 6, dtype=torch.float64)
    cost, _ = price_curve(Priced(predictor), lanes, draw(local["test"], 8, 30), steps)
    curve = cost.mean(dim=1)
    assert bool((curve.diff() <= 1e-9).all()) and float(curve[0]) > 1.5 * float(curve[-1])


def test_prices_at_which_more_is_spent_for_less_are_left_out() -> None:
    # By rising price, two streams each: the cheapest price loses for sure, the next only perhaps,
    # the third wins over the last.
    worth = torch.tensor([[0.50, 0.52], [0.60, 0.80], [0.71, 0.73], [0.64, 0.66]])
    assert worth_spending(worth).tolist() == [1, 2, 3]
    assert worth_spending(worth[:, :1]).tolist() == [2, 3]  # one stream is taken at its word


def test_hindsight_brackets_the_limit(local: dict[str, Recording], predictor: Predictor) -> None:
    lanes = engine(local["test"], 16, 40)
    streams, rule = draw(local["test"], 16, 40), Priced(predictor)
    full = float(lanes.full.energy_j)
    limits = torch.cat([torch.linspace(0.25, 0.6, 14), torch.tensor([1e-6, 9.0])]).double() * full
    low, high = hindsight_prices(rule, lanes, streams, limits)
    assert bool((low[:14] < high[:14]).all()) and bool((high[:14] < 1.01 * low[:14]).all())
    assert low[14] == high[14] == pytest.approx(20.0) and low[15] == high[15]
    spent = [run_streams(rule, lanes, streams, prices=each) for each in (low, high)]
    dear, cheap = (each.mean_cost("energy_j") for each in spent)
    assert bool((cheap[:14] <= limits[:14] * (1 + 1e-8)).all())
    assert bool((dear[:14] > limits[:14]).all())


def test_hard_budgets_of_streams_have_prices_too(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    hard = Budget("energy_j", 0.4 * 100, relative=True, kind="hard", per="stream")
    lanes = engine(local["test"], 20, 100, hard)
    streams = draw(local["test"], 20, 100)
    found = run_streams(PrimalDual(predictor, 0.3), lanes, streams)
    greedy = run_streams(Priced(predictor), lanes, streams, prices=1e-3)
    assert not found.over.any() and not greedy.over.any()
    assert float(found.worth.mean()) >= float(greedy.worth.mean())
    # Who does not look ahead buys dearly first and cheaply last.
    first, last = greedy.cost_each[:, :20].mean(), greedy.cost_each[:, -20:].mean()
    steady = found.cost_each[:, :20].mean() / found.cost_each[:, -20:].mean()
    assert float(first / last) > 1.5 > float(steady)


def test_nothing_is_overruled_whatever_the_rules(
    split: dict[str, Recording], local: dict[str, Recording], predictor: Predictor
) -> None:
    rules: dict[str, Any] = {
        "arrivals": Arrivals(period_s=0.004, burst=4, jitter=1, deadline_s=0.02, capacity=3),
        "battery": Battery(6, start=(0.5, 1.0), harvest_w=20.0),
    }
    hard = Budget("energy_j", 0.9, relative=True, kind="hard")
    lanes = engine(local["test"], 16, 12, AVERAGE, hard, **rules)
    lanes.start(torch.arange(16))
    decider = PrimalDual(predictor, 0.1)
    decider.begin(lanes)
    decider.start(lanes, torch.arange(16))
    while bool(lanes.active.any()):
        step = lanes.step(decider.act(lanes))
        decider.learn(lanes, step)
        assert int(step.outcomes.overruled.sum()) == 0 and not step.outcomes.over.any()


def test_streams_without_a_budget_are_refused(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    lanes = engine(local["test"], 2, 5)
    with pytest.raises(InputError, match="has none"):
        run_streams(PrimalDual(predictor, 0.1), lanes, draw(local["test"], 2, 5))


def test_a_careful_teacher_spares_a_battery_and_nothing_else(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    streams = draw(local["validation"], 8, 60)
    free = careful(predictor, engine(local["validation"], 96, 60), streams)
    assert free.least == pytest.approx(1e-3)
    # Twelve full inputs for sixty: who takes each for itself runs dry.
    battery = Battery(12, start=(1.0, 1.0))
    lanes = engine(local["validation"], 96, 60, battery=battery)
    scarce = careful(predictor, lanes, streams)
    assert scarce.least > 0.01
    few = engine(local["test"], 32, 60, battery=battery)
    test = draw(local["test"], 32, 60)
    kept, drained = (
        run_streams(rule, few, test, prices=1e-3) for rule in (scarce, Priced(predictor))
    )
    assert float(kept.missed.sum()) < float(drained.missed.sum())
    assert float(kept.worth.mean()) > float(drained.worth.mean())
    # Floors are drawn between the two: some streams are careful, some are not.
    costs = kept.mean_cost("energy_j")
    assert float(costs.max()) > 1.2 * float(costs.min())
