from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from math import inf, nan
from typing import Any, final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import Backbone, Block, InputError, Knob, Setting
from penstock.envs import Budget, Lanes, Stream
from penstock.envs.budget import SLACK
from penstock.envs.price_table import activation_shapes
from penstock.hardware import RESOURCES, Cost, Digital, Job, Machine, State, build_machine

Make = Callable[..., Lanes]

RESOURCE = st.sampled_from(("energy_j", "latency_s", "macs"))
PER = st.sampled_from(("input", "stream"))
ROOM = st.one_of(st.just(0.0), st.floats(0, 1.2))
"""How far a budget lies between the cheapest way and the full network."""


@final
@dataclass(frozen=True)
class Radio(Machine):
    """Sends every block's output at the bits of the setting; more loudly if the block is run.

    It looks at knobs whether the block has them or not.
    """

    inner: Machine
    least: float = 0.0
    """The least share of its price that it may really take."""

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, state = self.inner.run(job, state, rng)
        share = self.least + (1 - self.least) * torch.rand(len(y), generator=rng).double()
        energy_j = cost.energy_j + self._energy_j(job.setting) * share
        return y, replace(cost, energy_j=energy_j), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        price = self.inner.price(block, setting, shape)
        return replace(price, energy_j=price.energy_j + self._energy_j(setting))

    def _energy_j(self, setting: Setting) -> float:
        return 1e5 * float(setting.get("bits", 32)) * (4 + float(setting.get("run", 1)))


FEW = {"width": (0.25, 1.0), "bits": (4, 32)}


def with_room(
    make: Make, machine: Machine, kinds: list[tuple[str, str, float]], inputs: int
) -> tuple[Budget, ...]:
    """Hard budgets between the cheapest way (room 0) and the full network (1)."""
    # With as many columns, so that a decision costs the same.
    ample = tuple(ample_budget(resource, per) for resource, per, _ in kinds)
    lanes = make(Stream(budgets=ample, choices=FEW), machine=machine)
    budgets = []
    for budget, (_, _, room) in zip(ample, kinds, strict=True):
        resource = RESOURCES.index(budget.resource)
        full = lanes.full.rows() + lanes.backbone.depth * lanes.prices.decision
        low, high = float(lanes.prices.cheapest[resource]), float(full[resource])
        limit = (low + room * (high - low)) * (inputs if budget.per == "stream" else 1)
        budgets.append(replace(budget, limit=limit))
    return tuple(budgets)


def ample_budget(resource: str, per: Any) -> Budget:
    return Budget(resource, 1e30, kind="hard", per=per)


def cheapest(make: Make, resource: str) -> float:
    """The cheapest way, under one hard budget."""
    lanes = make(Stream(budgets=(ample_budget(resource, "input"),)))
    return float(lanes.prices.cheapest[RESOURCES.index(resource)])


@given(
    kinds=st.lists(st.tuples(RESOURCE, PER, ROOM), min_size=1, max_size=2),
    inputs=st.integers(1, 3),
    radio=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=40, deadline=None)
def test_no_budget_is_ever_exceeded_and_every_input_is_answered(
    make: Make,
    digital: Digital,
    kinds: list[tuple[str, str, float]],
    inputs: int,
    radio: bool,
    masked: bool,
    seed: int,
) -> None:
    machine = Radio(digital) if radio else digital
    budgets = with_room(make, machine, kinds, inputs)
    stream = Stream(inputs_per_episode=inputs, budgets=budgets, choices=FEW)
    lanes = make(stream, machine=machine, lanes=3, seed=seed)
    rng = torch.Generator().manual_seed(seed)
    sizes = [len(knob.choices) for knob in lanes.knobs]
    lanes.start(torch.arange(3))
    spent = torch.zeros(3, len(RESOURCES), dtype=torch.float64)
    answers = 0
    for _ in range((lanes.backbone.depth + 1) * inputs):
        chances = torch.rand(lanes.allowed.shape, generator=rng)
        chances = chances * lanes.allowed if masked else chances
        actions = torch.stack(
            [part.argmax(1) for part in chances.split_with_sizes(sizes, 1)], dim=1
        )
        outcomes = lanes.step(actions).outcomes
        answers += len(outcomes.lanes)
        spent[outcomes.lanes] += outcomes.cost
        assert not outcomes.over.any()
        assert not (masked and outcomes.overruled.any())
        for budget in budgets:
            cost = outcomes.cost if budget.per == "input" else spent
            amounts = cost[:, RESOURCES.index(budget.resource)]
            assert (amounts <= budget.limit * (1 + 2 * SLACK)).all()
    assert answers == 3 * inputs
    assert not lanes.active.any()


@given(
    kinds=st.lists(st.tuples(RESOURCE, st.just("input"), ROOM), min_size=1, max_size=2),
    radio=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=15, deadline=None)
def test_whatever_combination_is_allowed_can_be_paid(
    make: Make, digital: Digital, kinds: list[tuple[str, str, float]], radio: bool, seed: int
) -> None:
    machine = Radio(digital, least=1.0) if radio else digital
    budgets = with_room(make, machine, kinds, 1)
    lanes = make(Stream(budgets=budgets, choices=FEW), machine=machine, lanes=1)
    backbone, decision = lanes.backbone, lanes.prices.decision
    dearest = {knob.name: knob.full for knob in lanes.offered}
    first = {knob.name: knob.choices[0] for knob in lanes.offered}
    shapes = activation_shapes(backbone)
    names = [{knob.name for knob in backbone.block(d).knobs} for d in range(backbone.depth)]

    def price(d: int, setting: Setting) -> Tensor:
        """Of a block, its head and the decision."""
        taken = {n: v if n in names[d] else dearest[n] for n, v in setting.items()}
        cost = machine.price(backbone.block(d), taken, shapes[d]).rows() + decision
        head = backbone.head(d)
        return cost + machine.price(head, dearest, shapes[d + 1]).rows() if head else cost

    def rest(d: int) -> Tensor:
        """Enough to answer from before block d."""
        if d == backbone.depth:
            return torch.zeros(len(RESOURCES), dtype=torch.float64)
        if d > 0 and backbone.head(d - 1) is not None:
            return decision
        return price(d, first) + rest(d + 1)

    left = torch.full((len(RESOURCES),), inf, dtype=torch.float64)
    for budget in budgets:
        resource = RESOURCES.index(budget.resource)
        stem = machine.price(backbone.stem, dearest, backbone.shape).rows()[resource]
        left[resource] = min(float(left[resource]), budget.limit - float(stem))
    rng = torch.Generator().manual_seed(seed)
    lanes.start(torch.arange(1))
    sizes = [len(knob.choices) for knob in lanes.knobs]
    for d in range(backbone.depth):
        masks = [part.tolist() for part in lanes.allowed[0].split_with_sizes(sizes)]
        assert masks[0][0] == (d > 0 and backbone.head(d - 1) is not None)
        if not masks[0][1]:
            break
        places = [[i for i, good in enumerate(mask) if good] for mask in masks[1:]]
        combinations = list(product(*places))
        for combination in combinations:
            pairs = zip(lanes.offered, combination, strict=True)
            setting = {knob.name: knob.choices[i] for knob, i in pairs}
            assert set(setting.items()) >= {(n, v) for n, v in dearest.items() if n not in names[d]}
            after = left - price(d, setting) - rest(d + 1)
            limits = left.where(left.isfinite(), torch.tensor(0.0))
            assert (after >= -SLACK * limits.abs()).all()
        chosen = combinations[int(torch.randint(len(combinations), (), generator=rng))]
        pairs = zip(lanes.offered, chosen, strict=True)
        left -= price(d, {knob.name: knob.choices[i] for knob, i in pairs})
        lanes.step(torch.tensor([[1, *chosen]]))


def test_masks_let_through_all_that_is_affordable_when_there_is_no_limit(make: Make) -> None:
    lanes = make(lanes=1)
    lanes.start(torch.arange(1))
    for block in range(lanes.backbone.depth):
        skippable = block not in (2, 4)
        exit_next = block in (2, 4)
        assert lanes.allowed[0].tolist() == [exit_next, True, skippable, True, *[True] * 7]
        lanes.step(torch.tensor([[1, 1, 3, 2]]))


def test_at_the_cheapest_budget_only_the_cheapest_way_is_left(make: Make) -> None:
    limit = cheapest(make, "macs")
    lanes = make(Stream(budgets=(Budget("macs", limit, kind="hard"),)), lanes=1)
    lanes.start(torch.arange(1))
    for _ in range(2):
        # Bits cost no multiplications: all three may be chosen.
        assert lanes.allowed[0].tolist() == [False, True, True, False, *[True] * 7]
        lanes.step(torch.tensor([[1, 1, 3, 2]]))
    assert lanes.allowed[0, :2].tolist() == [True, False]
    outcomes = lanes.step(torch.tensor([[1, 1, 3, 2]])).outcomes
    assert outcomes.exit.tolist() == [1]
    assert outcomes.overruled.tolist() == [3]
    assert float(outcomes.cost[0, 2]) == pytest.approx(limit)
    assert outcomes.choices[0, :2].tolist() == [[1, 0, 3, 2]] * 2


def test_a_knob_that_a_block_lacks_is_priced_as_it_will_stand(make: Make, digital: Digital) -> None:
    """Block 2 has no `run`; this machine asks for more when it says so all the same."""
    machine = Radio(digital, least=1.0)
    prices = make(Stream(choices=FEW), machine=machine).prices
    backbone, depth = make().backbone, torch.tensor([2])
    block, shape = backbone.block(2), activation_shapes(backbone)[2]
    cheapest = machine.price(block, {"run": 1, "width": 0.25, "bits": 4}, shape)
    need = cheapest.rows() + prices.decision + prices.rest[3]
    left = torch.full((2, len(RESOURCES)), inf, dtype=torch.float64)
    left[:, 0] = need[0] * torch.tensor([1.001, 0.999])
    each = prices.need(torch.eye(len(RESOURCES), dtype=torch.float64))
    enough, too_little = prices.allowed(depth.repeat(2), left, each)
    assert enough[:4].tolist() == [True, True, False, True]  # exit, go on, run 0, run 1
    assert too_little[:2].tolist() == [True, False]


def test_what_is_left_of_a_hard_budget_is_seen(make: Make) -> None:
    budgets = (
        Budget("energy_j", 2.0, relative=True, kind="hard"),
        Budget("macs", 6.0, relative=True, kind="hard", per="stream"),
        Budget("latency_s", 9.0, relative=True, kind="hard", observed=False),
    )
    lanes = make(Stream(inputs_per_episode=2, budgets=budgets), lanes=1)
    energy, macs = (
        lanes.layout.where(f"left_{n}") for n in ("energy_j_per_input", "macs_per_stream")
    )
    assert len(lanes.layout.columns) == macs + 1
    lanes.start(torch.arange(1))
    full, stem = lanes.full.each(), lanes.prices.stem
    seen = []
    for _ in range(2):
        share = 1 - float(stem[0]) / (2 * float(full["energy_j"]))
        assert float(lanes.observation[0, energy]) == pytest.approx(share)
        for _ in range(6):
            seen.append(float(lanes.observation[0, macs]))
            lanes.step(torch.tensor([[1, 1, 3, 2]]))
    assert seen == sorted(seen, reverse=True)
    spent = 2 * (float(full["macs"]) + 6 * float(lanes.prices.decision[2]))
    assert float(lanes.observation[0, macs]) == pytest.approx(1 - spent / (6 * float(full["macs"])))


def test_a_machine_that_breaks_its_word_is_noticed(make: Make, digital: Digital) -> None:
    @final
    @dataclass(frozen=True)
    class Wasteful(Machine):
        def reset(self, n: int, rng: torch.Generator) -> State:
            return {}

        def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
            y, cost, state = digital.run(job, state, rng)
            return y, cost + cost, state

        def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
            return digital.price(block, setting, shape)

    limit = cheapest(make, "energy_j")
    stream = Stream(budgets=(Budget("energy_j", limit, kind="hard"),))
    lanes = make(stream, machine=Wasteful(), lanes=1)
    lanes.start(torch.arange(1))
    for _ in range(3):
        outcomes = lanes.step(torch.tensor([[1, 0, 0, 0]])).outcomes
    assert outcomes.over.tolist() == [True]


@pytest.mark.parametrize("per", ["input", "stream"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_budget_below_the_cheapest_way_is_refused(make: Make, per: Any, relative: bool) -> None:
    inputs = 3 if per == "stream" else 1
    limit = inputs * cheapest(make, "energy_j")
    if relative:
        limit /= float(make().full.energy_j)
    for share in (0.999, 0.5):
        budget = Budget("energy_j", share * limit, relative=relative, kind="hard", per=per)
        with pytest.raises(InputError, match=f"per {per} is below the cheapest path"):
            make(Stream(inputs_per_episode=3, budgets=(budget,)))
    budget = Budget("energy_j", limit, relative=relative, kind="hard", per=per)
    make(Stream(inputs_per_episode=3, budgets=(budget,)))


def test_a_machine_s_own_knob_counts_where_a_block_is_skipped(make: Make, digital: Digital) -> None:
    @final
    class Volts(Machine):
        knobs = (Knob("volt", (0.6, 1.0)),)

        def reset(self, n: int, rng: torch.Generator) -> State:
            return digital.reset(n, rng)

        def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
            y, cost, state = digital.run(job, state, rng)
            return y, cost + Cost(energy_j=job.setting.get("volt", 1.0)), state

        def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
            return digital.price(block, setting, shape) + Cost(energy_j=setting.get("volt", 1.0))

    stream = Stream(choices={"width": (1.0,), "bits": (8, 32)})
    lanes = make(stream, machine=Volts(), lanes=3, controller=None)
    names = [knob.name for knob in lanes.knobs]
    action = torch.ones(3, len(names), dtype=torch.int64)
    action[:, names.index("run")] = 0
    action[1, names.index("volt")] = 0
    action[2, names.index("bits")] = 0
    lanes.start(torch.arange(3))
    before = lanes.ledger.spent[0].clone()
    lanes.step(action)
    paid = (lanes.ledger.spent[0] - before).tolist()
    assert paid == pytest.approx([1.0, 0.6, 1.0], rel=1e-3)


def test_a_network_that_never_runs_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match=r"got run = \[0\]"):
        make(Stream(choices={"run": (0,)}))


def test_limits_absolute_and_relative() -> None:
    full = Cost(energy_j=8.0, latency_s=2.0)
    assert Budget("energy_j", 3.0).absolute(full) == 3.0
    assert Budget("energy_j", 0.5, relative=True).absolute(full) == 4.0
    assert Budget("latency_s", 1.5, relative=True).absolute(full) == 3.0
    assert Budget("sent_bytes", 7.0).absolute(full) == 7.0
    with pytest.raises(InputError, match="no sent_bytes, so a budget cannot be a share"):
        Budget("sent_bytes", 0.5, relative=True).absolute(full)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource": "joules"}, "energy_j, latency_s, macs, sent_bytes, got 'joules'"),
        ({"limit": 0.0}, "positive"),
        ({"limit": -1.0}, "positive"),
        ({"limit": nan}, "positive"),
        ({"limit": inf}, "finite"),
        ({"kind": "soft"}, "'soft' per 'input'"),
        ({"per": "day"}, "'average' per 'day'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Budget(**{"resource": "energy_j", "limit": 1.0, **arguments})


def test_shapes_on_the_way(backbone: Backbone) -> None:
    backbone.train()
    shapes = activation_shapes(backbone)
    assert backbone.training
    backbone.eval()
    assert shapes == [(8, 8, 8)] * 3 + [(16, 4, 4)] * 2 + [(32, 2, 2)] * 2


def test_no_limit_and_a_very_high_one_allow_the_same(make: Make) -> None:
    prices = make(Stream()).prices
    depth = torch.arange(len(prices.exits))
    high = torch.full((len(depth), len(RESOURCES)), 1e30, dtype=torch.float64)
    need = prices.need(torch.eye(len(RESOURCES)).double())
    unlimited = prices.allowed(depth, None, need)
    assert torch.equal(unlimited, prices.allowed(depth, high, need))


def test_choices_are_limited_in_the_order_of_their_price(make: Make) -> None:
    # Features that leave may cost more, at worst, than features that stay, which is full.
    def split(budgets: tuple[Budget, ...]) -> Lanes:
        stream = Stream(budgets=budgets, choices={"offload": (8, 0), "bits": (8,)})
        return make(stream, machine=build_machine("split_wifi"), controller=None)

    full = float(split(()).full.energy_j)
    held = split((Budget("energy_j", 1.05 * full, kind="hard"),))
    held.start(torch.arange(held.n))
    before = sum(
        len(k.choices) for k in held.knobs[: [k.name for k in held.knobs].index("offload")]
    )
    assert held.allowed[:, before : before + 2].tolist() == [[False, True]] * held.n
