"""A machine that errs, set per input, beside the best settings that look at no input.

for seed in 0 1 2; do penstock train digits_erring --seed $seed --out runs/digits_erring-$seed; done
python scripts/reproduce/erring.py runs/digits_erring-0 runs/digits_erring-1 runs/digits_erring-2

A seed also picks the test images. Static settings are uniform ("coarse") or assigned block by block
("fine", agents/plans.py), and mixed over inputs where that is better; they are found on validation
images, and so are the policy's prices. The controls that look at inputs too stand beside them.
Letters: `B` budgets, `I` test images.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm
from tyro.conf import Positional

from penstock.agents.bounds import hull
from penstock.agents.evaluation import (
    FULL,
    ORACLE,
    POLICY,
    RANDOM,
    THRESHOLDS,
    Judged,
    Recorded,
    evaluate,
    interval,
    record,
)
from penstock.agents.statics import Array
from penstock.envs import Budget
from penstock.hardware import Machine
from penstock.scripts.evaluate import open_scene
from penstock.scripts.guard import guarded
from penstock.scripts.results import FOLDER, Claim, write_claims

BUDGETS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Of the full network's energy, at which the policy is looked at."""

CLAIMED = 0.5
"""At which the claim is made: the experiment's own."""

GRID = np.arange(0.1, 1.005, 0.01)
"""Of the full network's energy, at which static settings are."""

COARSE, FINE = "uniform settings", "assignments block by block"
CONTROLS = (THRESHOLDS, FULL, RANDOM, ORACLE)


@dataclass(frozen=True)
class Arguments:
    """Compare at equal answers."""

    runs: Positional[tuple[Path, ...]]
    """Run folders of different seeds."""
    data: str | None = None
    """Images to use instead of the experiment's."""


@dataclass(frozen=True)
class Curves:
    """What one run's test images got."""

    policy: Array  # [B, I] right
    spent: Array  # [B] share of the full network's energy
    statics: dict[str, Array]  # [GRID, I] right, or expected where two settings are mixed
    controls: dict[str, tuple[Array, Array]]  # like policy and spent


def main() -> None:
    """Play, mix, write down."""
    arguments = tyro.cli(Arguments)
    opened = [curves(run, arguments.data) for run in arguments.runs]
    seeds, at = [seed for seed, _, _ in opened], BUDGETS.index(CLAIMED)
    found, machine = [each for _, _, each in opened], opened[0][1]
    claims = []

    def claim(text: str, figure: float, target: float, control: str, *ends: float) -> None:
        low, high = ends
        claims.append(Claim(text, figure, target, ">=", control, seeds, machine, (low, high)))

    for name in (COARSE, FINE):
        ratio, ends = times_the_energy(found, at, name)
        text = f"% of energy saved at equal answers, policy against {name}"
        claim(text, 100 * (1 - 1 / ratio), 10, name, *(100 * (1 - 1 / end) for end in ends))
    gains = np.concatenate([each.policy[at] - each.controls[THRESHOLDS][0][at] for each in found])
    text = f"points by which the policy is right more often, asked for {CLAIMED:.0%} of the energy"
    ends = interval(gains)
    claim(text, 100 * float(gains.mean()), 0, THRESHOLDS, *(100 * end for end in ends))
    write_claims("erring", claims)
    (FOLDER / "erring.md").write_text(table(found))


def curves(
    run: Path, data: str | None, changed: Callable[[Machine], Machine] = lambda machine: machine
) -> tuple[int, str, Curves]:
    """Seed and machine of a run, and what its policy and the static settings bring.

    Args:
        run: a run folder.
        data: images to use instead of the experiment's.
        changed: what to do to the machine before.
    """
    policy, scene, experiment, seed = open_scene(str(run), data, None)
    assert policy is not None
    scene = replace(scene, machine=changed(scene.machine))
    with tqdm(desc=f"static settings, seed {seed}", unit="setting") as bar:
        recorded = record(scene, seed=seed, progress=bar.update)
    validation = scene.lanes("validation", learned=True, seed=seed)
    full = float(validation.full.energy_j)
    judged: list[dict[str, Judged]] = []
    for share in tqdm(BUDGETS, desc=f"policy and controls, seed {seed}", unit="budget"):
        budget = Budget("energy_j", share, relative=True)
        found = evaluate(policy, scene, recorded, budget, seed=seed)
        judged.append({row.name: row for row in found.rows})
    ways = {
        name: (
            np.array([rows[name].right for rows in judged]),
            np.array([rows[name].mean("energy_j") / full for rows in judged]),
        )
        for name in (POLICY, *CONTROLS)
    }
    policy_right, policy_spent = ways.pop(POLICY)
    uniform = recorded.validation.uniform
    statics = {
        COARSE: mixes(recorded, uniform, full),
        FINE: mixes(recorded, np.ones_like(uniform), full),
    }
    return seed, experiment.machine, Curves(policy_right, policy_spent, statics, ways)


def mixes(recorded: Recorded, chosen: np.typing.NDArray[np.bool_], full: float) -> Array:
    """Right answers to test images at each energy of the grid, [GRID, I]."""
    seen, unseen = recorded.validation.take(chosen), recorded.test.take(chosen)
    cost, accuracy = seen.mean("energy_j")
    rows = []
    for share in GRID:
        a, b, part = hull(cost, accuracy, max(share * full, float(cost.min())))
        rows.append((1 - part) * unseen.right[:, a] + part * unseen.right[:, b])
    return np.array(rows)


def times_the_energy(
    found: Sequence[Curves], at: int, name: str, resamples: int = 2000
) -> tuple[float, tuple[float, float]]:
    """Energy that static settings need to be as often right as the policy, over the policy's.

    Accuracies are means over seeds. Where no static setting is as often right, the dearest counts.

    Returns:
        The ratio, and 95 % of it by the bootstrap over the images of each seed.
    """
    spent = float(np.mean([each.spent[at] for each in found]))
    rng = np.random.default_rng(0)

    def ratio(weights: Sequence[Array]) -> float:
        policy = sum(each.policy[at] @ w for each, w in zip(found, weights, strict=True))
        pairs = zip(found, weights, strict=True)
        static: Array = np.sum([each.statics[name] @ w for each, w in pairs], axis=0)
        enough = np.flatnonzero(static >= policy)
        if not len(enough):
            return float(GRID[-1]) / spent
        after = enough[0]
        if after == 0:
            return float(GRID[0]) / spent
        both = [after - 1, after]  # the step of the grid in which they are as often right
        return float(np.interp(policy, static[both], GRID[both])) / spent

    counts = [each.policy.shape[1] for each in found]
    drawn = [
        ratio([rng.multinomial(n, np.full(n, 1 / n)) / n for n in counts]) for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return ratio([np.full(n, 1 / n) for n in counts]), (float(low), float(high))


def table(found: Sequence[Curves]) -> str:
    """Accuracies in %, means over seeds, at the energy that the policy spent."""
    lines = [
        "Right answers in %, means over seeds, at the share of the full network's energy that the "
        "policy spent on test images; in brackets the share that another way spent. Full is the "
        "dearest choice of the experiment.\n",
        f"| budget | energy | policy | {' | '.join((COARSE, FINE, *CONTROLS))} |",
        "|---" * (5 + len(CONTROLS)) + "|",
    ]
    for at, budget in enumerate(BUDGETS):
        spent = float(np.mean([each.spent[at] for each in found]))
        place = int(np.abs(GRID - spent).argmin())
        ways = [np.mean([each.policy[at].mean() for each in found])]
        ways += [
            np.mean([each.statics[name][place].mean() for each in found]) for name in (COARSE, FINE)
        ]
        cells = [f"{budget:g}", f"{spent:.3f}", *(f"{100 * way:.2f}" for way in ways)]
        for name in CONTROLS:
            rows = [each.controls[name] for each in found]
            share = 100 * np.mean([right[at].mean() for right, _ in rows])
            cells.append(f"{share:.2f} ({np.mean([energy[at] for _, energy in rows]):.3f})")
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(
        "\nStatic settings are chosen on validation images. Assignments contain the uniform ones, "
        "and many more are tried: where they are behind, they fit validation images better than "
        "test images, and uniform settings are the harder control. Where none is as often right as "
        "the policy, the dearest counts: there intervals of the energy saved end, and one that "
        "holds 0 shows no saving. Thresholds leave by exits per input, at one setting of the "
        "machine; what the policy is better by than they are is what it gains from the rest. Every "
        "read meets weak cells of a new chip, whose voltages are a made-up curve "
        "(`synthetic/typical`); what analog reads cost is estimated (`exponent`)."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(guarded(main))
