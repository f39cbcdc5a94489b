"""Turning knobs: what is paid, when, and what is shown of it."""

from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.backbones import InputError, Knob
from penstock.envs import Budget, Lanes, Stream, Switching
from penstock.envs.switching import Switches
from penstock.hardware import RESOURCES, Cost, Digital, Link, Split

Make = Callable[..., Lanes]

FEW = {"bits": (4, 8, 32), "width": (0.5, 1.0)}
KNOBS = (Knob("width", (0.5, 1.0)), Knob("bits", (4, 8, 32)))
FULL = torch.tensor([100.0, 10.0, 1.0, 0.0], dtype=torch.float64)


def turn(
    switches: Switches, stage: int, width: int, bits: int, running: bool = True
) -> list[float]:
    """What one lane pays, [R]."""
    chosen = torch.tensor([[width, bits]])
    cost = switches.turn(torch.tensor([running]), torch.tensor([stage]), chosen)
    assert cost.shape == (len(RESOURCES), 1)
    amounts: list[float] = cost[:, 0].tolist()
    return amounts


def test_turns_by_hand() -> None:
    # Bits: 2 % of 100 J and 10 % of 10 s a turn; width: 3 J. Stage 1 has no bits.
    rules = (Switching("bits", 0.02, 0.1), Switching("width", 3.0, relative=False))
    own = torch.tensor([[True, True], [True, False], [True, True]])
    switches = Switches(rules, KNOBS, own, FULL, 1)
    assert switches.most[:, :2].tolist() == [[5, 1], [3, 0], [5, 1]]
    assert [column.name for column in switches.columns] == ["last_bits", "last_width"]
    assert [shown.item() for shown in switches.observe()] == [0, 0]
    assert turn(switches, 0, 1, 2) == [0, 0, 0, 0]  # nobody had set them
    assert turn(switches, 0, 1, 2) == [0, 0, 0, 0]  # they stay
    assert turn(switches, 1, 0, 0) == [3, 0, 0, 0]  # bits have no effect here
    assert [shown.item() for shown in switches.observe()] == [1, 0.5]
    assert turn(switches, 2, 0, 2) == [0, 0, 0, 0]  # and stand where they stood
    assert turn(switches, 2, 1, 1, running=False) == [0, 0, 0, 0]  # who leaves turns nothing
    assert turn(switches, 2, 1, 1) == [5, 1, 0, 0]
    assert [shown.item() for shown in switches.observe()] == pytest.approx([2 / 3, 1])
    switches.open(torch.tensor([0]))
    assert turn(switches, 0, 0, 0) == [0, 0, 0, 0]  # another stream


@given(seed=st.integers(0, 10_000), length=st.integers(1, 3), lengths=st.booleans())
@settings(max_examples=12, deadline=None)
def test_what_is_paid_for_turning_is_what_it_takes(
    make: Make, seed: int, length: int, lengths: bool
) -> None:
    """Beside an engine in which nothing is paid, on the same actions."""
    rules = (Switching("bits", 0.1, 0.05), Switching("width", 0.2), Switching("run", 0.0, 0.3))
    stages = (0, 2, 3) if lengths else ()
    paying, free = (
        make(Stream(length, stages=stages, choices=FEW, switching=each), lanes=3, controller=None)
        for each in (rules, ())
    )
    names = [knob.name for knob in paying.offered]
    full = paying.full.rows()
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.randint(20, (3, length), generator=rng)
    for lanes in (paying, free):
        lanes.start(torch.arange(3), inputs)
    last: list[dict[str, int]] = [{}, {}, {}]
    blocks = [[0, 1], [2], [3, 4, 5]] if lengths else [[d] for d in range(6)]
    depth, owed = [0, 0, 0], torch.zeros(3, len(RESOURCES), dtype=torch.float64)
    while paying.active.any():
        assert torch.equal(paying.allowed, free.allowed)
        for name in ("bits", "width", "run"):
            k = names.index(name)
            size = len(paying.offered[k].choices)
            shown = paying.observation[:, paying.layout.where(f"last_{name}")]
            expected = [(each.get(name, -1) + 1) / size for each in last]
            assert shown.tolist() == pytest.approx(expected)
        sizes = [len(knob.choices) for knob in paying.knobs]
        chances = torch.rand(paying.allowed.shape, generator=rng) * paying.allowed
        parts = chances.split_with_sizes(sizes, dim=1)
        actions = torch.stack([part.argmax(dim=1) for part in parts], dim=1)
        active = paying.active.tolist()
        one, two = paying.step(actions), free.step(actions)
        for i, action in enumerate(actions.tolist()):
            if not (active[i] and action[0]):
                continue
            for rule in rules:
                k = names.index(rule.knob)
                own = any(
                    rule.knob in {knob.name for knob in paying.backbone.block(d).knobs}
                    for d in blocks[depth[i]]
                )
                if own:
                    if last[i].get(rule.knob, action[1 + k]) != action[1 + k]:
                        owed[i, 0] += rule.energy_j * full[0]
                        owed[i, 1] += rule.latency_s * full[1]
                    last[i][rule.knob] = action[1 + k]
            depth[i] += 1
        assert torch.equal(one.outcomes.lanes, two.outcomes.lanes)
        rows = one.outcomes.lanes
        torch.testing.assert_close(one.outcomes.cost - two.outcomes.cost, owed[rows])
        for i in rows.tolist():
            owed[i], depth[i] = 0, 0


def test_turning_is_in_the_reward_and_in_budgets(make: Make) -> None:
    rule = Switching("bits", 0.25, 0.1)
    budget = Budget("latency_s", 1.01, relative=True, kind="hard")
    stream = Stream(price=(0.5, 0.5), choices=FEW, switching=(rule,), worth="likelihood")
    lanes = make(stream, lanes=1, controller=None)
    lanes.start(torch.arange(1))
    where = [knob.name for knob in lanes.knobs].index("bits")
    action = torch.tensor([[1] + [len(knob.choices) - 1 for knob in lanes.offered]])
    stay = lanes.step(action).reward.item()
    before = float(lanes.ledger.spent[0])
    action[0, where] = 1
    turned = lanes.step(action).reward.item()
    paid = (float(lanes.ledger.spent[0]) - before) / float(lanes.full.energy_j)
    assert paid > 0.25 and turned == pytest.approx(-0.5 * paid) and turned < stay
    # 1 % more than the full network takes leaves no room for turns of 10 % on the way.
    tight = make(
        Stream(choices=FEW, switching=(rule,), budgets=(budget,)), lanes=4, controller=None
    )
    tight.start(torch.arange(4))
    rng = torch.Generator().manual_seed(0)
    while tight.active.any():
        sizes = torch.tensor([len(knob.choices) for knob in tight.knobs])
        actions = (torch.rand(4, len(sizes), generator=rng) * sizes).long()
        outcomes = tight.step(actions).outcomes
        assert not outcomes.over.any()
        assert (outcomes.cost[:, 1] <= 1.01 * float(tight.full.latency_s)).all()


def test_time_that_turning_takes_passes_on_the_link(make: Make, digital: Digital) -> None:
    split = Split(digital, digital, Link(1e4, 0.1), bits=(8,))
    choices = {**FEW, "offload": (8, 0)}
    found = []
    for rules in ((), (Switching("bits", 0.0, 7.0, relative=False),)):
        stream = Stream(choices=choices, switching=rules)
        lanes = make(stream, machine=split, lanes=1, controller=None)
        lanes.start(torch.arange(1))
        names = [knob.name for knob in lanes.knobs]
        for bits in (2, 1, 1, 0):
            action = torch.tensor([[1] + [len(knob.choices) - 1 for knob in lanes.offered]])
            action[0, names.index("bits")] = bits
            lanes.step(action)
        found.append(float(lanes._runner._state["time_s"]))  # type: ignore[attr-defined]
    assert found[1] - found[0] == pytest.approx(14.0)  # two turns


@pytest.mark.parametrize(
    "arguments",
    [{name: value} for name in ("energy_j", "latency_s") for value in (-1.0, inf, nan)],
)
def test_mistakes_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="turning 'bits' takes"):
        Switching("bits", **arguments)


def test_a_knob_that_is_not_offered_is_named(make: Make) -> None:
    stream = Stream(choices={"bits": (8,), "width": (1.0,)}, switching=(Switching("bits", 0.1),))
    with pytest.raises(InputError, match=r"turning 'bits' should cost .* turns run"):
        make(stream)


def test_what_is_relative_is_a_share_of_the_full_network() -> None:
    full = Cost(8.0, 4.0).rows()
    assert Switching("bits", 0.5, 0.25).cost(full).tolist() == [4, 1, 0, 0]
    assert Switching("bits", 0.5, 0.25, relative=False).cost(full).tolist() == [0.5, 0.25, 0, 0]


def test_a_mean_need_not_pay_for_a_turn_with_each_input(make: Make) -> None:
    rule = Switching("width", energy_j=0.5, latency_s=0.5)
    plain = make(Stream(choices=FEW), lanes=1, controller=None)
    turned = make(Stream(choices=FEW, switching=(rule,)), lanes=1, controller=None)
    assert torch.equal(turned.prices.steady, plain.prices.cheapest)
    assert turned.prices.cheapest[0] > plain.prices.cheapest[0]
    limit = 1.01 * float(plain.prices.cheapest[0])
    mean, each = (Budget("energy_j", limit, kind=kind) for kind in ("average", "hard"))
    make(Stream(choices=FEW, switching=(rule,), budgets=(mean,)), lanes=1, controller=None)
    with pytest.raises(InputError, match="below the cheapest path"):
        make(Stream(choices=FEW, switching=(rule,), budgets=(each,)), lanes=1, controller=None)
