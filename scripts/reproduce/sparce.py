"""Cycles that a core saves by skipping zeros, on real activations of the shipped networks.

python scripts/reproduce/sparce.py --data FOLDER

Sen et al., SparCE (arXiv 1711.06315), report 19 to 31 % less time on a scalar core and 8 to 15 %
on four lanes of SIMD, for other networks on a simulated core whose parameters are not public.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import tyro
from torch import Tensor

from penstock.backbones import Product, exact, load_data, shipped
from penstock.hardware.sparse_loop import Mode
from penstock.scripts.guard import guarded
from penstock.scripts.results import FOLDER, Claim, write_claims
from penstock.scripts.skipping import Zeros, core, mismatches, saved, spent, zeros

SKIPS: Mapping[Mode, str] = {
    "branch": "branch in software",
    "one_entry": "SparCE, one entry",
    "two_entries": "SparCE, two entries",
}

CORES: Mapping[str, Mapping[str, Any]] = {
    "L = 1": {},
    "L = 3": {"mac_cycles": {8: 3, 32: 3}},
    "L = 5": {"mac_cycles": {8: 5, 32: 5}},
    "4 lanes": {"lanes": 4},
    "no waits": {"scheduled": True},
}
"""What is changed on the preset, whose integer multiply-accumulate takes one cycle."""


@dataclass(frozen=True)
class Arguments:
    """Count the cycles of the shipped networks with and without skipping."""

    data: str
    """Folder with train.parquet and test.parquet of CIFAR-10, or its name on the hub."""
    images: int = 300
    """Test images of each network."""
    seed: int = 0
    """Of the split of the digits, and of the windows that are simulated."""


def main() -> None:
    """Count, compare, write down."""
    arguments = tyro.cli(Arguments)
    claims: list[Claim] = []
    notes = [
        f"{arguments.images} test images, every block and exit of the network, 8 bits. A figure is "
        "the mean over images of the cycles saved, in % of the dense loop on the same core: the "
        "preset `sparse_core`, whose integer multiply-accumulate takes one cycle (L) as on "
        "CV32E40P, and 3 or 5 where that is said. Zeros are counted as often as they are read. "
        '"4 lanes" holds four neighbouring channels in a register. Under "no waits" independent '
        "instructions fill the waits of both loops where their shape allows it: a dense step takes "
        "7 cycles instead of 8, and one entry, whose region is contiguous, gains nothing. That is "
        "the fairer comparison.",
        "Windows and outer loops take their share of all cycles, which no skip shortens: little "
        "with the 32 to 112 channels of the CIFAR-10 network, 6 % with the 8 to 32 of the digits, "
        "whose saving so lies more than a point below s * 3 / 8, that of the inner loop alone.",
    ]
    for title, name, data in (("CIFAR-10", "cifar10", arguments.data), ("digits",) * 3):
        test, backbone = load_data(data, seed=arguments.seed).test, shipped(name).eval()
        images = test.pixels[: arguments.images] / 255
        share, few = zeros(backbone, images), images[:4]
        figures = {
            (label, mode): saved(core(mode=mode, **changes), backbone, images)
            for label, changes in CORES.items()
            for mode in SKIPS
        }
        wrong = mismatches(backbone, few, arguments.seed)
        claims += _claims(f"{title} network", share, figures, wrong, arguments.seed)
        notes += [f"### {title}", *_tables(share, figures)]
        pruned = saved(core(mode="two_entries"), backbone, images, _prune)
        labels = test.labels[: arguments.images]
        right = [
            100 * (spent(core(mode="dense"), backbone, images, perform)[1] == labels).float().mean()
            for perform in (exact, _prune)
        ]
        notes.append(
            "With the smaller half of each layer's weights set to zero and nothing fitted again, "
            f"two entries save {pruned.mean():.1f} % at L = 1, and {right[1]:.1f} % of the answers "
            f"are right instead of {right[0]:.1f} %."
        )
    write_claims("sparce", claims)
    pages = (note if note.startswith("|") else fill(note, 120) for note in notes)
    (FOLDER / "sparce.md").write_text("\n\n".join(pages) + "\n")


def _prune(product: Product) -> Tensor:
    """A product without the smaller half of its weights."""
    weight = product.weight.values
    return product.with_values(weight=weight * (weight.abs() > weight.abs().median())).exact()


def _claims(
    title: str, share: Zeros, figures: Mapping[Any, Tensor], wrong: list[bool], seed: int
) -> Iterator[Claim]:
    def fewer(text: str, each: Tensor, target: float, comparison: Any) -> Claim:
        mean, half = each.mean().item(), 1.96 * each.std().item() / len(each) ** 0.5
        text, ends = f"{text}, {title} at 8 bits, % fewer cycles", (mean - half, mean + half)
        return Claim(text, mean, target, comparison, "dense loop", [seed], "sparse_core", ends)

    def figure(text: str, value: float, target: float, comparison: Any, control: str) -> Claim:
        text = f"{text}, {title} at 8 bits"
        return Claim(text, value, target, comparison, control, [seed], "sparse_core")

    scalar, simd = figures["L = 1", "one_entry"], figures["4 lanes", "one_entry"]
    yield fewer("SparCE, scalar", scalar, 19, ">=")
    yield fewer("SparCE, scalar, not beyond what was published", scalar, 31, "<=")
    yield fewer("SparCE, scalar, loops without waits", figures["no waits", "one_entry"], 19, ">=")
    yield fewer("a branch on zero in software, scalar", figures["L = 1", "branch"], 10, "<=")
    longest = figures["L = 5", "branch"]
    yield fewer("a branch on zero in software, products of 5 cycles", longest, 10, "<=")
    yield fewer("SparCE, 4 lanes", simd, 8, ">=")
    yield fewer("SparCE, 4 lanes, not beyond what was published", simd, 15, "<=")
    joint = "share of reads in which 4 lanes are zero together"
    yield figure(joint, share.four, share.x**4, ">=", "independent zeros, s^4")
    off = abs(scalar.mean().item() - 100 * share.x * 3 / 8)
    yield figure("distance from s * 3 / 8, points", off, 1, "<=", "the inner loop alone")
    text = "simulated windows that do not take the cycles of the closed form"
    yield figure(text, sum(wrong), 0, "<=", f"{len(wrong)} programs")


def _tables(share: Zeros, figures: Mapping[Any, Tensor]) -> Iterator[str]:
    inside = (share.x - share.border) / (1 - share.border)
    yield (
        f"Of the activations read, s = {share.x:.3f} are zero; {share.border:.3f} are the zeros "
        f"around images. A kernel that never reads those would find s = {inside:.3f} and save "
        f"about {100 * inside * 3 / 8:.1f} % at L = 1. Of the weights, {share.w:.3f} are zero."
    )
    rows = [f"| cycles saved, % | {' | '.join(CORES)} |", "|---|" + "---|" * len(CORES)]
    for mode, name in SKIPS.items():
        each = (f"{figures[label, mode].mean():+.1f}" for label in CORES)
        rows.append(f"| {name} | {' | '.join(each)} |")
    yield "\n".join(rows)
    yield (
        f"Four neighbouring channels are zero together in {share.four:.3f} of the reads; were "
        f"zeros independent, in s^4 = {share.x**4:.3f}, or {share.independent:.3f} with the s of "
        "each layer. Four neighbouring pixels of a channel, the lanes of a GEMM as in OpenBLAS, "
        f"would be in {share.pixels:.3f}."
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
