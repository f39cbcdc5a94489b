"""One learned policy on CIFAR-10, judged at half of the full network's energy and at hard budgets.

penstock train cifar10 --data FOLDER --out RUN
python scripts/reproduce/cifar10_policy.py RUN --data FOLDER
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.evaluation import FULL, HULL, MASK, POLICY, RANDOM, THRESHOLDS, meet
from penstock.envs import Budget
from penstock.scripts.evaluate import open_scene
from penstock.scripts.results import FOLDER, Claim, write_claims
from penstock.scripts.table import written

HARD = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Hard budgets on energy, as shares of the full network's."""


@dataclass(frozen=True)
class Arguments:
    """Judge a CIFAR-10 policy."""

    run: Positional[Path]
    """A folder that `penstock train cifar10` made."""
    data: str
    """Folder with train.parquet and test.parquet, or the data set's name on the hub."""
    topic: str = "cifar10_policy"
    """Name of the record."""


def main() -> None:
    """Open, judge, write down."""
    arguments = tyro.cli(Arguments)
    judged = arguments.run / "evaluation.json"
    if not judged.is_file():
        sys.exit(f"expected a finished run with {judged}; make one with penstock train cifar10")
    table = json.loads(judged.read_text())
    gaps = {gap["control"]: gap for gap in table["gaps"]}
    rows = {row["name"]: row for row in table["policies"]}
    share = rows[POLICY]["energy_j"] / rows[FULL]["energy_j"]
    policy, scene, experiment, seed = open_scene(str(arguments.run), arguments.data, None)
    assert policy is not None
    accuracies, violations = [], 0
    with tqdm(desc="hard budgets", unit="image") as bar:
        for limit in HARD:
            budget = Budget("energy_j", limit, relative=True, kind="hard")
            row, _ = meet(policy, scene, budget, seed=seed, progress=bar.update)
            violations += row.violations
            accuracies.append(row.accuracy)

    def against(text: str, name: str, sign: float, target: float, comparison: str) -> Claim:
        gap = gaps[name]
        ends = sorted(100 * sign * end for end in gap["interval"])
        return Claim(
            text,
            100 * sign * gap["gap"],
            target,
            comparison,  # type: ignore[arg-type]
            name,
            [seed],
            experiment.machine,
            (ends[0], ends[1]),
        )

    write_claims(
        arguments.topic,
        [
            Claim(
                "mean energy of the policy as a share of the full 8-bit network's, %",
                100 * share,
                50.5,
                "<=",
                FULL,
                [seed],
                experiment.machine,
            ),
            against("points lost against the full network", FULL, -1, 1.0, "<="),
            against("points above the time-sharing hull", HULL, 1, 1.0, ">="),
            against("points above the best fixed mask", MASK, 1, 1.0, ">="),
            against("points above random", RANDOM, 1, 0.0, ">="),
            against("points below calibrated thresholds", THRESHOLDS, -1, 0.3, "<="),
            Claim(
                "violations of hard budgets of 20, 35, 50, 65 and 80 %, all test images",
                violations,
                0,
                "<=",
                "none",
                [seed],
                experiment.machine,
            ),
        ],
    )
    hard = ", ".join(
        f"{100 * accuracy:.2f} % at {100 * limit:.0f} %"
        for limit, accuracy in zip(HARD, accuracies, strict=True)
    )
    note = (
        "Full means all blocks at full width and 8 bits, the dearest setting offered, so that the\n"
        "saving is not that of going from 32 to 8 bits.\n\n"
        f"```\n{written(table)}\n```\n\nAccuracy under hard budgets: {hard}.\n"
    )
    (FOLDER / f"{arguments.topic}.md").write_text(note)


if __name__ == "__main__":
    main()
