"""One policy at every mean budget, on held-out images and traces, among its controls.

penstock record cifar10_stream --data FOLDER --splits validation test --out runs/cifar10-recording
for s in 0 1 2; do penstock train cifar10_stream --recording runs/cifar10-recording --seed $s; done
python scripts/reproduce/streams.py runs/cifar10_stream-?
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import tyro
from tyro.conf import Positional

from penstock.agents.contenders import BANDIT, HULL, POLICY, REALISABLE
from penstock.agents.evaluation import interval
from penstock.scripts.guard import guarded
from penstock.scripts.reproduce.scarce import read_score, row
from penstock.scripts.results import FOLDER, Claim, write_claims


@dataclass(frozen=True)
class Arguments:
    """Claims from the scores of finished runs."""

    runs: Positional[tuple[Path, ...]]
    """Folders that `penstock train` made, of one experiment and different seeds."""


def main() -> None:
    """Read, compare, write down."""
    arguments = tyro.cli(Arguments)
    scores = [read_score(run) for run in arguments.runs]
    seeds = [score["seed"] for score in scores]
    machine = json.loads((arguments.runs[0] / "experiment.json").read_text())["machine"]
    inside = np.array(scores[0]["inside"])

    def rows(name: str, field: str) -> Any:
        """[seeds, budgets inside]."""
        return np.array([row(score, name)[field] for score in scores])[:, inside]

    policy, hull, oracle = (rows(name, "utility") for name in (POLICY, HULL, REALISABLE))
    gain = (policy - hull).sum() / (oracle - hull).sum()
    # The bandit overspends where budgets are tight: compared where it keeps them.
    kept = rows(BANDIT, "cost").mean(axis=0) <= 1.0
    each = (rows(POLICY, "each") - rows(BANDIT, "each"))[:, kept].mean(axis=1).ravel()
    low, high = interval(100 * each, seed=0) if kept.any() else (float("nan"), float("nan"))
    claims = [
        Claim(
            "mean cost of a stream's input off its budget, % at worst over budgets, one policy",
            100 * float(np.abs(rows(POLICY, "cost") - 1).max()),
            2.0,
            "<=",
            "",
            seeds,
            machine,
        ),
        Claim(
            "streams above their average budget, % at worst over budgets",
            100 * float(rows(POLICY, "violating").max()),
            5.0,
            "<=",
            "",
            seeds,
            machine,
        ),
        Claim(
            "of the realisable oracle's gain over the hull, %, all budgets",
            100 * float(gain),
            95.0,
            ">=",
            REALISABLE,
            seeds,
            machine,
        ),
        Claim(
            "points above the primal-dual bandit, at budgets that it keeps, paired by stream",
            100 * float(each.mean()),
            0.0,
            ">=",
            BANDIT,
            seeds,
            machine,
            (low, high),
        ),
    ]
    write_claims("streams", claims)
    budgets = np.array(scores[0]["budgets"]) / scores[0]["full"]
    lines = [
        "Utility in %, mean of the seeds, by mean "
        f"{scores[0]['resource']} as a share of the full network's; * beyond what was learned for.",
        "",
        "| | "
        + " | ".join(
            f"{share:.3f}{'' if i else '*'}" for share, i in zip(budgets, inside, strict=True)
        )
        + " | hyper-volume |",
        "|---|" + "---|" * (len(budgets) + 1),
    ]
    for name in (each["name"] for each in scores[0]["rows"]):
        mean_worth = np.mean([row(score, name)["utility"] for score in scores], axis=0)
        cost = np.mean([row(score, name)["cost"] for score in scores], axis=0)
        volume = mean(row(score, name)["hypervolume"] for score in scores)
        cells = " | ".join(
            f"{100 * u:.2f}" + (f" ({100 * c:.0f} %)" if c > 1.005 else "")
            for u, c in zip(mean_worth, cost, strict=True)
        )
        lines.append(f"| {name} | {cells} | {100 * volume:.2f} |")
    lines += ["", "In brackets, where it is more: mean cost as a share of the budget."]
    (FOLDER / "streams.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(guarded(main))
