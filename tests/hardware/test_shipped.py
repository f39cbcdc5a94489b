"""Every machine that ships keeps the rules: on every kind of block, within every other, spawned."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from penstock.backbones import RUN, Backbone, Block, Setting
from penstock.backbones.resnet import BasicBlock, Head, Stem
from penstock.hardware import (
    Analog,
    BitErrors,
    Crossbar,
    Dram,
    Heated,
    Machine,
    Measured,
    Sparse,
    Split,
    build_machine,
    check_machine,
    preset_names,
)

WRAPPERS: dict[str, Callable[[Machine], Machine]] = {
    "bit_errors": lambda inner: BitErrors(inner, (1e-3, 0.0)),
    "analog": lambda inner: Analog(inner, snr_db=(10, 30)),
    "crossbar": lambda inner: Crossbar(inner, adc_bits=(6, 8)),
    "dram": lambda inner: replace(_preset(Dram, "dram"), inner=inner),
    "heated": lambda inner: replace(_preset(Heated, "phone_hot"), inner=inner),
    "sparse": lambda inner: replace(_preset(Sparse, "sparse_core"), inner=inner),
    "split": lambda inner: replace(_preset(Split, "split_wifi"), near=inner, bits=(8,)),
}
"""Around any machine, with few choices each."""


def _preset(kind: type, name: str) -> Any:
    machine = build_machine(name)
    assert isinstance(machine, kind)
    return machine


class Plain(Block):
    """Layers of plain torch, with groups, tokens and biases, that may be skipped."""

    knobs = (RUN,)

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Linear(8, 48)  # of pixels as tokens
        self.convolution = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.narrow = nn.Conv2d(48, 8, 1, groups=2)
        self.along = nn.Conv1d(8, 8, 3, padding=1)  # of pixels as a series
        self.norm = nn.BatchNorm2d(8)

    def compute(self, x: Tensor, setting: Setting) -> Tensor:
        if not setting.get("run", 1):
            return x
        wide = self.widen(x.movedim(1, -1)).relu().movedim(-1, 1)
        narrow = self.narrow(self.convolution(wide))
        y: Tensor = self.norm(self.along(narrow.flatten(2)).view_as(narrow)).relu()
        return y


@pytest.fixture(scope="module")
def network() -> Backbone:
    """Every kind of block there is, and one of someone else's."""
    torch.manual_seed(0)
    blocks = [BasicBlock(8, 8, stride=1), Plain(), BasicBlock(8, 16, stride=2, protected=True)]
    heads = [None, None, Head(16, 4)]
    stem = Stem(1, 8, pool=True)
    return Backbone(stem, blocks, heads, shape=(1, 8, 8), classes=4).eval()


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_keeps_the_rules_on_every_kind_of_block(name: str, network: Backbone) -> None:
    check_machine(build_machine(name), backbone=network)


@pytest.mark.parametrize(("outer", "inner"), list(permutations([*WRAPPERS, "measured"], 2)))
def test_any_two_wrappers_compose(
    outer: str, inner: str, write_times: Callable[[Backbone, Path], str], tmp_path: Path
) -> None:
    # One kind of block with a skip and one product is enough for what only wrappers can break.
    torch.manual_seed(0)
    small = Backbone(Stem(1, 4, pool=True), [Plain4()], [Head(4, 3)], shape=(1, 8, 8), classes=3)
    times = write_times(small, tmp_path / "times.json")

    def measured(inner: Machine) -> Machine:
        return Measured(inner, times)

    wrappers = {**WRAPPERS, "measured": measured}
    machine = wrappers[outer](wrappers[inner](build_machine("edge")))
    assert len(machine.knobs) == len({knob.name for knob in machine.knobs})
    check_machine(machine, backbone=small.eval())


class Plain4(Block):
    """One linear map for every pixel, that may be skipped."""

    knobs = (RUN,)

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1)

    def compute(self, x: Tensor, setting: Setting) -> Tensor:
        y: Tensor = self.mix(x) if setting.get("run", 1) else x
        return y


RUN_ONCE = """
import pickle, sys, torch
from penstock.backbones.resnet import Head
from penstock.hardware import Job

def run_once(machine):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head, rng = Head(4, 3), torch.Generator().manual_seed(1)
    x = torch.rand(2, 4, 3, 3, generator=rng)
    with torch.no_grad():
        y, cost, _ = machine.run(Job(head, x, {}), machine.reset(2, rng), rng)
    return y.tolist(), torch.as_tensor(cost.energy_j).tolist()

if __name__ == "__main__":
    results = [run_once(machine) for machine in pickle.load(sys.stdin.buffer)]
    sys.stdout.buffer.write(pickle.dumps(results))
"""


def test_machines_run_the_same_in_another_process() -> None:
    machines = [build_machine(name) for name in preset_names()]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ONCE],
        input=pickle.dumps(machines),
        capture_output=True,
        check=True,
    )
    here: dict[str, Any] = {"__name__": "here"}
    exec(RUN_ONCE, here)
    assert pickle.loads(done.stdout) == [here["run_once"](machine) for machine in machines]
