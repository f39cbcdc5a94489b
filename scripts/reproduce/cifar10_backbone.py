"""What the shipped CIFAR-10 backbone reaches at each of its knobs' choices, on test images.

python scripts/reproduce/cifar10_backbone.py --data FOLDER
"""

import sys
from dataclasses import dataclass
from itertools import pairwise

import tyro

from penstock.backbones import BITS, RUN, WIDTH, Block, load_data, shipped, work
from penstock.backbones.training import accuracies
from penstock.envs.price_table import activation_shapes
from penstock.scripts.guard import guarded
from penstock.scripts.results import Claim, write_claims

NOISE = 0.005
"""Two choices of a knob that differ by less, on 5 000 images, are not told apart."""


@dataclass(frozen=True)
class Arguments:
    """Measure the shipped CIFAR-10 backbone."""

    data: str
    """Folder with train.parquet and test.parquet, or the data set's name on the hub."""


def main() -> None:
    """Load, measure, write down."""
    arguments = tyro.cli(Arguments)
    test = load_data(arguments.data).test
    backbone = shipped("cifar10")
    shapes = activation_shapes(backbone)
    parts: list[tuple[Block, tuple[int, ...]]] = [(backbone.stem, backbone.shape)]
    parts += [(backbone.block(i), shapes[i]) for i in range(backbone.depth)]
    macs = sum(work(block, {}, shape).macs for block, shape in parts)
    last = backbone.depth - 1

    def accuracy(**setting: float) -> float:
        return accuracies(backbone, test, setting, stem={"bits": setting.get("bits", 32)})[last]

    exits = list(accuracies(backbone, test).values())
    bits = [accuracy(bits=choice) for choice in BITS.choices]
    widths = [accuracy(width=choice) for choice in WIDTH.choices]
    skippable = [i for i in range(backbone.depth) if RUN in backbone.block(i).knobs]
    skips = []
    for count in range(len(skippable), -1, -1):
        settings = [{"run": 0.0 if i in skippable[:count] else 1.0} for i in range(backbone.depth)]
        skips.append(accuracies(backbone, test, settings)[last])
    for name, values in {"exit": exits, "bits": bits, "width": widths, "run": skips}.items():
        print(name, " ".join(f"{100 * value:.2f}" for value in values))

    def claim(text: str, figure: float, target: float, comparison: str, control: str) -> Claim:
        return Claim(text, figure, target, comparison, control, [0], "none")  # type: ignore[arg-type]

    def fall(values: list[float]) -> float:
        return max(0.0, *(a - b for a, b in pairwise(values)))

    write_claims(
        "cifar10_backbone",
        [
            claim("MACs of the full network, M", macs / 1e6, 100, "<=", "none"),
            claim("test accuracy of the full setting, %", 100 * exits[-1], 91.0, ">=", "none"),
            claim(
                "the same, against the floor for a fit on two cores, %",
                100 * exits[-1],
                90.0,
                ">=",
                "none",
            ),
            claim("8-bit below 32-bit, points", 100 * (bits[-1] - bits[1]), 0.5, "<=", "32 bit"),
            *(
                claim(
                    f"largest fall of accuracy when {name} is turned up, points",
                    100 * fall(values),
                    100 * NOISE,
                    "<=",
                    "the next cheaper choice",
                )
                for name, values in (
                    ("exit", exits),
                    ("bits", bits),
                    ("width", widths),
                    ("run", skips),
                )
            ),
        ],
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
