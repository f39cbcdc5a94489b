"""What is predicted: of the right shape, better than base rates, calibrated, kept on disk."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from penstock.agents.foresight import Foresight
from penstock.agents.predictor import (
    Fit,
    Predictor,
    below,
    calibration_error,
    fit_predictor,
    load_predictor,
    save_predictor,
    validation_loss,
)
from penstock.backbones import InputError
from penstock.envs import Lanes, Recording, Stream


def test_predictions_are_of_the_answers_below(
    local: dict[str, Recording], predictor: Predictor
) -> None:
    recording = local["test"]
    ahead = Foresight(Lanes(recording, Stream(), lanes=1))
    every = torch.arange(len(recording.tree))
    assert torch.equal(below(recording), ahead.below(every))
    found = predictor.predict(recording.seen[0, every], every)
    assert found.shape == (len(every), len(ahead.answers)) and found.dtype == torch.float64
    assert bool((found[~below(recording)] == 0).all())
    inside = found[below(recording)]
    assert 0 < float(inside.min()) <= float(inside.max()) < 1


def base_rates(recording: Recording, rates: torch.Tensor) -> float:
    """The cross-entropy of predicting every answer's rate of success."""
    nodes = (recording.tree.stage < 3).nonzero().squeeze(1)
    answers = Foresight(Lanes(recording, Stream(), lanes=1)).answers
    right = recording.said[:, answers, 0].mean(dim=0)
    p = rates.clamp(0.01, 0.99)
    each = -(right * p.log() + (1 - right) * (1 - p).log())
    mask = below(recording)[nodes]
    return float((each * mask).sum() / mask.sum())


def test_looking_beats_base_rates(local: dict[str, Recording], predictor: Predictor) -> None:
    answers = Foresight(Lanes(local["test"], Stream(), lanes=1)).answers
    rates = local["validation"].said[:, answers, 0].mean(dim=0)
    assert validation_loss(predictor, local["test"]) < base_rates(local["test"], rates)


def test_predictions_are_calibrated(local: dict[str, Recording], predictor: Predictor) -> None:
    assert calibration_error(predictor, local["validation"]) < 0.02
    assert calibration_error(predictor, local["test"]) < 0.06


def test_what_features_tell_is_learned(local: dict[str, Recording]) -> None:
    # Right where the first feature is high, whatever is run; nothing else tells.
    def told(recording: Recording, seed: int) -> Recording:
        rng = torch.Generator().manual_seed(seed)
        coin = (torch.rand(recording.inputs, generator=rng) < 0.5).float()
        seen, said = torch.zeros_like(recording.seen), recording.said.clone()
        seen[:, :, 0] = coin.unsqueeze(1)
        said[:, :, 0] = coin.unsqueeze(1)
        return replace(recording, seen=seen, said=said)

    train, validation = told(local["train"], 0), told(local["validation"], 1)
    model = fit_predictor(train, validation, fit=Fit(epochs=3))
    assert validation_loss(model, told(local["test"], 2)) < 0.02


def test_the_likelihood_can_be_predicted_too(local: dict[str, Recording]) -> None:
    model = fit_predictor(
        local["train"], local["validation"], worth="likelihood", fit=Fit(epochs=2)
    )
    recording = local["test"]
    node = torch.zeros(recording.inputs, dtype=torch.int64)
    answers = Foresight(Lanes(recording, Stream(), lanes=1)).answers
    gap = model.predict(recording.seen[:, 0], node) - recording.said[:, answers, 1]
    assert float(gap.mean(dim=0).abs().mean()) < 0.08


def test_a_predictor_is_kept_on_disk(
    local: dict[str, Recording], split: dict[str, Recording], predictor: Predictor, tmp_path: Path
) -> None:
    path, recording = tmp_path / "predictor.safetensors", local["test"]
    save_predictor(predictor, path)
    again = load_predictor(path, recording)
    node = torch.zeros(5, dtype=torch.int64)
    seen = recording.seen[:5, 0]
    assert torch.equal(again.predict(seen, node), predictor.predict(seen, node))
    with pytest.raises(InputError, match="other decisions"):
        load_predictor(path, split["test"])
    (tmp_path / "other.safetensors").write_bytes(b"")
    with pytest.raises(InputError):
        load_predictor(tmp_path / "other.safetensors", recording)


def test_what_does_not_fit_is_refused(
    local: dict[str, Recording], split: dict[str, Recording]
) -> None:
    with pytest.raises(InputError, match="same decisions"):
        fit_predictor(local["train"], split["validation"])
    with pytest.raises(InputError, match="worth"):
        fit_predictor(local["train"], local["validation"], worth="loss")


def test_a_seed_gives_the_same_weights(local: dict[str, Recording]) -> None:
    few = local["train"].take(torch.arange(100))
    one, other = (fit_predictor(few, few, fit=Fit(epochs=1)) for _ in range(2))
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())
