"""The demo's claim over several seeds: the policy on digits against chance and the hull.

for seed in 0 1 2; do penstock train digits --seed $seed --out runs/digits-$seed; done
python scripts/reproduce/digits.py runs/digits-0 runs/digits-1 runs/digits-2

Seed 0 is `make demo`. A seed also picks the test images.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from penstock.agents.evaluation import HULL, MASK, POLICY, RANDOM, THRESHOLDS
from penstock.scripts.results import FOLDER, Claim, write_claims


@dataclass(frozen=True)
class Arguments:
    """Write down what the tables say."""

    runs: Positional[tuple[Path, ...]]
    """Run folders of different seeds."""


def main() -> None:
    """Read, write down."""
    runs = tyro.cli(Arguments).runs
    unjudged = [str(run) for run in runs if not (run / "evaluation.json").is_file()]
    if unjudged:
        sys.exit(
            f"expected finished runs, {', '.join(unjudged)} has no evaluation.json; train them"
        )
    tables = [json.loads((run / "evaluation.json").read_text()) for run in runs]
    seeds = [table["seed"] for table in tables]
    claims, lines = [], []
    for name in (RANDOM, HULL, MASK, THRESHOLDS):
        gaps = [gap for table in tables for gap in table["gaps"] if gap["control"] == name]
        if len(gaps) < len(tables):
            lines.append(f"- {name}: no such row in {len(tables) - len(gaps)} of the runs.")
            continue
        mean = sum(gap["gap"] for gap in gaps) / len(gaps)
        # Test images of different seeds overlap: the mean is taken to be no surer than one run.
        half = sum(gap["interval"][1] - gap["interval"][0] for gap in gaps) / 2 / len(gaps)
        ends = (100 * (mean - half), 100 * (mean + half))
        each = ", ".join(
            f"{100 * gap['gap']:+.2f} [{100 * gap['interval'][0]:.2f}, "
            f"{100 * gap['interval'][1]:.2f}]"
            for gap in gaps
        )
        lines.append(f"- Against {name}, seeds {', '.join(map(str, seeds))}: {each}.")
        text = f"points above {name} at equal energy, digits, mean of seeds"
        machine = tables[0]["machine"]
        claims.append(Claim(text, 100 * mean, 0.0, ">=", name, seeds, machine, ends))
    shares = []
    for table in tables:
        energy = {row["name"]: row["energy_j"] for row in table["policies"]}
        shares.append(f"{energy[RANDOM] / energy[POLICY]:.2f}")
    lines.append(
        "- Random choices cannot always cost as little as the policy; they cost "
        f"{', '.join(shares)} times as much."
    )
    lines.append(
        "- Knobs, price range, budget and the policy's size were chosen on another split of the "
        "same digits (seed 9), its test images included."
    )
    write_claims("digits", claims)
    (FOLDER / "digits.md").write_text("\n".join(["Points by seed:", "", *lines]) + "\n")


if __name__ == "__main__":
    main()
