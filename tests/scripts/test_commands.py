"""`penstock list`, `check`, and the help."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.backbones import InputError
from penstock.scripts.guard import call
from penstock.scripts.results import Claim, draw, mean_gap, read_runs, write_claims
from penstock.scripts.run import write_json


def penstock(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.scripts.main", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_list_names_what_ships_and_imports_no_torch() -> None:
    probe = (
        "import sys; from penstock.scripts.list import show; show(); "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    for name in ("digits", "cifar10", "microcontroller", "edge"):
        assert name in done.stdout


def test_a_reader_that_leaves_is_no_mistake() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "penstock.scripts.main", "list"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_the_page_of_results_is_drawn_from_their_records() -> None:
    root = Path(__file__).parents[2] / "docs"
    assert (root / "results.md").read_text() == draw(root / "results")


def test_help_and_unknown_commands() -> None:
    assert "usage: penstock COMMAND" in penstock("--help").stdout
    wrong = penstock("trian")
    assert wrong.returncode == 2 and "no command 'trian'" in wrong.stderr


def test_check_prints_rules_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", ["microcontroller"]) == 0
    out = capsys.readouterr().out
    assert out.count("ok  ") >= 5
    assert "launch_s" in out and "[estimate]" in out
    assert re.search(r"full network, digits: Digital \S+ .J\n$", out)
    assert call("check", ["microcontroler"]) == 2
    assert "Did you mean 'microcontroller'" in capsys.readouterr().err


def test_results_are_drawn_from_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("results")
    monkeypatch.chdir(folder)
    claims = [
        Claim("points above", 1.5, 1.0, ">=", "hull", [0], "edge", (0.5, 2.5)),
        Claim("seconds", 3.0, 2.0, "<=", "none", [0], "cpu", (2.5, 3.5)),
    ]
    write_claims("topic", claims)
    page = draw()
    assert (
        "| points above | 1.5 | >= 1 | yes, within chance | hull | 0.5 to 2.5 | 0 | edge |" in page
    )
    assert "| seconds | 3 | <= 2 | **no** |" in page


def test_gaps_over_runs(tmp_path: Path) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    for run, gap in zip(runs, (0.01, 0.03), strict=True):
        row = {"control": "random", "gap": gap, "interval": [gap - 0.01, gap + 0.03]}
        write_json(run / "evaluation.json", {"gaps": [row]})
    mean, ends, each = mean_gap(read_runs(runs), "random")
    # No surer than one run, whose interval is 4 points wide.
    assert mean == pytest.approx(2.0) and ends == pytest.approx((0.0, 4.0))
    assert each == "+1.00 [0.00, 4.00], +3.00 [2.00, 6.00]"
    with pytest.raises(InputError, match="row 'hull', 2 have none"):
        mean_gap(read_runs(runs), "hull")
    with pytest.raises(InputError, match=r"evaluation.json, got .*/c; make them"):
        read_runs([*runs, tmp_path / "c"])
