"""A machine whose seconds come from a table."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.backbones import Backbone, Images, InputError, resnet, tiny_resnet
from penstock.envs import Budget, Lanes, Live, Stream
from penstock.hardware import Digital, Job, build_machine, check_machine
from penstock.hardware.bound import check_network, is_bound
from penstock.hardware.measured import Measured

DIGITAL = Digital(
    mac_j={4: 1e-12, 8: 2e-12, 32: 3e-11},
    sram_j_per_byte=1e-12,
    memory_j_per_byte=1e-10,
    macs_per_s={4: 2e9, 8: 1e9, 32: 1e8},
    memory_bytes_per_s=1e9,
    launch_s=1e-5,
)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tiny_resnet(blocks_per_stage=2).eval()


@pytest.fixture(scope="module")
def path(
    backbone: Backbone,
    write_times: Callable[[Backbone, Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    return write_times(backbone, tmp_path_factory.mktemp("table") / "profile.json")


def test_seconds_are_those_of_the_table_for_one_input(backbone: Backbone, path: str) -> None:
    block, half = backbone.block(0), {"width": 0.5, "exit": 0}
    modelled = DIGITAL.price(block, half, (8, 8, 8))
    # a batch of 4 at half width takes 1 + 4 / 2 = 3 ms
    for batch, latency_s in ((1, 1.5e-3), (4, 0.75e-3)):
        price = Measured(DIGITAL, path, batch).price(block, half, (8, 8, 8))
        assert price == replace(modelled, latency_s=latency_s)
    price = Measured(DIGITAL, path, 4, watts=10.0).price(block, half, (8, 8, 8))
    assert price == replace(modelled, latency_s=0.75e-3, energy_j=0.75e-2)


def test_what_is_skipped_costs_nothing_and_a_mask_costs_the_full_choice(
    backbone: Backbone, path: str
) -> None:
    machine, block, x = (
        Measured(DIGITAL, path, watts=10.0),
        backbone.block(0),
        torch.rand(2, 8, 8, 8),
    )
    skip = machine.price(block, {"run": 0, "width": 0.25}, (8, 8, 8))
    assert set(skip.each().values()) == {0}
    _, cost, _ = machine.run(Job(block, x, {"width": torch.full((2,), 0.5)}), {}, torch.Generator())
    assert cost.latency_s == 2e-3


@pytest.mark.parametrize("batch", [1, 4])
def test_it_keeps_the_rules_though_fewer_bits_take_longer(
    backbone: Backbone, path: str, batch: int
) -> None:
    check_machine(Measured(DIGITAL, path, batch, watts=5.0), backbone=backbone)


def test_it_knows_one_network(backbone: Backbone, path: str) -> None:
    machine = Measured(DIGITAL, path)
    assert is_bound(machine) and not is_bound(DIGITAL)
    assert machine.ideal() == machine
    check_network(machine, backbone)
    with pytest.raises(InputError, match=r"measured on another network: its stem"):
        check_network(machine, tiny_resnet(in_channels=3))


def test_hard_budgets_hold_though_fewer_bits_take_longer(backbone: Backbone, path: str) -> None:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (16, 1, 8, 8), generator=rng, dtype=torch.uint8)
    images = Images(pixels, torch.zeros(16, dtype=torch.int64), tuple("0123456789"))
    hard = Budget("latency_s", 12e-3, kind="hard")
    lanes = Lanes(
        Live(backbone, Measured(DIGITAL, path), images),
        Stream(resource="latency_s", budgets=(hard,)),
        lanes=16,
        controller=(8,),
    )
    everyone, sizes = torch.arange(16), [len(knob.choices) for knob in lanes.knobs]
    for _ in range(5):
        lanes.start(everyone, everyone.unsqueeze(1))
        while lanes.active.any():
            draws = [torch.randint(size, (16,), generator=rng) for size in sizes]
            outcomes = lanes.step(torch.stack(draws, dim=1)).outcomes
            assert not outcomes.over.any()
            assert (outcomes.cost[:, 1] <= 12e-3 * (1 + 1e-6)).all()


def test_it_is_built_from_toml(path: str, tmp_path: Path) -> None:
    file = tmp_path / "measured.toml"
    file.write_text(
        f"""
        type = "penstock.hardware:Measured"
        table = "{path}"
        batch = 4
        watts = {{ value = 8, unit = "W", range = [4, 15], source = "a meter" }}
        inner = {{ type = "penstock.hardware:build_machine", what = "phone" }}
        """
    )
    assert build_machine(file) == Measured(build_machine("phone"), path, 4, watts=8)


def test_another_network_is_refused(backbone: Backbone, path: str) -> None:
    machine, other = Measured(DIGITAL, path), resnet(20, 0.25, in_channels=1, size=8)
    with pytest.raises(InputError, match=r"its blocks\.0 is not the one that is run here"):
        machine.price(other.block(0), {}, (4, 8, 8))
    with pytest.raises(InputError, match=r"holds no time of blocks\.8 under \{'run': 1\.0, 'wid"):
        machine.price(other.block(8), {}, (16, 2, 2))
    with pytest.raises(InputError, match="measured on another network"):
        machine.price(backbone.block(0), {}, (8, 16, 16))
    # weights that were fitted again take the same time
    again = tiny_resnet(blocks_per_stage=2)
    assert machine.price(again.block(0), {}, (8, 8, 8)).latency_s == 2e-3


def test_the_policy_is_priced_unless_it_is_bigger(backbone: Backbone, path: str) -> None:
    pixels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    images = Images(pixels, torch.zeros(1, dtype=torch.int64), tuple("0123456789"))
    machine = Measured(DIGITAL, path, 4)
    stream = Stream(resource="latency_s")
    lanes = Lanes(Live(backbone, machine, images), stream, lanes=1, controller=(64, 64))
    assert float(lanes.prices.decision[1]) == pytest.approx(1e-4)
    with pytest.raises(InputError, match=r"smaller policy \(8000 multiplications\)"):
        Lanes(Live(backbone, machine, images), stream, lanes=1, controller=(64, 128))


def test_tables_that_cannot_be_used(path: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batches of 1, 4, got batch = 64; profile again with"):
        Measured(DIGITAL, path, 64)
    with pytest.raises(InputError, match="watts are positive and finite, got 0"):
        Measured(DIGITAL, path, watts=0.0)
    with pytest.raises(InputError, match=r"nowhere\.json should be a table of times"):
        Measured(DIGITAL, str(tmp_path / "nowhere.json"))
    other = tmp_path / "other.json"
    for text in ("{", "[]", '{"batches": [1], "blocks": {"stem": {}}}'):
        other.write_text(text)
        with pytest.raises(InputError, match="should be a table that penstock profile wrote"):
            Measured(DIGITAL, str(other))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: entry["batch"]["1"].update(median_s=-1.0), "-1.0 seconds"),
        (lambda entry: entry["batch"]["1"].update(median_s=float("nan")), "nan seconds"),
        (lambda entry: entry["batch"].pop("4"), r"no time of batches of \[4\]"),
    ],
)
def test_tables_with_times_that_are_none(
    path: str, tmp_path: Path, change: Callable[[Any], object], words: str
) -> None:
    held = json.loads(Path(path).read_text())
    change(held["blocks"]["blocks.0"]["times"][-1])
    (tmp_path / "table.json").write_text(json.dumps(held))
    with pytest.raises(InputError, match=f"penstock profile wrote, and is not .*{words}"):
        Measured(DIGITAL, str(tmp_path / "table.json"))
