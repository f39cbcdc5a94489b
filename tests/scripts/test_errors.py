"""Bad input: one sentence, exit status 2, nothing half-written."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import torch

from penstock.backbones import InputError, resnet, save
from penstock.backbones.saving import read_tensors, write_tensors
from penstock.scripts.evaluate import read_budget
from penstock.scripts.experiment import read_experiment
from penstock.scripts.guard import call
from penstock.scripts.run import make_run

Case = Callable[[Path, Path], tuple[list[str], str]]
"""(folder, tiny experiment) -> options of `penstock train`, and words that the answer must hold."""


def missing_data(folder: Path, tiny: Path) -> tuple[list[str], str]:
    return [str(tiny), "--data", str(folder / "none.parquet")], "none.parquet"


def corrupt_parquet(folder: Path, tiny: Path) -> tuple[list[str], str]:
    path = folder / "images.parquet"
    pq.write_table(pa.table({"image": [b"x"] * 100, "label": [0] * 100}), path)
    path.write_bytes(path.read_bytes()[:-20])
    return [str(tiny), "--data", str(path)], "images.parquet"


def unknown_key(folder: Path, tiny: Path) -> tuple[list[str], str]:
    tiny.write_text(tiny.read_text().replace("epochs", "epoch"))
    return [str(tiny)], "Did you mean 'epochs'"


def broken_machine(folder: Path, tiny: Path) -> tuple[list[str], str]:
    chip = folder / "negative_chip.toml"
    (folder / "negative_chip_module.py").write_text(NEGATIVE)
    chip.write_text('type = "negative_chip_module:Negative"\n')
    return [str(tiny), "--machine", str(chip)], "of at least 0, got -1.0"


def nan_weights(folder: Path, tiny: Path) -> tuple[list[str], str]:
    path = weights(folder)
    tensors, metadata = read_tensors(path)
    tensors["stem.convolution.weight"][0, 0, 0, 0] = torch.nan
    write_tensors(path, tensors, metadata)
    return [with_weights(tiny, path)], "NaN"


def wrong_size(folder: Path, tiny: Path) -> tuple[list[str], str]:
    tiny.write_text(tiny.read_text().replace("size = 8", "size = 16"))
    return [str(tiny)], "(1, 16, 16)"


def low_budget(folder: Path, tiny: Path) -> tuple[list[str], str]:
    budget = '[[stream.budgets]]\nresource = "energy_j"\nlimit = 1e-12\nkind = "hard"\n'
    tiny.write_text(tiny.read_text() + budget)
    return [str(tiny)], "cheapest path"


def low_average(folder: Path, tiny: Path) -> tuple[list[str], str]:
    tiny.write_text(tiny.read_text() + '[budget]\nresource = "energy_j"\nlimit = 1e-12\n')
    return [str(tiny)], "cheapest path"


def few_images(folder: Path, tiny: Path) -> tuple[list[str], str]:
    tiny.write_text(tiny.read_text().replace("[fitting]", "[fitting]\nbatch_size = 5000"))
    return [str(tiny)], "batch of 5000"


def long_stream(folder: Path, tiny: Path) -> tuple[list[str], str]:
    tiny.write_text(tiny.read_text().replace("[stream]", "[stream]\ninputs_per_episode = 5000"))
    return [str(tiny)], "a stream of 5000 inputs"


def truncated_weights(folder: Path, tiny: Path) -> tuple[list[str], str]:
    path = weights(folder)
    path.write_bytes(path.read_bytes()[:5000])
    return [with_weights(tiny, path)], "cut off or damaged"


def other_run(folder: Path, tiny: Path) -> tuple[list[str], str]:
    make_run(folder / "out", read_experiment("digits"), 0, resume=False)
    return [str(tiny), "--resume"], "another experiment"


def exposed_weights(folder: Path, tiny: Path) -> tuple[list[str], str]:
    option = with_weights(tiny, weights(folder))
    tiny.write_text(tiny.read_text() + '[exposure]\nknob = "dram_v"\nstart = 1.35\nstop = 1.1\n')
    return [option], "leave one of them out"


def low_exposure(folder: Path, tiny: Path) -> tuple[list[str], str]:
    exposure = '[exposure]\nknob = "dram_v"\nstart = 1.35\nstop = 0.1\n'
    budget = '[budget]\nresource = "energy_j"\nlimit = 1.0\nrelative = true\n'
    tiny.write_text(tiny.read_text() + exposure + budget)
    return [str(tiny), "--machine", "dram"], "dram_v lies from 1 to 1.35"


def unwritable(folder: Path, tiny: Path) -> tuple[list[str], str]:
    (folder / "file").write_text("in the way")
    return [str(tiny), "--out", str(folder / "file" / "run")], "cannot be written"


CASES: list[Case] = [
    missing_data,
    corrupt_parquet,
    unknown_key,
    broken_machine,
    nan_weights,
    wrong_size,
    low_budget,
    low_average,
    few_images,
    long_stream,
    truncated_weights,
    other_run,
    exposed_weights,
    low_exposure,
    unwritable,
]

NEGATIVE = """
from dataclasses import dataclass
from penstock.hardware import Cost, Machine

@dataclass(frozen=True)
class Negative(Machine):
    def reset(self, n, rng):
        return {}

    def run(self, job, state, rng):
        return job.block(job.x, {}), Cost(energy_j=-1.0), state

    def price(self, block, setting, shape):
        return Cost(energy_j=-1.0)
"""


def weights(folder: Path) -> Path:
    path = folder / "weights.safetensors"
    save(resnet(8, 0.25, in_channels=1, size=8), path)
    return path


def with_weights(tiny: Path, path: Path) -> str:
    tiny.write_text(tiny.read_text().replace("[backbone]", f'[backbone]\nweights = "{path}"'))
    return str(tiny)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_one_sentence_and_nothing_written(
    case: Case,
    tmp_path: Path,
    tiny: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    options, words = case(tmp_path, tiny)
    out = tmp_path / "out"
    before = sorted(out.rglob("*")) if out.exists() else None
    if "--out" not in options:
        options += ["--out", str(out)]
    assert call("train", options) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("penstock: ")]
    assert len(lines) == 1 and captured.err.rstrip().endswith(lines[0])
    assert words in lines[0]
    assert captured.out == ""
    assert (sorted(out.rglob("*")) if out.exists() else None) == before


def test_the_command_itself_exits_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "penstock.scripts.main", "train", "digit", "--out", "x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Did you mean 'digits'" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["energy_j", "energy_j=", "joules=3", "energy_j=-1", "=5%"])
def test_a_budget_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="budget"):
        read_budget(text)
