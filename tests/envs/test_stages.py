"""Decisions that govern several blocks: what is run, priced and left out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, final

import pytest
import torch
from torch import Tensor

from penstock.backbones import Backbone, Block, Images, InputError, Setting, restrict
from penstock.envs import Budget, Lanes, Live, Stream
from penstock.envs.actions import offered_knobs
from penstock.envs.price_table import activation_shapes, cut_stages, price_table
from penstock.hardware import RESOURCES, Cost, Digital, Job, Link, Machine, Split, State

Make = Callable[..., Lanes]

FEW = {"bits": (8, 32), "width": (0.5, 1.0)}


@final
@dataclass(frozen=True)
class Watched(Machine):
    """Remembers which block ran at what."""

    inner: Machine
    jobs: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        self.jobs.append((job.block.name, dict(job.setting), len(job.x)))
        return self.inner.run(job, state, rng)

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)


@final
@dataclass(frozen=True)
class Curious(Machine):
    """Charges a joule for a block that is not to be run, whether it can be skipped or not."""

    def reset(self, n: int, rng: torch.Generator) -> State:
        return {}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        setting = restrict(job.setting, job.block)
        return job.block(job.x, setting), self.price(job.block, job.setting, ()), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return Cost(energy_j=2.0 - float(setting.get("run", 1)), macs=1.0)


def names(backbone: Backbone, blocks: range) -> list[str]:
    head = backbone.head(blocks[-1])
    return [*(backbone.block(d).name for d in blocks), *([] if head is None else [head.name])]


def test_stages_are_cut() -> None:
    assert cut_stages((), 3) == [range(0, 1), range(1, 2), range(2, 3)]
    assert cut_stages((0,), 3) == [range(0, 3)]
    assert cut_stages((0, 2), 3) == [range(0, 2), range(2, 3)]
    for wrong in ((1,), (0, 3), (0, 2, 1), (0, 1, 1), (-1, 0)):
        with pytest.raises(InputError, match="stages are the first blocks of each, from 0, rising"):
            cut_stages(wrong, 3)


@pytest.mark.parametrize("first", [(0, 2), (0, 1, 4), (0,)])
def test_a_choice_holds_to_the_end_of_its_stage(
    make: Make, backbone: Backbone, digital: Digital, first: tuple[int, ...]
) -> None:
    """Heads stand behind blocks 1, 3 and 5; those inside a stage are not run and cost nothing."""
    machine = Watched(digital)
    lanes = make(Stream(stages=first, choices=FEW), machine=machine, lanes=2, controller=None)
    stages = cut_stages(first, backbone.depth)
    shapes = activation_shapes(backbone)
    assert [c.name for c in lanes.layout.columns if c.name.startswith("block_")] == [
        f"block_{d}" for d in first
    ]
    lanes.start(torch.arange(2))
    spent = digital.price(backbone.stem, {"bits": 32}, backbone.shape).rows()
    torch.testing.assert_close(lanes.ledger.spent[:, 0], spent)
    answered = False
    for s, blocks in enumerate(stages):
        machine.jobs.clear()
        where = lanes.layout.where(f"block_{blocks[0]}")
        assert lanes.observation[0, lanes.layout.block].sum() == 1
        assert lanes.observation[0, where] == 1
        assert bool(lanes.allowed[0, 0]) == answered
        step = lanes.step(torch.tensor([[1, 1, s % 2, 0]] * 2))
        setting = {"run": 1, "width": (0.5, 1.0)[s % 2], "bits": 8}
        assert [name for name, _, _ in machine.jobs] == names(backbone, blocks)
        assert all(n == 2 for *_, n in machine.jobs)
        for d, (_, taken, _) in zip(blocks, machine.jobs, strict=False):
            assert taken == setting
            spent = spent + digital.price(backbone.block(d), setting, shapes[d]).rows()
        head = backbone.head(blocks[-1])
        answered = head is not None
        if head is not None:
            spent = spent + digital.price(head, {}, shapes[blocks[-1] + 1]).rows()
        torch.testing.assert_close(step.answers.cost[:, 0], spent)
        assert bool(lanes.observation[0, lanes.layout.answered]) == answered
    assert step.done.all() and step.outcomes.exit.tolist() == [5, 5]
    assert step.outcomes.choices.shape == (2, len(first), 4)


def test_the_answer_is_the_last_that_was_given(make: Make) -> None:
    """Stages end behind block 2, which has no head, so that the answer behind 1 stays."""
    stream = Stream(stages=(0, 2, 3), worth="likelihood", choices=FEW)
    lanes = make(stream, lanes=1, controller=None)
    lanes.start(torch.arange(1), torch.tensor([[4]]))
    full = torch.tensor([[1, 1, 1, 1]])
    lanes.step(full)
    logits, known = lanes.logits.clone(), lanes.observation[0, lanes.layout.confidence].clone()
    lanes.step(full)
    assert torch.equal(lanes.logits, logits)
    assert torch.equal(lanes.observation[0, lanes.layout.confidence][:4], known[:4])
    assert lanes.observation[0, lanes.layout.answered] == 0 and known[4] == 1
    # Nobody may leave here: who wants to is held to going on.
    step = lanes.step(torch.tensor([[0, 1, 1, 1]]))
    assert step.done.item() and step.outcomes.exit.tolist() == [5]
    assert step.outcomes.overruled.tolist() == [1]


def test_features_leave_before_the_first_block_of_a_stage_only(
    backbone: Backbone, digital: Digital, images: Images
) -> None:
    near, far = Watched(digital), Watched(replace(digital, launch_s=0.01))
    split = Split(near, far, Link(1e5, 0.1), bits=(8,), timeout_s=100.0)
    stream = Stream(stages=(0, 2, 4), choices={**FEW, "offload": (8, 0)})
    lanes = Lanes(Live(backbone, split, images), stream, lanes=1, controller=None)
    order = [knob.name for knob in lanes.knobs]
    go = torch.ones(1, len(order), dtype=torch.int64)
    lanes.start(torch.arange(1))
    lanes.step(go)  # "offload" at its last choice: they stay
    leave = go.clone()
    leave[0, order.index("offload")] = 0
    near.jobs.clear()
    lanes.step(leave)
    assert not near.jobs
    assert [name for name, *_ in far.jobs] == names(backbone, range(2, 4))
    # Before block 2 there are 8 x 8 x 8 numbers at 8 bits and their grid; nothing leaves later.
    sent = RESOURCES.index("sent_bytes")
    assert lanes.ledger.spent[sent].item() == 512 + 8
    assert [setting["offload"] for _, setting, _ in far.jobs] == [8, 0, 0]
    step = lanes.step(leave)
    assert not near.jobs and step.outcomes.cost[0, sent] == 520


def test_a_transfer_that_fails_is_not_tried_again_inside_a_stage(
    backbone: Backbone, digital: Digital, images: Images
) -> None:
    near = Watched(digital)
    split = Split(near, digital, Link(1e2, 0.1), bits=(8,), timeout_s=2.0)
    stream = Stream(stages=(0, 3), choices={**FEW, "offload": (8, 0)})
    lanes = Lanes(Live(backbone, split, images), stream, lanes=1, controller=None)
    order = [knob.name for knob in lanes.knobs]
    leave = torch.ones(1, len(order), dtype=torch.int64)
    leave[0, order.index("offload")] = 0
    lanes.start(torch.arange(1))
    lanes.step(leave)
    found = lanes.step(leave).outcomes
    # One try a stage: 2 s at 100 bit/s are 25 bytes each.
    assert found.lost.tolist() == [2]
    assert found.cost[0, RESOURCES.index("sent_bytes")].item() == pytest.approx(50)
    assert [name for name, *_ in near.jobs] == [
        backbone.stem.name,
        *names(backbone, range(0, 3)),
        *names(backbone, range(3, 6)),
    ]


def test_prices_of_stages_are_those_of_their_blocks(backbone: Backbone, digital: Digital) -> None:
    split = Split(digital, replace(digital, launch_s=0.01), Link(1e4, 0.1), bits=(8,))
    knobs, fixed = offered_knobs(backbone, split, {**FEW, "offload": (8, 0)})
    single = price_table(backbone, split, knobs, fixed, cut_stages((), 6))
    stages = cut_stages((0, 2, 3), 6)
    table = price_table(backbone, split, knobs, fixed, stages)
    assert knobs[-1].name == "offload"
    # The combination in which features stay, and nothing else is another.
    stay = torch.arange(len(table.cost[0])).view(-1, 2)[:, 1:].expand(-1, 2).reshape(-1)
    shapes = activation_shapes(backbone)
    # Without the heads inside, and without leaving at a block that is not the first.
    for s, blocks in enumerate(stages):
        expected = single.cost[blocks[0]].clone()
        for d in blocks[1:]:
            expected += single.cost[d][stay]
        for d in blocks[:-1]:
            head = backbone.head(d)
            if head is not None:
                expected -= split.price(head, {"offload": 0}, shapes[d + 1]).rows()
        torch.testing.assert_close(table.cost[s], expected)
    assert table.exits.tolist() == [True, False, True] and table.last.tolist() == [1, 2, 5]
    assert table.own.all(dim=1).tolist() == [True, False, True]  # block 2 cannot be skipped


def test_hard_budgets_hold_over_stages(make: Make, digital: Digital) -> None:
    stream = Stream(stages=(0, 2, 3), choices=FEW, inputs_per_episode=2)
    free = make(stream, lanes=1)
    for share in (1.02, 1.5, 3.0):
        limit = share * float(free.prices.cheapest[0]) * 1.01
        budget = Budget("energy_j", limit, kind="hard")
        lanes = make(replace(stream, budgets=(budget,)), lanes=6)
        rng = torch.Generator().manual_seed(0)
        lanes.start(torch.arange(6))
        count = 0
        while lanes.active.any():
            sizes = torch.tensor([len(knob.choices) for knob in lanes.knobs])
            step = lanes.step((torch.rand(6, len(sizes), generator=rng) * sizes).long())
            assert not step.outcomes.over.any()
            assert (step.outcomes.cost[:, 0] <= limit * (1 + 1e-9)).all()
            count += len(step.outcomes.lanes)
        assert count == 12


@pytest.mark.parametrize(
    ("first", "expected"), [((), [2, 3, 1, 3, 1, 3]), ((0, 2), [5, 7]), ((0, 2, 3), [5, 1, 6])]
)
def test_a_knob_without_effect_stands_at_full(
    make: Make, backbone: Backbone, first: tuple[int, ...], expected: list[float]
) -> None:
    """Blocks 2 and 4 cannot be skipped: 1 J each, and 2 J each of the others; 1 J a head."""
    stream = Stream(stages=first, choices=FEW)
    lanes = make(stream, machine=Curious(), lanes=1, controller=None)
    lanes.start(torch.arange(1))
    paid, prices = [], lanes.prices.cost[:, 0, 0].tolist()
    for _ in expected:
        before = float(lanes.ledger.spent[0])
        step = lanes.step(torch.tensor([[1, 0, 0, 0]]))
        paid.append(float(step.answers.cost[0]) - before)
    assert paid == prices == expected
