import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones import (
    Block,
    InputError,
    Operand,
    Product,
    restrict,
    run_block,
    tiny_resnet,
)
from penstock.hardware import BitErrors, Exposure, Job, build_machine, check_machine, through
from penstock.hardware.error_models import ERROR_MODELS, ErrorModel
from penstock.hardware.plausible import plausible_ranges
from penstock.hardware.reading import Faults, read

EDGE = build_machine("edge")


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


def test_ranges_are_those_of_the_clean_network() -> None:
    backbone, images = tiny_resnet().eval(), torch.rand(8, 1, 8, 8)
    ranges = plausible_ranges(backbone, images, [{}, {"bits": 8}], margin=0.0)
    low, high = ranges["stem.convolution.weight"]
    weight = backbone.stem.get_parameter("convolution.weight").detach()
    assert low == pytest.approx(float(weight.min())) and high == pytest.approx(float(weight.max()))
    assert ranges["blocks.0.first.input"][0] == 0.0
    assert len(ranges) == 2 * (1 + 3 * 2 + 2 + 3)  # convolutions, shortcuts, heads
    wider = plausible_ranges(backbone, images, margin=0.5)
    assert wider["stem.convolution.weight"] == pytest.approx((1.5 * low, 1.5 * high))

    machine = BitErrors(EDGE, (1e-3,), plausible=ranges)
    for block, x in ((backbone.stem, images), (backbone.block(0), torch.rand(8, 8, 8, 8))):
        y, *_ = machine.run(Job(block, x, {}), {}, generator())
        assert y.isfinite().all() and not torch.equal(y, block(x, {}))


def test_floats_survive_by_correction_alone() -> None:
    backbone = tiny_resnet().eval()
    images = torch.rand(64, 1, 8, 8, generator=generator())
    with torch.no_grad():
        clean = backbone(images)
        ranges = plausible_ranges(backbone, images)
        off = []
        for plausible in ({}, ranges):
            machine = BitErrors(EDGE, (1e-4,), plausible=plausible)
            logits = backbone.answers(images, run=through(machine, generator()))[2]
            off.append((logits - clean).abs().nan_to_num(1e9).clamp(max=1e9).mean())
    assert off[1] < off[0] / 1000


# The machine ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "chip"),
    [
        ("uniform", None),
        ("data-dependent", 0),
        (ErrorModel("bitline", row_bits=4096), None),
        (ErrorModel("wordline", spread=1.0), 0),
    ],
)
def test_the_rules_are_kept(errors: Any, chip: int | None) -> None:
    check_machine(BitErrors(EDGE, (1e-2, 1e-3, 0.0), errors=errors, chip=chip))


def test_without_errors_nothing_is_touched() -> None:
    seen: list[Product] = []

    def note(product: Product) -> Tensor:
        seen.append(product)
        return product.exact()

    block, x = tiny_resnet().eval().block(0), torch.rand(2, 8, 8, 8)
    machine = BitErrors(EDGE)
    y, *_ = machine.run(Job(block, x, {}, note), {}, generator())
    assert torch.equal(y, block(x, {}))
    stored = block.get_parameter("first.weight")
    assert seen[0].x.values is x and seen[0].weight.values.data_ptr() == stored.data_ptr()


def test_data_types_have_rates_of_their_own() -> None:
    seen: dict[str, Product] = {}

    def note(product: Product) -> Tensor:
        seen[product.name] = product
        return product.exact()

    block, x = tiny_resnet().eval().block(1), torch.rand(2, 8, 8, 8)
    rates = {"weight": 0.0, "blocks.1.second.weight": 0.1, "input": 0.0}
    BitErrors(EDGE, (0.01,), rates).run(Job(block, x, {}, note), {}, generator())
    first, second = (block.get_parameter(f"{name}.weight") for name in ("first", "second"))
    assert torch.equal(seen["blocks.1.first"].x.values, x)
    assert torch.equal(seen["blocks.1.first"].weight.values, first)
    assert not torch.equal(seen["blocks.1.second"].weight.values, second)


def test_maps_that_fit_stay_on_the_chip() -> None:
    seen: list[Product] = []

    def note(product: Product) -> Tensor:
        seen.append(product)
        return product.exact()

    block, x = tiny_resnet().eval().block(0), torch.rand(2, 8, 8, 8)
    for sram_bytes, clean in ((4 * 512, True), (4 * 511, False)):
        seen.clear()
        machine = BitErrors(EDGE, (0.05,), sram_bytes=sram_bytes)
        machine.run(Job(block, x, {}, note), {}, generator())
        assert torch.equal(seen[0].x.values, x) == clean


def gradients(block: Block, x: Tensor, machine: BitErrors | None) -> tuple[Tensor, Tensor]:
    block.zero_grad()
    x = x.clone().requires_grad_()
    if machine is None:
        y = run_block(block, x, restrict({}, block))
    else:
        y, *_ = machine.run(Job(block, x, {}), {}, generator())
    y.sum().backward()  # type: ignore[no-untyped-call]
    weight = block.get_parameter("linear.weight")
    assert weight.grad is not None and x.grad is not None
    return weight.grad.clone(), x.grad


@pytest.mark.parametrize("kind", ["uniform", "data-dependent"])
def test_gradients_go_straight_through(kind: str) -> None:
    head = tiny_resnet().eval().head(0)
    assert head is not None
    x = torch.rand(3, 8, 4, 4)
    # Weights that err pass on what the clean input gives them, and inputs what the seen weights do.
    errors = BitErrors(EDGE, (0.05,), {"input": 0.0}, kind)
    clean, seen = gradients(head, x, None), gradients(head, x, errors)
    assert torch.equal(clean[0], seen[0]) and not torch.equal(clean[1], seen[1])
    errors = BitErrors(EDGE, (0.05,), {"weight": 0.0}, kind)
    seen = gradients(head, x, errors)
    assert torch.equal(clean[1], seen[1]) and not torch.equal(clean[0], seen[0])


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


def test_a_network_learns_through_errors() -> None:
    torch.manual_seed(0)
    backbone = tiny_resnet()
    images, labels = torch.rand(32, 1, 8, 8), torch.arange(32) % 10
    run_at = Exposure("bit_error_rate", start=0.0, stop=1e-3, until=0.5).run_at(BitErrors(EDGE))
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(40):
        answers = backbone.answers(images, {"bits": 8}, run=run_at(step / 40, generator(step)))
        loss = functional.cross_entropy(answers[2], labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.5 * losses[0]


def test_it_can_be_pickled() -> None:
    machine = BitErrors(EDGE, (1e-2, 0.0), {"stem.convolution.weight": 0.0}, chip=3)
    assert pickle.loads(pickle.dumps(machine)) == machine


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bit_error_rates": (0.0, 1e-3)}, "choices that fall"),
        ({"bit_error_rates": ()}, "choices that fall"),
        ({"bit_error_rates": (0.7, 0.0)}, "below 0.5"),
        ({"rates": {"weight": -1.0}}, "from 0 to below 0.5"),
        ({"errors": "wordlines"}, "Did you mean 'wordline'"),
        ({"plausible": {"weight": (1.0, -1.0)}}, r"\[lowest, highest\], got \[1.0, -1.0\]"),
    ],
)
def test_what_cannot_be_is_explained(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(BitErrors(EDGE), **change)


def test_a_mask_is_refused() -> None:
    job = Job(tiny_resnet().stem, torch.rand(2, 1, 8, 8), {"bit_error_rate": torch.zeros(2)})
    with pytest.raises(InputError, match="one number for all lanes"):
        BitErrors(EDGE).run(job, {}, generator())
