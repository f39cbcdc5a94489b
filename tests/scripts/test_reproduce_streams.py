"""The scripts behind the figures of streams: each starts, and writes its record."""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from penstock.scripts.main import run
from penstock.scripts.reproduce.pid_trial import figures
from penstock.scripts.reproduce.scarce import best, gap
from penstock.scripts.reproduce.switch import aligned

SMALL = """
machine = "split_3g"
learn_on = "validation"
streams = 3

[data]
name = "digits"
validation_share = 0.2

[backbone]
weights = "digits"

[stream]
inputs_per_episode = 24
resource = "latency_s"
price = [0.02, 4.0]
stages = [0, 4]
choices = { bits = [8], run = [1], width = [0.5, 1.0], offload = [8, 0] }

[learner]
inputs = 4
steps = 4096
imitate = 2048
lanes = 64
horizon = 16
batch_size = 256
epochs = 1
hidden = [8]

[budget]
resource = "latency_s"
limit = 2.0
most = 4.0
relative = true
"""

Script = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment, its recording and a run."""
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "small.toml").write_text(SMALL)
    small, recording = str(folder / "small.toml"), str(folder / "recording")
    assert run("record", small, "--out", recording) == 0
    assert run("train", small, "--recording", recording, "--out", str(folder / "run")) == 0
    return folder


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    """Runs a script in an empty folder; gives the claims that it left there."""
    (tmp_path / "docs" / "results").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def called(name: str, *options: str) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
        import_module(f"penstock.scripts.reproduce.{name}").main()
        claims: list[dict[str, Any]] = json.loads(Path(f"docs/results/{name}.json").read_text())
        assert Path(f"docs/results/{name}.md").read_text().count("|") > 10
        return claims

    return called


def test_claims_of_finished_runs(finished: Path, script: Script) -> None:
    here = str(finished / "run")
    assert len(script("streams", here)) == 4
    (best_rival, bandit) = script("scarce", here)
    assert best_rival["figure"] <= bandit["figure"]
    (policy,) = script("switch", here, "--streams", "20", "--within", "2")
    assert np.isfinite(policy["figure"])


def test_one_policy_beside_separate_ones(finished: Path, script: Script) -> None:
    mean, worst = script("separate", str(finished / "run"), "--streams", "3")
    assert worst["figure"] <= mean["figure"] and mean["interval"][0] <= mean["figure"]


def test_prices_by_two_laws(finished: Path, script: Script) -> None:
    small = (
        "--recording",
        str(finished / "recording"),
        "--experiment",
        str(finished / "small.toml"),
    )
    gains = ("--rates", "0.05", "--integral", "0.05", "--proportional", "1")
    kept = ("--kept", str(finished / "pid"), "--workers", "1")
    brief = ("--seeds", "0", "--tuned-on", "0", "--inputs", "4", "--steps", "4096")
    claims = script("pid", *small, *brief, *gains, *kept)
    assert len(claims) == 2 and all(claim["figure"] > 0 for claim in claims)


def test_streams_count_alike_however_many_end_together() -> None:
    logged = {
        "streams": np.array([0.0, 5, 1, 0, 3, 1]),
        "overshoot": np.array([0.0, 2, 2, 0, 0.1, -0.3]),
        "spread": np.array([0.0, 2, 2, 0, 0.2, 0.6]),
    }
    found = figures(logged)
    # Second half: (3 * 0.2^2 + 0.6^2) / 4 = 0.12, and (3 * 0.1 - 0.3) / 4 = 0.
    assert found["spread"] == pytest.approx(0.12**0.5) and found["error"] == pytest.approx(0)
    assert found["deviation"] == pytest.approx(0.12**0.5)
    assert found["early"] == pytest.approx(2) and found["moves"] == 4


def test_rivals_are_counted_at_their_best_budget_by_hand() -> None:
    score = {
        "inside": [False, True, True, False],
        "budgets": [1.0, 2.0, 4.0, 8.0],
        "full": 10.0,
        "rows": [
            {"name": "policy", "utility": [0.1, 0.6, 0.5, 0.9], "missed": [0, 0, 0.2, 0],
             "cost": [1, 1, 0.5, 1],
             "each": [[0.1, 0.1], [0.6, 0.6], [0.4, 0.6], [0.9, 0.9]]},
            {"name": "random", "utility": [0.2, 0.3, 0.1, 0.1], "missed": [0, 0.1, 0, 0],
             "cost": [1, 1, 1, 1],
             "each": [[0.2, 0.2], [0.3, 0.3], [0.1, 0.1], [0.1, 0.1]]},
        ],
    }  # fmt: skip
    assert best(score, "policy")["missed"] == 0.2  # at the widest budget that was learned for
    assert best(score, "policy")["energy"] == pytest.approx(0.2)  # half of 4 of 10
    assert best(score, "random")["missed"] == 0.1
    assert gap(score, "random").tolist() == pytest.approx([0.1, 0.3])


def test_streams_are_aligned_where_they_were_switched() -> None:
    value = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    after = torch.tensor([[False, True, True], [True, True, True], [False, False, False]])
    found = aligned(value, after)
    nan = float("nan")
    expected = torch.tensor([[2.0, 3.0, nan], [4.0, 5.0, 6.0], [nan, nan, nan]])
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_what_decisions_take(script: Script) -> None:
    brief = ("--backbone", "digits", "--batch", "4", "--rounds", "2", "--threads", "1")
    dearest, three = (claim["figure"] for claim in script("deciding", *brief))
    assert 0 < dearest < three <= 3 * dearest
