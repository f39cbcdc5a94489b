from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pytest
import torch
from torch import Tensor

from penstock.backbones import Block, InputError, Setting
from penstock.hardware import (
    Analog,
    Cost,
    Crossbar,
    Job,
    Machine,
    Sparse,
    State,
    build_machine,
)


@pytest.mark.parametrize(
    ("preset", "wrong", "sentence"),
    [
        ("analog", {"power": "AC"}, "power of Analog is one of ac, total, got 'AC'"),
        ("analog", {"distribution": "gaussian"}, "Did you mean 'gauss'"),
        ("analog", {"reference": "lane"}, "one of input, batch"),
        ("analog", {"site": "fold"}, "Did you mean 'folded'"),
        ("analog", {"snr_db": 5}, "a list of which each entry is a number, got 5"),
        ("analog", {"snr_db": "x"}, "a list of which each entry is a number, got 'x'"),
        ("analog", {"votes": [1, 2.5]}, r"a whole number, got \[1, 2.5\]"),
        ("analog", {"noisy": "no"}, "true or false, got 'no'"),
        ("analog", {"mac_j": -1e-12}, "mac_j of Analog is at least 0, got -1e-12"),
        ("analog", {"tile_rows": 1.5}, "a whole number, got 1.5"),
        ("dram", {"volts": [1]}, "a table of which each entry is a number"),
        ("dram", {"sram_bytes": -5}, "at least 0, got -5"),
        ("dram", {"chip": "a"}, "chip of Dram is a whole number, got 'a'"),
        ("sparse_core", {"mac_cycles": 3}, "a table of which each entry is a whole number"),
        ("phone", {"mac_j": {4: -1.0, 8: 1.0, 32: 1.0}}, "mac_j of Digital is at least 0"),
        ("phone", {"launch_s": float("nan")}, "launch_s of Digital is a number, got nan"),
        ("phone", {"launch_s": True}, "launch_s of Digital is a number, got True"),
    ],
)
def test_what_a_field_cannot_hold_is_said(
    preset: str, wrong: dict[str, Any], sentence: str
) -> None:
    machine = build_machine(preset)
    fields = {**vars(machine), **wrong}
    with pytest.raises(InputError, match=sentence):
        type(machine)(**fields)


def test_types_that_only_a_type_checker_knows_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazily.py").write_text(LAZY)
    monkeypatch.syspath_prepend(tmp_path)
    build_machine({"type": "lazily:Lazy", "named": ["a", 1.0]})


LAZY = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
from penstock.hardware import Machine
if TYPE_CHECKING:
    from torch import Tensor

@dataclass(frozen=True)
class Lazy(Machine):
    named: tuple[str, float]
    held: Tensor | None = None
    def reset(self, n, rng): return {}
    def run(self, job, state, rng): raise NotImplementedError
    def price(self, block, setting, shape): raise NotImplementedError
"""


@final
@dataclass(frozen=True)
class Paired(Machine):
    """Holds two things of different kinds."""

    named: tuple[str, float]

    def reset(self, n: int, rng: torch.Generator) -> State:
        return {}

    def run(self, job: Job, state: State, rng: torch.Generator) -> tuple[Tensor, Cost, State]:
        raise NotImplementedError

    def price(self, block: Block, setting: Setting, shape: tuple[int, ...]) -> Cost:
        raise NotImplementedError


def test_pairs_hold_one_of_each() -> None:
    Paired(("a", 1.0))
    with pytest.raises(InputError, match=r"a list of a text, a number, got \('a', 'b'\)"):
        Paired(("a", "b"))  # type: ignore[arg-type]


def test_a_machine_stands_in_a_machine() -> None:
    with pytest.raises(InputError, match="inner of Crossbar is a Machine, got 'phone'"):
        Crossbar("phone")  # type: ignore[arg-type]


def test_whole_numbers_are_numbers_and_tuples_are_lists() -> None:
    phone = build_machine("phone")
    Analog(phone, snr_db=(0, 10), mac_j=1)
    Sparse(phone, mac_cycles={8: 1}, clock_hz=10**6, cycle_j=0)
