import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from penstock.backbones import (
    Backbone,
    Block,
    InputError,
    Product,
    Setting,
    run_block,
    shipped,
    tiny_resnet,
)
from penstock.backbones.resnet import BasicBlock, Head
from penstock.hardware import (
    Analog,
    BitErrors,
    Crossbar,
    Job,
    Machine,
    build_machine,
    calibrate_range,
    check_machine,
    save_chip,
    through,
)
from penstock.hardware.converters import adc_j, adc_s, dac_j
from penstock.hardware.nvm import device

INNER = build_machine("analog").inner  # type: ignore[attr-defined]
"""All that is left to pay is activations."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def network() -> Backbone:
    torch.manual_seed(0)
    return tiny_resnet(blocks_per_stage=2).eval()


@torch.no_grad()
def logits(machine: Machine, network: Backbone, seed: int = 0) -> torch.Tensor:
    images = torch.rand(16, 1, 8, 8, generator=seeded(9))
    return network.answers(images, run=through(machine, seeded(seed)))[network.depth - 1]


@pytest.mark.parametrize("name", ["crossbar_pcm", "crossbar_reram", "crossbar_state_independent"])
def test_presets_keep_the_rules(name: str) -> None:
    check_machine(build_machine(name))


def test_composed_with_other_noise() -> None:
    check_machine(Analog(Crossbar(INNER)))
    check_machine(Crossbar(Analog(INNER), adc_bits=(6, 8), votes=(2,)))


@pytest.mark.parametrize(
    "array",
    [
        Crossbar(INNER, tile_rows=18),
        Analog(INNER, site="raw"),
        Analog(INNER, site="input"),
        Analog(INNER, site="weight"),
    ],
    ids=lambda m: getattr(m, "site", "crossbar"),
)
def test_memory_hands_over_before_arrays_disturb(
    array: Crossbar | Analog, network: Backbone
) -> None:
    """Whichever machine is around the other: so rows of several tiles meet their own weak cells."""
    memory = BitErrors(INNER, (1e-2,), chip=3)
    around = replace(memory, inner=array)
    inside = replace(array, inner=memory)
    setting: Setting = {"bits": 8}
    images = torch.rand(16, 1, 8, 8, generator=seeded(9))

    def seen(machine: Machine) -> torch.Tensor:
        run = through(machine, seeded(), setting)
        return network.answers(images, setting, run=run)[network.depth - 1].detach()

    assert torch.equal(seen(around), seen(inside))
    assert not torch.allclose(seen(around), seen(array), atol=1e-2)


def test_wrong_weights_are_written_into_cells_unless_the_chip_is_there_already(
    network: Backbone, tmp_path: Path
) -> None:
    chip = Crossbar(INNER, cell="state_independent", spread=0.0)
    save_chip(tmp_path / "chip.safetensors", network, device("pcm"))
    there = Crossbar(INNER, chip=str(tmp_path / "chip.safetensors"))
    for cells, written in ((chip, True), (there, False)):
        right, wrong = (
            logits(BitErrors(cells, (rate,), rates={"input": 0.0}, chip=1), network)
            for rate in (0.0, 0.2)
        )
        assert torch.equal(right, wrong) != written
        assert not written or (right - wrong).square().mean() > 0.1 * right.var()


def test_a_chip_is_the_same_chip_again_and_another_is_another(network: Backbone) -> None:
    chip = Crossbar(INNER, cell="reram_1d", chip=3)
    assert torch.equal(logits(chip, network), logits(chip, network))
    # Another read of the same chip is nearer than another chip.
    again, other = logits(chip, network, seed=1), logits(replace(chip, chip=4), network)
    assert (again - logits(chip, network)).std() < (other - logits(chip, network)).std()


def test_a_chip_is_saved_and_restored(network: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "chip.safetensors"
    save_chip(path, network, device("reram_1d"), chip=5)
    seeded_chip = Crossbar(INNER, cell="reram_1d", chip=5)
    restored = replace(seeded_chip, chip=str(path))
    assert torch.equal(logits(seeded_chip, network), logits(restored, network))
    # What stands in the chip counts, not what the network says now.
    with torch.no_grad():
        before = logits(restored, network)
        network.block(0).first.weight.mul_(2)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(logits(restored, network), before, atol=0.2, rtol=0.2)


def test_a_chip_that_was_programmed_again_is_read_again(network: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "chip.safetensors"
    chip = Crossbar(INNER, cell="reram_1d", chip=str(path))
    save_chip(path, network, device("reram_1d"), chip=5)
    before = logits(chip, network)
    save_chip(path, network, device("reram_1d"), chip=6)
    assert not torch.equal(logits(chip, network), before)


def test_a_chip_without_that_layer_is_refused(network: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "chip.safetensors"
    save_chip(path, tiny_resnet(), device("pcm"))
    with pytest.raises(InputError, match=r"layer 'blocks\.1\.first' of .* got cells for \(16, 8"):
        logits(Crossbar(INNER, chip=str(path)), network)


def test_narrow_blocks_meet_the_same_cells(network: Backbone) -> None:
    block, machine = network.block(1), Crossbar(INNER)
    held = {}

    def note(width: float) -> None:
        def by(product: Product) -> torch.Tensor:
            held[width, product.name] = machine.cells(product).weight
            return product.exact()

        run_block(block, torch.rand(1, 8, 8, 8), {"width": width}, by)

    with torch.no_grad():
        note(0.5)
        note(1.0)
    assert torch.equal(held[0.5, "blocks.1.first"], held[1.0, "blocks.1.first"][:4])
    assert torch.equal(held[0.5, "blocks.1.second"], held[1.0, "blocks.1.second"][:, :4])


def test_perfect_cells_and_fine_converters_give_nearly_the_exact_product() -> None:
    torch.manual_seed(0)
    head, x = Head(16, 10), torch.rand(8, 16, 4, 4)
    machine = Crossbar(INNER, cell="reram_1s", spread=0.0, adc_bits=(10,), dac_bits=10)
    quiet = replace(machine, votes=(4000,))
    with torch.no_grad():
        y, _, _ = quiet.run(Job(head, x, {}), {}, seeded())
        exact = head(x, {})
    torch.testing.assert_close(y, exact, atol=0.02, rtol=0)


def test_groups_are_multiplied_apart() -> None:
    torch.manual_seed(0)
    x = torch.rand(8, 48, 6, 6)
    convolution = nn.Conv2d(48, 48, 3, padding=1, groups=24)

    class Grouped(Block):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = convolution

        def compute(self, x: torch.Tensor, setting: Setting) -> torch.Tensor:
            y: torch.Tensor = self.convolution(x)
            return y

    # One channel with its nine taps a tile: both channels of a group are added after conversion.
    machine = Crossbar(
        INNER, cell="reram_1s", spread=0.0, adc_bits=(10,), dac_bits=10, tile_rows=9, votes=(400,)
    )
    with torch.no_grad():
        y, _, _ = machine.run(Job(Grouped(), x, {}), {}, seeded())
        torch.testing.assert_close(y, convolution(x), atol=0.03, rtol=0)


def test_rows_split_into_tiles_of_whole_channels_and_each_is_rounded() -> None:
    torch.manual_seed(0)
    block = BasicBlock(8, 8, stride=1).eval()
    machine = Crossbar(INNER, tile_rows=32, spread=0.0)  # three channels of nine taps: 27 rows
    found = []

    def by(product: Product) -> torch.Tensor:
        found.append(
            (machine.row_tiles(product), len(machine.sums(product, machine.cells(product))))
        )
        return product.exact()

    with torch.no_grad():
        run_block(block, torch.rand(2, 8, 4, 4), {}, by)
    assert found[0] == ([slice(0, 3), slice(3, 6), slice(6, 9)], 3)
    # Coarse converters: the height of a tile changes what comes out.
    x = torch.rand(2, 8, 4, 4)
    with torch.no_grad():
        outputs = [
            replace(machine, tile_rows=rows, adc_bits=(4,)).run(Job(block, x, {}), {}, seeded())[0]
            for rows in (32, 128)
        ]
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)


def test_votes_average_reads_but_not_the_chip() -> None:
    torch.manual_seed(0)
    head, x = Head(64, 10), torch.rand(32, 64, 2, 2)
    errors = {}
    for spread in (0.0, 1.0):
        for votes in (1, 64):
            machine = Crossbar(
                INNER, cell="reram_1d", spread=spread, adc_bits=(10,), dac_bits=10, votes=(votes,)
            )
            with torch.no_grad():
                y, _, _ = machine.run(Job(head, x, {}), {}, seeded())
                errors[spread, votes] = (y - head(x, {})).std().item()
    assert errors[0.0, 64] < errors[0.0, 1] / 4
    assert errors[1.0, 64] > errors[0.0, 64] * 2


def test_converters_reach_to_sums_that_are_all_alike() -> None:
    layer = Line(16, 1)
    torch.nn.init.constant_(layer.linear.weight, 1.0)
    x = 0.5 + 0.01 * torch.rand(4, 16, generator=seeded())
    machine = Crossbar(INNER, cell="reram_1s", spread=0.0, adc_bits=(10,), dac_bits=10)
    with torch.no_grad():
        y, _, _ = machine.run(Job(layer, x, {}), {}, seeded())
        torch.testing.assert_close(y, layer(x, {}), rtol=0.05, atol=0)


class Line(Block):
    """One linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def compute(self, x: torch.Tensor, setting: Setting) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        return y


def test_cells_rustle_by_what_they_were_programmed_to() -> None:
    """Pairs of a full cell and an empty one, in microsiemens, by sampling the formulas."""
    layer, held = Line(200, 200), []
    torch.nn.init.constant_(layer.linear.weight, 1.0)

    def note(product: Product) -> torch.Tensor:
        held.append(Crossbar(INNER, cell="pcm").cells(product))
        return product.exact()

    with torch.no_grad():
        run_block(layer, torch.rand(1, 200), {}, note)
    flicker = math.log((20 + 250e-9) / 500e-9)
    expected = 0.0
    for target, deviation in ((1.0, 0.26348 + 1.9650 - 1.1731), (0.0, 0.26348)):
        normal = torch.randn(200_000, generator=seeded())
        us = (25 * target + deviation * normal).clamp(min=0)
        share = (0.0088 / (us / 25).pow(0.65)).clamp(max=0.2)
        expected += float((us * share).square().mean()) * flicker
    assert float(held[0].read_variance.mean()) * 25**2 == pytest.approx(expected, rel=0.03)


def test_halves_run_on_cells() -> None:
    layer, x = Line(16, 4).to(torch.bfloat16), torch.rand(3, 16).to(torch.bfloat16)
    with torch.no_grad():
        y, _, _ = Crossbar(INNER).run(Job(layer, x, {}), {}, seeded())
    assert y.dtype == torch.bfloat16 and y.isfinite().all()


def test_calibrated_ranges_are_one_a_row_tile(network: Backbone) -> None:
    machine = Crossbar(INNER, tile_rows=64)
    images = torch.rand(64, 1, 8, 8, generator=seeded())
    ranges = calibrate_range(machine, network, images, seeded()).adc_range
    # 32 channels of nine taps, seven channels to a tile of 64 rows: five tiles.
    assert len(ranges["blocks.5.first"]) == 5
    assert all(top > 0 for tops in ranges.values() for top in tops)


def test_drift_is_undone_by_one_factor_a_layer() -> None:
    network = shipped("digits")
    images = torch.rand(16, 1, 8, 8, generator=seeded())
    late = Crossbar(INNER, time_s=86_400.0)
    with torch.no_grad():
        exact = network(images)
        drifted, undone = (
            network.answers(images, run=through(machine, seeded()))[network.depth - 1]
            for machine in (replace(late, compensated=False), late)
        )
    assert (undone - exact).abs().mean() < (drifted - exact).abs().mean() / 2


def test_cost_by_hand() -> None:
    # 16 rows and 10 columns, two cells each; 8 columns share a converter.
    machine = Crossbar(INNER, cell_j=1e-12, read_s=1e-6, votes=(1, 3), adc_bits=(4, 6))
    price = machine.price(Head(16, 10), {"adc_bits": 4}, (16, 4, 4))
    inner = INNER.price(Head(16, 10), {}, (16, 4, 4))
    arrays_j = 3 * (160 * 2e-12 + 10 * adc_j(4) + 16 * dac_j(8))
    assert price.energy_j == pytest.approx(inner.energy_j + arrays_j)
    assert price.latency_s == pytest.approx(inner.latency_s + 3 * (1e-6 + 8 * adc_s(4, 16)))


def test_choices_rise() -> None:
    with pytest.raises(InputError, match="adc_bits are choices of 2 or more that rise"):
        Crossbar(INNER, adc_bits=(8, 4))
    with pytest.raises(InputError, match=r"adc_bits are 2 to 10, .* got 8 and \[4, 12\]"):
        Crossbar(INNER, adc_bits=(4, 12))
    with pytest.raises(InputError, match="votes are choices of 1 or more that rise"):
        Crossbar(INNER, votes=(0, 1))


def test_gradients_pass_straight_to_the_weights() -> None:
    network = tiny_resnet().train()
    run = through(Crossbar(INNER), seeded())
    loss = network.answers(torch.rand(8, 1, 8, 8), run=run)[2].sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in network.parameters() if p.dim() == 4)
