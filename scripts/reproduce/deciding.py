"""What decisions take beside the full network: look, choose and group, measured in one run.

python scripts/reproduce/deciding.py

A deployed network decides before each of its blocks and always goes on at full. Policies of streams
decide before the first blocks of their stages only: what is counted for an image is what happens
between those blocks and what ran before them. On one thread, and on two, where deciding gains less
than blocks do. Run it while nothing else runs. All images are decided alike, so that grouping is at
its cheapest.
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
    stages: tuple[int, ...] = (0, 2, 4)
    """Blocks before which a policy of streams decides."""
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
    passes: dict[int, list[tuple[float, float, float]]] = {t: [] for t in arguments.threads}
    for threads in tqdm(list(passes) * (1 + arguments.rounds), desc="decide", unit="pass"):
        torch.set_num_threads(threads)
        deciding.seconds(images)
        each_s = [deciding.before_s(f"blocks.{d}") for d in arguments.stages]
        passes[threads].append((max(each_s), sum(each_s), deciding.blocks_s))
    found = {
        threads: [median(column) for column in zip(*each[1:], strict=True)]
        for threads, each in passes.items()
    }
    claims = [
        Claim(
            f"seconds of {what} over the full network's, % for an input of a batch of "
            f"{arguments.batch}, {arguments.backbone}, threads: {threads}",
            100 * taken_s / blocks_s,
            1.0,
            "<=",
            "full network, prepared",
            [0],
            cpu(),
        )
        for threads, (dearest_s, all_s, blocks_s) in found.items()
        for what, taken_s in (
            ("the dearest decision", dearest_s),
            (f"all {len(arguments.stages)} decisions of a policy of streams", all_s),
        )
    ]
    write_claims("deciding", claims)
    lines = [
        f"Medians of {arguments.rounds} passes of {arguments.batch} images, by turns:",
        "",
        "| threads | dearest decision, ms | all, ms | full network, ms |",
        "|---|---|---|---|",
        *(
            f"| {threads} | {1e3 * dearest_s:.2f} | {1e3 * all_s:.2f} | {1e3 * blocks_s:.0f} |"
            for threads, (dearest_s, all_s, blocks_s) in found.items()
        ),
    ]
    (FOLDER / "deciding.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(guarded(main))
