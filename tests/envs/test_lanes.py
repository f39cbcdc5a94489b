from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import Backbone, Block, Images, InputError, Setting
from penstock.envs import Lanes, Outcomes, Stream
from penstock.envs.observation import UNKNOWN, confidence, pooled
from penstock.hardware import RESOURCES, Cost, Digital, Job, Machine, State

Make = Callable[..., Lanes]


@final
@dataclass(frozen=True)
class Watched(Machine):
    """Remembers every job and what came of it, as it is and copied."""

    inner: Machine
    jobs: list[Job] = field(default_factory=list)
    outputs: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, state = self.inner.run(job, state, rng)
        self.jobs.append(job)
        self.outputs.append((y, y.clone()))
        return y, cost, state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)


@final
@dataclass(frozen=True)
class Noisy(Machine):
    """Adds noise to every output, for twice the energy."""

    inner: Machine

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, state = self.inner.run(job, state, rng)
        noisy = y + 0.1 * torch.randn(y.shape, generator=rng)
        return noisy, replace(cost, energy_j=2 * cost.energy_j), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        price = self.inner.price(block, setting, shape)
        return replace(price, energy_j=2 * price.energy_j)


@final
@dataclass(frozen=True)
class Drifting(Machine):
    """Every job of a lane takes a second longer than the one before, from a start drawn anew."""

    inner: Machine

    def reset(self, n: int, rng: torch.Generator) -> State:
        started = torch.rand(n, generator=rng)
        return {"age": started, "started": started.clone(), "grid": torch.zeros(n, 2, 3)}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, _ = self.inner.run(job, {}, rng)
        age = state["age"]
        later = {**state, "age": age + 1, "grid": state["grid"] + age.view(-1, 1, 1)}
        return y, replace(cost, latency_s=cost.latency_s + age), later

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        price = self.inner.price(block, setting, shape)
        return replace(price, latency_s=price.latency_s + 1000.0)


@final
@dataclass(frozen=True)
class Silent(Machine):
    """Answers with one row of zeros, repeated without taking memory."""

    inner: Machine

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, state = self.inner.run(job, state, rng)
        return torch.zeros(1, *y.shape[1:]).expand(y.shape), cost, state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)


@final
class Alone:
    """One image on its way, run by itself: what a lane must show, and what it must have spent."""

    def __init__(self, lanes: Lanes, image: int) -> None:
        self.lanes, self.backbone, self.depth = lanes, lanes.backbone, 0
        self.x = lanes.images.pixels[image : image + 1].float() / 255
        self.label = int(lanes.images.labels[image])
        self.tolerance = 1e-4
        self.known = torch.tensor(UNKNOWN)
        self.dearest = {knob.name: knob.full for knob in lanes.offered}
        self.spent = torch.zeros(len(RESOURCES), dtype=torch.float64)
        self.pay(self.backbone.stem, self.dearest)
        self.x = self.backbone.stem(self.x, {})

    def pay(self, block: Block, setting: Setting) -> None:
        self.spent += self.lanes.machine.price(block, setting, tuple(self.x.shape[1:])).rows()

    def decide(self, action: list[int]) -> bool:
        """Whether this answers."""
        self.spent += self.lanes.prices.decision
        if action[0] == 0:
            return True
        pairs = zip(self.lanes.offered, action[1:], strict=True)
        setting = {knob.name: knob.choices[index] for knob, index in pairs}
        block, head = self.backbone.block(self.depth), self.backbone.head(self.depth)
        self.pay(block, setting)
        # A last bit that differs between batch sizes may round to the next level of 4 bits.
        if setting.get("bits", 32) != 32:
            self.tolerance = 1e-2
        taken = {knob.name: setting[knob.name] for knob in block.knobs if knob.name in setting}
        self.x = block(self.x, taken)
        self.depth += 1
        self.known[4] = 0.0
        if head is not None:
            self.pay(head, self.dearest)
            self.logits = head(self.x, {})
            self.known = confidence(self.logits)[0]
        return self.depth == self.backbone.depth

    def check(self, row: Tensor) -> None:
        """Hold this lane's observation, [F], against what is known here."""
        layout = self.lanes.layout
        near = self.tolerance
        torch.testing.assert_close(row[layout.features], pooled(self.x)[0], atol=near, rtol=0)
        torch.testing.assert_close(row[layout.confidence], self.known, atol=near, rtol=0)
        place = torch.eye(layout.depth + 1)[self.depth, :-1]
        assert torch.equal(row[layout.block], place)


def full_action(lanes: Lanes) -> Tensor:
    last = torch.tensor([len(knob.choices) - 1 for knob in lanes.knobs])
    return last.repeat(lanes.n, 1)


def allowed_action(lanes: Lanes, rng: torch.Generator) -> Tensor:
    """Any allowed choice of every knob, [N, K]."""
    sizes = [len(knob.choices) for knob in lanes.knobs]
    chances = torch.rand(lanes.allowed.shape, generator=rng) * lanes.allowed
    parts = chances.split_with_sizes(sizes, dim=1)
    return torch.stack([part.argmax(dim=1) for part in parts], dim=1)


def everyone(lanes: Lanes) -> Tensor:
    return torch.arange(lanes.n)


def finish(lanes: Lanes, actions: Tensor) -> list[Outcomes]:
    """Take the same actions until every lane rests."""
    found = []
    while lanes.active.any():
        found.append(lanes.step(actions).outcomes)
    return found


@torch.no_grad()
def test_full_setting_gives_the_logits_of_the_network(make: Make, digital: Digital) -> None:
    machine = Watched(digital)
    lanes = make(machine=machine)
    inputs = torch.tensor([3, 1, 4, 15])
    lanes.start(everyone(lanes), inputs.unsqueeze(1))
    (outcomes,) = (found for found in finish(lanes, full_action(lanes)) if len(found.lanes))
    pixels = lanes.images.pixels[inputs].float() / 255
    expected = lanes.backbone(pixels.contiguous(memory_format=torch.channels_last))
    assert torch.equal(machine.outputs[-1][1], expected)
    assert outcomes.lanes.tolist() == [0, 1, 2, 3]
    assert outcomes.inputs.tolist() == inputs.tolist()
    assert torch.equal(outcomes.right, expected.argmax(dim=1) == lanes.images.labels[inputs])
    assert outcomes.exit.tolist() == [5] * 4


@given(
    n=st.integers(1, 5),
    steps=st.integers(1, 14),
    seed=st.integers(0, 1000),
    refill=st.floats(0, 1),
    uniform=st.floats(0, 1),
    length=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None)
@torch.no_grad()
def test_every_lane_is_as_if_it_were_alone(
    make: Make, n: int, steps: int, seed: int, refill: float, uniform: float, length: int
) -> None:
    """Random settings, starts and restarts in any order, exits, several inputs a stream."""
    stream = Stream(inputs_per_episode=length, worth="likelihood")
    lanes = make(stream, lanes=n)
    full = float(lanes.full.each()["energy_j"])
    rng = torch.Generator().manual_seed(seed)
    queues: list[list[int]] = [[] for _ in range(n)]
    alone: dict[int, Alone] = {}
    for _ in range(steps):
        chosen = [i for i in torch.randperm(n, generator=rng).tolist() if i not in alone]
        if torch.rand((), generator=rng) < refill:
            chosen = torch.randperm(n, generator=rng).tolist()
        inputs = torch.randint(len(lanes.images), (len(chosen), length), generator=rng)
        lanes.start(torch.tensor(chosen, dtype=torch.int64), inputs)
        for lane, queue in zip(chosen, inputs.tolist(), strict=True):
            queues[lane] = queue
            alone[lane] = Alone(lanes, queue[0])
        actions = allowed_action(lanes, rng)
        if torch.rand((), generator=rng) < uniform:
            actions = full_action(lanes)
        price, before = lanes.price.clone(), {i: lane.spent.clone() for i, lane in alone.items()}
        step = lanes.step(actions)
        answered = {i for i, lane in alone.items() if lane.decide(actions[i].tolist())}
        assert answered == set(step.outcomes.lanes.tolist())
        assert not step.outcomes.overruled.any()
        for place, i in enumerate(step.outcomes.lanes.tolist()):
            lane = alone[i]
            assert int(step.outcomes.inputs[place]) == queues[i].pop(0)
            torch.testing.assert_close(step.outcomes.cost[place], lane.spent)
            assert int(step.outcomes.exit[place]) == lane.depth - 1
            assert bool(step.done[i]) == (not queues[i])
        for i, lane in list(alone.items()):
            paid = float(lane.spent[0] - before[i][0])
            worth = float(lane.logits.softmax(dim=1)[0, lane.label]) if i in answered else 0.0
            expected = worth - float(price[i]) * paid / full
            assert float(step.reward[i]) == pytest.approx(expected, abs=lane.tolerance)
            if i in answered and queues[i]:
                alone[i] = Alone(lanes, queues[i][0])
            alone[i].check(lanes.observation[i])
            spent = float(alone[i].spent[0]) / full
            where = lanes.layout.where("spent")
            assert float(lanes.observation[i, where]) == pytest.approx(min(spent, 2), rel=1e-5)
            if step.done[i]:
                del alone[i]
        in_range(lanes)


def in_range(lanes: Lanes) -> None:
    for column, values in zip(lanes.layout.columns, lanes.observation.unbind(1), strict=True):
        assert ((values >= column.low) & (values <= column.high)).all(), column.name


@given(seed=st.integers(0, 1000), n=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_a_group_is_one_run(make: Make, digital: Digital, seed: int, n: int) -> None:
    machine = Watched(digital)
    lanes = make(Stream(choices={"width": (0.25, 1.0), "bits": (8, 32)}), machine=machine, lanes=n)
    rng = torch.Generator().manual_seed(seed)
    lanes.start(everyone(lanes))
    assert len(machine.jobs) == 1
    run = [knob.name for knob in lanes.knobs].index("run")
    while lanes.active.any():
        machine.jobs.clear()
        depths = lanes.observation[:, lanes.layout.block].argmax(dim=1).tolist()
        actions = allowed_action(lanes, rng)
        going = (lanes.active & (actions[:, 0] == 1)).nonzero().squeeze(1).tolist()
        lanes.step(actions)
        # All that skip a block are one group, whatever else they chose.
        wanted = {(depths[i], *(actions[i] * actions[i, run]).tolist()) for i in going}
        heads = {depths[i] for i in going if lanes.backbone.head(depths[i]) is not None}
        assert len(machine.jobs) == len(wanted) + len(heads)
        blocks = [job for job in machine.jobs if job.block in set(lanes.backbone.blocks)]
        assert len(blocks) == len(wanted)
        assert sum(len(job.x) for job in blocks) == len(going)


def test_a_machine_that_is_wrapped_works_and_pays_differently(make: Make, digital: Digital) -> None:
    plain, noisy = make(), make(machine=Noisy(digital))
    again = make(machine=Noisy(digital))
    for lanes in (plain, noisy, again):
        lanes.seed(7)
        lanes.start(everyone(lanes))
    actions = full_action(plain)
    exact, disturbed, same = (finish(lanes, actions)[-1] for lanes in (plain, noisy, again))
    expected = exact.cost * torch.tensor([2.0, 1, 1, 1])
    torch.testing.assert_close(disturbed.cost, expected)
    assert (noisy.observation != plain.observation).any()
    assert torch.equal(noisy.observation, again.observation)
    assert torch.equal(disturbed.cost, same.cost)


def test_a_machines_state_is_carried_and_drawn_anew(make: Make, digital: Digital) -> None:
    lanes = make(Stream(inputs_per_episode=2), machine=Drifting(digital), controller=None, lanes=3)
    age, started = (lanes.layout.where(f"machine_{name}") for name in ("age", "started"))
    assert len([column for column in lanes.layout.columns if "machine" in column.name]) == 2
    lanes.start(everyone(lanes))
    first = lanes.observation[:, started].clone()
    assert len(set(first.tolist())) == 3
    torch.testing.assert_close(lanes.observation[:, age], first + 1)  # the stem was one job
    actions = full_action(lanes)
    actions[1:, 1] = 0  # other lanes skip what can be skipped, which is a job all the same
    found = finish(lanes, actions)
    # Nine heads and blocks and a stem an input, the last job 19 s after the first.
    plain = make(Stream(inputs_per_episode=2), controller=None, lanes=3)
    plain.start(everyone(plain))
    exact = finish(plain, actions)
    for index, jobs in ((5, range(10)), (11, range(10, 20))):
        late = found[index].cost[:, 1] - exact[index].cost[:, 1]
        torch.testing.assert_close(late.float(), 10 * first + sum(jobs))
    torch.testing.assert_close(lanes.observation[:, age], first + 20)
    lanes.start(torch.tensor([1]))
    assert lanes.observation[1, started] != first[1]
    torch.testing.assert_close(lanes.observation[1, age], lanes.observation[1, started] + 1)
    torch.testing.assert_close(lanes.observation[::2, age], first[::2] + 20)


def test_a_stream_of_several_inputs_ends_with_the_last(make: Make) -> None:
    lanes = make(Stream(inputs_per_episode=3), lanes=2)
    lanes.start(everyone(lanes), torch.tensor([[5, 6, 7], [8, 9, 10]]))
    left = lanes.layout.where("inputs_left")
    actions = full_action(lanes)
    shares, done, inputs = [], [], []
    while lanes.active.any():
        shares.append(round(float(lanes.observation[0, left]), 3))
        step = lanes.step(actions)
        done.append(bool(step.done[0]))
        inputs += step.outcomes.inputs.tolist()
        assert len(set(step.outcomes.cost[:, 0].tolist())) <= 1
    assert shares == [0.667] * 6 + [0.333] * 6 + [0.0] * 6
    assert done == [False] * 17 + [True]
    assert inputs == [5, 8, 6, 9, 7, 10]
    assert len(set(lanes.price.tolist())) == 2


def test_resting_lanes_are_left_alone(make: Make) -> None:
    lanes = make(lanes=4)
    never, over = 0, 1
    lanes.start(torch.tensor([over, 2, 3]))
    actions = full_action(lanes)
    lanes.step(actions)
    lanes.step(actions)  # there is a head after block 1
    actions[over, 0] = 0
    assert lanes.step(actions).done.tolist() == [False, True, False, False]
    rest = [never, over]
    seen, masks = lanes.observation[rest].clone(), lanes.allowed[rest].clone()
    assert lanes.active.tolist() == [False, False, True, True]
    for _ in range(3):
        step = lanes.step(actions.flip(0) * 5 - 1)
        assert not step.reward[rest].any() and not step.done[rest].any()
        assert not set(rest) & set(step.outcomes.lanes.tolist())
        assert torch.equal(lanes.observation[rest], seen)
        assert torch.equal(lanes.allowed[rest], masks)


def test_a_step_when_everyone_rests_brings_nothing(make: Make) -> None:
    lanes = make()
    for _ in range(2):
        step = lanes.step(full_action(lanes))
        assert not step.reward.any() and not step.done.any() and not len(step.outcomes.lanes)
        lanes.start(everyone(lanes))
        finish(lanes, full_action(lanes))


def test_lanes_may_be_started_in_any_order(make: Make) -> None:
    one, two = make(), make()
    inputs = torch.tensor([[3], [1], [4], [15]])
    order = torch.tensor([2, 0, 3, 1])
    one.start(everyone(one), inputs)
    two.start(order, inputs[order])
    actions = full_action(one)
    actions[0, 2] = 0
    one.step(actions), two.step(actions)
    features = one.layout.features
    torch.testing.assert_close(one.observation[:, features], two.observation[:, features])


def test_starting_nobody_changes_nothing(make: Make) -> None:
    lanes = make()
    lanes.start(torch.arange(0))
    assert not lanes.active.any()


def test_outputs_of_a_machine_stay_its_own(make: Make, digital: Digital) -> None:
    """All lanes together are kept by reference, and then some of them are written."""
    machine = Watched(digital)
    lanes = make(machine=machine)
    lanes.start(everyone(lanes))
    actions = full_action(lanes)
    lanes.step(actions)
    actions[::2, 2] = 0
    for _ in range(3):
        lanes.step(actions)
        lanes.start(torch.tensor([1]))
    assert len(machine.outputs) > 5
    assert all(torch.equal(kept, copy) for kept, copy in machine.outputs)


def test_an_output_without_memory_of_its_own_can_be_written(make: Make, digital: Digital) -> None:
    lanes = make(machine=Silent(digital))
    lanes.start(everyone(lanes))
    actions = full_action(lanes)
    actions[0, 2] = 0
    finish(lanes, actions)
    assert not lanes.observation[:, lanes.layout.features].any()


def test_an_exit_can_be_taken_only_right_after_its_head(make: Make) -> None:
    lanes = make(lanes=1)
    lanes.start(everyone(lanes))
    seen = []
    column = lanes.layout.where("answered")
    while lanes.active.any():
        seen.append(bool(lanes.observation[0, column]))
        assert bool(lanes.allowed[0, 0]) == seen[-1]
        lanes.step(full_action(lanes))
    assert seen == [False, False, True, False, True, False]


def test_replaced_decisions_are_counted(make: Make) -> None:
    lanes = make(lanes=3)
    lanes.start(everyone(lanes))
    run = [knob.name for knob in lanes.knobs].index("run")
    full = full_action(lanes)
    early, skipping = full.clone(), full.clone()
    early[0, 0] = 0  # there is no exit before block 0
    skipping[1:, run] = 0  # block 2 cannot be skipped
    lanes.step(early)
    lanes.step(full)
    skipping[2, 0] = 0  # but whoever leaves before it does not want to
    assert lanes.step(skipping).outcomes.overruled.tolist() == [0]
    outcomes = finish(lanes, full)[-1]
    assert outcomes.overruled.tolist() == [1, 1]
    assert outcomes.choices[1, :, run].tolist() == [1] * 6
    assert outcomes.choices[0, 0, 0] == 1


def test_choices_are_those_of_blocks_that_were_reached(make: Make) -> None:
    lanes = make(lanes=1)
    lanes.start(everyone(lanes))
    action = full_action(lanes)
    action[0, 2] = 1
    lanes.step(action), lanes.step(action)
    outcomes = lanes.step(action * 0).outcomes
    left = [[0, -1, -1, -1]]  # whoever leaves turns no other knob
    assert outcomes.choices.tolist() == [[action[0].tolist()] * 2 + left + [[-1] * 4] * 3]


def test_no_knob_but_exit_can_be_offered(make: Make) -> None:
    choices = {"run": (1,), "width": (0.5,), "bits": (8,)}
    lanes = make(Stream(choices=choices))
    assert [knob.name for knob in lanes.knobs] == ["exit"]
    assert lanes.prices.settings == [{"run": 1, "width": 0.5, "bits": 8}]
    lanes.start(everyone(lanes))
    lanes.step(torch.ones(4, 1, dtype=torch.int64))
    lanes.step(torch.ones(4, 1, dtype=torch.int64))
    outcomes = lanes.step(torch.tensor([[0], [1], [0], [1]])).outcomes
    assert outcomes.lanes.tolist() == [0, 2]
    assert len(finish(lanes, torch.ones(4, 1, dtype=torch.int64))) == 3


def test_a_choice_that_is_fixed_holds_for_stem_heads_and_the_policy(
    make: Make, digital: Digital
) -> None:
    machine = Watched(digital)
    lanes = make(Stream(choices={"bits": (8,)}), machine=machine)
    lanes.start(everyone(lanes))
    finish(lanes, full_action(lanes))
    assert {job.setting["bits"] for job in machine.jobs} == {8}
    assert "bits" not in {knob.name for knob in lanes.offered}


def test_the_same_seed_is_the_same_trajectory(make: Make, digital: Digital) -> None:
    def play(lanes: Lanes) -> list[Tensor]:
        rng = torch.Generator().manual_seed(3)
        lanes.start(everyone(lanes))
        seen = [lanes.price.clone(), lanes.observation.clone()]
        for _ in range(6):
            step = lanes.step(allowed_action(lanes, rng))
            lanes.start(step.done.nonzero().squeeze(1))
            seen += [step.reward, lanes.observation.clone(), step.outcomes.inputs]
        return seen

    lanes = make(machine=Noisy(Drifting(digital)), seed=5)
    first, other = play(lanes), play(lanes)
    lanes.seed(5)
    for trial in (play(lanes), play(make(machine=Noisy(Drifting(digital)), seed=5))):
        assert all(torch.equal(a, b) for a, b in zip(first, trial, strict=True))
    assert not torch.equal(first[1], other[1])


def test_making_and_running_an_engine_draws_nothing_from_the_global_generator(make: Make) -> None:
    before = torch.get_rng_state()
    lanes = make()
    lanes.start(everyone(lanes))
    lanes.step(full_action(lanes))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("price", [1e-3, 0.02, 0.3, 1.0, 50.0])
@pytest.mark.parametrize("limits", [(0.02, 1.0), (0.3, 0.3)])
def test_a_price_that_is_given_is_seen_within_its_range(
    make: Make, price: float, limits: tuple[float, float]
) -> None:
    lanes = make(Stream(price=limits))
    lanes.start(everyone(lanes), price=price)
    assert set(lanes.price.tolist()) == {price}
    in_range(lanes)


def test_a_policy_dearer_than_the_network_stays_in_range(make: Make) -> None:
    lanes = make(controller=(1000, 1000))
    lanes.start(everyone(lanes))
    lanes.step(full_action(lanes))
    assert lanes.prices.decision[0] > 2 * lanes.prices.full.energy_j
    assert lanes.observation[0, lanes.layout.where("spent")] == 2


def mistakes() -> dict[str, tuple[Mapping[str, Any], str]]:
    grey = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    labels = torch.zeros(3, dtype=torch.int64)
    wide = torch.zeros(3, 1, 8, 16, dtype=torch.uint8)
    return {
        "shape": ({"images": Images(wide, labels, tuple("0123456789"))}, "takes images"),
        "classes": ({"images": Images(grey, labels, ("a", "b"))}, "10 classes, the data has 2"),
        "lanes": ({"lanes": 0}, "one lane or more"),
        "knob": ({"stream": Stream(choices={"size": (1,)})}, "no knob 'size'"),
        "exit": ({"stream": Stream(choices={"exit": (1,)})}, "no knob 'exit'"),
        "choice": ({"stream": Stream(choices={"bits": (5,)})}, "can stand at"),
        "nothing": ({"stream": Stream(choices={"bits": ()})}, "can stand at"),
        "price": ({"stream": Stream(resource="sent_bytes")}, "costs nothing"),
    }


@pytest.mark.parametrize("name", mistakes())
def test_mistakes_are_named(make: Make, name: str) -> None:
    arguments, message = mistakes()[name]
    with pytest.raises(InputError, match=message):
        make(**arguments)


def test_actions_of_another_shape_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="one index per lane and knob"):
        make().step(torch.zeros(4, 2, dtype=torch.int64))


def test_the_backbone_answers_the_same_whatever_ran_before(make: Make, backbone: Backbone) -> None:
    """The engine leaves the network as it found it."""
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    lanes = make()
    lanes.start(everyone(lanes))
    finish(lanes, full_action(lanes))
    assert all(torch.equal(before[name], t) for name, t in backbone.state_dict().items())
