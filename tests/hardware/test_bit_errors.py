import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from penstock.backbones import (
    Block,
    InputError,
    Product,
    restrict,
    run_block,
    tiny_resnet,
)
from penstock.hardware import (
    BitErrors,
    Exposure,
    Job,
    build_machine,
    check_machine,
    plausible_ranges,
    through,
)
from penstock.hardware.error_models import ErrorModel

EDGE = build_machine("edge")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_ranges_are_those_of_the_clean_network() -> None:
    backbone, images = tiny_resnet().eval(), torch.rand(8, 1, 8, 8)
    ranges = plausible_ranges(backbone, images, [{}, {"bits": 8}], margin=0.0)
    low, high = ranges["stem.convolution.weight"]
    weight = backbone.stem.get_parameter("convolution.weight").detach()
    ends = [float(end) for end in weight.aminmax()]
    step = weight.abs().amax().item() / 127
    assert [low, high] == pytest.approx(ends, abs=step / 2)  # 8 bits may round beyond the end
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
