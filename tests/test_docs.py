"""What docs/own_hardware.md tells people to copy works when it is copied."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "own_hardware.md"

BLOCK = re.compile(r"```(?:toml|python)\n# (\S+)\n.*?```", re.DOTALL)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with every file of the page."""
    for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        path = tmp_path / match[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(match[0].partition("\n")[2].removesuffix("```"), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("machine", ["chip.toml", "noisy_chip.toml", "my_lab.chips:Sloppy"])
def test_machines_of_the_page_keep_the_rules(copied: Path, machine: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock.scripts.main", "check", machine],
        cwd=copied,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok  ") >= 11


def test_the_experiment_of_the_page_is_one(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.hardware import build_machine
    from penstock.scripts.experiment import read_experiment

    monkeypatch.syspath_prepend(str(copied))
    for name in ("my_lab", "my_lab.chips"):  # another test may have imported its own
        monkeypatch.delitem(sys.modules, name, raising=False)
    experiment = read_experiment(str(copied / "sloppy.toml"))
    assert experiment.exposure is not None
    experiment.exposure.run_at(build_machine(experiment.machine))
