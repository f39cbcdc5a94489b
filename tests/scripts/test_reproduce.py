"""The scripts behind docs/results.md: they start, and write their record from runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.scripts.guard import call

SCRIPTS = Path(__file__).parents[2] / "scripts" / "reproduce"


def run(name: str, *options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / name), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["fit_cifar10.py", "cifar10_backbone.py", "cifar10_policy.py"])
def test_what_data_a_script_lacks_is_one_sentence(name: str, tmp_path: Path) -> None:
    runs = [str(tmp_path)] if name == "cifar10_policy.py" else []
    done = run(name, *runs, "--data", str(tmp_path / "nowhere"), folder=tmp_path)
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
