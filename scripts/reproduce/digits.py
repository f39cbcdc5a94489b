"""The demo's claim, from its run folder: the policy on digits against chance and the hull.

make demo
python scripts/reproduce/digits.py runs/demo
"""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from penstock.agents.evaluation import HULL, RANDOM
from penstock.scripts.results import Claim, write_claims


@dataclass(frozen=True)
class Arguments:
    """Write down what the demo's table says."""

    run: Positional[Path]
    """The demo's run folder."""


def main() -> None:
    """Read, write down."""
    run = tyro.cli(Arguments).run
    table = json.loads((run / "evaluation.json").read_text())
    gaps = {gap["control"]: gap for gap in table["gaps"]}
    write_claims(
        "digits",
        [
            Claim(
                f"points above {name} at equal energy, digits",
                100 * gaps[name]["gap"],
                0.0,
                ">=",
                name,
                [table["seed"]],
                table["machine"],
                (100 * gaps[name]["interval"][0], 100 * gaps[name]["interval"][1]),
            )
            for name in (RANDOM, HULL)
        ],
    )


if __name__ == "__main__":
    main()
