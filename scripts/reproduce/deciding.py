"""What a decision takes beside the full network: look, choose and group, measured in one run.

python scripts/reproduce/deciding.py

A deployed network decides before each of its blocks and always goes on at full; what is not spent
in blocks is deciding. Policies of streams decide at `--stages` of them; several decisions are
several times the mean of one. On one thread, and on two, where deciding gains less than blocks do.
Run it while nothing else runs. All images are decided alike, so that grouping is at its cheapest.
"""

import sys
from dataclasses import dataclass
from statistics import median

import torch
import tyro
from tqdm import tqdm

from penstock.backbones import shipped
from penstock.backbones.prepared import prepare
from penstock.scripts.bench import cpu
from penstock.scripts.decisions import decisions
from penstock.scripts.guard import guarded
from penstock.scripts.results import FOLDER, Claim, write_claims


@dataclass(frozen=True)
class Arguments:
    """Measure."""

    backbone: str = "cifar10"
    """That ships."""
    batch: int = 256
    """Images at once."""
    hidden: tuple[int, ...] = (32, 32)
    """Hidden layers of the policy."""
    stages: int = 3
    """Decisions for an image."""
    threads: tuple[int, ...] = (1, 2)
    """Of torch."""
    rounds: int = 15
    """Of which the median is kept."""


def main() -> None:
    """Measure, write down."""
    arguments = tyro.cli(Arguments)
    rng = torch.Generator().manual_seed(0)
    backbone = shipped(arguments.backbone)
    deciding = decisions(backbone, prepare, arguments.hidden, rng)
    images = torch.rand(arguments.batch, *backbone.shape, generator=rng)
    images = images.contiguous(memory_format=torch.channels_last)
    passes: dict[int, list[tuple[float, float]]] = {threads: [] for threads in arguments.threads}
    for threads in tqdm(list(passes) * (1 + arguments.rounds), desc="decide", unit="pass"):
        torch.set_num_threads(threads)
        one_s = deciding.seconds(images)
        passes[threads].append((one_s, sum(deciding.blocks_s)))
    warm = {threads: each[1:] for threads, each in passes.items()}
    claims = [
        Claim(
            f"seconds of {what} over the full network's, % for an input of a batch of "
            f"{arguments.batch}, {arguments.backbone}, threads: {threads}",
            100 * count * median(one_s / blocks_s for one_s, blocks_s in each),
            1.0,
            "<=",
            "full network, prepared",
            [0],
            cpu(),
        )
        for threads, each in warm.items()
        for what, count in (
            ("a decision", 1),
            (f"all {arguments.stages} decisions of a policy of streams", arguments.stages),
        )
    ]
    write_claims("deciding", claims)
    lines = [
        f"Medians of {arguments.rounds} passes of {arguments.batch} images, by turns:",
        "",
        "| threads | one decision, ms | full network, ms |",
        "|---|---|---|",
        *(
            f"| {threads} | {1e3 * median(one_s for one_s, _ in each):.2f} "
            f"| {1e3 * median(blocks_s for _, blocks_s in each):.0f} |"
            for threads, each in warm.items()
        ),
    ]
    (FOLDER / "deciding.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(guarded(main))
