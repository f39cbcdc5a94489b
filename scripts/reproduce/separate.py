"""One policy for all budgets beside separate ones, each learned for one budget.

python scripts/reproduce/separate.py runs/cifar10_stream-0

Each separate policy learns with the settings of the run, at prices around the one that meets its
budget, and is judged at it on the same streams.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import tyro
from tyro.conf import Positional

from penstock.agents.arena import Arena
from penstock.agents.contenders import FEW, priced
from penstock.agents.decider import Streams, run_streams
from penstock.agents.evaluation import interval
from penstock.agents.learned import Learned
from penstock.agents.policy import Policy
from penstock.agents.prices import BudgetPrices
from penstock.agents.sb3 import load_policy, train
from penstock.agents.score import at_every, budget_grid
from penstock.scripts.guard import guarded
from penstock.scripts.results import FOLDER, Claim, write_claims
from penstock.scripts.run import open_run
from penstock.scripts.streams import arena_of, judged_range, teacher_of

AROUND = 1.5
"""Up to how many times lower or higher the prices of a separate policy are."""


@dataclass(frozen=True)
class Arguments:
    """Learn separate policies, compare."""

    run: Positional[Path]
    """A folder that `penstock train` made on recordings."""
    streams: int = 40
    """On which both are judged, all on the same."""


def main() -> None:
    """Learn, compare, write down."""
    arguments = tyro.cli(Arguments)
    run = open_run(arguments.run)
    experiment, seed = run.experiment, run.seed
    arena = arena_of(experiment)
    least, most = judged_range(experiment, arena)
    budgets, _ = budget_grid(least, most)
    teacher = teacher_of(arena, run)
    one = load_policy(arena.lanes("choose", learned=True, lanes=1), experiment.learner, run.folder)
    span = float(budgets[0]), float(budgets[-1])
    prices = kept(one, arena, span, seed)
    (found,) = at_every(
        Learned(one, prices),
        arena.under(*span).lanes("judge", learned=True, lanes=arguments.streams * len(budgets)),
        arena.streams("judge", arguments.streams, seed),
        budgets,
        seed=seed,
    )
    shape = len(budgets), arguments.streams
    ones = [each.view(shape) for each in (found.mean_worth, found.mean_cost(arena.stream.resource))]
    length = experiment.learner.inputs or arena.stream.inputs_per_episode
    gaps, lines = [], []
    for budget, worth, cost in zip(budgets.tolist(), *ones, strict=True):
        limit = torch.tensor([budget], dtype=torch.float64)
        price = float(prices(limit, limit, torch.tensor([arena.stream.inputs_per_episode])))
        narrow = replace(arena.stream, price=(price / AROUND, price * AROUND))
        own = replace(arena, stream=narrow)
        shorter = replace(narrow, inputs_per_episode=length)
        lanes = replace(own, stream=shorter).lanes(
            "learn", learned=True, lanes=experiment.learner.lanes, seed=seed
        )
        with TemporaryDirectory() as folder:
            separate = train(lanes, experiment.learner, folder, seed=seed, teacher=teacher)
            alone = judged(separate, own, budget, arguments.streams, seed)
        gaps.append((worth - alone.mean_worth).numpy())
        pairs = (worth, cost), (alone.mean_worth, alone.mean_cost(arena.stream.resource))
        cells = " | ".join(
            f"{100 * float(w.mean()):.2f} | {100 * float(c.mean()) / budget:.1f}" for w, c in pairs
        )
        lines.append(f"| {budget:.4g} | {cells} | {100 * gaps[-1].mean():+.2f} |")
        print(lines[-1], file=sys.stderr)
    means = 100 * np.array([gap.mean() for gap in gaps])
    low, high = interval(100 * np.mean(gaps, axis=0), seed=0)
    claims = [
        Claim(
            f"points of one policy above {len(budgets)} separate ones, mean of the budgets",
            float(means.mean()),
            -1.0,
            ">=",
            "separate policies",
            [seed],
            experiment.machine,
            (low, high),
        ),
        Claim(
            "the same at the budget where it is furthest behind",
            float(means.min()),
            -1.0,
            ">=",
            "separate policies",
            [seed],
            experiment.machine,
        ),
    ]
    write_claims("separate", claims)
    head = [
        f"| {arena.stream.resource} | one policy, % | cost / budget, % | separate, % | "
        "cost / budget, % | gap |",
        "|---|---|---|---|---|---|",
    ]
    tail = [
        "",
        "One seed. The outer two budgets lie beyond what the one policy learned for. Gaps are not "
        "at the same cost.",
    ]
    (FOLDER / "separate.md").write_text("\n".join([*head, *lines, *tail]) + "\n")


def kept(policy: Policy, arena: Arena, span: tuple[float, float], seed: int) -> BudgetPrices:
    """At which prices a policy keeps budgets, chosen on validation inputs."""
    return priced(Learned(policy), arena.under(*span), span, FEW, seed, learned=True)


def judged(policy: Policy, arena: Arena, budget: float, count: int, seed: int) -> Streams:
    """The streams of a policy that learned for one budget."""
    span = budget / 1.3, budget * 1.3
    prices = kept(policy, arena, span, seed)
    lanes = arena.under(*span).lanes("judge", learned=True, lanes=count)
    limits = torch.full((count,), budget, dtype=torch.float64)
    streams = arena.streams("judge", count, seed)
    return run_streams(Learned(policy, prices), lanes, streams, limits=limits, seed=seed)


if __name__ == "__main__":
    sys.exit(guarded(main))
