"""The scripts behind docs/results.md: they start, and write their record from runs."""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from PIL import Image
from pyarrow import parquet

from penstock.scripts.guard import call

SCRIPTS = Path(__file__).parents[2] / "scripts" / "reproduce"


def run(name: str, *options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / name), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("fit_cifar10.py", []),
        ("cifar10_backbone.py", []),
        ("cifar10_policy.py", ["."]),
        ("noisy_computation.py", ["mnist"]),
        ("eden.py", []),
        ("boost.py", []),
        ("split.py", []),
        ("sparce.py", []),
    ],
)
def test_what_data_a_script_lacks_is_one_sentence(
    name: str, first: list[str], tmp_path: Path
) -> None:
    done = run(name, *first, "--data", str(tmp_path / "nowhere"), folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("penstock: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "docs").exists() and not (tmp_path / "runs").exists()


def test_digits_are_recorded_from_runs(tiny: Path, tmp_path: Path) -> None:
    assert call("train", [str(tiny), "--out", str(tmp_path / "run")]) == 0
    done = run("digits.py", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    claims = json.loads((tmp_path / "docs" / "results" / "digits.json").read_text())
    controls = {claim["control"]: claim for claim in claims}
    judged = json.loads((tmp_path / "run" / "evaluation.json").read_text())["gaps"]
    for gap in judged:
        if gap["control"] in controls:
            assert controls[gap["control"]]["figure"] == pytest.approx(100 * gap["gap"])
    assert {"random", "time-sharing hull"} <= controls.keys()


def test_an_erring_machine_is_judged_from_runs(tiny: Path, tmp_path: Path) -> None:
    few = "bits = [8], votes = [1], snr_db = [10, 30], dram_v = [1.35]"
    tiny.write_text('machine = "analog_dram"\n' + tiny.read_text().replace("bits = [8]", few))
    assert call("train", [str(tiny), "--out", str(tmp_path / "run")]) == 0
    done = run("erring.py", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    claims = json.loads((tmp_path / "docs" / "results" / "erring.json").read_text())
    controls = {claim["control"]: claim for claim in claims}
    assert controls.keys() == {
        "uniform settings",
        "assignments block by block",
        "confidence thresholds",
    }
    for claim in claims:
        low, high = claim["interval"]
        assert low <= claim["figure"] <= high <= 100
    page = (tmp_path / "docs" / "results" / "erring.md").read_text()
    assert page.count("\n|") == 7
    done = run("erring_constants.py", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "docs" / "results" / "erring_constants.json").read_text())
    assert len({claim["claim"] for claim in again}) == 10
    assert len({claim["figure"] for claim in again}) > 2  # prices changed
    assert run("erring.py", "nowhere", folder=tmp_path).returncode == 2


def test_noisy_computation_fits_judges_and_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train", 300), ("test", 40)):
        encoded = []
        for _ in range(count):
            bytes_ = BytesIO()
            Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(bytes_, "PNG")
            encoded.append({"bytes": bytes_.getvalue(), "path": None})
        table = pa.table({"image": encoded, "label": [i % 10 for i in range(count)]})
        parquet.write_table(table, tmp_path / f"{name}.parquet")
    options = ("mnist", "--data", ".", "--seeds", "0", "--epochs", "1", "--width", "0.1")
    done = run("noisy_computation.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert {"clean, no noise", "noisy, 0 dB, 11 soft votes"} <= table.keys()
    assert all(0 <= percent <= 100 for percent in table.values())
    # Not the recipe of the claim: nothing is recorded; what is known is not fitted again.
    assert not (tmp_path / "docs").exists()
    assert json.loads(run("noisy_computation.py", *options, folder=tmp_path).stdout) == table
