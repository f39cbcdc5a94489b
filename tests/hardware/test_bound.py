"""Machines that know one network: what they name must be there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.backbones import Backbone, InputError, tiny_resnet
from penstock.hardware import (
    Analog,
    BitErrors,
    Crossbar,
    Dram,
    Machine,
    Remote,
    Split,
    build_machine,
    calibrate,
    calibrate_range,
    check_machine,
    save_chip,
)
from penstock.hardware.bound import check_network, is_bound, machines
from penstock.hardware.layers import layers
from penstock.hardware.nvm import device

EDGE = build_machine("edge")


@pytest.fixture(scope="module")
def network() -> Backbone:
    torch.manual_seed(0)
    return tiny_resnet(blocks_per_stage=2).eval()


def dram(**changes: Any) -> Dram:
    machine = build_machine("dram")
    assert isinstance(machine, Dram)
    return replace(machine, **changes)


def test_layers_are_those_of_stem_blocks_and_heads_in_order(network: Backbone) -> None:
    network.train()
    names = list(layers(network))
    assert names[:3] == ["stem.convolution", "blocks.0.first", "blocks.0.second"]
    assert names[-1] == "exits.5.linear"
    assert network.training


def test_presets_know_no_network_and_roles_name_none() -> None:
    assert not is_bound(build_machine("analog_dram"))
    assert not is_bound(dram(volts={"weight": 1.1, "input": 1.35}))


def test_machines_are_found_from_the_outside_in() -> None:
    within = Analog(dram(inner=EDGE))
    assert [type(each).__name__ for each in machines(within)] == ["Analog", "Dram", "Digital"]


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (dram(volts={"wieght": 1.1}), "volts names parts .* got 'wieght'. Did you mean 'weight'"),
        (dram(volts={"blocks.0.fist.weight": 1.1}), "Did you mean 'blocks.0.first.weight'"),
        (dram(plausible={"blocks.9.first.input": (0, 1)}), "plausible names parts"),
        (BitErrors(EDGE, rates={"stem.weight": 1e-3}), "rates names parts .* got 'stem.weight'"),
        (Analog(EDGE, signal_power={"stem": [1.0]}), "signal_power names parts .* got 'stem'"),
        (Analog(EDGE, signal_power={"stem.convolution": [1.0] * 3}), "1 or 8 numbers, got 3"),
        (Crossbar(EDGE, adc_range={"stem": [1.0]}), "adc_range names parts"),
        (Crossbar(EDGE, adc_range={"stem.convolution": [1, 2]}), "has 1 numbers above 0"),
        (Crossbar(EDGE, adc_range={"stem.convolution": [0.0]}), r"above 0, .* got \[0.0\]"),
        (Analog(BitErrors(EDGE, rates={"stem.weight": 1e-3})), "rates names parts"),
    ],
)
def test_what_the_network_has_not_is_named(
    machine: Machine, sentence: str, network: Backbone
) -> None:
    assert is_bound(machine)
    with pytest.raises(InputError, match=sentence):
        check_network(machine, network)


def test_what_was_measured_on_the_network_fits_it(network: Backbone, tmp_path: Path) -> None:
    rng, images = torch.Generator().manual_seed(0), torch.rand(16, 1, 8, 8)
    save_chip(tmp_path / "chip.safetensors", network, device("pcm"), chip=3)
    chip = Crossbar(EDGE, chip=str(tmp_path / "chip.safetensors"), tile_rows=32)
    for machine in (
        calibrate(Analog(EDGE), network, images, rng),
        calibrate(Analog(EDGE, scope="channel", reference="batch"), network, images, rng),
        calibrate_range(chip, network, images, rng),
    ):
        check_network(machine, network)
        assert is_bound(machine)


def test_a_chip_is_of_one_network_and_one_kind_of_cell(network: Backbone, tmp_path: Path) -> None:
    path = str(tmp_path / "chip.safetensors")
    save_chip(path, network, device("reram_1d"), chip=3)
    with pytest.raises(InputError, match=r"should hold Pcm.* got cells of the kind ReRam"):
        check_network(Crossbar(EDGE, chip=path), network)
    with pytest.raises(InputError, match=r"of \(8, 3, 3, 3\), got cells for \(8, 1, 3, 3\)"):
        check_network(Crossbar(EDGE, cell="reram_1d", chip=path), tiny_resnet(in_channels=3))


def test_the_check_asks_for_the_network(network: Backbone) -> None:
    machine = Analog(EDGE, snr_db=(20,), signal_power={"stem.convolution": [1.0]})
    with pytest.raises(InputError, match=r"one network, .*--backbone"):
        check_machine(machine)
    check_machine(machine, backbone=network)
    with pytest.raises(InputError, match="signal_power names parts"):
        check_machine(replace(machine, signal_power={"stem": [1.0]}), backbone=network)


def test_a_real_server_is_held_to_no_rule(network: Backbone) -> None:
    wifi = build_machine("split_wifi")
    assert isinstance(wifi, Split)
    machine = Analog(replace(wifi, far=Remote("127.0.0.1:1")))
    assert is_bound(machine)
    with pytest.raises(InputError, match="check the machine with a modelled far"):
        check_machine(machine, backbone=network)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: dram(volts={"weight": 1.5}), "volts are at most nominal_v = 1.35"),
        (lambda: Analog(EDGE, snr_db=(10, float("inf"))), "snr_db are finite"),
        (lambda: Analog(EDGE, signal_power={"stem": []}), "signal_power is one number"),
        (lambda: Analog(EDGE, signal_power={"stem": [-1.0]}), r"got \[-1.0\] for 'stem'"),
        (lambda: Crossbar(EDGE, adc_bits=(1, 8)), "adc_bits are choices of 2 or more"),
        (lambda: Crossbar(EDGE, columns_per_adc=0), "columns_per_adc are at least 1, got 128"),
        (lambda: Crossbar(EDGE, spread=float("nan")), "spread of Crossbar is a number, got nan"),
        (lambda: Crossbar(EDGE, time_s=float("inf")), "finite and at least 0, got inf"),
        (
            lambda: Analog(EDGE, site="input", signal_power={"stem": [1.0]}),
            r"\(site = \"folded\" or \"raw\"\), got 'input'",
        ),
        (lambda: Crossbar(EDGE, chip="a.safetensors", spread=2.0), "was programmed already"),
        (lambda: Crossbar(EDGE, dac_bits=1), "dac_bits and adc_bits are 2 to 10, .* got 1"),
    ],
)
def test_what_no_network_could_have(build: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build()
