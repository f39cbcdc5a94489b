"""`penstock profile`, and what its table is good for: training, checks, the claims by the clock."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from penstock.backbones import InputError, resnet, save
from penstock.backbones.backbone import Call
from penstock.backbones.knob import every_setting
from penstock.backbones.saving import build
from penstock.hardware.timings import asked, key
from penstock.scripts.guard import call
from penstock.scripts.pinned import pinned

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce" / "measured.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the tiny experiment's kind, its table, and a machine for each batch."""
    folder = tmp_path_factory.mktemp("profile")
    torch.manual_seed(0)
    net = resnet(8, 0.25, in_channels=1, size=8)
    save(net, folder / "net.safetensors")
    options = ["--batches", "1", "4", "--repeats", "1", "--hidden", "8", "--no-prepared"]
    out = folder / "profile.json"
    assert call("profile", [str(folder / "net.safetensors"), *options, "--out", str(out)]) == 0
    for n in (1, 4):
        (folder / f"batch_{n}.toml").write_text(
            f"""
            type = "penstock.hardware:Measured"
            table = "{out}"
            batch = {n}
            inner = {{ type = "penstock.hardware:build_machine", what = "phone" }}
            """
        )
    return folder


def test_every_part_is_timed_under_every_setting(folder: Path) -> None:
    table = json.loads((folder / "profile.json").read_text())
    assert table["batches"] == [1, 4] and table["hidden"] == [8] and not table["prepared"]
    assert table["threads"] == 1 and table["repeats"] == 1
    assert {"cpu", "date", "commit", "versions", "command", "seed"} <= set(table)
    blocks = table["blocks"]
    order = ["stem", "blocks.0", "exits.0", "blocks.1", "exits.1", "blocks.2", "exits.2", "policy"]
    assert list(blocks) == order
    net = resnet(8, 0.25, in_channels=1, size=8)
    for block in (net.stem, net.block(0), net.block(1), net.head(2)):
        assert block is not None
        rows = blocks[block.name]["times"]
        known = {key(row["setting"]): row for row in rows}
        assert known.keys() == {key(asked(block, s)) for s in every_setting(block.knobs)}
        assert len(rows) == len(known)
        for setting, row in known.items():
            for n in ("1", "4"):
                each = row["batch"][n]
                assert 0 <= each["low_s"] <= each["median_s"] <= each["high_s"]
                assert (each["median_s"] == 0) == (("run", 0.0) in setting)
    for n in ("1", "4"):
        whole = table["whole"][n]
        parts = [blocks[name]["times"][-1]["batch"][n]["median_s"] for name in order[:-1]]
        assert whole["sum_of_table_s"] == pytest.approx(sum(parts))
        assert whole["sum_over_whole"] == pytest.approx(sum(parts) / whole["median_s"])


def test_it_is_the_machine_of_its_own_network(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine, net = str(folder / "batch_4.toml"), str(folder / "net.safetensors")
    assert call("check", [machine, "--backbone", net]) == 0
    assert call("check", [machine]) == 2
    assert "names layers, times or weights of one network" in capsys.readouterr().err
    assert call("check", [machine, "--backbone", "digits"]) == 2
    assert "measured on another network" in capsys.readouterr().err


def test_a_policy_learns_on_it_and_is_timed(tiny: Path, folder: Path, tmp_path: Path) -> None:
    text = tiny.read_text().replace("bits = [8]", "bits = [32]")
    tiny.write_text(text.replace("[stream]", '[stream]\nresource = "latency_s"'))
    run, machine = str(tmp_path / "run"), str(folder / "batch_4.toml")
    assert call("train", [str(tiny), "--machine", machine, "--out", run]) == 0
    assert call("evaluate", [run, "--machine", str(folder / "batch_1.toml")]) == 0
    options = [run, "--data", "digits", "--images", "8", "--rounds", "1", "--no-compiled"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    claims = json.loads((tmp_path / "docs" / "results" / "measured.json").read_text())
    assert len(claims) == 4 and all(claim["figure"] > -100 for claim in claims)
    assert "Batch of 4" in (tmp_path / "docs" / "results" / "measured.md").read_text()


def test_cores_are_given_back() -> None:
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    with pinned(1) as mine:
        assert torch.get_num_threads() == 1 and os.sched_getaffinity(0) == set(mine)
        assert len(mine) == 1
    assert torch.get_num_threads() == threads and os.sched_getaffinity(0) == cores
    with pytest.raises(InputError, match=r"threads go from 1 to the \d+ cores here, got 999"):
        with pinned(999):
            pass


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["digit"], "Did you mean 'digits'"),
        (["digits", "--batches", "0"], "batches are at least 1, got [0]"),
        (["digits", "--repeats", "0"], "repeats are at least 1, got 0"),
        (["digits", "--hidden", "0"], "hidden are at least 1, got [0]"),
        (["digits", "--threads", "0"], "threads go from 1"),
    ],
)
def test_what_cannot_be_measured_is_said(
    wrong: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("profile", [*wrong, "--out", str(tmp_path / "out.json")]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_where_nothing_can_be_written_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    for out, problem in ((tmp_path, "it is a folder"), (tmp_path / "file" / "x", "cannot be")):
        assert call("profile", ["digits", "--out", str(out)]) == 2
        assert problem in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_network_of_ones_own_is_timed_when_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "from penstock.backbones.backbone import Call\n"
        "from penstock.backbones.resnet import tiny_resnet\n"
        "def make():\n"
        "    network = tiny_resnet()\n"
        '    network.call = Call("mine:make", {})\n'
        "    return network\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    save(build(Call("mine:make", {})), "mine.safetensors")
    options = ["mine.safetensors", "--batches", "1", "--repeats", "1"]
    assert call("profile", options) == 2
    assert "trust" in capsys.readouterr().err
    assert call("profile", [*options, "--trust", "mine"]) == 0
