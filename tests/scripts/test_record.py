"""`penstock record`: told beforehand, resumed, refused; what stands in the files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from penstock.agents.recordings import PARTS, network_digest, open_recordings, read_about
from penstock.backbones import load_data, resnet, save
from penstock.backbones.saving import load
from penstock.hardware import Digital, Split, build_machine
from penstock.scripts.experiment import read_experiment
from penstock.scripts.guard import call
from penstock.scripts.run import make_run

STREAM = """
[stream]
stages = [0, 2]
choices = { bits = [8], width = [0.5, 1.0], run = [1] }
"""


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    """An experiment with weights."""
    weights, path = tmp_path / "weights.safetensors", tmp_path / "fitted.toml"
    torch.manual_seed(0)
    save(resnet(8, 0.25, in_channels=1, size=8), weights)
    path.write_text(f'[backbone]\nweights = "{weights}"\n{STREAM}')
    return path


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_recorded_told_and_left_alone_when_finished(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = [str(fitted), "--out", str(out), "--images", "40", "--seed", "3"]
    assert call("record", [*options, "--dry-run"]) == 0
    told = capsys.readouterr().out
    # Behind the stem, then two widths twice: 1 + 2 + 4 ways.
    assert told.startswith("120 inputs (40 train, 40 validation, 40 test), 7 ways")
    assert not out.exists()

    assert call("record", options) == 0
    captured = capsys.readouterr()
    assert told.strip() in captured.err and captured.out == ""
    assert sorted(files(out)) == sorted(f"{split}.safetensors" for split in PARTS)

    about = read_about(out / "test.safetensors")
    table = read_experiment(str(fitted)).table()
    assert about["experiment"] == table and len(about["experiment_sha256"]) == 64
    assert {name: about[name] for name in ("what", "seed", "draws", "machine", "split")} == {
        "what": str(fitted),
        "seed": 3,
        "draws": 1,
        "machine": "microcontroller",
        "split": "test",
    }
    assert about["network"] == network_digest(load(tmp_path / "weights.safetensors"))
    assert {"commit", "date", "command"} <= about.keys() and "penstock" in about["versions"]

    test = load_data("digits").test
    recording = open_recordings(out).test
    assert torch.equal(recording.labels, test.labels[recording.numbers])
    assert len(torch.unique(recording.numbers)) == 40
    assert (recording.seen.shape, recording.first) == ((40, 7, 23), (0, 2))

    before = files(out)
    assert call("record", options) == 0
    assert files(out) == before
    # One more split is of the same recording.
    (out / "train.safetensors").unlink()
    assert call("record", [*options, "--splits", "train"]) == 0
    assert len(open_recordings(out).found) == 3
    assert call("record", [*options[:-1], "4"]) == 2
    error = capsys.readouterr().err
    assert "another command made (it differs in seed)" in error
    assert files(out).keys() == before.keys()


def test_the_page_does_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text()
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    commands = [line.partition("#")[0].split() for line in page.split("```sh\n")[1].splitlines()]
    dry, record, verify = commands[:3]
    assert call(dry[1], dry[2:]) == 0
    assert capsys.readouterr().out in page
    assert not Path("recordings").exists()
    assert call(record[1], [*record[2:], "--images", "100"]) == 0
    exec(page.split("```python\n")[1].split("```")[0], {})
    assert call(verify[1], verify[2:]) == 0


def test_what_a_file_says_of_a_machine_is_kept(fitted: Path, tmp_path: Path) -> None:
    chip = tmp_path / "chip.toml"
    chip.write_text('preset = "split_wifi"\nbits = [4]\nperiod_s = 2.0\n')
    out = tmp_path / "out"
    options = ["--machine", str(chip), "--splits", "test", "--images", "5", "--out", str(out)]
    assert call("record", [str(fitted), *options]) == 0
    chip.unlink()
    machine = open_recordings(out).test.machine
    assert isinstance(machine, Split) and (machine.bits, machine.period_s) == ([4], 2.0)
    assert read_about(out / "test.safetensors")["machine"]["preset"] == "split_wifi"


def test_a_run_without_a_policy_is_recorded(tiny: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", read_experiment(str(tiny)), 5, resume=False)
    save(resnet(8, 0.25, in_channels=1, size=8), run.weights)
    out = tmp_path / "out"
    options = ["--stages", "0", "1", "--images", "4", "--splits", "validation", "--out", str(out)]
    assert call("record", [str(run.folder), *options, "--machine", "edge"]) == 0
    recording = open_recordings(out).validation
    assert recording.first == (0, 1) and isinstance(recording.machine, Digital)
    # The validation images are those that the run's seed picks.
    labels = load_data("digits", seed=5).validation.labels
    assert torch.equal(recording.labels, labels[recording.numbers])


def test_machines_that_err_are_drawn_several_times(fitted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fitted.write_text(fitted.read_text().replace("run = [1]", "run = [1], votes = [1]"))
    options = ["--machine", "analog", "--images", "6", "--splits", "test", "--out", str(out)]
    assert call("record", [str(fitted), *options, "--draws", "2"]) == 0
    recording = open_recordings(out).test
    assert recording.inputs == 12 and recording.about["draws"] == 2
    assert torch.equal(recording.numbers[:6], recording.numbers[6:])
    assert not torch.equal(recording.seen[:6], recording.seen[6:])


def test_dominated_choices_are_left_out(fitted: Path, tmp_path: Path) -> None:
    # A network that knows nothing: cheap is as good as dear, within all points there are.
    text = fitted.read_text().replace("width = [0.5, 1.0]", "width = [0.25, 0.5, 0.75, 1.0]")
    fitted.write_text(text)
    out = tmp_path / "out"
    options = [str(fitted), "--images", "30", "--out", str(out)]
    assert call("record", [*options, "--drop-dominated", "0"]) == 0
    found = open_recordings(out)
    kept = found.validation.table.offered
    assert not kept.all() and kept[:, -1].all()
    for split in PARTS:
        assert torch.equal(found.at(split).table.offered, kept)
        assert len(found.at(split).tree) == len(found.validation.tree) < 21
    # It goes on with what validation images said before.
    (out / "test.safetensors").unlink()
    assert call("record", [*options, "--drop-dominated", "0"]) == 0
    assert torch.equal(open_recordings(out).test.table.offered, kept)
    assert call("record", options) == 2


def test_killed_it_goes_on_behind_the_last_whole_batch(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = fitted.read_text().replace("0, 2", "0, 1, 2").replace(", run = [1]", "")
    fitted.write_text(text.replace("0.5, 1.0", "0.25, 0.5, 0.75, 1.0"))
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    options = [str(fitted), "--splits", "train", "--images", "700", "--out"]
    command = [sys.executable, "-m", "penstock.scripts.main", "record", *options, str(cut)]
    first = cut / ".train.parts" / "00000.safetensors"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        for _ in range(1200):
            if first.exists() or child.poll() is not None:
                break
            time.sleep(0.05)
        assert child.poll() is None, "it ended before it could be killed"
        os.kill(child.pid, signal.SIGKILL)
    assert not (cut / "train.safetensors").exists()
    kept = first.stat().st_mtime_ns

    # Another command may not take these batches for its own.
    assert call("record", [*options, str(cut), "--seed", "1"]) == 2
    assert first.stat().st_mtime_ns == kept
    torn = cut / ".train.safetensors.12345"
    torn.write_text("half")
    for out in (cut, whole):
        assert call("record", [*options, str(out)]) == 0
        assert [path.name for path in out.iterdir()] == ["train.safetensors"]
    told = capsys.readouterr().err.partition(" ways that decisions can go: ")[2]
    size = (whole / "train.safetensors").stat().st_size / 2**20
    assert size == pytest.approx(float(told.partition(" MiB")[0]), rel=0.02)
    one, other = open_recordings(cut).train, open_recordings(whole).train
    assert torch.equal(one.seen, other.seen) and torch.equal(one.said, other.said)
    assert torch.equal(one.here, other.here)


Case = Callable[[Path, Path], tuple[list[str], str]]
"""(folder, experiment) -> options of `penstock record`, and words that the answer must hold."""


def option(*options: str, words: str) -> Case:
    return lambda folder, fitted: ([str(fitted), *options], words)


def own_backbone(folder: Path, fitted: Path) -> tuple[list[str], str]:
    return ["digits"], "penstock train digits and give its run folder"


def no_run(folder: Path, fitted: Path) -> tuple[list[str], str]:
    (folder / "empty").mkdir()
    return [str(folder / "empty")], "should be a run folder"


def no_weights(folder: Path, fitted: Path) -> tuple[list[str], str]:
    run = make_run(folder / "run", read_experiment("digits"), 0, resume=False)
    return [str(run.folder)], "backbone.safetensors, found none"


def another_network(folder: Path, fitted: Path) -> tuple[list[str], str]:
    fitted.write_text(fitted.read_text().replace("weights", "wieghts"))
    return [str(fitted)], "Did you mean 'weights'"


def a_file_in_the_way(folder: Path, fitted: Path) -> tuple[list[str], str]:
    return [str(fitted), "--out", str(fitted)], "cannot be written"


def a_real_server(folder: Path, fitted: Path) -> tuple[list[str], str]:
    path = folder / "real.toml"
    path.write_text(
        'preset = "split_wifi"\n'
        'far = { type = "penstock.hardware:Remote", address = "127.0.0.1:1" }\n'
    )
    return [str(fitted), "--machine", str(path)], "a real server"


def something_else(folder: Path, fitted: Path) -> tuple[list[str], str]:
    out = folder / "out"
    out.mkdir()
    (out / "test.safetensors").write_text("mine")
    return [str(fitted)], "should be a recording"


CASES = {
    "own_backbone": own_backbone,
    "no_run": no_run,
    "no_weights": no_weights,
    "another_network": another_network,
    "a_file_in_the_way": a_file_in_the_way,
    "a_real_server": a_real_server,
    "something_else": something_else,
    "no_experiment": lambda folder, fitted: (["digit"], "Did you mean 'digits'"),
    "no_data": option("--data", "none.parquet", words="none.parquet"),
    "no_machine": option("--machine", "edgy", words="Did you mean 'edge'"),
    "no_machine_file": option("--machine", "none.toml", words="cannot be read"),
    "stages": option("--stages", "1", "2", words="from 0, rising, below 3, got [1, 2]"),
    "images": option("--images", "0", words="images and draws are 1 or more"),
    "draws": option("--draws", "-1", words="images and draws are 1 or more"),
    "exact_draws": option("--draws", "2", words="leave --draws out"),
    "seed": option("--seed", "-1", words="a seed is a whole number"),
    "splits": option("--splits", words="got none; add validation"),
    "points": option("--drop-dominated", "-1", words="0 to 100 points"),
    "points_nan": option("--drop-dominated", "nan", words="0 to 100 points"),
    "unseen": option("--drop-dominated", "1", "--splits", "test", words="add validation"),
    "mib": option("--most-mib", "0.1", words="MiB, at most 0.1 are allowed; take fewer images (--"),
    "mib_one": option("--most-mib", "0.0001", words="take fewer stages or choices"),
    "no_mib": option("--most-mib", "nan", words="--most-mib is above 0"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_sentence_and_nothing_written(
    case: Case, tmp_path: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, words = case(tmp_path, fitted)
    before = files(tmp_path)
    if "--out" not in options:
        options += ["--out", str(tmp_path / "out")]
    assert call("record", options) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len([line for line in lines if line.startswith("penstock: ")]) == 1
    assert lines[-1].startswith("penstock: ") and words in lines[-1]
    assert captured.out == ""
    assert files(tmp_path) == before


def test_too_many_ways_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wide.toml"
    path.write_text('[backbone]\nweights = "digits"\n')
    assert call("record", [str(path), "--out", str(tmp_path / "out"), "--dry-run"]) == 2
    assert "ways, of which at most 100000 are recorded" in capsys.readouterr().err


def test_the_machine_is_the_one_that_was_recorded_on(fitted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--machine", "edge", "--splits", "test", "--images", "3", "--out", str(out)]
    assert call("record", [str(fitted), *options]) == 0
    assert open_recordings(out).test.machine == build_machine("edge")
    assert json.dumps(read_about(out / "test.safetensors")["experiment"]["machine"]) == '"edge"'
