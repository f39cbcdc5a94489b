"""`penstock characterise`, the script of its figures, and its page."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from penstock.hardware import Dram, build_machine
from penstock.scripts.guard import call

ROOT = Path(__file__).parents[2]


def test_a_network_is_characterised(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["digits", "--data", "digits", "--points", "3", "--images", "60", "--fine"]
    assert call("characterise", options) == 0
    out = capsys.readouterr().out
    assert "of 60 validation images" in out
    assert "bit error rate borne" in out and "new chips at every read, 3 draws" in out
    assert "module typical" in out and "without errors from 1.125 V" in out
    assert "[volts]" in out


def test_one_chip_is_characterised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text('preset = "dram"\nchip = 4\n')
    options = ["digits", "--data", "digits", "--images", "60", "--own-chip", "--draws", "1"]
    assert call("characterise", [*options, "--machine", str(tmp_path / "mine.toml")]) == 0
    assert "% right at least, chip 4, 1 draws" in capsys.readouterr().out
    assert call("characterise", options) == 2
    assert "dram has no chip of its own; give it one" in capsys.readouterr().err


def test_networks_are_compared_at_one_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    rates = []
    for least in ("60", "90"):
        options = ["digits", "--data", "digits", "--draws", "1", "--least", least]
        assert call("characterise", options) == 0
        out = capsys.readouterr().out
        assert f"{least}.0 % right at least" in out
        rates.append(float(out.split("bit error rate borne")[1].split(",")[0]))
    assert rates[0] > rates[1]


def test_what_has_no_dram_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("characterise", ["digits", "--data", "digits", "--machine", "edge"]) == 2
    assert "edge should be a Dram, got Digital" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--images", "0"], "images and draws are 1 or more"),
        (["--points", "-1"], "points 0 to 100, got 1000, 3 and -1"),
        (["--least", "101"], "the least is 0 to 100 % of answers, got 101"),
        (["--draws", "0"], "images and draws are 1 or more"),
        (["--bits", "5"], "this network runs at 4, 8, 32 bits, got 5"),
        (["--seed", "-1"], "a seed is a whole number"),
    ],
)
def test_what_cannot_be_characterised_is_one_sentence(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("characterise", ["digits", "--data", "digits", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_one_validation_image_is_not_enough_for_fine_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in range(12):  # of which 2 test images and one validation image
        (tmp_path / str(label % 10)).mkdir(exist_ok=True)
        Image.new("L", (8, 8), 20 * label).save(tmp_path / str(label % 10) / f"{label}.png")
    options = ["digits", "--data", str(tmp_path), "--draws", "1"]
    assert call("characterise", [*options, "--fine"]) == 2
    assert "confirms them on others, got one image" in capsys.readouterr().err
    assert call("characterise", options) == 0


def test_images_of_another_network_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("characterise", ["cifar10", "--data", "digits"]) == 2
    assert "the network takes images (3, 32, 32)" in capsys.readouterr().err


def test_the_script_says_what_data_it_lacks(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "reproduce" / "eden.py")]
    command += ["--data", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("penstock: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "docs").exists()


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "dram.md").read_text()
    monkeypatch.chdir(tmp_path)
    Path("measured.csv").write_text(page.split("```\ndimm")[1].split("```")[0].join(["dimm", ""]))
    Path("my_dram.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    machine = build_machine("my_dram.toml")
    assert isinstance(machine, Dram)
    assert machine.voltage_curve.error_free_v == 1.1
    names: dict[str, object] = {}
    for part in page.split("```python\n")[1:]:
        exec(part.split("```")[0], names)
    rate = names["rate"]
    assert isinstance(rate, float) and 1e-5 < rate < 1e-1
