"""Where decisions have a future: battery, queue and switching costs, against everyone else's best.

penstock record cifar10_scarce --data FOLDER --splits validation test --out runs/scarce-recording
for s in 0 1 2; do penstock train cifar10_scarce --recording runs/scarce-recording --seed $s; done
python scripts/reproduce/scarce.py runs/cifar10_scarce-?

Budgets are means over a stream, which the battery undercuts. Who takes less than it is allowed may
come to more; so every rival is counted at the budget at which it is worth most *on the inputs
judged on*, which flatters it, and the policy at the widest budget that it learned for. Intervals
are over streams; what seeds differ by is listed.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tyro.conf import Positional

from penstock.agents.contenders import BANDIT, LABELS, POLICY, REALISABLE
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
    runs = tyro.cli(Arguments).runs
    scores = [read_score(run) for run in runs]
    seeds = [score["seed"] for score in scores]
    machine = json.loads((runs[0] / "experiment.json").read_text())["machine"]
    names = [row["name"] for row in scores[0]["rows"] if row["name"] not in (POLICY, LABELS)]
    gaps = {name: np.concatenate([gap(score, name) for score in scores]) for name in names}
    rivals = [name for name in names if name != REALISABLE]
    nearest = min(rivals, key=lambda name: float(gaps[name].mean()))

    def claim(text: str, name: str) -> Claim:
        low, high = interval(100 * gaps[name], seed=0)
        figure = 100 * float(gaps[name].mean())
        return Claim(text, figure, 3.0, ">=", name, seeds, machine, (low, high))

    claims = [
        claim("points above the best of all rivals at its best budget, paired by stream", nearest),
        claim("points above the primal-dual bandit at its best budget, paired by stream", BANDIT),
    ]
    write_claims("scarce", claims)
    by_seed = [
        ", ".join(f"{100 * float(gap(score, name).mean()):+.2f}" for score in scores)
        for name in (nearest, BANDIT)
    ]
    lines = [
        "Utility in % at the best budget of each, the policy's the widest it learned for; means of "
        "the seeds. Points by which the policy lies above, paired by stream, over all seeds; by "
        f"seed {by_seed[0]} above {nearest}, {by_seed[1]} above {BANDIT}. The scenario was built "
        "to need planning; it and the learner's settings were found while looking at streams of "
        "test images, too.",
        "",
        "| | utility | missed inputs, % | energy, % of full | policy lies above by |",
        "|---|---|---|---|---|",
    ]
    for name in (POLICY, *names):
        found = [best(score, name) for score in scores]
        utility, missed = (
            np.mean([each["utility"] for each in found]),
            np.mean([each["missed"] for each in found]),
        )
        above = ""
        if name != POLICY:
            low, high = interval(100 * gaps[name], seed=0)
            above = f"{100 * gaps[name].mean():+.2f} [{low:.2f}, {high:.2f}]"
        energy = np.mean([each["energy"] for each in found])
        lines.append(
            f"| {name} | {100 * utility:.2f} | {100 * missed:.1f} | {100 * energy:.1f} | {above} |"
        )
    (FOLDER / "scarce.md").write_text("\n".join(lines) + "\n")


def best(score: dict[str, Any], name: str) -> dict[str, Any]:
    """Utility, missed inputs, worth of each stream and energy at a contender's best budget."""
    found = row(score, name)
    place = int(np.argmax(found["utility"]))
    if name == POLICY:
        place = int(np.flatnonzero(score["inside"])[-1])
    energy = found["cost"][place] * score["budgets"][place] / score["full"]
    return {
        "energy": energy,
        **{field: found[field][place] for field in ("utility", "missed", "each")},
    }


def gap(score: dict[str, Any], name: str) -> Any:
    """By how much the policy lies above a contender on each stream, [k]."""
    return np.array(best(score, POLICY)["each"]) - np.array(best(score, name)["each"])


if __name__ == "__main__":
    sys.exit(guarded(main))
