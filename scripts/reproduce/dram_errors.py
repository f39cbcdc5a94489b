"""The four error models of approximate DRAM: how often bits are wrong, and where.

python scripts/reproduce/dram_errors.py
"""

import sys
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional

from penstock.backbones import Operand, Product
from penstock.hardware.error_models import ERROR_MODELS, ErrorModel
from penstock.hardware.reading import Faults, read
from penstock.scripts.guard import guarded
from penstock.scripts.results import Claim, write_claims

RATE = 1e-2


@dataclass(frozen=True)
class Arguments:
    """Inject errors into a subarray and count them."""

    seed: int = 0
    """Of the chip, what is stored and the errors."""


def main() -> None:
    """Inject, count, write down."""
    seed = tyro.cli(Arguments).seed
    off, columns, rows, per_one = {}, {}, {}, {}
    for name, model in ERROR_MODELS.items():
        wrong, stored = errors(model, seed)
        per_one[name] = float(
            wrong[stored == 0].double().mean() / wrong[stored == 1].double().mean()
        )
        off[name] = abs(float(wrong.double().mean()) / RATE - 1)
        columns[name], rows[name] = chance(wrong.sum(dim=0)), chance(wrong.sum(dim=1))
        print(f"{name}: off by {off[name]:.2%}, even by {columns[name]:.2g} and {rows[name]:.2g}")

    def claim(text: str, figure: float, target: float, comparison: str, control: str) -> Claim:
        return Claim(text, figure, target, comparison, control, [seed], "none")  # type: ignore[arg-type]

    even = "as many everywhere"
    text = "probability of wrong bits as uneven as the"
    write_claims(
        "dram_errors",
        [
            claim(
                "bit error rate off nominal, worst of four models, 3.4e7 bits, %",
                100 * max(off.values()),
                2,
                "<=",
                f"{RATE:g}",
            ),
            claim(f"{text} bitline model's over columns", columns["bitline"], 1e-6, "<=", even),
            claim(f"{text} wordline model's over rows", rows["wordline"], 1e-6, "<=", even),
            *(
                claim(
                    f"{text} {name} model's over columns or rows",
                    min(columns[name], rows[name]),
                    1e-6,
                    ">=",
                    even,
                )
                for name in ("uniform", "data-dependent")
            ),
            claim(
                "wrong zeros for a wrong one off nominal, data-dependent model, %",
                100 * abs(per_one["data-dependent"] / 4 - 1),
                2,
                "<=",
                "0.8 / 0.2",
            ),
        ],
    )


def errors(model: ErrorModel, seed: int) -> tuple[Tensor, Tensor]:
    """Which bits of a subarray are read wrong, and what is stored: [rows, columns] each."""
    rng = torch.Generator().manual_seed(seed)
    stored = torch.randint(256, (1, model.rows * model.row_bits // 8), generator=rng)
    x = Operand(stored.float(), 8, torch.ones(()), signed=False)
    nothing = Operand(stored[:, :0].float())
    product = Product(
        nn.Identity(), x, nothing, nothing.values, functional.linear, lambda raw: raw, name="bytes"
    )
    seen = read(product, Faults(model, chip=seed), 0.0, RATE, rng).x.values
    wrong, held = (
        (bytes_.unsqueeze(-1) >> torch.arange(8) & 1).view(model.rows, model.row_bits)
        for bytes_ in (stored ^ seen.long(), stored)
    )
    return wrong, held


def chance(counts: Tensor) -> float:
    """Of counts as uneven as these, or more, where all are alike (chi-square)."""
    expected = counts.double().mean()
    half_square = ((counts - expected) ** 2 / expected).sum() / 2
    half_freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(half_freedom, half_square))


if __name__ == "__main__":
    sys.exit(guarded(main))
