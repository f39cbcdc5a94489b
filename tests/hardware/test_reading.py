from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones import (
    Operand,
    Product,
)
from penstock.hardware.error_models import ERROR_MODELS, ErrorModel
from penstock.hardware.reading import Faults, read


def integers(codes: Tensor, bits: int, signed: bool, step: float = 0.25) -> Operand:
    return Operand(codes * step, bits, torch.tensor(step), signed)


def product(x: Operand, weight: Operand, stored: Tensor | None = None) -> Product:
    stored = weight.values if stored is None else stored
    multiply = functional.linear
    return Product(nn.Identity(), x, weight, stored, multiply, lambda raw: raw, name="layer")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read_input(x: Operand, faults: Faults, rate: float, seed: int = 0) -> Tensor:
    done = read(product(x, Operand(torch.zeros(1, 1))), faults, 0.0, rate, generator(seed))
    return done.x.values


def flipped(before: Operand, after: Tensor) -> Tensor:
    """Which bits differ: [..., bits]."""
    if before.step is None:
        codes = before.values.view(torch.int32) ^ after.view(torch.int32)
    else:
        codes = (before.values / before.step).int() ^ (after / before.step).int()
    return (codes.unsqueeze(-1) >> torch.arange(before.bits) & 1).bool()


# How often --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ERROR_MODELS)
@pytest.mark.parametrize("chip", [None, 7])
def test_bits_flip_at_the_nominal_rate(name: str, chip: int | None) -> None:
    # A whole subarray, 4 MB: 3.4e7 bits, of which half are ones.
    codes = torch.randint(256, (1, 2**22), generator=generator(1))
    x = integers(codes, 8, signed=False)
    wrong = flipped(x, read_input(x, Faults(ERROR_MODELS[name], chip), 1e-2))
    assert float(wrong.double().mean()) == pytest.approx(1e-2, rel=0.02)
    ones = (codes.unsqueeze(-1) >> torch.arange(8) & 1).bool()
    from_0, from_1 = float(wrong[~ones].sum()), float(wrong[ones].sum())
    expected = 4.0 if name == "data-dependent" else 1.0
    assert from_0 / from_1 == pytest.approx(expected, rel=0.03)


def test_bits_of_every_place_flip_alike() -> None:
    x = Operand(torch.randn(1, 2**18, generator=generator()))
    wrong = flipped(x, read_input(x, Faults(ErrorModel()), 0.02)).double().mean((0, 1))
    assert wrong.tolist() == pytest.approx([0.02] * 32, rel=0.1)


def test_lanes_meet_the_same_cells_of_a_chip_at_different_reads() -> None:
    x = integers(torch.zeros(200, 512), 8, signed=False)
    wrong = flipped(x, read_input(x, Faults(ErrorModel(), chip=3), 0.01)).double()
    often = wrong.mean(0).flatten()  # [512 * 8]
    weak = often[often > 0]
    assert len(weak) / len(often) == pytest.approx(0.02, rel=0.5)  # P = 0.01 / 0.5
    assert weak.mean() == pytest.approx(0.5, abs=0.05)  # F
    fresh = flipped(x, read_input(x, Faults(ErrorModel()), 0.01)).double().mean(0)
    assert fresh.max() < 0.1


def test_a_chip_stays_and_another_is_another() -> None:
    model = ErrorModel(fails_at_0=1.0, fails_at_1=1.0)  # weak cells always fail
    x = integers(torch.zeros(1, 4096), 8, signed=False)
    one, again = (read_input(x, Faults(model, chip=1), 0.01, seed) for seed in (0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, read_input(x, Faults(model, chip=2), 0.01))


def test_a_higher_rate_meets_the_same_faults_and_more() -> None:
    x = integers(torch.zeros(8, 4096), 8, signed=False)
    few, many = (flipped(x, read_input(x, Faults(ErrorModel(), 1), r)) for r in (1e-3, 1e-2))
    assert few.any() and (few <= many).all()


# What of it -------------------------------------------------------------------------------------


@given(
    st.sampled_from([(4, True), (4, False), (8, True), (8, False), (2, True), (16, False)]),
    st.floats(0.001, 0.4),
    st.sampled_from([None, 1]),
    st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_integers_stay_what_their_bits_can_say(
    kind: tuple[int, bool], rate: float, chip: int | None, seed: int
) -> None:
    bits, signed = kind
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    codes = torch.randint(low, high + 1, (3, 50), generator=generator(seed)).float()
    x = integers(codes, bits, signed)
    seen = read_input(x, Faults(ErrorModel(), chip), rate, seed) / 0.25
    assert torch.equal(seen, seen.round())
    assert seen.min() >= low and seen.max() <= high


def test_twos_complement_by_hand() -> None:
    # All cells fail (nearly): 0101 -> 1010, 5 -> -6; unsigned 5 -> 10.
    model = ErrorModel(fails_at_0=1.0, fails_at_1=1.0)
    for signed, expected in ((True, -6.0), (False, 10.0)):
        x = integers(torch.full((1, 3), 5.0), 4, signed, step=0.5)
        assert read_input(x, Faults(model), 1 - 1e-9).tolist() == [[expected * 0.5] * 3]


def test_floats_by_hand() -> None:
    model = ErrorModel(fails_at_0=1.0, fails_at_1=1.0)
    x = Operand(torch.tensor([[1.0]]))  # 0x3f800000 -> 0xc07fffff
    assert read_input(x, Faults(model), 1 - 1e-9).view(torch.int32).item() == 0xC07FFFFF - 2**32


def test_steps_may_differ_between_channels() -> None:
    step = torch.tensor([[0.5], [2.0]])
    weight = Operand(torch.tensor([[5.0, 5.0], [5.0, 5.0]]) * step, 4, step)
    model = ErrorModel(fails_at_0=1.0, fails_at_1=1.0)
    done = read(
        product(Operand(torch.zeros(1, 2)), weight), Faults(model), 1 - 1e-9, 0, generator()
    )
    assert done.weight.values.tolist() == [[-3.0, -3.0], [-12.0, -12.0]]


def test_memory_order_does_not_matter() -> None:
    values = torch.randn(2, 4, 5, 5, generator=generator())
    x = Operand(values), Operand(values.contiguous(memory_format=torch.channels_last))
    seen = [read_input(each, Faults(ErrorModel(), 1), 0.05) for each in x]
    assert torch.equal(seen[0].view(torch.int32), seen[1].contiguous().view(torch.int32))
    assert seen[1].is_contiguous(memory_format=torch.channels_last)


def test_a_narrow_layer_meets_the_cells_of_its_weights() -> None:
    faults = Faults(ErrorModel(fails_at_0=1.0, fails_at_1=1.0), chip=1)
    x, stored = Operand(torch.zeros(1, 6)), torch.randn(4, 6, generator=generator())
    whole, part = (
        read(product(x, Operand(used), stored), faults, 0.1, 0.0, generator()).weight.values
        for used in (stored, stored[:2, :3])
    )
    assert torch.equal(whole[:2, :3].contiguous().view(torch.int32), part.view(torch.int32))
    assert not torch.equal(part.view(torch.int32), stored[:2, :3].contiguous().view(torch.int32))


# Correction -------------------------------------------------------------------------------------


def test_implausible_values_become_zero() -> None:
    values = torch.tensor([[1.0, -2.5, 3.5, float("inf"), float("nan")]])
    faults = Faults(ErrorModel(), plausible={"input": (-2.0, 3.0)})
    assert read_input(Operand(values), faults, 1e-9).tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0]]
    own = replace(faults, plausible={"input": (-2.0, 3.0), "layer.input": (0.0, 9.0)})
    assert read_input(Operand(values), own, 1e-9).tolist() == [[1.0, 0.0, 3.5, 0.0, 0.0]]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("short", [0.0, 0.25])
def test_integers_are_compared_where_their_format_is_wider(signed: bool, short: float) -> None:
    low, high = (-32.0, 31.75) if signed else (0.0, 63.75)
    codes = torch.arange(-128, 128) if signed else torch.arange(256)
    stored = integers(codes.unsqueeze(0), 8, signed)
    faults = Faults(ErrorModel(), plausible={"input": (low, high - short)})
    seen = read_input(stored, faults, 1e-9)
    assert seen[0, -1] == (high if short == 0 else 0.0)
    assert torch.equal(seen[0, :-1], stored.values[0, :-1])


@pytest.mark.parametrize("chip", [None, 7])
@pytest.mark.parametrize("name", ERROR_MODELS)
@pytest.mark.parametrize(("number", "signed"), [(10, True), (-11, True), (43, False)])
def test_a_protected_top_bit_outvotes_a_flip(
    number: int, signed: bool, name: str, chip: int | None
) -> None:
    # 6 bits are in use: 10 is 00 001010 and -11 is 11 110101; without a sign 43 is 11 101011
    x = integers(torch.full((1, 20_000), number), 8, signed)
    faults = Faults(ERROR_MODELS[name], chip)
    plain, voted = (
        (read_input(replace(x, protected=p), faults, 0.01) / 0.25 - number).abs().int().squeeze()
        for p in (False, True)
    )
    assert {0, 1, 2, 4, 8, 16} <= set(voted.tolist())
    # Two of three copies fail at 3 p^2, one of three bits at 3 p; on bad rows p is higher
    assert (voted >= 32).sum() < 0.1 * (plain >= 32).sum()


def test_protected_numbers_are_held_to_a_range() -> None:
    x = replace(integers(torch.full((1, 20_000), 30), 8, False), protected=True)
    held = replace(Faults(ERROR_MODELS["uniform"]), plausible={"input": (0.0, 40 * 0.25)})
    seen = (read_input(x, held, 0.01) / 0.25).int()
    assert seen.max() <= 40 and 0 in seen
    assert {28, 26, 22, 14} <= set(seen.flatten().tolist())


def test_nothing_learns_to_be_more_implausible() -> None:
    """A weight beyond its range is read as 0; told to grow, it would run away for ever."""
    weight = torch.tensor([[2.0, 2.0, -2.0, -2.0, 0.5, 0.5]], requires_grad=True)
    x = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0, -1.0]])
    faults = Faults(ERROR_MODELS["uniform"], plausible={"weight": (-1.0, 1.0)})
    seen = read(product(Operand(x), Operand(weight)), faults, 1e-7, 0.0, generator())
    assert torch.equal(seen.weight.values, torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.5, 0.5]]))
    functional.linear(x, seen.weight.values).sum().backward()  # type: ignore[no-untyped-call]
    # A step goes against the gradient.
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.tensor([[1.0, 0.0, 0.0, -1.0, 1.0, -1.0]]))
