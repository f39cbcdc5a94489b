import pytest
import torch

from penstock.backbones import InputError
from penstock.hardware.nvm import DEVICES, Pcm, ReRam, StateIndependent, device

SHARES = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)


# The polynomials by hand: PCM at g = 0.5 is 0.26348 + 0.9825 - 0.293275 = 0.9527.
@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (Pcm(), [0.263, 0.681, 0.953, 1.077, 1.055]),
        (ReRam("1s"), [0.348, 2.258, 2.023, 1.533, 1.103]),
        (ReRam("1d"), [0.701, 3.721, 3.909, 3.366, 2.651]),
        (ReRam("2d"), [0.782, 3.664, 3.929, 3.374, 2.677]),
        (StateIndependent(), [0.2] * 5),
    ],
    ids=["pcm", "reram_1s", "reram_1d", "reram_2d", "state_independent"],
)
def test_programming_error_by_hand(cell: Pcm, expected: list[float]) -> None:
    got = cell.programming_us(SHARES)
    assert got.tolist() == pytest.approx(expected, abs=1e-3)
    # And a million cells programmed to 0.5 spread by that, within 2 %.
    draws = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    programmed = cell.program(torch.full_like(draws, 0.5), draws, spread=1.0)
    assert programmed.std().item() == pytest.approx(expected[2], rel=0.02)
    assert programmed.mean().item() == pytest.approx(cell.g_max_us / 2, rel=0.02)


@pytest.mark.parametrize(
    ("time_s", "mean_us", "deviation_us"),
    [(0, 12.50, 1.20), (3600, 9.70, 1.06), (86_400, 8.31, 1.03), (30 * 86_400, 7.05, 1.01)],
)
def test_drift_of_phase_change_cells(time_s: float, mean_us: float, deviation_us: float) -> None:
    # Reference: 200 000 cells of 12.5 microsiemens by the public fit; the deviations there hold the
    # noise of one read.
    rng, cell = torch.Generator().manual_seed(0), Pcm()
    target, draw = torch.full((200_000,), 0.5), torch.randn(200_000, generator=rng)
    programmed = cell.program(target, draw, spread=1.0)
    exponent = cell.drift(target, torch.randn(200_000, generator=rng))
    assert exponent.mean().item() == pytest.approx(0.049, abs=0.001)
    assert exponent.std().item() == pytest.approx(0.008, abs=0.001)
    now = cell.age(programmed, exponent, time_s)
    read = now + cell.read_us(target, now, time_s) * torch.randn(200_000, generator=rng)
    assert read.mean().item() == pytest.approx(mean_us, rel=0.01)
    assert read.std().item() == pytest.approx(deviation_us, rel=0.05)


def test_relaxed_cells_do_not_drift() -> None:
    g = torch.rand(100)
    cell = ReRam()
    exponent = cell.drift(g, torch.randn(100))
    assert torch.equal(cell.age(g, exponent, 1e6), g)


def test_a_read_of_two_relaxed_cells_is_off_by_a_hundredth_of_the_largest_weight() -> None:
    # w = (G+ - G-) / G_max: two deviations of 0.4 / sqrt(2) uS, over 40 uS.
    each = ReRam().read_us(SHARES, SHARES * 40, 0.0)
    expected = torch.full_like(SHARES, 0.01)
    torch.testing.assert_close((each.square() + each.square()).sqrt() / 40, expected)


def test_errors_scale_with_the_range_of_the_cell() -> None:
    half = ReRam("1s", g_max_us=20.0).programming_us(SHARES)
    torch.testing.assert_close(half * 2, ReRam("1s").programming_us(SHARES))


def test_no_conductance_is_negative() -> None:
    rng = torch.Generator().manual_seed(0)
    for cell in DEVICES.values():
        draws = 5 * torch.randn(10_000, generator=rng)
        assert (cell.program(torch.zeros(10_000), draws, spread=3.0) >= 0).all()


def test_unknown_cells_are_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"got 'pmc'\. Did you mean 'pcm'"):
        device("pmc")
