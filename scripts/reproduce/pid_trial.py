"""How far from their budgets streams end while one policy learns under one law of prices."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from penstock.agents.learner import Learner
from penstock.agents.sb3 import train
from penstock.envs import Budget, Lanes
from penstock.scripts.experiment import read_experiment
from penstock.scripts.reproduce.kept import Kept
from penstock.scripts.streams import arena_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """In which policies learn."""

    recording: Path
    """Of the experiment."""
    experiment: str = "cifar10_stream"
    """A name, or a file: stream and learner."""
    inputs: int = 20
    """Of a stream."""
    steps: int = 1_500_000
    """Decisions of each policy."""
    price: tuple[float, float] = (0.001, 10.0)
    """Between which prices move; they start in the middle."""
    entropy: float = 0.02
    """Weight of the entropy bonus."""
    kept: Path = Path("runs/pid")
    """What was found so far; remove it after changes of code."""


@dataclass(frozen=True)
class Trial:
    """One policy, learned under one law."""

    world: World
    observed: bool
    """Whether it sees its price."""
    law: str
    gains: tuple[float, ...]
    seed: int


def spread(trial: Trial) -> dict[str, float]:
    """What `figures` says of a trial, learned now or known from before."""
    torch.set_num_threads(1)
    world = trial.world
    table = read_experiment(world.experiment).table()
    options = [world.inputs, world.steps, world.price, world.entropy]
    digest = sha256(json.dumps([table, options], sort_keys=True).encode())
    for file in sorted(world.recording.iterdir()):
        digest.update(file.read_bytes())
    sight = "seen" if trial.observed else "unseen"
    name = "-".join([sight, trial.law, *map(str, trial.gains), f"seed{trial.seed}"])
    kept = Kept(world.kept / digest.hexdigest()[:12])
    return kept(name, lambda: figures(learned(trial)))


def learned(trial: Trial) -> dict[str, Floats]:
    """What was logged of streams at every update of a policy's network: see `figures`."""
    world = trial.world
    experiment = read_experiment(world.experiment)
    experiment = replace(experiment, recording=str(world.recording))
    budget = replace(experiment.budget, observed=True)
    assert isinstance(budget, Budget)
    stream = replace(
        experiment.stream,
        inputs_per_episode=world.inputs,
        budgets=(budget,),
        price=world.price,
        price_observed=trial.observed,
    )
    learner: Learner = replace(
        experiment.learner,
        steps=world.steps,
        entropy=world.entropy,
        imitate=0,
        inputs=None,
        prices=trial.law,  # type: ignore[arg-type]
        gains=trial.gains,
    )
    arena = replace(arena_of(experiment), stream=stream)
    lanes: Lanes = arena.lanes("learn", learned=True, lanes=learner.lanes, seed=trial.seed)
    with TemporaryDirectory() as folder:
        train(lanes, learner, folder, seed=trial.seed)
        events = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
        return {
            name: np.array([event.value for event in events.Scalars(f"price/{name}")])
            for name in ("streams", "overshoot", "spread")
        }


def figures(logged: Mapping[str, Floats]) -> dict[str, float]:
    """Of the streams that ended in the second half of learning, as shares of their budgets.

    Args:
        logged: at every update how many `streams` have ended, their mean error `overshoot` and the
            root mean square of their errors `spread`.

    Returns:
        `spread`, the root mean square of errors, their mean `error` and `deviation` from it; the
        `early` spread is that of the first half; `moves` counts the updates that moved a price.
    """
    half = len(logged["streams"]) // 2
    (early, _), (late, error) = (
        _together({name: values[part] for name, values in logged.items()})
        for part in (slice(None, half), slice(half, None))
    )
    return {
        "spread": late,
        "error": error,
        "deviation": max(0.0, late**2 - error**2) ** 0.5,
        "early": early,
        "moves": float((logged["streams"] > 0).sum()),
    }


def _together(logged: Mapping[str, Floats]) -> tuple[float, float]:
    """Root mean square and mean of the errors of all streams."""
    share = logged["streams"] / max(1.0, logged["streams"].sum())
    square, mean = share @ logged["spread"] ** 2, share @ logged["overshoot"]
    return float(square) ** 0.5, float(mean)
