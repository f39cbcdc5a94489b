"""A policy that first follows a rule."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from penstock.agents.decider import run_streams
from penstock.agents.learned import Learned
from penstock.agents.learner import Learner
from penstock.agents.predictor import Predictor
from penstock.agents.primal_dual import Priced
from penstock.agents.sb3 import train
from penstock.backbones import InputError
from penstock.backbones.saving import read_tensors
from penstock.envs import Lanes, Recording, Stream

STREAM = Stream(inputs_per_episode=20, price=(0.1, 2.0))

COPY: dict[str, Any] = {"lanes": 128, "horizon": 16, "batch_size": 256, "hidden": (32,)}


def engine(recording: Recording) -> Lanes:
    return Lanes(recording, STREAM, lanes=128, controller=(32,))


@pytest.mark.parametrize("algorithm", ["maskable_ppo", "ppo"])
def test_a_copy_decides_as_its_teacher_does(
    local: dict[str, Recording], predictor: Predictor, tmp_path: Path, algorithm: str
) -> None:
    teacher = Priced(predictor)
    learner = Learner(**{**COPY, "algorithm": algorithm}, steps=16_384, imitate=16_384)
    policy = train(engine(local["train"]), learner, tmp_path, teacher=teacher)
    lanes = engine(local["test"])
    streams = torch.arange(320).view(16, 20)
    prices = torch.logspace(-1, 0.3, 16, dtype=torch.float64)
    copy, rule = (
        run_streams(decider, lanes, streams, prices=prices)
        for decider in (Learned(policy), teacher)
    )
    # Chance would agree on few of the many ways through the network.
    alike = (copy.exit_each == rule.exit_each).double().mean()
    assert alike > 0.8
    gap = copy.mean_cost("energy_j") / rule.mean_cost("energy_j") - 1
    assert gap.abs().mean() < 0.15
    assert "imitation/loss" in EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]


def test_imitation_goes_on_where_it_stopped_and_learning_behind_it(
    local: dict[str, Recording], predictor: Predictor, tmp_path: Path
) -> None:
    few = {**COPY, "steps": 2048 * 3, "epochs": 1}
    teacher = Priced(predictor)
    train(
        engine(local["train"]),
        Learner(**{**few, "steps": 2048}, imitate=2048),
        tmp_path,
        teacher=teacher,
    )
    path = tmp_path / "policy.safetensors"
    assert read_tensors(path)[1]["steps"] == "2048"
    learner = Learner(**few, imitate=4096)
    train(engine(local["train"]), learner, tmp_path, resume=True, teacher=teacher)
    assert read_tensors(path)[1]["steps"] == "6144"
    # Only the last 2048 steps were PPO's.
    assert read_tensors(path)[1]["updates"] == "1"


def test_without_a_recording_there_is_nobody_to_imitate(
    local: dict[str, Recording], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no recording"):
        train(engine(local["train"]), Learner(**COPY, imitate=2048), tmp_path)
    assert not list(tmp_path.iterdir())
