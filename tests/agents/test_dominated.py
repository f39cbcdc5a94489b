"""Which choices no good configuration needs, and recordings without them."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.agents import Scene
from penstock.agents.dominated import kept_choices, thinned
from penstock.backbones import InputError
from penstock.envs import Budget, Lanes, Live, Stream
from penstock.envs.actions import legal
from penstock.envs.record import record_outcomes
from penstock.envs.recording import Recording, read_recording, write_recording
from penstock.hardware import build_machine

WIDTHS = Stream(stages=(0,), choices={"bits": (8,), "run": (1,), "width": (0.25, 0.5, 1.0)})
"""One decision among three widths: nodes 1, 2 and 3, each with an answer."""

RULES = Stream(
    inputs_per_episode=3,
    stages=(0, 2, 4),
    price=(0.05, 2.0),
    choices={"bits": (8,), "width": (0.25, 0.5, 1.0)},
)


def recorded(scene: Scene, stream: Stream, machine: str = "microcontroller") -> Recording:
    few = scene.data.validation.take(torch.arange(12))
    return record_outcomes(Live(scene.backbone, build_machine(machine), few), stream)


@pytest.fixture(scope="module")
def widths(scene: Scene) -> Recording:
    return recorded(scene, WIDTHS)


@pytest.fixture(scope="module", params=["microcontroller", "split_wifi"])
def whole(scene: Scene, request: pytest.FixtureRequest) -> Recording:
    """Three widths and skips; two widths and three ways to leave, or not."""
    linked = {"bits": (8,), "run": (1,), "width": (0.5, 1.0)}
    choices = linked if request.param == "split_wifi" else RULES.choices
    return recorded(scene, replace(RULES, choices=choices), request.param)


def with_outcomes(recording: Recording, accuracy: list[float], cost: list[float]) -> Recording:
    """Of ten inputs each, so many tenths right; the same cost of every resource."""
    said = torch.zeros(10, len(accuracy), 3)
    for node, share in enumerate(accuracy):
        said[: round(10 * share), node, 0] = 1.0
    here = torch.tensor(cost, dtype=torch.float64).unsqueeze(1).expand(-1, 4).contiguous()
    return replace(recording, said=said, here=here, there=torch.zeros_like(here))


@pytest.mark.parametrize(
    ("accuracy", "tolerance", "kept"),
    [
        # A quarter is right more often than a half, and costs less: 10 points beyond 5, not 20.
        ([0.5, 0.4, 0.8], 5.0, [True, False, True]),
        ([0.5, 0.4, 0.8], 20.0, [True, True, True]),
        # Just as often right and cheaper.
        ([0.5, 0.5, 0.8], 0.0, [True, False, True]),
        ([0.5, 0.5, 0.8], 1.0, [True, True, True]),
        # The full choice stays though all others beat it.
        ([0.9, 0.4, 0.3], 0.0, [True, False, True]),
    ],
)
def test_choices_by_hand(
    widths: Recording, accuracy: list[float], tolerance: float, kept: list[bool]
) -> None:
    recording = with_outcomes(widths, [0.0, *accuracy], [1.0, 1.0, 2.0, 3.0])
    assert kept_choices(recording, tolerance).tolist() == [kept]


def test_what_costs_as_much_and_is_as_right_stays(widths: Recording) -> None:
    recording = with_outcomes(widths, [0.0, 0.5, 0.5, 0.8], [1.0, 2.0, 2.0, 3.0])
    assert kept_choices(recording, 0.0).tolist() == [[True, True, True]]


@pytest.mark.parametrize("tolerance", [-1.0, 101.0, float("nan")])
def test_a_tolerance_out_of_range_is_refused(widths: Recording, tolerance: float) -> None:
    with pytest.raises(InputError, match="0 to 100 points"):
        kept_choices(widths, tolerance)


def one_by_one(recording: Recording, tolerance: float) -> Tensor:
    """The same, every way against every other."""
    tree, table, knobs = recording.tree, recording.table, recording.knobs
    found: list[tuple[int, float, list[float]]] = []
    for node in range(1, len(tree)):
        if table.exits[tree.stage[node] - 1]:
            way = [node]
            while way[-1]:
                way.append(int(tree.parent[way[-1]]))
            cost = sum(
                torch.cat([recording.here[v], recording.there[v], recording.sent_bits[[v]]])
                for v in reversed(way)
            )
            assert isinstance(cost, Tensor)
            found.append((node, float(recording.said[:, node, 0].double().mean()), cost.tolist()))

    def beats(a: tuple[int, float, list[float]], b: tuple[int, float, list[float]]) -> bool:
        if any(mine > theirs for mine, theirs in zip(a[2], b[2], strict=True)):
            return False
        gain = a[1] - b[1]
        return gain > tolerance / 100 or (gain == tolerance / 100 and a[2] != b[2])

    combinations = list(product(*(range(len(knob.choices)) for knob in knobs)))
    starts = [sum(len(knob.choices) for knob in knobs[:k]) for k in range(len(knobs))]
    kept = torch.zeros(len(table.cost), sum(len(knob.choices) for knob in knobs), dtype=torch.bool)
    for k, knob in enumerate(knobs):
        kept[:, starts[k] + len(knob.choices) - 1] = True
        kept[~table.own[:, k], starts[k] : starts[k] + len(knob.choices)] = True
    for each in found:
        if not any(beats(other, each) for other in found):
            node = each[0]
            while node:
                parent = int(tree.parent[node])
                ways = (tree.children[parent] == node).nonzero().squeeze(1).tolist()
                for k, index in enumerate(combinations[ways[-1]]):
                    kept[int(tree.stage[parent]), starts[k] + index] = True
                node = parent
    return kept


@given(seed=st.integers(0, 10_000), tolerance=st.sampled_from([0.0, 3.0, 30.0]))
@settings(max_examples=15, deadline=None)
def test_choices_are_those_found_one_by_one(whole: Recording, seed: int, tolerance: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    said = whole.said.clone()
    said[:, :, 0] = (torch.rand(said.shape[:2], generator=rng) < 0.5).float()
    # Few amounts, so that some configurations cost the same.
    here = torch.randint(0, 3, whole.here.shape, generator=rng).double()
    recording = replace(whole, said=said, here=here)
    assert torch.equal(kept_choices(recording, tolerance), one_by_one(recording, tolerance))


def drawn(recording: Recording, seed: int) -> Tensor:
    """Some choices of each knob and stage: the full one, and all where a knob turns nothing."""
    rng = torch.Generator().manual_seed(seed)
    parts = []
    for k, knob in enumerate(recording.knobs):
        some = torch.rand(len(recording.first), len(knob.choices), generator=rng) < 0.5
        some[:, -1] = True
        parts.append(some | ~recording.table.own[:, [k]])
    return torch.cat(parts, dim=1)


def played(lanes: Lanes, actions: list[Tensor]) -> list[dict[str, Any]]:
    lanes.start(torch.arange(lanes.n))
    found = []
    for action in actions:
        seen = lanes.observation.clone()
        step = lanes.step(action)
        outcomes = step.outcomes
        found.append(
            {
                "seen": seen,
                "reward": step.reward,
                "inputs": outcomes.inputs,
                "right": outcomes.right,
                "cost": outcomes.cost,
                "lost": outcomes.lost,
            }
        )
        lanes.start(step.done.nonzero().squeeze(1))
    return found


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_a_dropped_choice_does_what_takes_its_place(whole: Recording, seed: int) -> None:
    kept = drawn(whole, seed)
    thin = thinned(whole, kept)
    assert len(thin.tree) <= len(whole.tree)
    rng = torch.Generator().manual_seed(seed)
    stream = replace(RULES, choices={})
    lanes = Lanes(whole, stream, lanes=6, seed=seed)
    sizes = [len(knob.choices) for knob in lanes.knobs]
    mine, theirs = [], []
    lanes.start(torch.arange(6))
    for _ in range(40):
        stage = lanes.observation[:, lanes.layout.block].argmax(dim=1)
        free = torch.cat([torch.ones(6, 2, dtype=torch.bool), kept[stage]], dim=1)
        action = torch.stack([torch.randint(size, (6,), generator=rng) for size in sizes], dim=1)
        mine.append(action)
        theirs.append(legal(action, free, sizes))
        lanes.start(lanes.step(theirs[-1]).done.nonzero().squeeze(1))
    one = played(Lanes(thin, stream, lanes=6, seed=seed), mine)
    other = played(Lanes(whole, stream, lanes=6, seed=seed), theirs)
    for a, b in zip(one, other, strict=True):
        for name, value in a.items():
            assert torch.equal(value, b[name]), name


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_hard_budgets_hold_whatever_was_dropped(whole: Recording, seed: int) -> None:
    thin = thinned(whole, drawn(whole, seed))
    free = Lanes(thin, replace(RULES, choices={}), lanes=1).prices
    shares = {"energy_j": 1.2, "latency_s": 1.4}
    budgets = tuple(
        Budget(name, max(share * float(free.cheapest[i]), 1e-12), kind="hard")
        for i, (name, share) in enumerate(shares.items())
    )
    lanes = Lanes(
        thin, replace(RULES, choices={}, budgets=budgets), lanes=8, controller=None, seed=seed
    )
    rng = torch.Generator().manual_seed(seed)
    lanes.start(torch.arange(8))
    for _ in range(40):
        action = torch.stack(
            [torch.randint(len(knob.choices), (8,), generator=rng) for knob in lanes.knobs], dim=1
        )
        step = lanes.step(action)
        assert not step.outcomes.over.any()
        lanes.start(step.done.nonzero().squeeze(1))


@given(seed=st.integers(0, 10_000), share=st.sampled_from([1.0, 1.2, 2.0, 50.0]))
@settings(max_examples=20, deadline=None)
def test_what_was_dropped_is_never_allowed(whole: Recording, seed: int, share: float) -> None:
    kept = drawn(whole, seed)
    thin = thinned(whole, kept)
    rules = replace(RULES, choices={})
    free = Lanes(thin, rules, lanes=1, controller=None).prices
    limit = share * float(free.cheapest[0])
    rules = replace(rules, budgets=(Budget("energy_j", limit, kind="hard"),))
    lanes = Lanes(thin, rules, lanes=8, controller=None, seed=seed)
    sizes = [len(knob.choices) for knob in lanes.knobs]
    rng = torch.Generator().manual_seed(seed)
    lanes.start(torch.arange(8))
    for _ in range(40):
        stage = lanes.observation[:, lanes.layout.block].argmax(dim=1)
        allowed = lanes.allowed[lanes.active]
        assert (allowed[:, 2:] <= kept[stage[lanes.active]]).all()
        assert all(part.any(dim=1).all() for part in torch.split(allowed, sizes, dim=1))
        score = torch.rand(lanes.allowed.shape, generator=rng).masked_fill(~lanes.allowed, -1)
        action = [part.argmax(dim=1) for part in torch.split(score, sizes, dim=1)]
        step = lanes.step(torch.stack(action, dim=1))
        assert not step.outcomes.over.any() and not step.outcomes.overruled.any()
        lanes.start(step.done.nonzero().squeeze(1))


def test_a_stream_that_offers_only_what_was_dropped_is_refused(whole: Recording) -> None:
    kept = torch.ones_like(drawn(whole, 0))
    column = 0
    for knob in whole.knobs:
        if knob.name == "width":
            kept[1, column] = False
        column += len(knob.choices)
    thin = thinned(whole, kept)
    least = next(knob.choices[0] for knob in whole.knobs if knob.name == "width")
    with pytest.raises(InputError, match="dropped as dominated before block 2"):
        thin.outline(replace(RULES, choices={"width": (least,)}))
    offered = thin.outline(replace(RULES, choices={"width": (least, 1.0)})).table.offered
    assert not offered[1].all() and offered[0].all() and offered[2].all()


def test_nothing_dropped_changes_nothing(whole: Recording) -> None:
    kept = torch.ones_like(drawn(whole, 0))
    thin = thinned(whole, kept)
    assert torch.equal(thin.seen, whole.seen) and torch.equal(thin.here, whole.here)
    assert torch.equal(thin.tree.children, whole.tree.children)
    assert torch.equal(thin.table.same, whole.table.same)


def test_it_says_what_was_kept_in_the_file_too(whole: Recording, tmp_path: Path) -> None:
    assert bool(whole.table.offered.all())
    kept = drawn(whole, 3)
    write_recording(thinned(whole, kept), tmp_path / "thin.safetensors")
    read = read_recording(tmp_path / "thin.safetensors", whole.machine)
    assert torch.equal(read.table.offered, kept)
    words = read.about["kept"]
    assert len(words) == 3 and words[0]["width"][-1] == 1.0
