"""What training a gate follows, what it comes to, and where it beats plans."""

from dataclasses import replace

import pytest
import torch

from penstock.agents.decider import run_streams
from penstock.agents.gate import Gate, GateNetwork
from penstock.agents.gate_fit import Choice, drawn, fit_gate, gate_logits, gate_value, situation
from penstock.agents.gate_world import World
from penstock.agents.predictor import Fit, Predictor, fit_predictor
from penstock.agents.primal_dual import Priced
from penstock.agents.standing import Conditions, conditions
from penstock.envs import Lanes, Recording, Stream
from penstock.hardware import RESOURCES, Link, Split

QUICK = Fit(hidden=16, epochs=2, batch=128)


def engine(recording: Recording, n: int = 1, price: tuple[float, float] = (0.02, 5.0)) -> Lanes:
    return Lanes(recording, Stream(price=price), lanes=n, controller=None)


def steady(recording: Recording, bps: float) -> Recording:
    machine = recording.machine
    assert isinstance(machine, Split)
    link = Link(bps, rtt_s=0.01, idle_w=machine.link.idle_w, radio=machine.link.radio)
    return replace(recording, runs_on=replace(machine, link=link, busy=(0.2, 0.2)))


def untrained(world: World) -> GateNetwork:
    return GateNetwork(world.nodes, world.columns, world.decisions, 8, (0.02, 5.0))


def test_draws_are_as_likely_as_the_softmax_and_have_its_gradient() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -torch.inf, -1.0]).expand(20_000, 1, 4)
    found = drawn(logits, rng)
    assert set(found.round(decimals=5).flatten().tolist()) == {0, 1}
    # e^0, e^1 and e^-1 of 4.0862 in all.
    expected = torch.tensor([0.2447, 0.6652, 0.0, 0.0900])
    assert torch.allclose(found.mean(dim=(0, 1)), expected, atol=0.01)
    one = torch.tensor([[[0.3, -0.2]]], requires_grad=True)
    drawn(one, rng)[0, 0, 0].backward()  # type: ignore[no-untyped-call]
    # Of a softmax of two the gradients are p (1 - p) and its negative, at most 1 / 4.
    assert one.grad is not None and 0 < float(one.grad[0, 0, 0]) <= 0.25
    assert float(one.grad.sum()) == pytest.approx(0, abs=1e-7)


def test_gradients_reach_all_weights_and_are_those_of_finite_differences(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    few = local["validation"].take(torch.arange(5))
    world = World(engine(few))
    met = situation(world, predictor, torch.arange(5), *world.draw(5, torch.Generator()))
    torch.manual_seed(0)
    model = untrained(world).double()
    with torch.no_grad():
        model.correction.third.weight.normal_(std=0.3)

    def value(*_: torch.Tensor) -> torch.Tensor:
        chosen = gate_logits(model, world, met).softmax(dim=2)
        return world.value(met.inputs, met.price, met.now, chosen).mean()

    weights = (model.log_sharpness, model.correction.third.bias)
    assert torch.autograd.gradcheck(value, weights)
    value().backward()  # type: ignore[no-untyped-call]
    for name, weight in model.named_parameters():
        assert weight.grad is not None and bool((weight.grad != 0).any()), name


@pytest.mark.parametrize("bps", [None, 2e6, 1e3])
def test_it_is_worth_what_the_engine_says(
    local: dict[str, Recording],
    split: dict[str, Recording],
    predictor: Predictor,
    bps: float | None,
) -> None:
    recording = local["test"] if bps is None else steady(split["test"], bps)
    if bps is not None:
        predictor = fit_predictor(split["train"], split["validation"], fit=Fit(epochs=2))
    lanes = engine(recording, n=50)
    world = World(lanes)
    torch.manual_seed(1)
    model = untrained(world).requires_grad_(False)
    for each in (model.correction.third, *model.correction.places):
        each.weight.normal_()
    model.log_sharpness.fill_(-20)  # so that it does not go by what plans cost
    inputs = torch.arange(100).unsqueeze(1)
    for price in (0.05, 1.0):
        found = run_streams(Gate(model, predictor), lanes, inputs, prices=price)
        lanes.start(torch.arange(1))
        now = conditions(lanes)
        alike = Conditions(*(x[:1].expand(100) for x in (now.bps, now.rtt_s, now.load)))
        same = torch.full((100,), price, dtype=torch.float64)
        met = situation(world, predictor, inputs.squeeze(1), same, alike)
        stem, full = float(world.ahead.stem[0]), float(lanes.full.energy_j)
        engines = (found.worth_each - price * (found.cost_each - stem) / full).mean()
        assert gate_value(model, world, met) == pytest.approx(float(engines), rel=1e-6, abs=1e-5)
        sent = found.cost[:, RESOURCES.index("sent_bytes")] > 0
        assert bps is None or 0 < int(sent.sum())


def told(recording: Recording, seed: int) -> Recording:
    """Half of the inputs are right at the end of the full network, and its first stage tells which.

    No other answer is right, and nothing else tells anything.
    """
    tree, rng = recording.tree, torch.Generator().manual_seed(seed)
    coin = (torch.rand(recording.inputs, generator=rng) < 0.5).float()
    first = int(tree.children[0, -1])
    last = int(tree.children[tree.children[first, -1], -1])
    assert tree.stage[last] == tree.stage[-1]
    seen, said = torch.zeros_like(recording.seen), torch.zeros_like(recording.said)
    seen[:, first, 0], said[:, last, 0] = coin, coin
    return replace(recording, seen=seen, said=said)


@pytest.mark.parametrize("choice", ["straight_through", "expected"])
def test_it_learns_to_look_before_it_pays(local: dict[str, Recording], choice: Choice) -> None:
    # At a price of 0.6 the full network is not worth it: 0.5 - 0.6 < 0, and plans take the cheapest
    # answer. A gate runs the first stage, and the rest for those only that it pays for.
    train, validation, test = (
        told(local[part], seed) for seed, part in enumerate(("train", "validation", "test"))
    )
    predictor = fit_predictor(train, validation, fit=Fit(epochs=10))
    fit, price = Fit(hidden=16, rate=1e-2, epochs=8, batch=64), (0.55, 0.65)
    gate = fit_gate(
        engine(train, price=price),
        engine(validation, price=price),
        predictor,
        fit=fit,
        choice=choice,
    )
    lanes, inputs = engine(test, 64, price), torch.arange(test.inputs).unsqueeze(1)
    full, stem = float(lanes.full.energy_j), float(test.here[0, 0])
    first = int(test.tree.children[0, -1])
    begun = float(test.here[first, 0]) / full
    right = float(test.seen[:, first, 0].mean())

    def value(decider: Gate | Priced) -> float:
        found = run_streams(decider, lanes, inputs, prices=0.6)
        return float((found.worth_each - 0.6 * (found.cost_each - stem) / full).mean())

    best = right - 0.6 * (begun + right * (1 - begun - stem / full))
    assert value(Priced(predictor)) < 0 < 0.02 < best
    assert value(Gate(gate, predictor)) == pytest.approx(best, abs=1e-3)


def test_on_validation_inputs_it_is_never_worse_than_plans(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    train, validation = local["train"].take(torch.arange(200)), engine(local["validation"])
    gate = fit_gate(engine(train), validation, predictor, fit=QUICK)
    world = World(validation)
    every = torch.arange(world.inputs).repeat(4)
    met = situation(
        world, predictor, every, *world.draw(len(every), torch.Generator().manual_seed(0))
    )
    assert gate_value(gate, world, met) >= gate_value(untrained(world), world, met)


def test_a_seed_gives_the_same_weights(local: dict[str, Recording], predictor: Predictor) -> None:
    few = engine(local["train"].take(torch.arange(100)))
    one, other = (fit_gate(few, few, predictor, fit=replace(QUICK, epochs=1)) for _ in range(2))
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())
    assert not any(weight.requires_grad for weight in one.parameters())
