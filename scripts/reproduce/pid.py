"""Prices that PID control moves, beside plain dual ascent: how far streams end from their budgets.

penstock record cifar10_stream --data FOLDER --splits validation test --out runs/cifar10-recording
python scripts/reproduce/pid.py --recording runs/cifar10-recording

Two kinds of policies: those that see their price, and those that follow it only as far as they
learn from their rewards, as in published Lagrangian methods. The gains of each law are those that
leave the least spread with a seed of their own. Killed, it goes on where it was.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Final

import numpy as np
import tyro
from tqdm import tqdm

from penstock.scripts.experiment import read_experiment
from penstock.scripts.guard import guarded
from penstock.scripts.reproduce.pid_trial import Trial, World, spread
from penstock.scripts.results import FOLDER, Claim, write_claims

LAWS: Final = {"lagrangian": "plain", "pid": "PID"}

Found = dict[Trial, dict[str, float]]


@dataclass(frozen=True)
class Arguments:
    """Learn with both, compare."""

    world: tyro.conf.OmitArgPrefixes[World]
    tuned_on: int = 10
    """Seed with which gains are chosen."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """With which laws are compared: of initial weights, exploration and streams."""
    rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    """Of plain dual ascent."""
    integral: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    """Gains of that part of PID control."""
    proportional: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Gains of that part, and of the derivative one."""
    workers: int = 2
    """Policies that learn at once."""

    def trials(self, observed: bool, law: str) -> list[Trial]:
        """Everything that is tried of a law."""
        gains: list[tuple[float, ...]] = [(rate,) for rate in self.rates]
        if law == "pid":
            gains = [(p, i, p) for i in self.integral for p in self.proportional]
        return [Trial(self.world, observed, law, each, self.tuned_on) for each in gains]


def main() -> None:
    """Choose gains, learn, compare, write down."""
    arguments = tyro.cli(Arguments)
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:

        def found(trials: list[Trial], task: str) -> Found:
            results = tqdm(pool.map(spread, trials), desc=task, unit="policy", total=len(trials))
            return dict(zip(trials, results, strict=True))

        cases = [(observed, law) for observed in (True, False) for law in LAWS]
        tried = found([t for case in cases for t in arguments.trials(*case)], "gains")
        best = {
            case: min(arguments.trials(*case), key=lambda trial: tried[trial]["spread"])
            for case in cases
        }
        judged = found(
            [replace(best[case], seed=seed) for case in cases for seed in arguments.seeds],
            "compare",
        )
    claims = []
    for observed, sees in ((True, "sees"), (False, "does not see")):
        plain, pid = (
            np.mean([one["spread"] for one in rows(judged, observed, law).values()])
            for law in ("lagrangian", "pid")
        )
        claims.append(
            Claim(
                "spread of the stream cost around its budget, plain over PID, second half of "
                f"learning, a policy that {sees} its price",
                float(plain / pid),
                2.0,
                ">=",
                "plain Lagrangian at its best rate",
                arguments.seeds,
                read_experiment(arguments.world.experiment).machine,
            )
        )
    write_claims("pid", claims)
    world = arguments.world
    lines = [
        "Error: (mean cost of a stream's input - budget) / budget, in %, of all streams of "
        f"{world.inputs} inputs that ended in the second half of {world.steps:,} steps, while one "
        "policy learns all budgets. Spread: the root mean square of errors; first half: the same "
        "before; deviation: around their mean; moves: updates that moved a price. Otherwise as "
        f"`cifar10_stream`, but prices from {world.price[0]:g} to {world.price[1]:g}, entropy "
        f"{world.entropy:g}, no imitation.",
        "",
        f"At the gains that leave the least spread with seed {arguments.tuned_on}:",
        "",
        *table(judged),
        "",
        f"Everything that was tried with seed {arguments.tuned_on}:",
        "",
        *table(tried),
    ]
    (FOLDER / "pid.md").write_text("\n".join(lines) + "\n")


def rows(found: Found, observed: bool, law: str) -> Found:
    """Those of one law, under one kind of policy."""
    return {t: one for t, one in found.items() if (t.observed, t.law) == (observed, law)}


def table(found: Found) -> list[str]:
    """In markdown."""
    return [
        "| price | law | gains | seed | first half | spread | mean error | deviation | moves |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {'seen' if trial.observed else 'not seen'} | {LAWS[trial.law]} "
            f"| {', '.join(f'{gain:g}' for gain in trial.gains)} | {trial.seed} "
            f"| {100 * one['early']:.1f} | {100 * one['spread']:.1f} | {100 * one['error']:+.1f} "
            f"| {100 * one['deviation']:.1f} | {one['moves']:.0f} |"
            for trial, one in found.items()
        ),
    ]


if __name__ == "__main__":
    sys.exit(guarded(main))
