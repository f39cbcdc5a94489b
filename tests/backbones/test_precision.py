import subprocess
import sys
from textwrap import dedent

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from penstock.backbones import Product, run_block
from penstock.backbones.layout import exposed_bits, used_bits
from penstock.backbones.precision import (
    LOW_BITS,
    Convolution,
    best_step,
    round_activation,
    round_weight,
    weight_step,
)
from penstock.backbones.resnet import Stem


@pytest.mark.parametrize("bits", LOW_BITS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.floats(1e-3, 1e3))
def test_weights_lie_on_few_levels(bits: int, seed: int, spread: float) -> None:
    weight = torch.randn(3, 8, 5, 5, generator=torch.Generator().manual_seed(seed)) * spread
    weight[0] /= 100  # each output channel has a scale of its own
    weight[:, 0, 0, 0] = 0
    rounded = round_weight(weight, weight_step(weight, bits), bits)
    largest = weight.abs().amax(dim=(1, 2, 3))
    scale = largest / (2 ** (bits - 1) - 1)
    assert all(len(set(channel.flatten().tolist())) <= 2**bits - 1 for channel in rounded)
    assert (rounded[:, 0, 0, 0] == 0).all()
    torch.testing.assert_close(rounded.abs().amax(dim=(1, 2, 3)), largest)
    error = (rounded - weight).abs().amax(dim=(1, 2, 3))
    assert (error <= scale / 2 * 1.001).all()
    torch.testing.assert_close(round_weight(-weight, weight_step(-weight, bits), bits), -rounded)


@pytest.mark.parametrize("bits", LOW_BITS)
@pytest.mark.parametrize("signed", [False, True])
def test_activations_are_multiples_of_their_step(bits: int, signed: bool) -> None:
    x = torch.linspace(-50, 50, 5001)
    y = round_activation(x, torch.tensor(0.125), bits, signed) / 0.125
    assert torch.equal(y, y.round())
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    assert (y.min(), y.max()) == (-high if signed else 0, high)
    assert len(set(y.tolist())) == (2**bits - 1 if signed else 2**bits)
    assert (y[x == 0] == 0).all()


@pytest.mark.parametrize("bits", LOW_BITS)
def test_all_zero_channel_stays_zero(bits: int) -> None:
    assert (
        round_weight(torch.zeros(2, 3, 3, 3), weight_step(torch.zeros(2, 3, 3, 3), bits), bits) == 0
    ).all()
    assert best_step(torch.zeros(10), bits, signed=False) > 0


def test_gradient_passes_through_rounding_and_stops_at_saturation() -> None:
    x = torch.tensor([-0.3, 0.04, 0.26, 1.49, 1.6, 9.0], requires_grad=True)
    round_activation(x, torch.tensor(0.1), 4, signed=False).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 0, 0]  # 0..15 tenths
    weight = torch.randn(2, 3, 3, 3, requires_grad=True)
    round_weight(weight, weight_step(weight, 4), 4).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None and (weight.grad == 1).all()


def test_32_bits_are_exact() -> None:
    layer, x = Convolution(3, 4, 3, stride=2, signed=True), torch.randn(2, 3, 9, 9)
    assert torch.equal(layer(x, 32), functional.conv2d(x, layer.weight, stride=2, padding=1))


@pytest.mark.parametrize("bits", LOW_BITS)
def test_rounded_convolution_is_one_of_whole_numbers(bits: int) -> None:
    layer, x = Convolution(3, 4, 3, stride=1, signed=False), torch.rand(2, 3, 8, 8)
    top = 2 ** (bits - 1) - 1
    layer.weight.data = torch.randint(-top, top + 1, layer.weight.shape).float()
    layer.weight.data[:, 0, 0, 0] = top  # so that the scale is 1
    layer.steps.fill_(0.0625)
    whole = (x / 0.0625).round().clamp(max=2**bits - 1)
    expected = functional.conv2d(whole.double(), layer.weight.double(), padding=1)
    torch.testing.assert_close((layer(x, bits) / 0.0625).double(), expected, atol=1e-2, rtol=1e-5)


def test_first_channels_alone() -> None:
    layer, x = Convolution(6, 8, 3, stride=1, signed=True), torch.randn(2, 3, 5, 5)
    narrow = functional.conv2d(x, layer.weight[:4, :3], padding=1)
    assert torch.equal(layer(x, 32, 4), narrow)
    assert layer(x, 8, 4).shape == (2, 4, 5, 5)


@pytest.mark.parametrize("bits", LOW_BITS)
@pytest.mark.parametrize("signed", [False, True])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_best_step_beats_scaling_by_the_largest(bits: int, signed: bool, seed: int) -> None:
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(seed))
    x = x if signed else x.relu()
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1

    def error(step: torch.Tensor) -> float:
        return float((round_activation(x, step, bits, signed) - x).square().mean())

    best, largest = error(best_step(x, bits, signed)), error(x.abs().amax() / top)
    assert best <= largest * 1.0001
    if bits == 4:
        assert best < 0.95 * largest  # on so few levels it pays to clip the tail


@pytest.mark.parametrize("bits", LOW_BITS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("protected", [False, True])
def test_best_step_under_bit_errors_is_best_when_bits_flip(
    bits: int, signed: bool, protected: bool
) -> None:
    rng, rate = torch.Generator().manual_seed(0), 0.01
    x = torch.randn(50_000, generator=rng)
    x = x if signed else x.relu()

    def error(step: torch.Tensor) -> float:
        """Measured, by flipping the bits of the integers, those of copies apart."""
        whole = (round_activation(x, step, used, signed) / step).round().long() % (1 << used)
        for bit in range(exposed_bits(bits, protected)):
            whole ^= (torch.rand(len(x), generator=rng) < rate).long() << bit
        if signed:  # two's complement
            whole = torch.where(whole < 1 << (used - 1), whole, whole - (1 << used))
        return float((whole * step - x).square().mean())

    used = used_bits(bits, protected)
    blind = best_step(x, bits, signed, 0.0, protected)
    aware = best_step(x, bits, signed, rate, protected)
    assert aware < blind
    assert error(aware) < error(blind)
    flips = rate * (4 ** exposed_bits(bits, protected) - 1) / 3 * aware.square()
    rounding = (round_activation(x, aware, used, signed) - x).square().mean()
    assert error(aware) == pytest.approx(float(rounding + flips), rel=0.1)


def test_protected_numbers_have_six_of_eight_bits() -> None:
    protected, plain = Stem(3, 8, pool=False, protected=True), Stem(3, 8, pool=False)
    plain.load_state_dict(protected.state_dict())
    largest: list[list[int]] = []

    def look(product: Product) -> torch.Tensor:
        codes = [
            int((operand.values / operand.step).abs().amax().round())
            for operand in (product.weight, product.x)
            if operand.step is not None
        ]
        largest.append(codes)
        return product.exact()

    x = 20 * torch.rand(2, 3, 8, 8)
    for stem, bits in ((protected, 8), (protected, 4), (plain, 8)):
        run_block(stem.eval(), x, {"bits": bits}, look)
    assert largest == [[31, 31], [7, 7], [127, 127]]


@pytest.mark.parametrize("channels", [4, 7, 12])
def test_strided_pointwise_gradient_stays_within_its_memory(channels: int) -> None:
    """In a process of its own, which oneDNN's kernel used to kill (uxlfoundation/oneDNN#6035)."""
    source = f"""
        import torch
        from penstock.backbones.precision import Convolution

        torch.manual_seed(0)
        layer = Convolution({channels}, 16, 1, stride=2, signed=False)
        layer.to(memory_format=torch.channels_last)
        x = torch.rand(128, {channels}, 14, 14).contiguous(memory_format=torch.channels_last)
        for _ in range(4):
            layer.zero_grad()
            layer(x, 32).square().sum().backward()
        weight = layer.weight.detach().double().requires_grad_()
        y = torch.nn.functional.conv2d(x.double(), weight, stride=2)
        y.square().sum().backward()
        torch.testing.assert_close(layer.weight.grad.double(), weight.grad, rtol=1e-4, atol=1e-2)
    """
    command = [sys.executable, "-c", dedent(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_precision_that_is_no_choice() -> None:
    with pytest.raises(ValueError, match=r"'bits' can stand at \(4, 8, 32\), got 2"):
        Convolution(3, 4, 3, stride=1, signed=True)(torch.rand(1, 3, 4, 4), 2)


@pytest.mark.parametrize("bits", LOW_BITS)
@pytest.mark.parametrize("signed", [True, False])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.floats(1e-4, 10.0))
def test_rounding_is_the_same_with_and_without_gradients(
    bits: int, signed: bool, seed: int, step: float
) -> None:
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 3
    steps = torch.tensor(step)
    with torch.no_grad():
        fast = round_activation(x, steps, bits, signed), round_weight(x, weight_step(x, bits), bits)
    assert torch.equal(fast[0], round_activation(x, steps, bits, signed))
    assert torch.equal(fast[1], round_weight(x, weight_step(x, bits), bits))
