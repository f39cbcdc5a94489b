import os
import signal
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from penstock.hardware.noise import BLOCK, SMALL, quantiles, standard_normal, uniform


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moments(x: Tensor) -> list[float]:
    x = x.double().flatten()
    return [x.mean().item(), x.var().item(), (x**3).mean().item(), (x**4).mean().item()]


@pytest.mark.parametrize("count", [SMALL, 1_000_003])
def test_normal_deviates_have_the_moments_of_the_normal_distribution(count: int) -> None:
    drawn = standard_normal(torch.empty(count), seeded())
    # Standard errors of the first four moments: sqrt(1, 2, 15, 96) over sqrt(count).
    for got, wanted, spread in zip(moments(drawn), (0, 1, 0, 3), (1, 2, 15, 96), strict=True):
        assert abs(got - wanted) < 4 * (spread / count) ** 0.5 + 1e-3


def test_normal_deviates_are_independent_of_their_neighbours() -> None:
    drawn = standard_normal(torch.empty(1000, 1000), seeded())
    for shifted in (drawn[1:] * drawn[:-1], drawn[:, 1:] * drawn[:, :-1]):
        assert abs(shifted.mean().item()) < 4e-3


def test_a_seed_decides_and_each_call_is_fresh() -> None:
    like, rng = torch.empty(100, 100), seeded()
    first, second = standard_normal(like, rng), standard_normal(like, rng)
    assert not torch.equal(first, second)
    assert torch.equal(first, standard_normal(like, seeded()))


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_threads_do_not_change_what_is_drawn() -> None:
    like = torch.empty(2 * BLOCK + 1000)
    by_two = standard_normal(like, seeded())
    torch.set_num_threads(1)
    assert torch.equal(by_two, standard_normal(like, seeded()))


@pytest.mark.usefixtures("two_threads")
def test_a_forked_process_draws_too() -> None:
    like = torch.empty(2 * BLOCK)
    standard_normal(like, seeded())  # starts threads, which are not forked
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits for them
        drawn = standard_normal(like, seeded())
        os._exit(0 if len(drawn) == len(like) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_layout_is_kept() -> None:
    like = torch.empty(8, 16, 12, 12).contiguous(memory_format=torch.channels_last)
    assert standard_normal(like, seeded()).stride() == like.stride()
    assert standard_normal(torch.empty(64, 128).T, seeded()).shape == (128, 64)


def test_quantiles_are_those_of_the_normal_distribution() -> None:
    values = quantiles()
    assert values.double().std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert values.sort().values.equal(values)
    assert values[65536 * 84134 // 100_000].item() == pytest.approx(1.0, abs=1e-3)


def test_uniform_has_variance_one() -> None:
    drawn = uniform(torch.empty(100_000), seeded())
    assert drawn.var().item() == pytest.approx(1, abs=0.01)
    assert drawn.abs().max() <= 3**0.5
