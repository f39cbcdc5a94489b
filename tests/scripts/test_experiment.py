"""Experiments from TOML: shipped ones, wrong ones, there and back."""

import json
from pathlib import Path

import pytest
import torch

from penstock.backbones import InputError
from penstock.scripts.experiment import (
    Experiment,
    Network,
    Source,
    experiment_names,
    read_experiment,
)
from penstock.scripts.train import Arguments, override


@pytest.mark.parametrize("name", experiment_names())
def test_shipped_experiments_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    experiment = read_experiment(name)
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(experiment.table()))
    assert read_experiment(str(path)) == experiment


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("machin = 'x'", "Did you mean 'machine'"),
        ("[learner]\nsteps = 'many'", "steps should be of type int"),
        ("[learner]\nsteps = true", "steps should be of type int"),
        ("[learner]\nalgorithm = 'sarsa'", "is one of 'maskable_ppo'"),
        ("[stream]\nprice = [1.0]", "should hold 2 values"),
        ("[stream]\nprice = 3", "should be a list"),
        ("[stream]\nprice = [2.0, 1.0]", "low to a high"),
        ("data = 'digits'", "should be a table"),
        ("[budget]\nlimit = 0.5", "incomplete"),
        ("[budget]\nresource = 'joules'\nlimit = 1", "energy_j"),
        ("machine = ", "valid TOML"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_experiment(str(path))


def test_the_command_line_overrides() -> None:
    arguments = Arguments("digits", data="folder", machine="edge", steps=7)
    changed = override(Experiment(), arguments)
    assert (changed.data.name, changed.machine, changed.learner.steps) == ("folder", "edge", 7)


def test_the_split_is_the_runs_unless_the_experiment_fixes_it() -> None:
    def validation(
        seed: int, split_seed: int | None = None, weights: str | None = None
    ) -> torch.Tensor:
        experiment = Experiment(Source(split_seed=split_seed), backbone=Network(weights))
        return experiment.load(seed).validation.pixels

    assert not torch.equal(validation(0), validation(1))
    assert torch.equal(validation(1, 0), validation(0))
    # Weights that ship were fitted without the validation images of seed 0.
    assert torch.equal(validation(1, weights="digits"), validation(0))
    assert torch.equal(validation(0, 1, weights="digits"), validation(1))
