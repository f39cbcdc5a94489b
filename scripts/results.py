"""Claims and what was measured: one JSON file a topic, from which docs/results.md is drawn."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from penstock.backbones import InputError
from penstock.scripts.run import provenance, write_json

FOLDER = Path("docs/results")


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure against its target."""

    claim: str
    """What is claimed, with the unit of the figure."""
    figure: float
    target: float
    comparison: Literal[">=", "<="]
    control: str
    """What the figure was compared with."""
    seeds: Sequence[int]
    machine: str
    """The modelled machine, or the processor where seconds were measured."""
    interval: tuple[float, float] | None = None
    """95 %, where there is one."""

    @property
    def met(self) -> bool:
        """Whether the figure reaches its target."""
        return self.figure >= self.target if self.comparison == ">=" else self.figure <= self.target


def write_claims(topic: str, claims: Sequence[Claim]) -> Path:
    """Leave docs/results/TOPIC.json, with command, commit and date."""
    made = provenance()
    # The script that measured, as it would be typed at the root of a checkout with data in FOLDER.
    options = ["FOLDER" if before == "--data" else o for before, o in pairwise(["", *sys.argv[1:]])]
    command = " ".join(["python", f"scripts/reproduce/{Path(sys.argv[0]).name}", *options])
    about = {"command": command, "commit": made["commit"], "date": made["date"]}
    path = FOLDER / f"{topic}.json"
    write_json(path, [{**asdict(claim), "met": claim.met, **about} for claim in claims])
    for claim in claims:
        print(f"{'met    ' if claim.met else 'NOT met'}  {sentence(asdict(claim))}")
    return path


def mean_gap(
    tables: Sequence[Mapping[str, Any]], control: str
) -> tuple[float, tuple[float, float], str]:
    """The gap between policy and control over runs, in points.

    Seeds share test images: the mean is taken to be no surer than one run.

    Args:
        tables: evaluation.json of each run.
        control: name of a row.

    Returns:
        The mean, its 95 % interval, and the gaps of the runs as text.

    Raises:
        InputError: if a run has no such row.
    """
    gaps = [gap for table in tables for gap in table["gaps"] if gap["control"] == control]
    if len(gaps) < len(tables):
        raise InputError(
            f"every run should have a row {control!r}, {len(tables) - len(gaps)} have none; "
            "judge them again at a higher budget"
        )
    ends = [(100 * gap["interval"][0], 100 * gap["interval"][1]) for gap in gaps]
    mean = 100 * sum(gap["gap"] for gap in gaps) / len(gaps)
    half = sum(high - low for low, high in ends) / 2 / len(gaps)
    each = ", ".join(
        f"{100 * gap['gap']:+.2f} [{low:.2f}, {high:.2f}]"
        for gap, (low, high) in zip(gaps, ends, strict=True)
    )
    return mean, (mean - half, mean + half), each


def read_runs(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """What `penstock train` judged, of each run folder.

    Raises:
        InputError: if one was not finished.
    """
    unjudged = [str(run) for run in runs if not (run / "evaluation.json").is_file()]
    if unjudged or not runs:
        raise InputError(
            f"expected finished runs with an evaluation.json, got {', '.join(unjudged) or 'none'}; "
            "make them with penstock train"
        )
    return [json.loads((run / "evaluation.json").read_text()) for run in runs]


def sentence(row: dict[str, object]) -> str:
    """A claim in one line."""
    return f"{row['claim']}: {row['figure']:.4g} ({row['comparison']} {row['target']:.4g})"


def draw(folder: Path = FOLDER) -> str:
    """All topics as one page of tables."""
    parts = [
        "# Results\n",
        "Drawn by `make results` from `docs/results/*.json`; do not edit. Energy, latency and",
        "MACs are modelled by the machine named; seconds and their ratios were measured.",
        "Accuracies are on test images that no choice was made on, unless a note says otherwise;",
        "intervals are 95 %, paired over images, or over streams where a claim says so: streams",
        "share images, and policies differ by seed, which intervals do not hold. A figure is",
        "within chance of its target where its interval holds the target.\n",
    ]
    for path in sorted(folder.glob("*.json")):
        parts.append(f"## {path.stem.replace('_', ' ')}\n")
        parts.append("| claim | figure | target | met | control | interval | seeds | machine |")
        parts.append("|---|---|---|---|---|---|---|---|")
        rows = json.loads(path.read_text())
        for row in rows:
            ends = row["interval"]
            interval = f"{ends[0]:.3g} to {ends[1]:.3g}" if ends else ""
            seeds = ", ".join(map(str, row["seeds"]))
            met = "yes" if row["met"] else "**no**"
            if ends and ends[0] <= row["target"] <= ends[1]:
                met += ", within chance"
            parts.append(
                f"| {row['claim']} | {row['figure']:.4g} | {row['comparison']} "
                f"{row['target']:.4g} | {met} | {row['control']} | {interval} | {seeds} | "
                f"{row['machine']} |"
            )
        commands = sorted({(row["command"], row["commit"], row["date"]) for row in rows})
        parts += [f"\n`{command}` at {commit}, {date}" for command, commit, date in commands]
        notes = path.with_suffix(".md")
        if notes.is_file():
            parts.append("\n" + notes.read_text().strip())
        parts.append("")
    return "\n".join(parts)
