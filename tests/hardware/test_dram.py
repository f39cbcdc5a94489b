import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import pytest
import torch
from torch import Tensor

from penstock.backbones import (
    BITS,
    RUN,
    Block,
    InputError,
    Product,
    matrices,
    tiny_resnet,
    work,
)
from penstock.backbones.precision import Convolution
from penstock.hardware import (
    Cost,
    Digital,
    Dram,
    Job,
    Machine,
    build_machine,
    check_machine,
    constants,
)
from penstock.hardware.error_models import ErrorModel

DIGITAL = Digital(
    mac_j={4: 1.0, 8: 2.0, 32: 20.0},
    sram_j_per_byte=3.0,
    memory_j_per_byte=0.0,
    macs_per_s={4: 864.0, 8: 432.0, 32: 216.0},
    memory_bytes_per_s=18.0,
    launch_s=0.25,
)


@final
class OneConvolution(Block):
    """2 -> 3 channels, 3x3, on 4x4 pixels: 54 weights and 32 inputs."""

    knobs = (RUN, BITS)
    name = "blocks.0"

    def __init__(self) -> None:
        super().__init__()
        self.convolution = Convolution(2, 3, 3, stride=1, signed=True)

    def compute(self, x: Tensor, setting: Mapping[str, float]) -> Tensor:
        if not setting.get("run", 1):
            return x
        y: Tensor = self.convolution(x, setting.get("bits", 32))
        return y


BLOCK = OneConvolution().eval()
SHAPE = (2, 4, 4)


@pytest.fixture
def curve(tmp_path: Path) -> str:
    path = tmp_path / "curve.csv"
    path.write_text("dimm_name,vdd,bit_error_rate\nM,0.5,0.02\nM,0.75,0.001\nM,1.0,0\n")
    return str(path)


@pytest.fixture
def dram(curve: str) -> Dram:
    return Dram(DIGITAL, 10.0, 20.0, 5.0, 7.0, curve=curve, module="M", nominal_v=1.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(machine: Machine, x: Tensor, setting: Mapping[str, float]) -> tuple[Tensor, Cost]:
    y, cost, _ = machine.run(Job(BLOCK, x, setting), {}, generator())
    return y, cost


# Prices -----------------------------------------------------------------------------------------


def test_half_the_voltage_by_hand(dram: Dram) -> None:
    # s = 0.25: weights 54 * (10 s + 5) = 405 J, inputs 32 * ((10 + 20) s + 2 * 5) = 560 J,
    # standby 7 s * 3.25 s = 5.6875 J, beside the 1728 + 240 J of the digital machine.
    price = dram.price(BLOCK, {"bits": 8, "dram_v": 0.5}, SHAPE)
    assert price == Cost(energy_j=1968 + 405 + 560 + 5.6875, latency_s=3.25, macs=864.0)
    # At nominal voltage s = 1: 810 + 1280 + 22.75 J.
    assert dram.price(BLOCK, {"bits": 8}, SHAPE).energy_j == 1968 + 810 + 1280 + 22.75


def test_half_the_bits_move_half_the_bytes(dram: Dram) -> None:
    quiet = replace(dram, standby_w=0.0)
    moved = [
        quiet.price(BLOCK, {"bits": b}, SHAPE).energy_j
        - DIGITAL.price(BLOCK, {"bits": b}, SHAPE).energy_j
        for b in (4, 8, 32)
    ]
    assert moved == [1045.0, 2090.0, 8360.0]


def test_maps_that_fit_on_the_chip_cost_nothing_here(dram: Dram) -> None:
    price = replace(dram, sram_bytes=32.0).price(BLOCK, {"bits": 8}, SHAPE)
    assert price.energy_j == 1968 + 810 + 22.75
    price = replace(dram, sram_bytes=31.9).price(BLOCK, {"bits": 8}, SHAPE)
    assert price.energy_j == 1968 + 810 + 1280 + 22.75


def test_partitions_have_voltages_of_their_own(dram: Dram) -> None:
    split = replace(dram, volts={"blocks.0.convolution.weight": 0.5, "input": 0.75})
    # weights 54 * (10 * 0.25 + 5) = 405, inputs 32 * (30 * 0.5625 + 10) = 860; standing by takes
    # the higher of both voltages, 22.75 * 0.5625, whatever the knob says.
    for setting in ({"bits": 8}, {"bits": 8, "dram_v": 0.5}):
        price = split.price(BLOCK, setting, SHAPE)
        assert price.energy_j == pytest.approx(1968 + 405 + 860 + 22.75 * 0.5625)


def test_no_knob_is_left_where_all_data_have_a_voltage(dram: Dram) -> None:
    assert not replace(dram, volts={"weight": 0.5, "input": 0.75}).knobs
    assert [k.name for k in replace(dram, volts={"weight": 0.5}).knobs] == ["dram_v"]


def test_less_voltage_never_costs_more(dram: Dram) -> None:
    (knob,) = dram.knobs
    assert knob.name == "dram_v" and knob.full == 1.0 and len(knob.choices) == 21
    prices = [dram.price(BLOCK, {"dram_v": v}, SHAPE).energy_j for v in knob.choices]
    assert prices == sorted(prices)


def test_what_is_left_out_costs_nothing(dram: Dram) -> None:
    assert dram.price(BLOCK, {"run": 0, "dram_v": 0.5}, SHAPE) == Cost()


def test_layers_move_what_the_work_counts() -> None:
    backbone = tiny_resnet().eval()
    for block, shape in ((backbone.stem, (1, 8, 8)), (backbone.block(1), (8, 8, 8))):
        for bits in (4, 8, 32):
            asked, found = (
                work(block, {"bits": bits}, shape),
                matrices(block, {"bits": bits}, shape),
            )
            weights = sum(m.rows * m.columns * m.weight_bits / 8 for m in found)
            assert weights == asked.weight_bytes
            assert sum(m.inputs * m.activation_bits / 8 for m in found) == asked.input_bytes


# Errors -----------------------------------------------------------------------------------------


def test_the_voltage_sets_the_errors(dram: Dram) -> None:
    x = torch.rand(400, 2, 4, 4)
    clean = BLOCK(x, {"bits": 8})
    wrong = []
    for dram_v in (1.0, 0.9, 0.75, 0.6, 0.5):
        seen: list[Product] = []

        def note(product: Product, seen: list[Product] = seen) -> Tensor:
            seen.append(product)
            return product.exact()

        job = Job(BLOCK, x, {"bits": 8, "dram_v": dram_v}, note)
        y, *_ = dram.run(job, {}, generator())
        assert torch.equal(y, clean) == (dram_v == 1.0)
        stored = x.div(BLOCK.convolution.steps[1]).round().clamp(-127, 127)
        codes = seen[0].x.values.div(BLOCK.convolution.steps[1]).round()
        flips = stored.int() ^ codes.int()
        wrong.append(sum(int((flips >> b & 1).sum()) for b in range(8)) / (8 * x.numel()))
    assert wrong[0] == 0
    assert wrong[1] == wrong[2] and wrong[3] == wrong[4]  # the next lower tested voltage
    assert wrong[2] == pytest.approx(0.001, rel=0.3)
    assert wrong[4] == pytest.approx(0.02, rel=0.1)


def test_a_partition_at_nominal_voltage_keeps_its_data(dram: Dram) -> None:
    x = torch.rand(4, 2, 4, 4)
    safe = replace(dram, volts={"weight": 1.0, "blocks.0.convolution.input": 1.0})
    y, _ = run(safe, x, {"dram_v": 0.5})
    assert torch.equal(y, BLOCK(x, {}))


def test_the_same_memory_at_a_rate(dram: Dram) -> None:
    x = torch.rand(4, 2, 4, 4)
    one = replace(dram, chip=5)
    at_voltage, cost = run(one, x, {"dram_v": 0.5})
    at_rate, free = run(one.at_rate(0.02), x, {})
    assert torch.equal(at_voltage, at_rate)
    assert free == DIGITAL.price(BLOCK, {}, SHAPE) and cost != free
    safe, _ = run(one.at_rate(0.02, {"weight": 0.0, "input": 0.0}), x, {})
    assert torch.equal(safe, BLOCK(x, {}))


def test_chips_differ(dram: Dram) -> None:
    x = torch.rand(4, 2, 4, 4)
    ys = [run(replace(dram, chip=chip), x, {"dram_v": 0.5})[0] for chip in (0, 0, 1)]
    assert torch.equal(ys[0], ys[1]) and not torch.equal(ys[0], ys[2])


# The machine ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"chip": None, "errors": "wordline"},
        {"volts": {"weight": 1.05, "stem.convolution.weight": 1.35}, "sram_bytes": 256.0},
        {"module": "weak", "errors": "data-dependent"},
    ],
)
def test_the_rules_are_kept(change: dict[str, Any]) -> None:
    preset = build_machine("dram")
    assert isinstance(preset, Dram)
    check_machine(replace(preset, **change), backbone=tiny_resnet(blocks_per_stage=2))


def test_the_ideal_machine_costs_the_same(dram: Dram) -> None:
    setting = {"dram_v": 0.5, "bits": 8}
    ideal, x = dram.ideal(), torch.rand(2, 2, 4, 4)
    assert torch.equal(run(ideal, x, setting)[0], BLOCK(x, {"bits": 8}))
    assert ideal.knobs == dram.knobs
    assert ideal.price(BLOCK, setting, SHAPE) == dram.price(BLOCK, setting, SHAPE)


def test_it_can_be_pickled(dram: Dram) -> None:
    assert pickle.loads(pickle.dumps(dram)) == dram


def test_the_preset_is_the_edge_accelerator_with_a_memory_of_its_own() -> None:
    preset, edge = build_machine("dram"), build_machine("edge")
    assert isinstance(preset, Dram)
    assert replace(edge, memory_j_per_byte=0.0) == preset.inner  # type: ignore[type-var]
    for constant in constants("dram"):
        assert constant.low <= constant.value <= constant.high and constant.source.startswith("[")


def test_a_measured_module_is_read() -> None:
    folder = os.environ.get("PENSTOCK_DATA")
    if not folder:
        pytest.skip("PENSTOCK_DATA names no folder with dram_voltage in it")
    preset = build_machine("dram")
    assert isinstance(preset, Dram)
    source = Path(folder) / "dram_voltage" / "dimm_faulty_cachelines_out.csv"
    measured = replace(preset, curve=str(source), module="B7")
    assert measured.voltage_curve.error_free_v == 1.1
    check_machine(measured)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"module": "N"}, "got 'N'"),
        ({"curve": "nowhere.csv"}, "cannot be read"),
        ({"nominal_v": 0.4}, "got a nominal 0.4 V"),
        ({"volts": {"weight": 0.3}}, "tested from 0.5 V up, got 0.3 V"),
        ({"errors": ErrorModel("uniform", 2.0, 0.01, 0.01)}, "below 0.01, .* got 0.02"),
        ({"errors": "wordlines"}, "Did you mean 'wordline'"),
        ({"plausible": {"weight": [1.0]}}, r"\[lowest, highest\]"),
    ],
)
def test_what_cannot_be_is_explained(dram: Dram, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(dram, **change)


@pytest.mark.parametrize(
    ("dram_v", "sentence"),
    [(0.4, "tested from 0.5 V up, got 0.4 V"), (torch.ones(2), "one number for all lanes")],
)
def test_settings_that_cannot_be_are_explained(dram: Dram, dram_v: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        dram.price(BLOCK, {"dram_v": dram_v}, SHAPE)
    with pytest.raises(InputError, match=sentence):
        run(dram, torch.rand(2, 2, 4, 4), {"dram_v": dram_v})
