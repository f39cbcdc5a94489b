"""Values against sums over all ways, by hand, and gradients against finite differences."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from penstock.agents.gate_world import World
from penstock.agents.standing import Conditions
from penstock.envs import Lanes, Recording, Stream
from penstock.envs.recording import SAID
from penstock.hardware import RESOURCES, Link, Split

PLACE = RESOURCES.index("energy_j")


def world(recording: Recording, controller: tuple[int, ...] | None = (64,)) -> tuple[World, Lanes]:
    lanes = Lanes(recording, Stream(price=(0.02, 5.0)), lanes=1, controller=controller)
    return World(lanes), lanes


def decisions(world: World, n: int, seed: int = 0) -> Tensor:
    """Logits of all decisions that there are, [n, D, 1 + M]."""
    open_ways = world.ahead.by_decision(
        world.deciding, torch.zeros(len(world.deciding), len(world.ahead.answers))
    )
    rng = torch.Generator().manual_seed(seed)
    shape = (n, len(world.deciding), world.decisions)
    return 2 * torch.randn(shape, generator=rng, dtype=torch.float64) + open_ways


def chances(world: World, recording: Recording, chosen: Tensor) -> Tensor:
    """How likely each answer is given if decisions are drawn, [n, A], by a walk down the tree."""
    place = {int(node): i for i, node in enumerate(world.deciding)}
    here = torch.zeros(len(chosen), len(recording.tree), dtype=torch.float64)
    here[:, 0] = 1
    given = here.clone()
    for node in range(len(recording.tree)):
        given[:, node] = here[:, node]
        if node in place:
            part = here[:, node, None] * chosen[:, place[node]]
            given[:, node] = part[:, 0]
            for m, child in enumerate(world.ahead.children[node].tolist()):
                here[:, child] += part[:, 1 + m]
    return given[:, world.ahead.answers]


def steady(recording: Recording, bps: float) -> Recording:
    machine = recording.machine
    assert isinstance(machine, Split)
    link = Link(bps, rtt_s=0.01, idle_w=machine.link.idle_w, radio=machine.link.radio)
    return replace(recording, runs_on=replace(machine, link=link, busy=(0.2, 0.2)))


@pytest.mark.parametrize("where", ["local", "split"])
def test_a_value_is_the_sum_over_all_ways(
    local: dict[str, Recording], split: dict[str, Recording], where: str
) -> None:
    recording = local["test"] if where == "local" else steady(split["test"], 2e6)
    one, lanes = world(recording)
    inputs = torch.arange(7)
    price, now = one.draw(7, torch.Generator().manual_seed(1))
    chosen = decisions(one, 7).softmax(dim=2)
    chance = chances(one, recording, chosen)
    assert torch.allclose(chance.sum(dim=1), torch.ones(7, dtype=torch.float64))
    worth = recording.said[inputs][:, one.ahead.answers, SAID.index("right")].double()
    cost = one.ahead.whole_cost(inputs, now)[:, :, PLACE] - one.ahead.stem[PLACE]
    paid = price.unsqueeze(1) * cost.nan_to_num(posinf=0.0) / float(lanes.full.energy_j)
    expected = (chance * (worth - paid)).sum(dim=1)
    torch.testing.assert_close(one.value(inputs, price, now, chosen), expected)


def test_a_transfer_that_is_given_up_by_hand(split: dict[str, Recording]) -> None:
    # 1000 bits a second carry none of the features within the second after which it is given up:
    # the whole second is spent sending, 1000 bits leave, and the first stage is run near.
    recording = steady(split["test"], 1e3)
    one, lanes = world(recording)
    tree, machine = recording.tree, recording.machine
    assert isinstance(machine, Split) and machine.timeout_s == 1.0
    leaves = int(tree.away[one.ahead.children[0]].nonzero()[0])
    chosen = torch.zeros(1, len(one.deciding), one.decisions, dtype=torch.float64)
    chosen[0, 0, 1 + leaves] = 1  # leave, then answer at once
    chosen[0, 1:, 0] = 1
    price, now = one.draw(1, torch.Generator())
    found = float(one.value(torch.tensor([4]), price, now, chosen))
    stay = int(one.ahead.staying[0, leaves])
    radio = machine.link.radio
    energy_j = radio.joules_per_bit * 1000 + radio.power_w * 1.0
    energy_j += float(recording.here[stay, PLACE]) + 2 * float(lanes.prices.decision[PLACE])
    right = float(recording.said[4, stay, 0])
    assert found == pytest.approx(
        right - float(price) * energy_j / float(lanes.full.energy_j), rel=1e-6
    )


def test_gradients_are_those_of_finite_differences(split: dict[str, Recording]) -> None:
    one, _ = world(steady(split["test"], 2e6))
    inputs = torch.tensor([0, 9, 9])
    price, now = one.draw(3, torch.Generator().manual_seed(2))
    logits = decisions(one, 3)
    exist = logits.isfinite()

    def value(some: Tensor) -> Tensor:
        chosen = torch.full_like(logits, -torch.inf).masked_scatter(exist, some).softmax(dim=2)
        return one.value(inputs, price, now, chosen)

    some = logits[exist].requires_grad_()
    assert torch.autograd.gradcheck(value, (some,))
    value(some).sum().backward()  # type: ignore[no-untyped-call]
    assert some.grad is not None and float((some.grad != 0).double().mean()) > 0.5


def test_prices_are_of_the_range_and_plans_are_paid_as_they_cost(
    local: dict[str, Recording],
) -> None:
    one, lanes = world(local["test"])
    price, now = one.draw(500, torch.Generator().manual_seed(0))
    assert 0.02 <= float(price.min()) < 0.03 and 4 < float(price.max()) <= 5
    # Evenly on a logarithmic scale: half of them below the geometric mean, 0.32.
    assert float((price < 0.316).double().mean()) == pytest.approx(0.5, abs=0.07)
    node = torch.zeros(500, dtype=torch.int64)
    cost = one.ahead.cost(node, now)[:, :, PLACE] / float(lanes.full.energy_j)
    open_ways = cost.isfinite()
    paid = one.paid(node, price, now)
    torch.testing.assert_close(paid[open_ways], (price.unsqueeze(1) * cost)[open_ways])


def test_inputs_that_cost_different_amounts_pay_their_own(local: dict[str, Recording]) -> None:
    recording = local["test"]
    scale = torch.linspace(0.5, 1.5, recording.inputs, dtype=torch.float64).view(-1, 1, 1)
    differing = replace(recording, here=recording.here * scale, there=recording.there * scale)
    one, other = world(differing, None)[0], world(recording, None)[0]
    rows = torch.tensor([0, recording.inputs - 1])
    price = torch.ones(2, dtype=torch.float64)
    now = Conditions(*torch.ones(3, 2, dtype=torch.float64))
    chosen = decisions(one, 2).softmax(dim=2)
    free = other.value(rows, 0 * price, now, chosen)
    own, alike = (free - each.value(rows, price, now, chosen) for each in (one, other))
    torch.testing.assert_close(own, alike * torch.tensor([0.5, 1.5], dtype=torch.float64))
