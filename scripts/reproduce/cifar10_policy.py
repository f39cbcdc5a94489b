"""Learned policies on CIFAR-10, judged at half of the full network's energy and at hard budgets.

for seed in 0 1 2; do penstock train cifar10 --data FOLDER --seed $seed --out runs/cifar10-$seed; done
python scripts/reproduce/cifar10_policy.py runs/cifar10-0 runs/cifar10-1 runs/cifar10-2 --data FOLDER
"""  # noqa: E501

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.evaluation import (
    FULL,
    HULL,
    MASK,
    POLICY,
    RANDOM,
    THRESHOLDS,
    evaluate,
    meet,
    record,
)
from penstock.envs import Budget
from penstock.scripts.evaluate import open_scene
from penstock.scripts.guard import guarded
from penstock.scripts.results import FOLDER, Claim, mean_gap, read_runs, write_claims
from penstock.scripts.table import written

HARD = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Hard budgets on energy, as shares of the full network's."""
AVERAGE = (0.2, 0.25, 0.3, 0.35, 0.4)
"""Average budgets on energy below the half that the claims are about, likewise."""


@dataclass(frozen=True)
class Arguments:
    """Judge CIFAR-10 policies."""

    runs: Positional[tuple[Path, ...]]
    """Folders that `penstock train cifar10` made with different seeds."""
    data: str
    """Folder with train.parquet and test.parquet, or the data set's name on the hub."""


def main() -> None:
    """Open, judge, write down."""
    arguments = tyro.cli(Arguments)
    tables = read_runs(arguments.runs)
    seeds, machine = [table["seed"] for table in tables], tables[0]["machine"]
    shares = []
    for table in tables:
        energy_j = {row["name"]: row["energy_j"] for row in table["policies"]}
        shares.append(energy_j[POLICY] / energy_j[FULL])
    hard = [hard_budgets(run, arguments.data) for run in arguments.runs]

    def claim(text: str, figure: float, target: float, comparison: str, control: str) -> Claim:
        return Claim(text, figure, target, comparison, control, seeds, machine)  # type: ignore[arg-type]

    claims, lines = [], []
    text = "mean energy of the policy as a share of the full 8-bit network's, %"
    claims.append(claim(text, 100 * max(shares), 50.5, "<=", FULL))
    for text, name, sign, target, comparison in (
        ("points lost against the full network, mean of seeds", FULL, -1, 1.0, "<="),
        ("points above the time-sharing hull, mean of seeds", HULL, 1, 1.0, ">="),
        ("points above the best fixed mask, mean of seeds", MASK, 1, 1.0, ">="),
        ("points above random, mean of seeds", RANDOM, 1, 0.0, ">="),
        ("points below calibrated thresholds, mean of seeds", THRESHOLDS, -1, 0.3, "<="),
    ):
        mean, (low, high), each = mean_gap(tables, name)
        ends = (low, high) if sign > 0 else (-high, -low)
        claims.append(
            Claim(text, sign * mean, target, comparison, name, seeds, machine, ends)  # type: ignore[arg-type]
        )
        lines.append(f"- Policy minus {name}, seeds {', '.join(map(str, seeds))}: {each}.")
    text = "violations of hard budgets of 20, 35, 50, 65 and 80 %, all test images, all seeds"
    claims.append(claim(text, sum(over for over, _ in hard), 0, "<=", "none"))
    for seed, (_, accuracies) in zip(seeds, hard, strict=True):
        each = ", ".join(
            f"{100 * accuracy:.2f} % at {100 * limit:.0f} %"
            for limit, accuracy in zip(HARD, accuracies, strict=True)
        )
        lines.append(f"- Accuracy under hard budgets, seed {seed}: {each}.")
    write_claims("cifar10_policy", claims)
    note = (
        "Full means all blocks at full width and 8 bits, the dearest setting offered, so that the\n"
        "saving is not that of going from 32 to 8 bits. The first run's table:\n\n"
        f"```\n{written(tables[0])}\n```\n\n"
    )
    lines += ["", *average_budgets(arguments.runs[0], arguments.data)]
    (FOLDER / "cifar10_policy.md").write_text(note + "\n".join(lines) + "\n")


def hard_budgets(run: Path, data: str) -> tuple[int, list[float]]:
    """Violations over all test images, and the accuracy at each of `HARD`."""
    policy, scene, _, seed = open_scene(str(run), data, None)
    assert policy is not None
    rows = []
    with tqdm(desc=f"hard budgets, {run.name}", unit="image") as bar:
        for limit in HARD:
            budget = Budget("energy_j", limit, relative=True, kind="hard")
            rows.append(meet(policy, scene, budget, seed=seed, progress=bar.update)[0])
    return sum(row.violations for row in rows), [row.accuracy for row in rows]


def average_budgets(run: Path, data: str) -> list[str]:
    """A table of what one policy gains at each of `AVERAGE`, in points."""
    policy, scene, _, seed = open_scene(str(run), data, None)
    controls = (FULL, HULL, MASK, THRESHOLDS)
    lines = [
        f"The same policy, seed {seed}, at lower budgets: its energy as a share of the full",
        "network's, its accuracy, and by how many points it is above each control. It cannot spend",
        "less than at the highest price that it learned with.",
        "",
        f"| energy, % | accuracy, % | {' | '.join(controls)} |",
        f"|{'---|' * (2 + len(controls))}",
    ]
    with tqdm(desc=f"record baselines, {run.name}", unit="setting") as bar:
        recorded = record(scene, seed=seed, progress=bar.update)
    with tqdm(desc=f"average budgets, {run.name}", unit="image") as bar:
        for limit in AVERAGE:
            budget = Budget("energy_j", limit, relative=True)
            found = evaluate(policy, scene, recorded, budget, seed=seed, progress=bar.update)
            own, full = found.row(POLICY), found.row(FULL)
            gaps = {gap.control: gap for gap in found.gaps}
            shown = (
                f"{100 * gap.gap:+.2f} [{100 * gap.low:.2f}, {100 * gap.high:.2f}]"
                for gap in (gaps[name] for name in controls)
            )
            share = 100 * own.mean("energy_j") / full.mean("energy_j")
            lines.append(f"| {share:.1f} | {100 * own.accuracy:.2f} | {' | '.join(shown)} |")
    return lines


if __name__ == "__main__":
    sys.exit(guarded(main))
