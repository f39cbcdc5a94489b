import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from penstock.scripts.main import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, recorded_text: Callable[..., str]) -> Path:
    """With an experiment, and the recording that it names."""
    folder = tmp_path_factory.mktemp("streams")
    (folder / "small.toml").write_text(recorded_text(folder / "recording"))
    assert run("record", str(folder / "small.toml"), "--out", str(folder / "recording")) == 0
    return folder


def test_a_policy_learns_on_recordings_and_is_judged_at_every_budget(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "run"
    assert run("train", str(folder / "small.toml"), "--out", str(out)) == 0
    printed = capsys.readouterr().out
    score = json.loads((out / "score.json").read_text())
    assert len(score["budgets"]) == 10 and sum(score["inside"]) == 8
    assert score["budgets"][1] == pytest.approx(0.5 * score["full"])
    rows = {row["name"]: row for row in score["rows"]}
    for name in ("policy", "full network", "time-sharing hull", "random", "primal-dual bandit"):
        assert name in printed and len(rows[name]["utility"]) == 10
    assert rows["time-sharing hull"]["cost"][5] <= 1.05
    assert all(0 <= utility <= 1 for row in rows.values() for utility in row["utility"])
    for picture in ("frontier.png", "timeline.png"):
        assert (out / picture).stat().st_size > 10_000
    assert score["commit"] and score["command"]

    assert run("evaluate", str(out), "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert np.allclose(again["rows"][0]["utility"], score["rows"][0]["utility"])
    assert run("evaluate", str(out), "--hard") == 2
    assert "leave these out" in capsys.readouterr().err


def test_budgets_that_cannot_be_met_are_refused_before_anything_is_learned(
    folder: Path, recorded_text: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = recorded_text(folder / "recording", limit=0.01)
    (folder / "low.toml").write_text(text)
    assert run("train", str(folder / "low.toml"), "--out", str(folder / "low")) == 2
    assert "the cheapest way to an answer" in capsys.readouterr().err
    assert not (folder / "low").exists()
    (folder / "single.toml").write_text(text.replace("most = 1.2\n", ""))
    assert run("train", str(folder / "single.toml"), "--out", str(folder / "low")) == 2
    assert "a limit and a most" in capsys.readouterr().err
