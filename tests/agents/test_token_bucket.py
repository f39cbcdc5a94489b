"""Thresholds against a simulation and by hand; budgets kept by tokens."""

import pytest
import torch
from torch import Tensor

from penstock.agents.decider import run_streams
from penstock.agents.oracles import Table, outcome_table
from penstock.agents.predictor import Predictor, below
from penstock.agents.standing import Conditions
from penstock.agents.token_bucket import DEPTH, GRID, TokenBucket, best_bucket, thresholds
from penstock.backbones import InputError
from penstock.envs import Arrivals, Battery, Budget, Lanes, Recording, Stream, Switching


def column(tokens: float) -> int:
    return round(tokens / GRID)


def test_thresholds_fall_with_tokens_and_with_the_rate() -> None:
    rng = torch.Generator().manual_seed(0)
    bounds = thresholds(torch.rand(500, generator=rng) - 0.3, torch.linspace(0.1, 0.9, 5))
    assert bool(bounds[:, : column(1.0)].isinf().all())
    whole = bounds[:, column(1.0) :]
    assert bool((whole.diff(dim=1) <= 1e-6).all()) and bool((whole.diff(dim=0) <= 1e-6).all())
    assert bool((whole >= -1e-9).all())  # tokens are never thrown after losses


def test_with_a_token_an_input_whatever_gains_is_bought() -> None:
    # At a rate of 1 nothing that is spent is missed later.
    bounds = thresholds(torch.tensor([-1.0, 0.5]), torch.tensor([1.0]))
    assert float(bounds[0, column(1.0)]) == pytest.approx(0.0, abs=1e-6)


def test_rare_prizes_are_waited_for() -> None:
    # One gain in ten is 1, the others 0.01, and one input in ten can be paid: a token is kept for
    # a prize, unless the bucket is full and would spill.
    gains = torch.tensor([1.0] + [0.01] * 9)
    bounds = thresholds(gains, torch.tensor([0.1]))[0]
    assert 0.01 < float(bounds[column(1.0)]) < 1 and float(bounds[column(5.0)]) > 0.01
    assert float(bounds[column(DEPTH)]) < 0.5


def test_a_single_token_is_kept_as_long_as_it_should_be() -> None:
    # Nothing is refilled, and one gain in ten is 1, the others 0. With V(0) = 0 and the discount g,
    # V(1) = 0.1 * 1 + 0.9 * g * V(1), so V(1) = 0.1 / (1 - 0.9 g) and theta(1) = g V(1) = 0.9990.
    gains = torch.tensor([1.0] + [0.0] * 9)
    bounds = thresholds(gains, torch.tensor([0.0]))[0]
    expected = 0.9999 * 0.1 / (1 - 0.9 * 0.9999)
    assert expected == pytest.approx(0.9990, abs=1e-4)
    assert float(bounds[column(1.0)]) == pytest.approx(expected, abs=1e-5)


def simulated(bound: Tensor, gains: Tensor, rate: float) -> float:
    """The mean gain of streams [k, L] of gains under thresholds [G]."""
    tokens, total = torch.full((len(gains),), 1.0).double(), 0.0
    for gain in gains.unbind(dim=1):
        spend = (gain >= bound[(tokens / GRID).round().long()]) & (tokens >= 1 - 1e-9)
        total += float((gain * spend).sum())
        tokens = (tokens - spend.double() + rate).clamp(max=DEPTH)
    return total / gains.numel()


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_thresholds_beat_greed_and_any_single_threshold(rate: float) -> None:
    rng = torch.Generator().manual_seed(1)
    sample = torch.rand(2000, generator=rng).double() ** 2
    gains = torch.rand(40, 3000, generator=rng).double() ** 2
    best = simulated(thresholds(sample, torch.tensor([rate]))[0], gains, rate)
    for quantile in (0.0, 0.3, 0.5, 0.7, 1 - rate, 0.95):
        flat = torch.full((column(DEPTH) + 1,), float(sample.quantile(quantile)))
        assert best >= simulated(flat.double(), gains, rate) - 1e-3
    greedy = simulated(torch.zeros(column(DEPTH) + 1).double(), gains, rate)
    assert best > 1.1 * greedy


AVERAGE = Budget("energy_j", 0.15, relative=True, most=1.5)


def engine(recording: Recording, *budgets: Budget, n: int = 16, length: int = 100) -> Lanes:
    stream = Stream(inputs_per_episode=length, budgets=budgets)
    return Lanes(recording, stream, lanes=n, controller=None)


def root(lanes: Lanes, recording: Recording) -> Table:
    now = Conditions(*torch.ones(3, recording.inputs, dtype=torch.float64))
    return outcome_table(lanes, torch.arange(recording.inputs), now)


def indifferent(recording: Recording) -> Predictor:
    """Predicts the same of all answers."""
    model = Predictor(below(recording), recording.seen.shape[2], 4).requires_grad_(False)
    for weight in model.parameters():
        weight.fill_(0)
    return model.eval()


def test_tokens_are_counted_by_hand(local: dict[str, Recording]) -> None:
    # A limit half way between both plans is half a token an input. Left before each input: 0.5, 1,
    # 0.5, 1, ..: every second one is paid for, where all gains are 0 and a token is worth nothing.
    recording, lanes = local["test"], engine(local["test"], AVERAGE, length=8)
    cost, _ = root(lanes, recording).means("energy_j")
    cheap, dear = int(cost.argmin()), int(cost.masked_fill(cost.isinf(), 0).argmax())
    prices = float(cost[cheap]), float(cost[dear])
    rule = TokenBucket(cheap, dear, indifferent(recording), torch.zeros(10), prices)
    limits = torch.full((3,), (prices[0] + prices[1]) / 2, dtype=torch.float64)
    streams = torch.arange(24).view(3, 8)
    found = run_streams(rule, lanes, streams, limits=limits)
    expected = torch.tensor([prices[0], prices[1]] * 4).double().expand(3, -1)
    torch.testing.assert_close(found.cost_each, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("sending", [True, False])
def test_no_rule_of_a_stream_stands_in_its_way(
    local: dict[str, Recording], split: dict[str, Recording], predictor: Predictor, sending: bool
) -> None:
    recording = split["test"] if sending else local["test"]
    model = indifferent(recording) if sending else predictor
    stream = Stream(
        inputs_per_episode=30,
        budgets=(
            Budget("energy_j", 0.6, relative=True, most=1.5),
            Budget("latency_s", 40.0, relative=True, kind="hard", per="stream"),
        ),
        arrivals=Arrivals(period_s=0.004, burst=4, jitter=1, deadline_s=0.02, capacity=3),
        battery=Battery(60, start=(0.0, 1.0), harvest_w=1.0),
        switching=() if sending else (Switching("width", 0.02, 0.1),),
    )
    lanes = Lanes(recording, stream, lanes=16, controller=None)
    now = Conditions(*torch.ones(3, recording.inputs, dtype=torch.float64))
    table = outcome_table(lanes, torch.arange(recording.inputs), now)
    budget = 0.6 * float(lanes.full.energy_j)
    rule = best_bucket(lanes, model, table, torch.arange(recording.inputs), budget)
    rng = torch.Generator().manual_seed(0)
    streams = torch.randint(recording.inputs, (24, 30), generator=rng)
    found = run_streams(rule, lanes, streams)
    assert not found.over.any() and bool((found.exit_each >= 0).any())
    assert bool((found.missed > 0).any())  # some were dropped or late
    assert bool((found.cost_each[found.exit_each < 0] == 0).all())


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_a_budget_is_used_and_not_overdrawn(
    local: dict[str, Recording], predictor: Predictor, share: float
) -> None:
    validation = engine(local["validation"], AVERAGE)
    budget = share * float(validation.full.energy_j)
    table = root(validation, local["validation"])
    every = torch.arange(local["validation"].inputs)
    rule = best_bucket(validation, predictor, table, every, budget)
    lanes = engine(local["test"], AVERAGE)
    rng = torch.Generator().manual_seed(0)
    streams = torch.randint(local["test"].inputs, (20, 100), generator=rng)
    limits = torch.full((20,), budget, dtype=torch.float64)
    found = run_streams(rule, lanes, streams, limits=limits)
    spent = found.mean_cost("energy_j") / budget
    assert bool((spent <= 1 + 1e-9).all())
    cost, _ = table.means("energy_j")
    cheap, dear = (float(cost[answer]) for answer in rule.pair)
    if dear > budget:
        assert float(spent.mean()) > 0.9
    kinds = {round(x / cheap, 6) for x in found.cost_each.flatten().tolist()}
    assert kinds <= {1.0, round(dear / cheap, 6)}


def test_the_bucket_decides_where_the_ways_part(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    lanes = engine(local["test"], AVERAGE, length=4)
    rule = TokenBucket(0, 1, predictor, torch.rand(10), (1e-6, 1.0))
    rule.begin(lanes)
    tree = local["test"].tree
    assert rule._fork in (0, *tree.parent[1:].tolist())


def test_what_cannot_work_is_refused(local: dict[str, Recording], predictor: Predictor) -> None:
    lanes = engine(local["test"])
    table = root(lanes, local["test"])
    every = torch.arange(local["test"].inputs)
    with pytest.raises(InputError, match="cheapest plan"):
        best_bucket(lanes, predictor, table, every, 1e-12)
    rule = best_bucket(lanes, predictor, table, every, float(lanes.full.energy_j))
    with pytest.raises(InputError, match="has none"):
        run_streams(rule, lanes, torch.zeros(1, 100, dtype=torch.int64))
