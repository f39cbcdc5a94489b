"""Prices that PID control moves, beside plain dual ascent: how far streams end from their budgets.

penstock record cifar10_stream --data FOLDER --splits validation test --out runs/cifar10-recording
python scripts/reproduce/pid.py --recording runs/cifar10-recording --steps 1000000
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from penstock.agents.learner import Learner
from penstock.agents.sb3 import train
from penstock.envs import Budget, Lanes
from penstock.scripts.experiment import read_experiment
from penstock.scripts.guard import guarded
from penstock.scripts.results import FOLDER, Claim, write_claims
from penstock.scripts.streams import arena_of


@dataclass(frozen=True)
class Arguments:
    """Learn with both, compare."""

    recording: Path
    """Of the experiment."""
    experiment: str = "cifar10_stream"
    """A name, or a file: stream and learner."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of initial weights, exploration and streams."""
    inputs: int = 100
    """Of a stream."""
    steps: int = 1_500_000
    """Decisions of each policy."""


def main() -> None:
    """Learn, compare, write down."""
    arguments = tyro.cli(Arguments)
    experiment = read_experiment(arguments.experiment)
    experiment = replace(experiment, recording=str(arguments.recording))
    budget = replace(experiment.budget, observed=True)
    assert isinstance(budget, Budget)
    stream = replace(
        experiment.stream, inputs_per_episode=arguments.inputs, budgets=(budget,), price=(0.05, 2.0)
    )
    arena = replace(arena_of(experiment), stream=stream)
    found: dict[str, list[dict[str, float]]] = {"lagrangian": [], "pid": []}
    for seed in arguments.seeds:
        for law, each in found.items():
            learner = replace(
                experiment.learner,
                steps=arguments.steps,
                imitate=0,
                inputs=None,
                prices=law,  # type: ignore[arg-type]
            )
            lanes = arena.lanes("learn", learned=True, lanes=learner.lanes, seed=seed)
            each.append(spread(lanes, learner, seed))
            print(law, seed, each[-1], file=sys.stderr)
    mean = {
        law: {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        for law, each in found.items()
    }
    ratio = mean["lagrangian"]["late"] / mean["pid"]["late"]
    claim = Claim(
        "spread of the stream cost around its budget, plain over PID, second half of learning",
        ratio,
        2.0,
        ">=",
        "plain Lagrangian",
        arguments.seeds,
        experiment.machine,
    )
    write_claims("pid", [claim])
    lines = [
        "Root mean square of (mean cost of a stream's input - budget) / budget, in %, over streams "
        f"of {arguments.inputs} inputs while learning; means of the seeds.",
        "",
        "| | first half | second half | mean error, second half |",
        "|---|---|---|---|",
        *(
            f"| {law} | {100 * one['early']:.1f} | {100 * one['late']:.1f} | "
            f"{100 * one['error']:+.1f} |"
            for law, one in mean.items()
        ),
    ]
    lines += [
        "",
        "One set of constants of each law. Perhaps because a policy sees its price and follows it "
        "at once, little is left that control could damp. Deployed, prices follow what is left of "
        "a budget, see `spread` in a run's score.json; that was not compared at like conditions.",
    ]
    (FOLDER / "pid.md").write_text("\n".join(lines) + "\n")


def spread(lanes: Lanes, learner: Learner, seed: int) -> dict[str, float]:
    """How far from their budgets streams end while a policy learns, as shares of them."""
    with TemporaryDirectory() as folder:
        train(lanes, learner, folder, seed=seed)
        events = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
        spreads, errors = (
            np.array([event.value for event in events.Scalars(f"price/{name}")])
            for name in ("spread", "overshoot")
        )
    half = len(spreads) // 2
    return {
        "early": float((spreads[:half] ** 2).mean() ** 0.5),
        "late": float((spreads[half:] ** 2).mean() ** 0.5),
        "error": float(errors[half:].mean()),
    }


if __name__ == "__main__":
    sys.exit(guarded(main))
