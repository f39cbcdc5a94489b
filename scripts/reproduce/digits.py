"""The demo's claim over several seeds: the policy on digits against chance and the hull.

for seed in 0 1 2; do penstock train digits --seed $seed --out runs/digits-$seed; done
python scripts/reproduce/digits.py runs/digits-0 runs/digits-1 runs/digits-2

Seed 0 is `make demo`. A seed also picks the test images.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from penstock.agents.evaluation import HULL, MASK, POLICY, RANDOM, THRESHOLDS
from penstock.scripts.guard import guarded
from penstock.scripts.results import FOLDER, Claim, mean_gap, read_runs, write_claims


@dataclass(frozen=True)
class Arguments:
    """Write down what the tables say."""

    runs: Positional[tuple[Path, ...]]
    """Run folders of different seeds."""


def main() -> None:
    """Read, write down."""
    tables = read_runs(tyro.cli(Arguments).runs)
    seeds = [table["seed"] for table in tables]
    claims, lines = [], []
    for name in (RANDOM, HULL, MASK, THRESHOLDS):
        mean, ends, each = mean_gap(tables, name)
        lines.append(f"- Against {name}, seeds {', '.join(map(str, seeds))}: {each}.")
        text = f"points above {name} at equal energy, digits, mean of seeds"
        claims.append(Claim(text, mean, 0.0, ">=", name, seeds, tables[0]["machine"], ends))
    shares = []
    for table in tables:
        energy = {row["name"]: row["energy_j"] for row in table["policies"]}
        shares.append(f"{energy[RANDOM] / energy[POLICY]:.2f}")
    lines.append(f"- Random choices cost {', '.join(shares)} times as much as the policy.")
    lines.append(
        "- Knobs, price range, budget and the policy's size were chosen on another split of the "
        "same digits (seed 9), its test images included."
    )
    write_claims("digits", claims)
    (FOLDER / "digits.md").write_text("\n".join(["Points by seed:", "", *lines]) + "\n")


if __name__ == "__main__":
    sys.exit(guarded(main))
