import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import InputError
from penstock.hardware.cells import cells_of_chip, failing_cells, weak_cells
from penstock.hardware.error_models import ERROR_MODELS, ErrorModel, error_model

SMALL = {
    "uniform": ErrorModel(row_bits=1024, rows=16),
    "bitline": ErrorModel("bitline", row_bits=1024, rows=16),
    "wordline": ErrorModel("wordline", row_bits=1024, rows=16),
}
SUBARRAY = 1024 * 16

models = st.sampled_from(sorted(SMALL)).map(SMALL.__getitem__)
shares = st.floats(1e-4, 0.9)
seeds = st.integers(0, 2**40)


def deviation(counts: Tensor) -> float:
    """Standard deviations by which counts are less even than chance (Wilson and Hilferty 1931)."""
    expected, degrees = counts.double().mean(), len(counts) - 1
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    spread = 2 / (9 * degrees)
    return float(((chi_square / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


MILLIONTH = 4.75
"""Standard deviations that chance exceeds once in 1e6 times."""


@given(models, shares, shares, seeds)
@settings(max_examples=60, deadline=None)
def test_a_lower_voltage_has_the_same_weak_cells_and_more(
    model: ErrorModel, one: float, other: float, seed: int
) -> None:
    less, more = sorted((one, other))
    few, many = (
        weak_cells(model, share, 0, SUBARRAY, chip=seed, seed=seed).tolist()
        for share in (less, more)
    )
    assert set(few) <= set(many)


@given(models, shares, st.integers(0, 5000), st.integers(1, 20_000), seeds)
@settings(max_examples=60, deadline=None)
def test_cells_are_those_asked_for_and_come_once(
    model: ErrorModel, share: float, first: int, count: int, seed: int
) -> None:
    for cells in (
        weak_cells(model, share, first, count, chip=seed, seed=seed),
        failing_cells(model, share, first, count, seed=seed),
    ):
        assert len(set(cells.tolist())) == len(cells)
        assert ((cells >= 0) & (cells < count)).all()


@pytest.mark.parametrize("name", ERROR_MODELS)
@pytest.mark.parametrize("share", [2e-3, 0.02])
def test_a_subarray_has_its_share_of_weak_cells(name: str, share: float) -> None:
    model, count = ERROR_MODELS[name], 512 * 65536  # 3.4e7 cells
    weak = weak_cells(model, share, 0, count, chip=1, seed=2)
    failing = failing_cells(model, share, 0, count, seed=3)
    assert len(weak) / count == pytest.approx(share, rel=0.02)
    assert len(failing) / count == pytest.approx(share * model.most_failure, rel=0.02)


def lines(cells: Tensor) -> tuple[Tensor, Tensor]:
    """How many there are in each column and in each row."""
    columns = torch.bincount(cells % 65536, minlength=65536)
    return columns, torch.bincount(cells // 65536, minlength=512)


@pytest.mark.parametrize("fresh", [False, True])
def test_weak_cells_gather_as_the_model_says(fresh: bool) -> None:
    gathered = {}
    for name, model in ERROR_MODELS.items():
        if fresh:
            cells = failing_cells(model, 0.02, 0, 512 * 65536, seed=5)
        else:
            cells = weak_cells(model, 0.02, 0, 512 * 65536, chip=4, seed=5)
        gathered[name] = tuple(deviation(counts) > MILLIONTH for counts in lines(cells))
    assert gathered == {
        "uniform": (False, False),
        "bitline": (True, False),
        "wordline": (False, True),
        "data-dependent": (False, False),
    }


def test_lines_vary_as_much_as_asked_for() -> None:
    model = ErrorModel("bitline", spread=1.0, row_bits=1024, rows=4096)
    weak = weak_cells(model, 0.01, 0, 1024 * 4096, chip=1, seed=2)
    columns = torch.bincount(weak % 1024).double()
    # Counts vary by chance as well, by their own size: 41 a column.
    variance = columns.var() - columns.mean()
    assert float(variance.sqrt() / columns.mean()) == pytest.approx(1.0, rel=0.1)


def test_tensors_of_a_chip_share_its_bad_columns() -> None:
    model = ErrorModel("bitline", row_bits=1024, rows=16)
    one, other, another_chip = (
        Counter((weak_cells(model, 0.05, 0, 10 * SUBARRAY, chip=c, seed=s) % 1024).tolist())
        for c, s in ((1, 10), (1, 11), (2, 12))
    )
    worst = [{column for column, _ in c.most_common(50)} for c in (one, other, another_chip)]
    assert len(worst[0] & worst[1]) > 25 > len(worst[0] & worst[2])


def test_a_part_of_a_tensor_meets_the_cells_of_its_elements() -> None:
    shape, part, bits = (6, 5, 3, 3), (4, 3, 3, 3), 8
    whole = cells_of_chip(SMALL["uniform"], 0.3, 1, "layer.weight", bits, shape, shape)
    used = cells_of_chip(SMALL["uniform"], 0.3, 1, "layer.weight", bits, shape, part)

    def weak_bits(cells: Tensor, shape: tuple[int, ...]) -> Tensor:
        mask = torch.zeros(math.prod(shape) * bits, dtype=torch.bool)
        mask[cells] = True
        return mask.view(*shape, bits)

    assert torch.equal(weak_bits(whole, shape)[:4, :3], weak_bits(used, part))
    assert not torch.equal(
        whole, cells_of_chip(SMALL["uniform"], 0.3, 2, "layer.weight", bits, shape, shape)
    )


def test_models_are_found_by_name() -> None:
    assert error_model("wordline").pattern == "wordline"
    assert error_model(SMALL["bitline"]) is SMALL["bitline"]
    with pytest.raises(InputError, match=r"got 'bitlines'\. Did you mean 'bitline'"):
        error_model("bitlines")


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"pattern": "column"}, "one of uniform, bitline, wordline, got 'column'"),
        ({"fails_at_0": 0, "fails_at_1": 0}, "probabilities, not both 0"),
        ({"fails_at_0": 1.5}, "probabilities, not both 0"),
        ({"row_bits": 100}, "a multiple of 512"),
        ({"spread": -1.0}, "spread is at least 0"),
    ],
)
def test_models_that_cannot_be_are_explained(entries: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ErrorModel(**entries)


def test_a_rate_that_no_cells_reach_is_refused() -> None:
    with pytest.raises(InputError, match=r"from 0 to below 0\.5, .* got 0\.6"):
        ErrorModel().weak_share(0.6)
