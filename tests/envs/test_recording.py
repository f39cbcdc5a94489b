"""What is recorded of a network, replayed, kept in files and told beforehand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any, final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import Backbone, Block, Images, InputError, Setting, tiny_resnet
from penstock.backbones.saving import read_tensors, save, write_tensors
from penstock.envs import (
    Arrivals,
    Battery,
    Budget,
    Lanes,
    Live,
    Outcomes,
    Recording,
    Stream,
    Switching,
    read_recording,
    record_outcomes,
    write_recording,
)
from penstock.envs.record import Recorder
from penstock.envs.source import Source
from penstock.hardware import (
    RESOURCES,
    Cost,
    Digital,
    Heated,
    Job,
    Link,
    Machine,
    Radio,
    Split,
    State,
    Synthetic,
)
from penstock.hardware.judging import spent
from penstock.hardware.machine import Condition

CHOICES: Mapping[str, Any] = {"width": (0.5, 1.0), "bits": (32,)}
RULES = Stream(stages=(0, 2, 4), choices=CHOICES)
FEW = Stream(stages=(0, 4), choices={"bits": (8, 32), "width": (1.0,)})


@final
@dataclass(frozen=True)
class Sparing(Machine):
    """What activations are bright takes energy: inputs differ in what they cost."""

    inner: Machine

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, state = self.inner.run(job, state, rng)
        bright = job.x.flatten(1).mean(dim=1).abs().double()
        share = bright / (1 + bright)
        return y, replace(cost, energy_j=cost.energy_j * share), state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)


@final
@dataclass(frozen=True)
class Ageing(Machine):
    """Its age is seen; it grows by the second, or by the job."""

    inner: Machine
    by_job: bool

    def reset(self, n: int, rng: torch.Generator) -> State:
        return {"age": torch.rand(n, generator=rng, dtype=torch.float64)}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, _ = self.inner.run(job, {}, rng)
        return y, cost, {"age": state["age"] + self.by_job}

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)

    def later(self, state: State, seconds: Tensor) -> State:
        return {"age": state["age"] + (not self.by_job) * seconds}


@final
@dataclass(frozen=True)
class Fading(Machine):
    """Activations fade as seconds pass, in three steps; brighter ones take more energy."""

    inner: Machine
    ages_s: tuple[float, ...] = (0.0, 40.0, 80.0)

    def reset(self, n: int, rng: torch.Generator) -> State:
        age_s = 90 * torch.rand(n, generator=rng, dtype=torch.float64)
        return {"age_s": age_s, "met": self._nearest(age_s)}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        if job.block.name == "stem":
            state = self.next_input(state)
        y, cost, _ = self.inner.run(job, {}, rng)
        left = 1 - 0.3 * state["met"].float()
        cost = replace(cost, energy_j=cost.energy_j * left.squeeze(1).double())
        return y * left.view(-1, *[1] * (y.dim() - 1)), *self.bill(cost, state)

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)

    def later(self, state: State, seconds: Tensor) -> State:
        return {**state, "age_s": state["age_s"] + seconds}

    def next_input(self, state: State) -> State:
        return {**state, "met": self._nearest(state["age_s"])}

    def bill(self, cost: Cost, state: State) -> tuple[Cost, State]:
        return cost, {**state, "age_s": state["age_s"] + cost.latency_s}

    def conditions(self) -> Sequence[Condition]:
        return [{"age_s": age_s} for age_s in self.ages_s]

    def condition(self, state: State) -> Tensor:
        return state["met"].squeeze(1)

    def _nearest(self, age_s: Tensor) -> Tensor:
        gaps = (age_s.unsqueeze(1) - torch.tensor(self.ages_s, dtype=torch.float64)).abs()
        return gaps.argmin(dim=1, keepdim=True)


@final
@dataclass(frozen=True)
class Erring(Machine):
    """Adds noise to whatever it is asked."""

    inner: Machine

    def reset(self, n: int, rng: torch.Generator) -> State:
        return self.inner.reset(n, rng)

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        y, cost, state = self.inner.run(job, state, rng)
        return y + 0.1 * torch.randn(y.shape, generator=rng), cost, state

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        return self.inner.price(block, setting, shape)


@pytest.fixture(scope="module")
def split(digital: Digital) -> Split:
    """Transfers take seconds, some too many; the server is fast and often busy."""
    fast = replace(digital, macs_per_s={8: 4e5, 32: 2e5}, memory_bytes_per_s=1e6, launch_s=0.01)
    traces = Synthetic(median_bps=3e3, spread=1.0, traces=8, length_s=60, rtt_s=0.5)
    link = Link(traces, rtt_s=0.1, radio=Radio(2.0, 500.0), idle_w=100.0, floor_bps=100.0)
    return Split(digital, fast, link, bits=(8, 32), busy=(0.0, 0.8), timeout_s=4.0)


@pytest.fixture(scope="module")
def split_live(backbone: Backbone, split: Split, images: Images) -> Live:
    return Live(backbone, split, images)


@pytest.fixture(scope="module")
def split_recording(split_live: Live) -> Recording:
    return record_outcomes(split_live, RULES)


@pytest.fixture(scope="module")
def live(backbone: Backbone, digital: Digital, images: Images) -> Live:
    return Live(backbone, digital, images)


@pytest.fixture(scope="module")
def recording(live: Live) -> Recording:
    return record_outcomes(live, FEW)


def some_actions(lanes: Lanes, masked: bool, rng: torch.Generator) -> Tensor:
    """Choices that are allowed, or anything, beyond the ends too; few leave early."""
    sizes = [len(knob.choices) for knob in lanes.knobs]
    chances = torch.rand(lanes.allowed.shape, generator=rng)
    chances[:, 0] *= 0.7
    chances = chances * lanes.allowed if masked else chances
    actions = torch.stack([part.argmax(1) for part in chances.split_with_sizes(sizes, 1)], dim=1)
    if not masked:
        actions += torch.randint(-1, 2, actions.shape, generator=rng) * (
            torch.rand(actions.shape, generator=rng) < 0.1
        )
    return actions


def check_alike(one: Outcomes, two: Outcomes) -> None:
    for field in fields(Outcomes):
        first, second = getattr(one, field.name), getattr(two, field.name)
        if field.name in ("cost", "worth"):
            torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-5, msg=field.name)
        else:
            assert torch.equal(first, second), field.name


def play_both(
    sources: tuple[Source, Source],
    stream: Stream,
    seed: int,
    steps: int,
    atol: float = 1e-3,
    controller: tuple[int, ...] | None = (8,),
) -> Outcomes:
    """Play the same on both, hold each step of one against the other, and say what became."""
    n, rng = 5, torch.Generator().manual_seed(seed)
    one, two = (Lanes(each, stream, lanes=n, controller=controller, seed=seed) for each in sources)
    assert one.layout.columns == two.layout.columns
    found: list[Outcomes] = []
    fresh = torch.arange(n)
    for _ in range(steps):
        one.start(fresh), two.start(fresh)
        rows = one.active  # of those who rest it means nothing
        shown = one.observation[rows], two.observation[rows]
        torch.testing.assert_close(*shown, atol=atol, rtol=1e-4)
        assert torch.equal(one.allowed, two.allowed)
        assert torch.equal(one.active, two.active)
        actions = some_actions(one, bool(torch.rand((), generator=rng) < 0.6), rng)
        first, second = one.step(actions), two.step(actions)
        torch.testing.assert_close(first.reward, second.reward, rtol=1e-5, atol=1e-5)
        assert torch.equal(first.done, second.done)
        check_alike(first.outcomes, second.outcomes)
        assert torch.equal(first.ended.lanes, second.ended.lanes)
        torch.testing.assert_close(first.ended.limits, second.ended.limits)
        torch.testing.assert_close(first.ended.left, second.ended.left, rtol=1e-6, atol=1e-3)
        found.append(first.outcomes)
        again = torch.rand(n, generator=rng) < 0.02
        fresh = (first.done | again).nonzero().squeeze(1)
    return Outcomes(
        *(torch.cat([getattr(o, f.name) for o in found]) for f in fields(Outcomes)),
    )


def with_budgets(
    source: Source, stream: Stream, kinds: list[tuple[str, Any, float, bool]]
) -> Stream:
    """The stream with hard budgets (resource, per, room, drawn) above the cheapest way."""
    ample = tuple(
        Budget(resource, 1e30, kind="hard", per=per, most=2e30 if drawn else None)
        for resource, per, _, drawn in kinds
    )
    budgets = (*stream.budgets, *ample)
    lanes = Lanes(source, replace(stream, budgets=budgets), lanes=1, controller=(8,))
    placed = []
    for budget, (*_, room, drawn) in zip(ample, kinds, strict=True):
        place = RESOURCES.index(budget.resource)
        least = float(lanes.prices.cheapest[place])
        least += room * max(float(lanes.full.rows()[place]), 300.0)
        if budget.per == "stream":
            least *= stream.inputs_per_episode
        placed.append(replace(budget, limit=least, most=1.5 * least if drawn else None))
    return replace(stream, budgets=(*stream.budgets, *placed))


# Replayed -----------------------------------------------------------------------------------------

HARD = st.tuples(
    st.sampled_from(("energy_j", "latency_s", "sent_bytes")),
    st.sampled_from(("input", "stream")),
    st.floats(0.01, 1),
    st.booleans(),
)
ARRIVALS = st.builds(
    Arrivals,
    period_s=st.sampled_from((8.0, 30.0)),
    burst=st.sampled_from((1.0, 4.0)),
    burst_inputs=st.just(3.0),
    jitter=st.sampled_from((0.0, 1.0)),
    deadline_s=st.sampled_from((inf, 50.0)),
    capacity=st.integers(1, 3),
)
BATTERY = st.builds(
    Battery,
    capacity_j=st.sampled_from((1.5, 4.0)),
    start=st.sampled_from(((0.7, 1.0), (0.0, 0.3))),
    idle_w=st.sampled_from((0.0, 1e-3)),
    harvest_w=st.sampled_from((0.0, 1e-2)),
    sun_s=st.sampled_from((0.0, 100.0)),
)
WIDTH_TURNS = (Switching("width", 0.02, 0.01), Switching("run", 0.0, 0.02))


@given(
    inputs=st.integers(1, 4),
    hard=st.lists(HARD, max_size=2, unique_by=lambda each: each[:2]),
    average=st.sampled_from(((), (Budget("energy_j", 0.3, True, most=0.9),))),
    arrivals=st.none() | ARRIVALS,
    battery=st.none() | BATTERY,
    switching=st.sampled_from(((), WIDTH_TURNS)),
    worth=st.sampled_from(("right", "likelihood")),
    period_s=st.sampled_from((0.0, 25.0)),
    history=st.integers(0, 2),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=12, deadline=None)
def test_a_replay_is_what_the_network_would_have_done(
    split: Split,
    split_live: Live,
    split_recording: Recording,
    inputs: int,
    hard: list[tuple[str, Any, float, bool]],
    average: tuple[Budget, ...],
    arrivals: Arrivals | None,
    battery: Battery | None,
    switching: tuple[Switching, ...],
    worth: Any,
    period_s: float,
    history: int,
    seed: int,
) -> None:
    """Links, load, lost transfers, and every rule of a stream, in any combination."""
    stream = Stream(
        inputs_per_episode=inputs,
        worth=worth,
        budgets=average,
        stages=RULES.stages,
        arrivals=arrivals,
        battery=battery,
        switching=switching,
        history=history,
        choices=CHOICES,
    )
    stream = with_budgets(split_recording, stream, hard)
    machine = replace(split, period_s=period_s)
    sources = replace(split_live, runs_on=machine), replace(split_recording, runs_on=machine)
    outcomes = play_both(sources, stream, seed, steps=25)
    assert len(outcomes.lanes) and not outcomes.over.any()


def test_a_replay_of_eight_bits_is_near(live: Live, recording: Recording) -> None:
    stream = replace(FEW, inputs_per_episode=2)
    assert recording.here.shape == (len(recording.tree), len(RESOURCES))
    # The steps of this network are not calibrated, but 0.1: a number that rounds to the next level,
    # as batches of another size may make it do, moves a mean over 4 x 4 pixels by 0.1 / 16.
    outcomes = play_both((live, recording), stream, seed=1, steps=40, atol=1e-2)
    assert len(set(outcomes.exit.tolist())) == 2  # blocks 3 and 5


def test_a_replay_of_inputs_that_cost_different_amounts(
    backbone: Backbone, digital: Digital, images: Images
) -> None:
    live = Live(backbone, Sparing(digital), images)
    recorded = record_outcomes(live, FEW)
    assert recorded.here.shape == (20, len(recorded.tree), len(RESOURCES))
    outcomes = play_both(
        (live, recorded), replace(FEW, inputs_per_episode=2), seed=2, steps=40, atol=1e-2
    )
    assert len(set(outcomes.cost[:, 0].tolist())) > 10


def test_a_state_that_goes_on_with_time_is_met_in_a_replay(
    short: Backbone, digital: Digital, images: Images
) -> None:
    live = Live(short, Ageing(digital, by_job=False), images)
    arrivals = Arrivals(period_s=40.0, jitter=1.0, deadline_s=90.0)
    stream = Stream(3, stages=(0, 2), choices=FEW.choices, arrivals=arrivals)
    play_both((live, record_outcomes(live, stream)), stream, seed=3, steps=40, atol=1e-2)


# Drift --------------------------------------------------------------------------------------------


def heated(machine: Machine, backbone: Backbone) -> Heated:
    """Throttled after some ten inputs of this network, some streams from their start."""
    full = spent(backbone, machine)
    power_w = float(full.energy_j) / float(full.latency_s)
    return Heated(
        machine,
        resistance_k_per_w=80 / power_w,
        capacity_j_per_k=10 * float(full.energy_j) / 80,
        throttle_c=65.0,
        band_c=20.0,
        slowest=3.0,
        idle_w=power_w / 20,
        start=(0.0, 1.6),
    )


def beside(near: Machine, far: Machine) -> Split:
    traces = Synthetic(median_bps=3e3, spread=1.0, traces=8, length_s=60, rtt_s=0.5)
    link = Link(traces, rtt_s=0.1, radio=Radio(2.0, 500.0), idle_w=100.0, floor_bps=100.0)
    return Split(near, far, link, bits=(32,), busy=(0.0, 0.8), timeout_s=4.0, period_s=5.0)


DRIFTS: Mapping[str, Callable[[Machine, Backbone], Machine]] = {
    "heat": heated,
    "fading": lambda machine, backbone: Fading(machine),
    "heat and fading": lambda machine, backbone: heated(Fading(machine), backbone),
    "near heat": lambda machine, backbone: beside(heated(machine, backbone), machine),
    "near heat, far fading": lambda machine, backbone: beside(
        heated(machine, backbone), Fading(machine)
    ),
}


@pytest.mark.parametrize("controller", [None, (8,)])
@pytest.mark.parametrize("name", DRIFTS)
def test_a_machine_that_drifts_is_met_in_a_replay(
    backbone: Backbone, digital: Digital, images: Images, name: str, controller: Any
) -> None:
    live = Live(backbone, DRIFTS[name](digital, backbone), images)
    stream = Stream(
        8,
        stages=(0, 3),
        choices={"bits": (32,), "width": (0.5, 1.0)},
        arrivals=Arrivals(period_s=60.0, jitter=1.0, deadline_s=300.0),
    )
    recorded = record_outcomes(live, stream, batch=7)
    several = 3 if "fading" in name else 1
    assert len(recorded.conditions) == several and len(recorded.seen) == several * 20
    assert recorded.here.dim() == (3 if "fading" in name else 2)
    outcomes = play_both((live, recorded), stream, seed=7, steps=60, controller=controller)
    assert len(outcomes.lanes) > 40


def test_heat_costs_and_is_seen(backbone: Backbone, digital: Digital, images: Images) -> None:
    """Always at full: it is as hot as it gets, each input slower than a cold one."""
    machine = replace(heated(digital, backbone), start=(0.0, 0.0))
    stream = Stream(60, stages=(0,), choices={"bits": (32,), "width": (1.0,), "run": (1,)})
    lanes = Lanes(
        record_outcomes(Live(backbone, machine, images), stream), stream, lanes=1, controller=None
    )
    lanes.start(torch.arange(1))
    took, warmth = [], []
    while lanes.active.any():
        warmth.append(float(lanes.observation[0, lanes.layout.where("machine_warmth")]))
        took += lanes.step(torch.tensor([[1]])).outcomes.cost[:, 1].tolist()
    # The full network is priced at the lowest clock, of which a cold one takes a third.
    assert took[0] == pytest.approx(float(lanes.full.latency_s) / 3)
    assert warmth[0] == 0 and 1.05 < warmth[-1] < 1.5
    slowest = 1 + 2 * (warmth[-1] - 1) * 40 / 20
    assert took[-1] == pytest.approx(took[0] * slowest, rel=1e-4)
    assert sorted(took) == pytest.approx(took, rel=1e-3)


def test_a_hard_budget_holds_at_the_lowest_clock(
    backbone: Backbone, digital: Digital, images: Images
) -> None:
    hot = replace(heated(digital, backbone), start=(1.5, 1.6))
    recorded = record_outcomes(Live(backbone, hot, images), FEW)
    tight = Budget("latency_s", 0.6, relative=True, kind="hard")
    rules = replace(FEW, inputs_per_episode=3, budgets=(tight,))
    outcomes = play_both((Live(backbone, hot, images), recorded), rules, 8, steps=40, atol=1e-2)
    assert len(outcomes.lanes) and not outcomes.over.any()
    faster = replace(recorded, runs_on=replace(hot, slowest=2.0))
    with pytest.raises(InputError, match=r"slowest link and clock .* got others"):
        faster.outline(rules)
    faster.outline(FEW)  # an average budget rests on nothing


def test_conditions_are_rows(backbone: Backbone, digital: Digital, images: Images) -> None:
    live = Live(backbone, Fading(digital), images)
    stream = replace(FEW, choices={"bits": (32,), "width": (1.0,)})
    recorded = record_outcomes(live, stream)
    assert recorded.inputs == 20 and recorded.seen.shape[:2] == (60, len(recorded.tree))
    assert recorded.rows(torch.tensor([4, 1])).tolist() == [4, 1, 24, 21, 44, 41]
    # Fresh inputs are those of the machine that never fades.
    plain = record_outcomes(replace(live, runs_on=digital), stream)
    torch.testing.assert_close(recorded.seen[:20], plain.seen, atol=1e-5, rtol=1e-5)
    assert (recorded.seen[20:40] != recorded.seen[:20]).any()
    some = recorded.take(torch.tensor([4, 1]))
    assert torch.equal(some.seen, recorded.seen[[4, 1, 24, 21, 44, 41]])
    assert torch.equal(some.here, recorded.here[[4, 1, 24, 21, 44, 41]])
    assert some.labels.tolist() == images.labels[[4, 1]].tolist()
    mask = torch.zeros(20, dtype=torch.bool)
    mask[[1, 4]] = True
    assert torch.equal(recorded.take(mask).said, recorded.said[[1, 4, 21, 24, 41, 44]])
    worth = recorded.full_worth("likelihood")
    whole = recorded.rows(torch.tensor([3]))
    node = recorded.tree.children[recorded.tree.children[0, -1], -1]
    assert worth.shape == (20,) and worth[3] == recorded.said[whole][:, node, 1].mean()


def test_conditions_are_kept_in_files_and_told_beforehand(
    backbone: Backbone, digital: Digital, images: Images, tmp_path: Path
) -> None:
    live = Live(backbone, Fading(digital), images)
    recorded = record_outcomes(live, FEW)
    write_recording(recorded, tmp_path / "r")
    same_recording(recorded, read_recording(tmp_path / "r", live.machine))
    size = Recorder(live, FEW).size(20)
    alone = Recorder(replace(live, runs_on=Sparing(digital)), FEW).size(20)
    assert size.conditions == 3 and size.passes == pytest.approx(3 * alone.passes)
    assert size.bytes == pytest.approx((tmp_path / "r").stat().st_size, rel=0.01)
    with pytest.raises(InputError, match=r"age_s = 0 or .* or age_s = 80, got .* age_s = 50") as e:
        read_recording(tmp_path / "r", Fading(digital, ages_s=(0.0, 50.0)))
    assert one_sentence(e.value)


def test_what_drifts_within_what_does_not_is_refused(
    backbone: Backbone, digital: Digital, images: Images
) -> None:
    machine = Sparing(heated(digital, backbone))
    Lanes(Live(backbone, machine, images), FEW, lanes=1)  # the network itself may be run
    with pytest.raises(InputError, match=r"got Heated inside of Sparing; put Heated around it"):
        Recorder(Live(backbone, machine, images), FEW)


# Parts of a recording -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "offered",
    [{"width": (0.5,)}, {"run": (1,), "width": (1.0,)}, {"offload": (0,)}, {"offload": (8, 0)}],
)
def test_a_part_of_what_was_recorded_may_be_offered(
    split_live: Live, split_recording: Recording, offered: Mapping[str, Any]
) -> None:
    stream = replace(RULES, choices={**CHOICES, **offered})
    play_both((split_live, split_recording), stream, seed=4, steps=25)


@pytest.mark.parametrize("offered", [{"bits": (8,)}, {"bits": (8,), "run": (1,)}])
def test_a_part_without_the_full_choice_is_refused_or_met(
    live: Live, recording: Recording, offered: Mapping[str, Any]
) -> None:
    # Stem and heads stand at the dearest choice offered; recorded was that of the recording.
    stream = replace(FEW, choices={**FEW.choices, **offered})
    try:
        recording.outline(stream)
    except InputError:
        return
    play_both((live, recording), stream, seed=5, steps=10, atol=1e-2)


@pytest.mark.parametrize("offered", [(8,), (8, 32)])
def test_features_that_cannot_stay_are_refused(
    split_live: Live, split_recording: Recording, offered: tuple[int, ...]
) -> None:
    # The image itself would leave at the stem, from which no tree of nodes begins.
    stream = replace(RULES, choices={**CHOICES, "offload": offered})
    with pytest.raises(InputError, match="offload"):
        Recorder(split_live, stream)
    with pytest.raises(InputError, match="offload"):
        split_recording.outline(stream)


def test_a_hard_budget_is_kept_on_another_link(
    short: Backbone, digital: Digital, images: Images
) -> None:
    """520 bytes take 0.04 s when recorded, and 42 s when replayed, of 27.5 s that are allowed."""
    fast = Split(digital, digital, Link(1e5, 0.01), bits=(8,), timeout_s=100.0)
    slow = replace(fast, link=Link(1e2, 0.01))
    stream = Stream(choices={"bits": (32,), "width": (1.0,), "run": (1,)})
    recorded = replace(record_outcomes(Live(short, fast, images), stream), runs_on=slow)
    budget = Budget("latency_s", 1.3, relative=True, kind="hard")
    try:
        lanes = Lanes(recorded, replace(stream, budgets=(budget,)), lanes=1, controller=None)
    except InputError:  # a link on which bounds do not hold may be refused
        return
    lanes.start(torch.arange(1))
    while lanes.active.any():
        outcomes = lanes.step(torch.tensor([[1, 0]])).outcomes
    assert not outcomes.over.any() and outcomes.cost[0, 1] < 1.3 * lanes.full.rows()[1]


def test_the_network_itself_is_not_there(recording: Recording) -> None:
    lanes = Lanes(recording, FEW, lanes=1)
    with pytest.raises(InputError, match="needs the network itself, got a recording"):
        lanes.backbone  # noqa: B018  # a property that raises
    assert lanes.machine == recording.runs_on


def test_a_machine_that_errs_is_drawn_anew_for_an_input_that_is_named_twice(
    short: Backbone, digital: Digital, images: Images
) -> None:
    live, stream = Live(short, Erring(digital), images), replace(FEW, stages=(0,))
    inputs = torch.tensor([7, 7, 2])
    found = record_outcomes(live, stream, inputs=inputs, seed=1)
    assert found.numbers.tolist() == [7, 7, 2]
    assert torch.equal(found.labels, images.labels[inputs])
    assert (found.seen[0] != found.seen[1]).any()
    same_recording(found, record_outcomes(live, stream, inputs=inputs, seed=1))
    other = record_outcomes(live, stream, inputs=inputs, seed=2)
    assert (found.seen != other.seen).any() and torch.equal(found.here, other.here)


# Refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stages": (0, 2)}, r"before blocks \[0, 4\], the stream takes them before \[0, 2\]"),
        ({"choices": {"bits": (4, 8)}}, r"bits.*8, 32.*\[4, 8\]"),
        ({"choices": {"width": (0.5,)}}, r"width.*1\.0.*\[0\.5\]"),
        ({"choices": {"bits": ()}}, "bits"),
        ({"choices": {"run": (0,)}}, r"run = \[0\]"),
        ({"choices": {"votes": (1,)}}, "no knob 'votes'"),
    ],
)
def test_more_than_was_recorded_is_refused(
    recording: Recording, changes: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        Lanes(recording, replace(FEW, **changes), lanes=1)


def test_what_cannot_be_recorded_is_refused(
    short: Backbone, digital: Digital, images: Images, split: Split
) -> None:
    stream = replace(FEW, stages=())
    wide = replace(stream, choices={})
    with pytest.raises(InputError, match=r"can go \d+ ways, of which at most 50"):
        Recorder(Live(short, digital, images), wide, most_nodes=50)
    with pytest.raises(InputError, match="a link is recorded where it is outermost"):
        Recorder(Live(short, Sparing(split), images), stream)
    with pytest.raises(InputError, match=r"outermost|near_log10_bps"):
        Recorder(Live(short, replace(split, near=split), images), stream)


@pytest.mark.parametrize("near", [False, True])
def test_a_state_that_running_changes_is_refused(
    short: Backbone, digital: Digital, images: Images, split: Split, near: bool
) -> None:
    machine: Machine = Ageing(digital, by_job=True)
    machine = replace(split, near=machine) if near else machine
    with pytest.raises(InputError, match=r"changes (near_)?age, which a policy sees"):
        record_outcomes(Live(short, machine, images), replace(FEW, stages=()))


def test_a_near_machine_that_ages_is_refused_or_met(
    short: Backbone, digital: Digital, images: Images, split: Split
) -> None:
    live = Live(short, replace(split, near=Ageing(digital, by_job=False)), images)
    choices = {**FEW.choices, "offload": (8, 0)}
    stream = Stream(3, stages=(0, 2), choices=choices, arrivals=Arrivals(period_s=40.0))
    try:
        recorded = record_outcomes(live, stream)
    except InputError:
        return
    play_both((live, recorded), stream, seed=6, steps=20, atol=1e-2)


# Files --------------------------------------------------------------------------------------------


def same_recording(one: Recording, two: Recording) -> None:
    """Bit for bit, whatever they are made of."""
    for field in fields(Recording):
        first, second = getattr(one, field.name), getattr(two, field.name)
        if field.name in ("tree", "table"):
            for inner in fields(first):
                a, b = getattr(first, inner.name), getattr(second, inner.name)
                assert a.dtype == b.dtype and torch.equal(a, b), inner.name
        elif isinstance(first, Tensor):
            assert first.dtype == second.dtype and torch.equal(first, second), field.name
        else:
            assert first == second, field.name


def test_a_file_gives_the_recording_back(
    split_recording: Recording, split: Split, tmp_path: Path
) -> None:
    about = {"experiment": "abc", "seed": 3, "options": {"stages": [0, 2, 4], "none": None}}
    recorded = replace(split_recording.take(torch.tensor([4, 1])), about=about)
    write_recording(recorded, tmp_path / "there" / "r.safetensors")
    found = read_recording(tmp_path / "there" / "r.safetensors", split)
    same_recording(recorded, found)
    assert found.numbers.tolist() == [4, 1] and found.inputs == 2
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["r.safetensors"]


def one_sentence(error: InputError) -> bool:
    return "\n" not in str(error) and ". " not in str(error)


def test_other_files_are_refused(
    recording: Recording, digital: Digital, backbone: Backbone, split: Split, tmp_path: Path
) -> None:
    path = tmp_path / "r"
    write_recording(recording, path)
    tensors, metadata = read_tensors(path)
    write_tensors(tmp_path / "newer", tensors, {**metadata, "schema": "99"})
    write_tensors(tmp_path / "columns", tensors, {**metadata, "columns": "[[], []]"})
    write_tensors(tmp_path / "plain", tensors, {})
    save(backbone, tmp_path / "weights")
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-100])
    (tmp_path / "text").write_text("hello")
    for name, sentence in (
        ("newer", "another release"),
        ("columns", "another release"),
        ("plain", "should be a recording"),
        ("weights", "should be a recording"),
        ("cut", "cut off or damaged"),
        ("text", "cut off or damaged"),
        ("none", "found none"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            read_recording(tmp_path / name, digital)
        assert one_sentence(caught.value)
    # A file that cannot be written leaves nothing half-written.
    with pytest.raises(InputError, match="can be written"):
        write_recording(recording, path / "inside")


def test_another_kind_of_machine_is_refused(
    recording: Recording, split_recording: Recording, digital: Digital, split: Split, tmp_path: Path
) -> None:
    write_recording(split_recording.take(torch.tensor([0])), tmp_path / "split")
    with pytest.raises(InputError, match="machine"):
        read_recording(tmp_path / "split", digital)
    write_recording(recording, tmp_path / "plain")
    with pytest.raises(InputError, match="machine"):
        read_recording(tmp_path / "plain", split)


# Cut off ------------------------------------------------------------------------------------------


def test_a_recording_that_was_cut_off_goes_on(live: Live, tmp_path: Path) -> None:
    def stop(count: int) -> None:
        if len(list(tmp_path.iterdir())) == 3:
            raise KeyboardInterrupt

    whole = record_outcomes(live, FEW, batch=6, about={"seed": 1})
    with pytest.raises(KeyboardInterrupt):
        record_outcomes(live, FEW, tmp_path, batch=6, about={"seed": 1}, progress=stop)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 3
    counts: list[int] = []
    found = record_outcomes(live, FEW, tmp_path, batch=6, about={"seed": 1}, progress=counts.append)
    assert counts == [6, 6, 6, 2]
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"0000{i}.safetensors" for i in range(4)
    ]
    same_recording(whole, found)


def test_batches_of_another_recording_are_refused(
    live: Live, digital: Digital, images: Images, tmp_path: Path
) -> None:
    def again(live: Live, stream: Stream, **options: Any) -> Recording:
        return record_outcomes(live, stream, tmp_path, **{"batch": 10, "seed": 1, **options})

    first = again(live, FEW)
    same_recording(first, again(live, FEW))
    torch.manual_seed(1)
    other = tiny_resnet(blocks_per_stage=2).eval()
    dear = replace(digital, mac_j={**digital.mac_j, 32: 40.0})
    brighter = replace(images, pixels=images.pixels // 2)
    for live_again, stream, options in (
        (live, FEW, {"seed": 2}),
        (live, FEW, {"batch": 5}),
        (live, FEW, {"about": {"experiment": "other"}}),
        (live, FEW, {"inputs": torch.arange(19)}),
        (live, replace(FEW, choices={**FEW.choices, "bits": (4, 32)}), {}),  # as many nodes
        (live, replace(FEW, stages=(0, 2)), {}),
        (replace(live, backbone=other), FEW, {}),
        (replace(live, runs_on=dear), FEW, {}),
        (replace(live, images=brighter), FEW, {}),
        (replace(live, runs_on=Erring(digital)), FEW, {}),  # at the same prices
    ):
        with pytest.raises(InputError, match="batches of another recording"):
            again(live_again, stream, **options)


# Size ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparing", [False, True])
def test_the_size_is_known_beforehand(
    backbone: Backbone, digital: Digital, images: Images, tmp_path: Path, sparing: bool
) -> None:
    live = Live(backbone, Sparing(digital) if sparing else digital, images)
    stream = replace(FEW, choices={"bits": (4, 8, 32), "width": (0.5, 1.0)})
    size = Recorder(live, stream).size(60)
    inputs = torch.arange(20).repeat(3)
    recorded = record_outcomes(live, stream, inputs=inputs)
    assert recorded.numbers.tolist() == inputs.tolist()
    write_recording(recorded, tmp_path / "r")
    assert size.nodes == len(recorded.tree) and size.inputs == 60
    assert size.bytes == pytest.approx((tmp_path / "r").stat().st_size, rel=0.01)


def test_the_work_is_known_beforehand(live: Live) -> None:
    """Two blocks a stage, 8 or 32 bits, run or not where that can be: counted one by one."""
    passes = Recorder(live, FEW).size(20).passes
    jobs: list[float] = []

    @final
    @dataclass(frozen=True)
    class Counting(Machine):
        def reset(self, n: int, rng: torch.Generator) -> State:
            return {}

        def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
            y, cost, state = live.machine.run(job, state, rng)
            jobs.append(float(cost.macs))
            return y, cost, state

        def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
            return live.machine.price(block, setting, shape)

    counting = replace(live, runs_on=Counting())
    record_outcomes(counting, FEW)
    full = float(Lanes(live, FEW, lanes=1).full.macs)
    assert sum(jobs) / full == pytest.approx(passes)


def test_the_full_network_is_found_in_the_tree(
    live: Live, recording: Recording, images: Images
) -> None:
    with torch.no_grad():
        logits = live.backbone(images.pixels.float() / 255)
    right = (logits.argmax(dim=1) == images.labels).float()
    assert torch.equal(recording.full_worth("right"), right)
    likely = logits.softmax(dim=1).gather(1, images.labels.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(recording.full_worth("likelihood"), likely, rtol=1e-4, atol=1e-5)
