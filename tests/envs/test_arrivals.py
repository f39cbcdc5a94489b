"""When inputs come, and what becomes of those that wait too long or find no room."""

from collections.abc import Callable
from dataclasses import replace
from math import exp, inf, nan
from typing import Any

import pytest
import torch

from penstock.backbones import Backbone, InputError
from penstock.envs import Arrivals, Lanes, Stream
from penstock.envs.timeline import Next, Timeline
from penstock.hardware import RESOURCES

Make = Callable[..., Lanes]


def gaps(arrivals: Arrivals, n: int = 400, inputs: int = 100) -> torch.Tensor:
    come_s = arrivals.draw(n, inputs, torch.Generator().manual_seed(0))
    assert come_s.shape == (n, inputs) and come_s.dtype == torch.float64
    assert (come_s[:, 0] == 0).all()
    return come_s.diff(dim=1)


# Drawn --------------------------------------------------------------------------------------------


def test_a_clock_ticks() -> None:
    assert torch.allclose(gaps(Arrivals(period_s=2.5)), torch.tensor(2.5).double())


@pytest.mark.parametrize(
    "arrivals",
    [
        Arrivals(0.5, jitter=1.0),
        Arrivals(2.0, burst=5.0, burst_inputs=4.0),
        Arrivals(2.0, burst=5.0, burst_inputs=4.0, jitter=0.5),
        Arrivals(3.0, burst=1.0, burst_inputs=1.0, jitter=0.3),
    ],
)
def test_gaps_have_the_period_as_their_mean(arrivals: Arrivals) -> None:
    found = gaps(arrivals)
    assert (found >= 0).all()
    error = found.std() / found.numel() ** 0.5
    assert float(found.mean()) == pytest.approx(arrivals.period_s, abs=4 * float(error))


def test_bursts_by_hand() -> None:
    # Within one 2 / 5 = 0.4 s; behind the last of 4 inputs, on average, 4 * 2 - 3 * 0.4 = 6.8 s.
    found = gaps(Arrivals(2.0, burst=5.0, burst_inputs=4.0))
    assert sorted(set(found.flatten().mul(1e6).round().tolist())) == [4e5, 6.8e6]
    long = (found > 1).double()
    assert float(long.mean()) == pytest.approx(1 / 4, abs=0.01)
    # Whether one ends does not depend on whether the one before did: lengths are geometric.
    both = (long[:, 1:] * long[:, :-1]).mean()
    assert float(both) == pytest.approx(1 / 16, abs=0.006)


def test_jitter_goes_from_a_clock_to_chance() -> None:
    for jitter in (0.25, 1.0):
        found = gaps(Arrivals(2.0, jitter=jitter))
        assert float(found.min()) >= 2 * (1 - jitter)
        assert float(found.std()) == pytest.approx(2 * jitter, rel=0.05)
    # Of a Poisson process a share exp(-2) of the gaps is longer than two periods.
    assert float((found > 4).double().mean()) == pytest.approx(exp(-2), abs=0.01)


@pytest.mark.parametrize(
    "arguments",
    [
        *({name: value} for name in ("period_s", "deadline_s") for value in (0.0, -1.0, nan)),
        *({name: value} for name in ("burst", "burst_inputs") for value in (0.9, inf, nan)),
        *({"jitter": value} for value in (-0.1, 1.1, nan)),
        {"period_s": inf},
        {"capacity": 0},
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        Arrivals(**arguments)


# Waiting ------------------------------------------------------------------------------------------


def timeline(inputs: int, arrivals: Arrivals) -> tuple[Timeline, Next]:
    line = Timeline(inputs, 1, arrivals, None, 1.0, 0.0)
    return line, line.open(torch.arange(1), torch.Generator())


def work(line: Timeline, seconds: float) -> Next:
    """One input takes so long, and is answered."""
    cost = torch.zeros(len(RESOURCES), 1, dtype=torch.float64)
    cost[RESOURCES.index("latency_s")] = seconds
    line.spend(cost, torch.ones(1, dtype=torch.bool))
    return line.advance(torch.ones(1, dtype=torch.bool))


def waited(after: Next) -> float:
    assert after.waited_s is not None
    return float(after.waited_s)


def test_waiting_and_dropping_by_hand() -> None:
    # Inputs come at 0, 1, .. 6 s; two may wait, 2.5 s each.
    line, first = timeline(7, Arrivals(1.0, deadline_s=2.5, capacity=2))
    assert first.going.all() and waited(first) == 0 and not len(first.dropped_places)
    # After 0.25 s nobody has come: 0.75 s of idling.
    after = work(line, 0.25)
    assert after.going.all() and waited(after) == 0.75
    assert line.position.item() == 1 and line.time_s.item() == 1.0
    # At 4.5 s 2, 3 and 4 have come, one too many: 2 is dropped; 3 has waited 1.5 s.
    after = work(line, 3.5)
    assert after.going.all() and waited(after) == 0
    assert after.dropped_places.tolist() == [2] and after.dropped_rows.tolist() == [0]
    assert line.position.item() == 3
    # Another 1 s, and 3 is late by nothing: it is 2.5 s old.
    line.spend(torch.tensor([[0.0], [1.0], [0.0], [0.0]]), torch.ones(1, dtype=torch.bool))
    late = line.late()
    assert late is not None and not late.any()
    # At 8.6 s all others have waited for longer than 2.5 s: the stream is over.
    after = work(line, 3.1)
    assert after.ended.all() and not after.going.any()
    assert after.dropped_places.tolist() == [4, 5, 6]


def test_without_a_deadline_only_room_counts() -> None:
    line, _ = timeline(5, Arrivals(1.0, capacity=1))
    after = work(line, 10.0)  # 1, 2, 3 and 4 have come; the newest may wait
    assert after.dropped_places.tolist() == [1, 2, 3] and line.position.item() == 4
    assert line.late() is None and [column.name for column in line.columns] == ["waiting"]
    assert work(line, 1.0).ended.all()


def test_inputs_that_come_meanwhile_are_seen_to_wait() -> None:
    line, _ = timeline(5, Arrivals(1.0, deadline_s=8.0, capacity=4))
    mask = torch.ones(1, dtype=torch.bool)
    for seconds, waiting, delay in ((0.5, 0, 0.5), (0.7, 1, 1.2), (2.0, 3, 3.2)):
        line.spend(torch.tensor([[0.0], [seconds], [0.0], [0.0]]), mask)
        assert line.observe()[0].item() == waiting / 4
        assert line.observe()[1].item() == pytest.approx(delay / 8)
    line.advance(mask)
    assert line.observe()[0].item() == 2 / 4


# In the engine ------------------------------------------------------------------------------------


def test_late_answers_and_dropped_inputs_in_the_engine(make: Make, short: Backbone) -> None:
    """Full, an input takes 21 s. They come every 5 s, wait at most 12 s, and one at a time."""
    stream = Stream(5, price=(0.5, 0.5), worth="likelihood", choices={"bits": (32,)})
    late = replace(stream, arrivals=Arrivals(5.0, deadline_s=12.0, capacity=1))
    lanes = make(late, backbone=short, lanes=1, controller=None)
    lanes.start(torch.arange(1), torch.tensor([[3, 1, 4, 15, 9]]))
    full = torch.tensor([[1, 1, 3]])
    total = 0.0
    for _ in range(3):
        step = lanes.step(full)
        total += float(step.reward)
    # The stem is not in the reward: the others of the full cost are, at half a unit of worth.
    stem = float(lanes.prices.stem[0]) / float(lanes.full.energy_j)
    assert total == pytest.approx(-0.5 * (1 - stem), rel=1e-5)
    found = step.outcomes
    # At 21 s inputs 1 to 4 (5, 10, 15 and 20 s) have come, and only the last one may wait.
    assert found.inputs.tolist() == [3, 1, 4, 15]
    assert found.exit.tolist() == [2, -1, -1, -1]
    assert found.missed.all() and not found.right.any() and not found.worth.any()
    assert (found.choices[1:] == -1).all() and (found.choices[0, :, 0] == 1).all()
    assert not found.cost[1:].any() and found.cost[0, 0] > 0
    assert not step.done.any() and not found.over.any()
    # The last one, taken at 21.2 s, is answered after one block: some 7 s later, in time.
    lanes.step(torch.tensor([[1, 0, 0]]))
    step = lanes.step(torch.tensor([[0, 0, 0]]))
    assert step.done.all() and step.outcomes.inputs.tolist() == [9]
    assert not step.outcomes.missed.any() and step.outcomes.worth.item() > 0
    assert step.outcomes.exit.tolist() == [0]
    late_s = lanes.timeline.time_s.item()
    assert 21.1 < late_s < 32


def test_a_lane_that_is_started_again_forgets_who_waited(make: Make, short: Backbone) -> None:
    stream = Stream(3, arrivals=Arrivals(1.0, deadline_s=1e3, capacity=2))
    lanes = make(stream, backbone=short, lanes=2)
    lanes.start(torch.arange(2))
    for _ in range(4):
        lanes.step(torch.tensor([[1, 1, 3, 2]] * 2))
    lanes.start(torch.tensor([1]))
    waiting, delay = (lanes.layout.where(name) for name in ("waiting", "delay"))
    assert lanes.observation[1, [waiting, delay]].tolist() == pytest.approx(
        [0, float(lanes.timeline.time_s[1]) / 1e3]
    )
    assert lanes.timeline.time_s[1] == pytest.approx(float(lanes.prices.stem[1]))
