from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.backbones import Backbone, InputError, resnet, restrict
from penstock.hardware import (
    Constant,
    Cost,
    Digital,
    Machine,
    build_machine,
    check_machine,
    constants,
    preset_names,
)
from penstock.hardware.build import PRESETS

TABLE: dict[str, Any] = {
    "type": "penstock.hardware:Digital",
    "title": "A chip",
    "mac_j": {"8": 1e-12, "32": 1e-11},
    "sram_j_per_byte": 1e-12,
    "memory_j_per_byte": 1e-10,
    "macs_per_s": {"8": 1e9, "32": 1e8},
    "memory_bytes_per_s": 1e9,
    "launch_s": {"value": 1e-5, "unit": "s", "range": [0, 1e-3], "source": "a stopwatch"},
}

PLUG_IN = '''
from dataclasses import dataclass, replace
from typing import final

import torch

from penstock.hardware import Machine, build_machine


@final
@dataclass(frozen=True)
class Sleepy(Machine):
    """Naps before each job, and knows how long it has been up."""

    inner: Machine
    nap_s: float = 1.0

    def reset(self, n, rng):
        return {**self.inner.reset(n, rng), "awake_s": torch.zeros(n)}

    def run(self, job, state, rng):
        y, cost, after = self.inner.run(job, state, rng)
        cost = replace(cost, latency_s=cost.latency_s + torch.full((len(job.x),), self.nap_s))
        return y, cost, {**after, "awake_s": state["awake_s"] + cost.latency_s}

    def price(self, block, setting, shape):
        price = self.inner.price(block, setting, shape)
        return replace(price, latency_s=price.latency_s + self.nap_s * (1 + 1e-6))


def napping_phone():
    return Sleepy(build_machine("phone"))


def broken():
    return {}["chip"]


READY = napping_phone()
NUMBER = 7
'''


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path with a plug-in in it."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab/chips.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def whole(machine: Machine, backbone: Backbone, bits: int) -> Cost:
    """What one input costs: the stem, every block and the last head."""
    blocks = [backbone.stem, *(backbone.block(i) for i in range(backbone.depth))]
    blocks += [head] if (head := backbone.head(backbone.depth - 1)) else []
    x, total = torch.zeros(1, *backbone.shape), Cost()
    with torch.no_grad():
        for block in blocks:
            setting = restrict({"bits": bits}, block)
            total = total + machine.price(block, setting, tuple(x.shape[1:]))
            x = block(x, {})
    return total


# Presets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["edge", "microcontroller", "phone", "server"])
def test_every_number_of_a_digital_preset_is_a_constant(name: str) -> None:
    assert isinstance(build_machine(name), Digital)
    assert {constant.name for constant in constants(name)} == {
        *(f"{table}.{bits}" for table in ("mac_j", "macs_per_s") for bits in (4, 8, 32)),
        *("sram_j_per_byte", "memory_j_per_byte", "memory_bytes_per_s", "launch_s"),
    }


@pytest.mark.parametrize("name", preset_names())
def test_every_constant_of_a_preset_has_a_unit_a_range_and_a_source(name: str) -> None:
    assert constants(name)
    for constant in constants(name):
        assert constant.low <= constant.value <= constant.high
        assert constant.low < constant.high
        assert constant.source.startswith("[")
        assert constant.unit


def test_presets_are_those_that_are_promised() -> None:
    assert set(preset_names()) == {
        *("edge", "microcontroller", "phone", "server"),
        *("analog", "analog_dram", "crossbar_pcm", "crossbar_reram", "crossbar_state_independent"),
        *("crossbar_pcm_ageing", "dram", "phone_hot", "sparse_core", "split_3g", "split_wifi"),
    }


def test_the_microcontroller_costs_what_mlperf_tiny_measured() -> None:
    # github.com/mlcommons/tiny_results_v1.1, closed/Krai: the ResNet-8 of 12.5 M MACs takes
    # 1 / 18.215 s and 7.615 mJ on a NUCLEO-H7A3ZI at 8 bits.
    cost = whole(build_machine("microcontroller"), resnet(8), bits=8)
    assert cost.macs == pytest.approx(12.5e6, rel=0.01)
    assert cost.latency_s == pytest.approx(1 / 18.215, rel=0.05)
    assert cost.energy_j == pytest.approx(7.615e-3, rel=0.05)


def test_multiplications_rule_the_microcontrollers_bill() -> None:
    machine = build_machine("microcontroller")
    assert isinstance(machine, Digital)
    cost = whole(machine, resnet(20), bits=8)
    assert cost.macs * machine.mac_j[8] > 0.9 * cost.energy_j


@pytest.mark.parametrize(
    ("name", "latency_s", "energy_j"),
    [
        ("microcontroller", (20e-3, 1.0), (1e-3, 50e-3)),
        ("phone", (0.1e-3, 5e-3), (0.1e-3, 20e-3)),
        ("edge", (0.05e-3, 5e-3), (0.005e-3, 1e-3)),
        ("server", (0.05e-3, 2e-3), (0.005e-3, 1e-3)),
    ],
)
def test_every_preset_is_of_the_right_size(
    name: str, latency_s: tuple[float, float], energy_j: tuple[float, float]
) -> None:
    cost = whole(build_machine(name), resnet(8), bits=8)
    assert latency_s[0] < cost.latency_s < latency_s[1]
    assert energy_j[0] < cost.energy_j < energy_j[1]


# Tables, files and plug-ins -----------------------------------------------------------------------


def test_a_table_gives_its_arguments() -> None:
    assert build_machine(TABLE) == Digital(
        mac_j={8: 1e-12, 32: 1e-11},
        sram_j_per_byte=1e-12,
        memory_j_per_byte=1e-10,
        macs_per_s={8: 1e9, 32: 1e8},
        memory_bytes_per_s=1e9,
        launch_s=1e-5,
    )
    assert constants(TABLE) == [Constant("launch_s", 1e-5, "s", 0, 1e-3, "a stopwatch")]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_may_nest_machines_of_a_plug_in(lab: Path, kind: type) -> None:
    preset = PRESETS / "phone.toml"
    digital = "".join(
        f"{line.replace('[', '[inner.inner.', 1) if line.startswith('[') else line}\n"
        for line in preset.read_text().splitlines()
        if not line.startswith(("type", "title"))
    )
    path = lab / "sleepy.toml"
    path.write_text(
        'type = "my_lab.chips:Sleepy"\nnap_s = 0.5\n'
        '[inner]\ntype = "my_lab.chips:Sleepy"\n'
        '[inner.inner]\ntype = "penstock.hardware:Digital"\n' + digital
    )
    machine = build_machine(kind(path))
    check_machine(machine)
    shape, stem = (1, 8, 8), resnet(8, in_channels=1, size=8).stem
    slower = (
        machine.price(stem, {}, shape).latency_s
        - build_machine("phone").price(stem, {}, shape).latency_s
    )
    assert slower == pytest.approx(1.5, rel=1e-5)
    names = [constant.name for constant in constants(path)]
    assert names == [f"inner.inner.{constant.name}" for constant in constants("phone")]


@pytest.mark.parametrize("name", ["napping_phone", "READY"])
def test_a_plug_in_may_be_a_function_or_a_machine(lab: Path, name: str) -> None:
    machine = build_machine(f"my_lab.chips:{name}")
    assert type(machine).__name__ == "Sleepy"
    assert constants(f"my_lab.chips:{name}") == []


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("phon", r"got 'phon'\. Did you mean 'phone'\? Known: .*microcontroller, phone"),
        ("nowhere.toml", "nowhere.toml .* cannot be read"),
        ("my_lab.chips:Slepy", "got 'my_lab.chips:Slepy' .*check the spelling"),
        ("no_such_lab:Chip", "got 'no_such_lab:Chip' .ModuleNotFoundError"),
        ("my_lab.chips:NUMBER", "my_lab.chips:NUMBER should be a class or function .* got int"),
        ("my_lab.chips:Sleepy", "my_lab.chips:Sleepy needs inner; describe the machine"),
        ("builtins:dict", "builtins:dict should make a Machine, got dict"),
        ("penstock.hardware:Machine", "penstock.hardware:Machine does not accept its arguments"),
        ({"launch_s": 1.0}, 'a machine needs type = "module:Name", got None'),
        ({"type": "Digital"}, "a machine needs type .* got 'Digital'"),
        ({"type": "my_lab.chips:Sleepy", "inner": {"type": 3}}, "got 3 at inner"),
        ({"type": "my_lab.chips:READY", "nap_s": 1.0}, "READY should be a class or function"),
        ("my_lab.chips:broken", "my_lab.chips:broken does not accept its arguments .KeyError"),
        (TABLE | {"lunch_s": 1.0}, "no argument 'lunch_s'. Did you mean 'launch_s'"),
        ({"type": "penstock.hardware:Digital", "launch_s": 1.0}, "needs mac_j, sram_j_per_byte,"),
    ],
)
def test_what_cannot_be_built_is_explained(lab: Path, what: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build_machine(what)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("value = 1.0\nunit = 's'\nrange = [0, 2]", "chip.toml: launch_s has no source;"),
        ("value = 1.0\nsource = 'x'\nrange = [0, 2]", "chip.toml: launch_s has no unit;"),
        ("value = 1.0\nunit = 's'\nsource = 'x'", "chip.toml: launch_s has no range;"),
        (
            "value = 3.0\nunit = 's'\nrange = [0, 2]\nsource = 'x'",
            "chip.toml: launch_s should lie in its range of 0 to 2 s, got 3;",
        ),
        (
            "value = 1.0\nunit = 's'\nrange = [2]\nsource = 'x'",
            r"launch_s needs range = \[low, high\], got \[2\]",
        ),
        (
            "value = '1 s'\nunit = 's'\nrange = [0, 2]\nsource = 'x'",
            "launch_s needs finite numbers, got '1 s'",
        ),
        ("value = 1.0\nuint = 's'", "launch_s has no 'uint'. Did you mean 'unit'"),
        ("value = ", "chip.toml should be TOML, and is not"),
    ],
)
def test_a_constant_that_is_not_one_is_named_with_its_file(
    tmp_path: Path, line: str, sentence: str
) -> None:
    path = tmp_path / "chip.toml"
    path.write_text(f'type = "penstock.hardware:Digital"\n[launch_s]\n{line}\n')
    for read in (build_machine, constants):
        with pytest.raises(InputError, match=sentence):
            read(path)


def test_a_plug_in_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn_lab.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"got 'torn_lab:Chip' .ZeroDivisionError"):
        build_machine("torn_lab:Chip")
