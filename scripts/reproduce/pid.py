"""Prices that PID control moves, beside plain dual ascent: how far streams end from their budgets.

penstock record cifar10_stream --data FOLDER --splits validation test --out runs/cifar10-recording
python scripts/reproduce/pid.py --recording runs/cifar10-recording

Two kinds of policies: those that see their price, and those that follow it only as far as they
learn from their rewards, as in published Lagrangian methods. The gains of both laws are chosen on
a seed of their own, those that leave the least spread. Killed, it goes on where it was.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from penstock.agents.sb3 import train
from penstock.envs import Budget
from penstock.scripts.experiment import read_experiment
from penstock.scripts.guard import guarded
from penstock.scripts.reproduce.kept import Kept
from penstock.scripts.results import FOLDER, Claim, write_claims
from penstock.scripts.streams import arena_of

LAWS: Final = {"lagrangian": "plain", "pid": "PID"}


@dataclass(frozen=True)
class Arguments:
    """Learn with both, compare."""

    recording: Path
    """Of the experiment."""
    experiment: str = "cifar10_stream"
    """A name, or a file: stream and learner."""
    tuned_on: int = 10
    """Seed with which gains are chosen."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """With which laws are compared: of initial weights, exploration and streams."""
    inputs: int = 20
    """Of a stream."""
    steps: int = 1_500_000
    """Decisions of each policy."""
    entropy: float = 0.02
    """Weight of the entropy bonus: with less, policies that do not see prices stop following."""
    rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    """Of plain dual ascent, one of which is chosen."""
    integral: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Gains of that part of PID control."""
    proportional: tuple[float, ...] = (0.3, 1.0)
    """Gains of that part, and of the derivative one."""
    workers: int = 2
    """Policies that learn at once."""
    kept: Path = Path("runs/pid")
    """What was found so far; remove it after changes of code."""

    @property
    def gains(self) -> dict[str, list[tuple[float, ...]]]:
        """What is tried of each law."""
        return {
            "lagrangian": [(rate,) for rate in self.rates],
            "pid": [(p, i, p) for i in self.integral for p in self.proportional],
        }


@dataclass(frozen=True)
class Trial:
    """One policy, learned under one law."""

    arguments: Arguments
    observed: bool
    """Whether it sees its price."""
    law: str
    gains: tuple[float, ...]
    seed: int

    @property
    def name(self) -> str:
        """Of a file."""
        sight = "seen" if self.observed else "unseen"
        return "-".join([sight, self.law, *map(str, self.gains), f"seed{self.seed}"])


def main() -> None:
    """Choose gains, learn, compare, write down."""
    arguments = tyro.cli(Arguments)
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:

        def found(trials: list[Trial], task: str) -> list[dict[str, float]]:
            return list(tqdm(pool.map(swing, trials), desc=task, unit="policy", total=len(trials)))

        cases = [(observed, law) for observed in (True, False) for law in LAWS]
        tried = [
            Trial(arguments, *case, gains, arguments.tuned_on)
            for case in cases
            for gains in arguments.gains[case[1]]
        ]
        chosen: dict[tuple[bool, str], tuple[float, dict[str, float], Trial]] = {}
        searched = found(tried, "gains")
        for trial, result in zip(tried, searched, strict=True):
            case = (trial.observed, trial.law)
            if case not in chosen or result["spread"] < chosen[case][0]:
                chosen[case] = (result["spread"], result, trial)
        judged = [replace(chosen[case][2], seed=seed) for case in cases for seed in arguments.seeds]
        results = found(judged, "compare")
    mean = {
        case: {
            name: float(
                np.mean(
                    [
                        r[name]
                        for r, t in zip(results, judged, strict=True)
                        if (t.observed, t.law) == case
                    ]
                )
            )
            for name in results[0]
        }
        for case in cases
    }
    claims = [
        Claim(
            f"{what}, plain over PID, second half of learning, a policy that {sees} its price",
            mean[observed, "lagrangian"][name] / mean[observed, "pid"][name],
            2.0,
            ">=",
            "plain Lagrangian at its best rate",
            arguments.seeds,
            read_experiment(arguments.experiment).machine,
        )
        for observed, sees in ((True, "sees"), (False, "does not see"))
        for name, what in (
            ("spread", "spread of the stream cost around its budget"),
            ("swing", "spread over updates of the mean error of streams"),
        )
    ]
    write_claims("pid", claims)
    write_tables(arguments, tried, searched, {case: chosen[case][2] for case in cases}, mean)


def write_tables(
    arguments: Arguments,
    tried: list[Trial],
    searched: list[dict[str, float]],
    chosen: dict[tuple[bool, str], Trial],
    mean: dict[tuple[bool, str], dict[str, float]],
) -> None:
    """Leave docs/results/pid.md."""
    lines = [
        "Error: (mean cost of a stream's input - budget) / budget, in %, of streams of "
        f"{arguments.inputs} inputs while one policy learns all budgets; second half of learning, "
        "unless said. Spread: its root mean square over streams. Swing: the root mean square of "
        "its means over the streams of an update, in which what inputs bring by chance cancels.",
        "",
        f"At the gains chosen with seed {arguments.tuned_on}, means of seeds "
        f"{', '.join(map(str, arguments.seeds))}:",
        "",
        "| price | law | gains | spread, first half | spread | swing | mean error |",
        "|---|---|---|---|---|---|---|",
    ]
    for (observed, law), one in mean.items():
        gains = ", ".join(f"{gain:g}" for gain in chosen[observed, law].gains)
        lines.append(
            f"| {'seen' if observed else 'not seen'} | {LAWS[law]} | {gains} "
            f"| {100 * one['early']:.1f} | {100 * one['spread']:.1f} | {100 * one['swing']:.1f} "
            f"| {100 * one['error']:+.1f} |"
        )
    lines += [
        "",
        f"Everything that was tried, seed {arguments.tuned_on}:",
        "",
        "| price | law | gains | spread, first half | spread | swing |",
        "|---|---|---|---|---|---|",
        *(
            f"| {'seen' if t.observed else 'not seen'} | {LAWS[t.law]} "
            f"| {', '.join(f'{gain:g}' for gain in t.gains)} | {100 * one['early']:.1f} "
            f"| {100 * one['spread']:.1f} | {100 * one['swing']:.1f} |"
            for t, one in zip(tried, searched, strict=True)
        ),
    ]
    (FOLDER / "pid.md").write_text("\n".join(lines) + "\n")


def swing(trial: Trial) -> dict[str, float]:
    """How far from their budgets streams end while a policy learns, as shares of them."""
    torch.set_num_threads(1)
    arguments = trial.arguments
    about = f"{Path(arguments.experiment).stem}-{arguments.steps}-{arguments.inputs}"
    kept = Kept(arguments.kept / f"{about}-{arguments.entropy}")
    return kept(trial.name, lambda: learned(trial))


def learned(trial: Trial) -> dict[str, float]:
    """The same, not kept."""
    arguments = trial.arguments
    experiment = read_experiment(arguments.experiment)
    experiment = replace(experiment, recording=str(arguments.recording))
    budget = replace(experiment.budget, observed=True)
    assert isinstance(budget, Budget)
    stream = replace(
        experiment.stream,
        inputs_per_episode=arguments.inputs,
        budgets=(budget,),
        price=(0.001, 10.0),
        price_observed=trial.observed,
    )
    arena = replace(arena_of(experiment), stream=stream)
    learner = replace(
        experiment.learner,
        steps=arguments.steps,
        entropy=arguments.entropy,
        imitate=0,
        inputs=None,
        prices=trial.law,  # type: ignore[arg-type]
        gains=trial.gains,
    )
    lanes = arena.lanes("learn", learned=True, lanes=learner.lanes, seed=trial.seed)
    with TemporaryDirectory() as folder:
        train(lanes, learner, folder, seed=trial.seed)
        events = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
        spreads, errors = (
            np.array([event.value for event in events.Scalars(f"price/{name}")])
            for name in ("spread", "overshoot")
        )
    spreads, errors = spreads[spreads > 0], errors[spreads > 0]  # of updates in which any ended
    half = len(spreads) // 2
    return {
        "early": rms(spreads[:half]),
        "spread": rms(spreads[half:]),
        "swing": rms(errors[half:]),
        "error": float(errors[half:].mean()),
    }


def rms(values: npt.NDArray[np.float64]) -> float:
    """Root mean square."""
    return float((values**2).mean() ** 0.5)


if __name__ == "__main__":
    sys.exit(guarded(main))
