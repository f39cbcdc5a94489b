"""What outcomes say was chosen is what was chosen."""

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.backbones import Backbone
from penstock.envs import Lanes, Outcomes, Stream
from penstock.envs.actions import legal
from penstock.envs.choices import Choices

Make = Callable[..., Lanes]


def test_choices_by_hand() -> None:
    """Two stages, knobs of 2 and 3 choices: combination 4 is (1, 1), 2 is (0, 2)."""
    made = Choices(2, (2, 2, 3))
    running, resting = torch.tensor([True, True]), torch.tensor([True, False])
    made.note(running, torch.tensor([4, 2]))
    first = made.since(torch.tensor([0, 0]))
    made.note(resting, torch.tensor([5, 0]))
    second = made.since(torch.tensor([1, 1]))
    everyone = torch.arange(2)
    expected = [[[1, 1, 1], [-1, -1, -1]], [[1, 0, 2], [-1, -1, -1]]]
    assert first(everyone).tolist() == expected  # whatever came after
    assert second(everyone).tolist() == [
        [[1, 1, 1], [1, 1, 2]],
        [[1, 0, 2], [0, -1, -1]],  # left before the second stage
    ]
    assert second(everyone.flip(0)).tolist() == second(everyone).flip(0).tolist()
    assert second(everyone[:0]).shape == (0, 2, 3)


def test_nothing_but_leaving_can_be_chosen() -> None:
    made = Choices(1, (2,))
    made.note(torch.tensor([True]), torch.tensor([0]))
    assert made.since(torch.tensor([0]))(torch.arange(1)).tolist() == [[[1]]]


@given(
    n=st.integers(1, 4),
    length=st.integers(1, 3),
    stages=st.sampled_from(((), (0, 2))),
    masked=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=15, deadline=None)
def test_what_is_told_is_what_was_chosen(
    make: Make,
    short: Backbone,
    n: int,
    length: int,
    stages: tuple[int, ...],
    masked: bool,
    seed: int,
) -> None:
    """Random play with exits, restarts in the middle of streams, lanes that rest."""
    stream = Stream(length, stages=stages, choices={"bits": (8, 32)})
    lanes = make(stream, backbone=short, lanes=n)
    sizes = [len(knob.choices) for knob in lanes.knobs]
    rng = torch.Generator().manual_seed(seed)
    depth = lanes.prices.stages
    made: list[list[list[int]]] = [[] for _ in range(n)]
    overruled = [0] * n
    found: list[tuple[Outcomes, list[list[list[int]]], list[int]]] = []
    for _ in range(20):
        fresh = (torch.rand(n, generator=rng) < 0.15).nonzero().squeeze(1)
        lanes.start(fresh)
        for i in fresh.tolist():
            made[i], overruled[i] = [], 0
        chances = torch.rand(lanes.allowed.shape, generator=rng)
        chances = chances * lanes.allowed if masked else chances
        parts = chances.split_with_sizes(sizes, dim=1)
        wanted = torch.stack([part.argmax(dim=1) for part in parts], dim=1)
        if not masked:
            wanted += torch.randint(-1, 2, wanted.shape, generator=rng)
        taken = legal(wanted, lanes.allowed, sizes).tolist()
        copied = wanted.clone()
        active = lanes.active.tolist()
        step = lanes.step(wanted)
        wanted.zero_()  # actions belong to the caller
        pairs = zip(copied.tolist(), taken, strict=True)
        for i, (asked, action) in ((i, pair) for i, pair in enumerate(pairs) if active[i]):
            leaves = action[0] == 0
            made[i].append([0, *[-1] * (len(sizes) - 1)] if leaves else action)
            wrong = asked[0] != action[0] if leaves else asked != action
            overruled[i] += wrong
        answered = step.answers.mask.nonzero().squeeze(1).tolist()
        none = [-1] * len(sizes)
        expected = [[*made[i], *[none] * (depth - len(made[i]))] for i in answered]
        found.append((step.outcomes, expected, [overruled[i] for i in answered]))
        for i in answered:
            made[i], overruled[i] = [], 0
    for outcomes, expected, corrected in found:
        assert outcomes.choices.tolist() == expected
        assert outcomes.overruled.tolist() == corrected


def test_outcomes_may_be_asked_for_later(make: Make, short: Backbone) -> None:
    """They are gathered when asked for, and other inputs have come and gone by then."""
    now, later = (make(Stream(3), backbone=short, lanes=3, seed=5) for _ in range(2))
    now.start(torch.arange(3)), later.start(torch.arange(3))
    rng = torch.Generator().manual_seed(0)
    told, steps = [], []
    for _ in range(9):
        sizes = torch.tensor([len(knob.choices) for knob in now.knobs])
        actions = (torch.rand(3, len(sizes), generator=rng) * sizes).long()
        told.append(now.step(actions.clone()).outcomes)
        steps.append(later.step(actions))
        actions.fill_(0)
        for lanes, step in ((now, steps[-1]), (later, steps[-1])):
            lanes.start(step.done.nonzero().squeeze(1))
    for outcomes, step in zip(told, steps, strict=True):
        for name in ("lanes", "inputs", "choices", "cost", "exit", "overruled", "worth"):
            assert torch.equal(getattr(outcomes, name), getattr(step.outcomes, name)), name
