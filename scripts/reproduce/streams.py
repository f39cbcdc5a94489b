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
from penstock.scripts.reproduce.scores import read_score, row
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
    as_they_are, alike = ([gap(score, equal=e) for score in scores] for e in (False, True))
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
            "points above the primal-dual bandit at the same mean cost, paired by stream",
            100 * float(np.mean(alike)),
            0.0,
            ">=",
            BANDIT,
            seeds,
            machine,
            interval(100 * np.concatenate(alike), seed=0),
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
    spent = [100 * float(rows(name, "cost").mean()) for name in (POLICY, BANDIT)]
    low, high = interval(100 * np.concatenate(as_they_are), seed=0)
    lines += [
        "",
        "In brackets, where it is more: mean cost as a share of the budget. At budgets that were "
        f"learned for the policy spends {spent[0]:.1f} % of them, the bandit {spent[1]:.1f} %. As "
        f"they are, the policy lies {100 * float(np.mean(as_they_are)):+.2f} points above the "
        f"bandit [{low:.2f}, {high:.2f}]; the bandit's utility at the policy's mean cost is read "
        "off between its budgets.",
    ]
    (FOLDER / "streams.md").write_text("\n".join(lines) + "\n")


def gap(score: dict[str, Any], *, equal: bool) -> Any:
    """By how much the policy lies above the bandit, mean of the budgets learned for, [k].

    Args:
        score: of a run.
        equal: at the mean cost of the policy, between budgets of the bandit.
    """
    policy, bandit = row(score, POLICY), row(score, BANDIT)
    budgets, inside = np.array(score["budgets"]), np.array(score["inside"])
    own, other = (np.log(budgets * np.array(each["cost"])) for each in (policy, bandit))
    worth, rival = (np.array(each["each"]).T for each in (policy, bandit))  # [k, B]
    if equal:
        rival = np.array([np.interp(own, other, each) for each in rival])
    return (worth - rival)[:, inside].mean(axis=1)


if __name__ == "__main__":
    sys.exit(guarded(main))
