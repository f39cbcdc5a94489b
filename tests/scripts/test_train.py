"""The main job: train, kill, resume, evaluate, draw."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from penstock.backbones.saving import read_tensors
from penstock.scripts.guard import call


def steps_logged(run: Path) -> list[int]:
    events = EventAccumulator(str(run)).Reload()
    return [event.step for event in events.Scalars("policy/reward")]


def test_train_evaluate_and_frontier(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert call("train", [str(tiny), "--out", str(run)]) == 0
    written = {path.name for path in run.iterdir()}
    assert {"experiment.json", "run.json", "backbone.safetensors"} <= written
    assert {"policy.safetensors", "evaluation.json", "frontier.png"} <= written
    about = json.loads((run / "run.json").read_text())
    assert {"seed", "versions", "commit", "command", "date"} <= about.keys()
    tags = EventAccumulator(str(run)).Reload().Tags()
    assert {"frontier", "policy/choices"} <= set(tags["images"])
    assert "time-sharing hull" in capsys.readouterr().out

    assert call("evaluate", [str(run), "--budget", "energy_j=60%", "--hard", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["n"] == 359
    assert table["seed"] == 0
    assert table["machine"] == "microcontroller"
    assert table["budget"]["kind"] == "hard"
    assert table["policies"][0]["name"] == "policy"
    assert table["policies"][0]["violations"] == 0

    picture = tmp_path / "picture.png"
    assert call("frontier", [str(run), "--machine", "edge", "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")

    # A second run may not overwrite the first; the finished one resumes to the same table.
    before = json.loads((run / "evaluation.json").read_text())
    assert call("train", [str(tiny), "--out", str(run)]) == 2
    assert call("train", [str(tiny), "--out", str(run), "--resume"]) == 0
    after = json.loads((run / "evaluation.json").read_text())
    assert after["policies"] == before["policies"]


def test_killed_at_a_random_moment_it_resumes(tiny: Path, tmp_path: Path) -> None:
    # Long enough for the policy to settle, or the noise of learning would hide a lost policy.
    steps = 65_536
    text = tiny.read_text().replace("steps = 2048", f"steps = {steps}")
    text = text.replace("lanes = 32", "lanes = 256").replace("hidden = [8]", "hidden = [32]")
    tiny.write_text(text.replace("batch_size = 256", "batch_size = 1024"))
    run = tmp_path / "run"
    options = ["train", str(tiny), "--seed", "2", "--out", str(run)]
    command = [sys.executable, "-m", "penstock.scripts.main", *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        checkpoint = run / "policy.safetensors"
        for _ in range(1200):
            if checkpoint.exists() or child.poll() is not None:
                break
            time.sleep(0.1)
        time.sleep(random.Random(os.getpid()).random())
        assert child.poll() is None, "it ended before it could be killed"
        os.kill(child.pid, signal.SIGKILL)
    saved = int(read_tensors(checkpoint)[1]["steps"])
    assert 0 < saved < steps
    assert not (run / "evaluation.json").exists()

    assert call("train", [str(tiny), "--seed", "2", "--out", str(run), "--resume"]) == 0
    assert int(read_tensors(checkpoint)[1]["steps"]) == steps
    logged = steps_logged(run)
    assert logged[-1] == steps
    assert any(saved < step <= steps for step in logged)
    assert logged == sorted(set(logged))
    resumed = json.loads((run / "evaluation.json").read_text())

    whole = tmp_path / "whole"
    assert call("train", [str(tiny), "--seed", "2", "--out", str(whole)]) == 0
    uninterrupted = json.loads((whole / "evaluation.json").read_text())
    # The same network; two policies of one recipe, which may spend differently: compared by how far
    # each is from the time-sharing hull at its own cost. Three standard errors of a difference of
    # two such gaps on 359 images are 11 points. Policies differ by more than that where one settles
    # on the full network, as that of seed 0 does on some processors.
    assert abs(above_hull(resumed) - above_hull(uninterrupted)) < 0.11


def above_hull(table: dict[str, Any]) -> float:
    gaps = {gap["control"]: gap["gap"] for gap in table["gaps"]}
    return float(gaps["time-sharing hull"])


def test_same_seed_same_table(tiny: Path, tmp_path: Path) -> None:
    tables = []
    for name in ("a", "b"):
        assert call("train", [str(tiny), "--seed", "3", "--out", str(tmp_path / name)]) == 0
        tables.append(json.loads((tmp_path / name / "evaluation.json").read_text()))
    assert tables[0]["policies"] == tables[1]["policies"]
